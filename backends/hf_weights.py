"""A GGUF file as the folder of safetensors that transformers and vLLM read, kept in a cache.

The folder is named after the file's hash. A manifest in it, written last, has the hash of each file
and is checked at every use: a folder that is not as it was made, or that another version of the
conversion made, is made anew. That happens under a lock and under another name: two runs that start
together make it once, and none ever sees half of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from backends.api import BackendError, ModelRef
from backends.hf_conversion import VERSION, convert

_MANIFEST = "manifest.json"


def folder_of(model: ModelRef) -> str:
    """The folder, or the hub's name, of a model in transformers' own form.

    Raises `BackendError` where a file is no GGUF file, or none that transformers can convert.
    """
    if model.format == "hf":
        return model.location
    source, cache = Path(model.location), Path(model.cache)
    folder = cache / f"safetensors-{_sha256(source)[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{folder.name}.lock"):
        if not is_whole(folder):
            _make(source, folder)
    return str(folder)


def is_whole(folder: Path) -> bool:
    """Whether this version of the conversion made the folder and it is as it was then."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest == _manifest(folder))
    except (OSError, ValueError):
        return False


def _make(source: Path, folder: Path) -> None:
    reason = "it is not as it was made" if folder.exists() else "this happens once"
    sys.stderr.write(f"Converting {source.name} to {folder} ({reason})\n")
    scratch = folder.with_name(f".{folder.name}")
    for old in (scratch, folder):
        shutil.rmtree(old, ignore_errors=True)
    try:
        convert(source, scratch)
    except (NotImplementedError, ValueError, KeyError, OSError) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise BackendError(
            f"{source} could not be converted for transformers: {str(error).splitlines()[0]}",
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
