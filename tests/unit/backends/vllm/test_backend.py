"""What vLLM's backend promises beyond the contract: its tokenizer is quickly there, and it has the
threads that it is given."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from backends.api import Availability, BackendError, ModelRef
from backends.vllm import backend as vllm
from harness.engine.interpreters import find_interpreter, worker_environment

OPEN = """
import sys
from backends.api import ModelRef
from backends.vllm import backend
if not backend.importlib.util.find_spec("vllm"):
    sys.exit("vLLM is not installed")
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast
words = Tokenizer(WordLevel({"?": 0, "one": 1}, unk_token="?"))
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(sys.argv[1])
tokenizer = backend.open_tokenizer(ModelRef("mine", "hf", sys.argv[1]), {})
print(tokenizer.info.declared_context, tokenizer.tokenize(["one"]), "vllm" in sys.modules)
"""


def test_a_tokenizer_needs_neither_weights_nor_vllm_to_be_imported(tmp_path: Path) -> None:
    python = find_interpreter("vllm", None)
    config = {"model_type": "llama", "max_position_embeddings": 77, "vocab_size": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        [python, "-c", OPEN, str(tmp_path)],
        capture_output=True,
        check=False,
        env=worker_environment(python, "backends.vllm.backend"),
        text=True,
    )
    if "vLLM is not installed" in done.stderr:
        pytest.skip(vllm.check().remedy)
    assert done.stdout.strip() == "77 [[1]] False", done.stderr


@pytest.mark.parametrize(("options", "threads"), [({"threads": 3}, "3"), ({}, "7")])
def test_processors_are_counted_only_where_threads_are_not_given(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, int], threads: str
) -> None:
    """vLLM's threads are set before it is imported; here it is not there."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    monkeypatch.setattr(vllm, "usable_cpus", lambda: 7)
    monkeypatch.setattr(vllm, "_importable", lambda: Availability(False, reason="not here"))
    with pytest.raises(BackendError, match="not here"):
        vllm.open_session(ModelRef("x", "hf", "x"), {"max_model_len": 64, **options})
    assert os.environ["OMP_NUM_THREADS"] == threads
