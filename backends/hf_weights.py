"""A GGUF file as the folder of safetensors that transformers and vLLM read.

transformers de-quantises the file; the result is kept beside its tokenizer in a cache folder named
after the file's hash, so it is made once. It is made under another name and then renamed, under a
lock: two runs that start together make it once, and none ever sees half of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backends.api import ModelRef


def folder_of(model: ModelRef) -> str:
    """The folder, or the hub's name, of a model in transformers' own form."""
    if model.format == "hf":
        return model.location
    source, cache = Path(model.location), Path(model.cache)
    target = cache / f"{source.stem}-{_sha256(source)[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_suffix(".lock")):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                made = Path(scratch) / "model"
                _convert(source, made)
                made.rename(target)
    return str(target)


def _convert(source: Path, target: Path) -> None:
    """Weights go to bfloat16, which holds de-quantised 4-bit numbers closely enough to serve."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    read = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    model = AutoModelForCausalLM.from_pretrained(**read, dtype=torch.float32)
    plain = _without_quantization(model).to(torch.bfloat16)
    plain.save_pretrained(target)
    AutoTokenizer.from_pretrained(**read).save_pretrained(target)


def _without_quantization(model: Any) -> Any:
    """The same model under a config that does not say it is quantized: saving refuses that."""
    values = model.config.to_dict()
    values.pop("quantization_config", None)
    plain = type(model)(type(model.config)(**values))
    plain.load_state_dict(model.state_dict())
    return plain


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
