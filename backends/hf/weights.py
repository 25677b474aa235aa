"""Where the folders are that transformers and vLLM read: one with a tokenizer, one with weights.

A folder is taken as it is, a hub name from the hub's cache on this machine; what is no safetensors,
lies elsewhere, or only code that came with it could load, is refused (`backends.hf.folder`). A GGUF
file is converted, and the result stored in our cache: the tokenizer in one folder, the weights
beside a copy of it in another, both named after the file's hash and the version of the conversion.
A folder's manifest, written last, has the hash of each file and is checked at every use: a folder
that is not as it was made is made again. That happens under a lock and under another
name: two runs that start together make it once, and none ever sees half of it.
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
from backends.gguf import check_model, parts_of, read_metadata
from backends.hf.conversion import VERSION, convert, convert_tokenizer
from backends.hf.folder import check_config, check_weights
from backends.in_use import hold
from backends.rules import first_line
from backends.stages import say

_MANIFEST = "manifest.json"


def folder_of(model: ModelRef, trusted: bool = False) -> str:
    """The model in transformers' own form; `trusted` lets it bring code of its own.

    Raises `BackendError` where there is none, or none that may be loaded.
    """
    if model.format == "gguf":
        return str(_converted(model))
    folder = given_folder(model)
    config = check_config(folder, model.name, trusted)
    check_weights(folder, model.name, config)
    return str(folder)


def tokenizer_folder_of(model: ModelRef, trusted: bool = False) -> str:
    """The same for the model's tokenizer alone: no file of weights has to be there."""
    if model.format == "gguf":
        return str(_converted_tokenizer(model))
    folder = given_folder(model)
    check_config(folder, model.name, trusted)
    return str(folder)


def given_folder(model: ModelRef) -> Path:
    """The user's own, or the one in the hub's cache."""
    folder = Path(model.location)
    return folder if folder.is_dir() else _snapshot(model.location)


def _snapshot(name: str) -> Path:
    """The folder of a model in the hub's cache. Uses no network."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError) as error:
        raise BackendError(
            f"model {name} is not on this machine, and loading downloads nothing",
            f"Fetch it first: hf download {name}",
        ) from error


def _converted(model: ModelRef) -> Path:
    def make(target: Path) -> None:
        made = _converted_tokenizer(model)
        say("converting the weights to safetensors, once")
        shutil.copytree(made, target, ignore=shutil.ignore_patterns(_MANIFEST))
        convert(Path(model.location), target)

    check_model(read_metadata(Path(model.location), model.name), model.name)
    return _made_once("safetensors", model, make)


def _converted_tokenizer(model: ModelRef) -> Path:
    source = Path(model.location)
    return _made_once("tokenizer", model, lambda target: convert_tokenizer(source, target))


def _made_once(kind: str, model: ModelRef, make: Callable[[Path], None]) -> Path:
    source, cache = Path(model.location), Path(model.cache)
    hashes = [_sha256(part) for part in parts_of(source)]
    name = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
    # By version: of two harnesses that share the cache, none replaces what the other made.
    folder = cache / f"{kind}-{name[:16]}-{VERSION}"
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{folder.name}.lock"):
        if not is_whole(folder):
            _make(model, folder, make)
        hold(folder)  # within the lock: whoever removes it needs both
    return folder


def is_whole(folder: Path) -> bool:
    """Whether this version of the conversion made the folder and it is as it was then."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest == _manifest(folder))
    except (OSError, ValueError):
        return False


def _make(model: ModelRef, folder: Path, make: Callable[[Path], None]) -> None:
    reason = "it is not as it was made" if folder.exists() else "this happens once"
    sys.stderr.write(f"Converting {model.name} to {folder} ({reason})\n")
    # With a dot in front, it is not taken for a finished folder (`made_of` of
    # harness/engine/models.py).
    scratch = folder.with_name(f".{folder.name}")
    # What a killed run has left, and what is not as it was made.
    for old in (scratch, folder):
        shutil.rmtree(old, ignore_errors=True)
    try:
        make(scratch)
    except BackendError:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    except Exception as error:  # whatever a damaged file makes transformers raise
        shutil.rmtree(scratch, ignore_errors=True)
        raise BackendError(
            f"{model.name} could not be converted for transformers: {first_line(error)}",
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
        # A lock of the kernel ends with its process, however that ends. The file stays: if it were
        # removed, a process that waits for it would hold the lock of a file that is gone.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
