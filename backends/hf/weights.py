"""Where the folders are that transformers and vLLM read: one with a tokenizer, one with weights.

A folder is taken as it is, a hub name from the hub's cache on this machine; what only code that
came with it could load is refused. A GGUF file is converted, and the result stored in our cache:
the tokenizer in one folder, the weights beside a copy of it in another, both named after the file's
hash. A folder's manifest, written last, has the hash of each file and is checked at every use: a
folder that is not as it was made, or that another version of the conversion made, is made again.
That happens under a lock and under another name: two runs that start together make it once, and
none ever sees half of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from backends.api import BackendError, ModelRef
from backends.hf.conversion import VERSION, convert, convert_tokenizer
from backends.rules import first_line

_MANIFEST = "manifest.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_REMEDY = "Give a folder with config.json, safetensors and a tokenizer."


def folder_of(model: ModelRef, trusted: bool = False) -> str:
    """The model in transformers' own form; `trusted` lets it bring code of its own.

    Raises `BackendError` where there is none, or none that may be loaded.
    """
    if model.format == "gguf":
        return str(_converted(model))
    folder = _given_folder(model)
    _check_weights(folder)
    _check_code(folder, trusted)
    return str(folder)


def tokenizer_folder_of(model: ModelRef, trusted: bool = False) -> str:
    """The same for the model's tokenizer alone: no file of weights has to be there."""
    if model.format == "gguf":
        return str(_converted_tokenizer(model))
    folder = _given_folder(model)
    _check_code(folder, trusted)
    return str(folder)


def _given_folder(model: ModelRef) -> Path:
    """The user's own, or the one in the hub's cache."""
    folder = Path(model.location)
    if not folder.is_dir():
        folder = _snapshot(model.location)
    if not (folder / "config.json").is_file():
        raise BackendError(f"{folder} holds no model: there is no config.json", _REMEDY)
    return folder


def _snapshot(name: str) -> Path:
    """The folder of a model in the hub's cache. Asks no network."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError) as error:
        raise BackendError(
            f"model {name} is not on this machine, and loading downloads nothing",
            f"Fetch it first: hf download {name}",
        ) from error


def _check_weights(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for suffix in _PICKLES for path in folder.glob(f"*{suffix}"))
    if pickles:
        raise BackendError(
            f"the weights in {folder} are pickles ({pickles[0]}), which can run any code when they "
            "are read, and are never loaded",
            "Convert them to safetensors.",
        )
    raise BackendError(f"{folder} holds no safetensors", _REMEDY)


def _check_code(folder: Path, trusted: bool) -> None:
    """Refuses a model that transformers has no code of its own for, unless its code is trusted."""
    from transformers import CONFIG_MAPPING

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    needs_code = "auto_map" in config and config.get("model_type") not in CONFIG_MAPPING
    if needs_code and not trusted:
        raise BackendError(
            f"{folder} can only be loaded by running code that came with it",
            "If you trust that code: --engine-option trust_remote_code=true",
        )


def _converted(model: ModelRef) -> Path:
    def make(target: Path) -> None:
        made = _converted_tokenizer(model)
        shutil.copytree(made, target, ignore=shutil.ignore_patterns(_MANIFEST))
        convert(Path(model.location), target)

    return _made_once("safetensors", model, make)


def _converted_tokenizer(model: ModelRef) -> Path:
    source = Path(model.location)
    return _made_once("tokenizer", model, lambda target: convert_tokenizer(source, target))


def _made_once(kind: str, model: ModelRef, make: Callable[[Path], None]) -> Path:
    source, cache = Path(model.location), Path(model.cache)
    folder = cache / f"{kind}-{_sha256(source)[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{folder.name}.lock"):
        if not is_whole(folder):
            _make(source, folder, make)
    return folder


def is_whole(folder: Path) -> bool:
    """Whether this version of the conversion made the folder and it is as it was then."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest == _manifest(folder))
    except (OSError, ValueError):
        return False


def _make(source: Path, folder: Path, make: Callable[[Path], None]) -> None:
    reason = "it is not as it was made" if folder.exists() else "this happens once"
    sys.stderr.write(f"Converting {source.name} to {folder} ({reason})\n")
    scratch = folder.with_name(f".{folder.name}")
    for old in (scratch, folder):
        shutil.rmtree(old, ignore_errors=True)
    try:
        make(scratch)
    except (ValueError, LookupError, OSError, RuntimeError, TypeError) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise BackendError(
            f"{source} could not be converted for transformers: {first_line(error)}",
            "Give this engine the model as a folder or a hub name, in the config's "
            '[models.NAME] table: hf = "...".',
        ) from error
    manifest = json.dumps(_manifest(scratch), indent=2)
    (scratch / _MANIFEST).write_text(manifest, encoding="utf-8")
    scratch.rename(folder)


def _manifest(folder: Path) -> Mapping[str, object]:
    """The version of the conversion and the hash of each file but the manifest."""
    files = sorted(path for path in folder.iterdir() if path.name != _MANIFEST)
    return {"conversion": VERSION, "sha256": {path.name: _sha256(path) for path in files}}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
