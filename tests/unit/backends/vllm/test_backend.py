"""What vLLM's backend promises beyond the contract: its tokenizer is quickly there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

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
