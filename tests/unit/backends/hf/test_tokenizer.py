"""A tokenizer of transformers is opened without weights, and without torch where it can be."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from backends.api import BackendError, ModelRef
from backends.hf import backend as hf
from harness.engine.models import resolve_model
from harness.errors import EngineError

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="pip install 'llm-backend-harness[hf]'"
)

TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
CONFIG = {"model_type": "llama", "max_position_embeddings": 77, "vocab_size": 4}


def write_tokenizer(folder: Path, template: Any = TEMPLATE) -> None:
    """Three words, and what stands for any other one."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"?": 0, "one": 1, "two": 2, "end": 3}, unk_token="?"))
    words.pre_tokenizer = Whitespace()
    plain: Any = PreTrainedTokenizerFast
    made = plain(tokenizer_object=words, unk_token="?", eos_token="end", chat_template=template)
    made.save_pretrained(folder)


def check_opened(model: ModelRef) -> None:
    with closing(hf.open_tokenizer(model, {})) as tokenizer:
        assert tokenizer.info.declared_context == 77
        assert tokenizer.info.chat_template == TEMPLATE
        assert (tokenizer.info.bos_id, tokenizer.info.eos_text) == (None, "end")
        assert tokenizer.tokenize(["one two", ""]) == [[1, 2], []]
        assert tokenizer.token_texts([2, 3]) == ["two", "end"]


def test_a_folder_needs_a_tokenizer_and_a_config_only(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    check_opened(ModelRef("mine", "hf", str(tmp_path)))


@pytest.mark.parametrize("names", [("default", "tool_use"), ("rag", "tool_use")])
def test_of_several_chat_templates_it_is_the_default(tmp_path: Path, names: list[str]) -> None:
    templates = [{"name": name, "template": f"{name} {TEMPLATE}"} for name in names]
    write_tokenizer(tmp_path, templates)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with closing(hf.open_tokenizer(ModelRef("mine", "hf", str(tmp_path)), {})) as tokenizer:
        wanted = f"default {TEMPLATE}" if "default" in names else None
        assert tokenizer.info.chat_template == wanted


HUB = """
from backends.api import ModelRef
from backends.hf import backend
tokenizer = backend.open_tokenizer(ModelRef("tiny", "hf", "me/tiny"), {})
print(tokenizer.info.declared_context, tokenizer.tokenize(["one two"]))
"""


def test_the_hubs_cache_needs_no_more_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    repository = tmp_path / "hub" / "models--me--tiny"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    write_tokenizer(snapshot)
    (snapshot / "config.json").write_text(json.dumps(CONFIG))
    done = subprocess.run([sys.executable, "-c", HUB], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "77 [[1, 2]]"


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(BackendError, match="could not read the tokenizer of mine"):
        hf.open_tokenizer(ModelRef("mine", "hf", str(tmp_path)), {})


GGUF = """
import sys
from backends.api import ModelRef
from backends.hf import backend
tokenizer = backend.open_tokenizer(ModelRef("m", "gguf", sys.argv[1], sys.argv[2]), {})
print(tokenizer.info.declared_context, "torch" in sys.modules)
"""


def test_of_a_gguf_file_the_tokenizer_alone_is_made_and_then_read_without_torch(
    tmp_path: Path,
) -> None:
    try:
        model = resolve_model("smollm2-135m", ("gguf",), {})
    except EngineError as error:
        pytest.skip(f"{error}. {error.remedy}")
    command = [sys.executable, "-c", GGUF, model.location, str(tmp_path)]
    said = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    ]
    assert said[0][0] == said[1][0] == "8192"
    assert said[1][1] == "False"
    [made] = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert made.name.startswith("tokenizer-")
    assert sum(path.stat().st_size for path in made.iterdir()) < 10 * 2**20


def test_rope_scaling_is_that_of_each_kind_of_layer() -> None:
    from backends.hf.tokenizer import rope_scaling_of

    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
    assert rope_scaling_of(yarn) == "yarn, factor 4, from 4096 tokens"
    kinds = {"full_attention": yarn, "sliding_attention": {"rope_type": "default"}}
    assert rope_scaling_of(kinds) == "yarn, factor 4, from 4096 tokens"
    assert rope_scaling_of({"rope_theta": 10_000.0}) == ""
