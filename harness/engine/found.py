"""The models that other programs have stored on this machine, and what `--model` takes for each.

Only names, sizes and the beginnings of files are read. What lies in these folders is untrusted
input: how much of it is looked at has bounds.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from harness.contract import BackendError, check_model, parts_of, read_beginning, why_no_text
from harness.engine.models import HUB_NAME
from harness.engine.ollama import names as names_of_ollama
from harness.engine.ollama import weights_of
from harness.errors import HarnessError

_MOST_FILES, _DEEPEST = 10_000, 5  # of a folder that is searched
_MOST_REPOSITORIES = 10_000
_MOST_BYTES = 2**24  # of a JSON file; the index of the largest models has less
_REVISION = re.compile(r"[\w.-]{1,100}", re.ASCII)
_LATER_PART = re.compile(r".*-(?!00001)\d{5}-of-\d{5}\.gguf")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")


@dataclass(frozen=True, slots=True)
class FoundModel:
    """`model` is what `--model` takes, empty where it can be given to no engine, for `problem`.
    `source` says whose it is; `path` is a file or a folder; `size_bytes` is that of the weights."""

    name: str
    source: str
    format: str
    size_bytes: int
    path: str
    model: str = ""
    problem: str = ""


def found_models() -> list[FoundModel]:
    """All of them, by where they were found and their names."""
    every = [
        *_of_ollama(),
        *_of_hub(hub_cache()),
        *(one for folder in _lm_studio() for one in _in_folder(folder, "LM Studio")),
        *_in_folder(_llama_cpp_cache(), "llama.cpp"),
    ]
    return sorted(
        (one for one in every if f"{one.name}{one.path}".isprintable()),
        key=lambda one: (one.source, one.name.lower(), one.path),
    )


def hub_cache() -> Path:
    """Where the hub's own client looks."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if given := os.environ.get(name):
            return Path(given).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return _user_cache() / "huggingface" / "hub"


def from_home(path: Path) -> str:
    """The path with `~` for the home folder, which `--model` takes."""
    with suppress(RuntimeError, ValueError):
        return f"~/{path.relative_to(Path.home())}"
    return str(path)


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def _lm_studio() -> tuple[Path, ...]:
    older = Path("~/.cache/lm-studio/models").expanduser()
    return Path("~/.lmstudio/models").expanduser(), older


def _llama_cpp_cache() -> Path:
    if given := os.environ.get("LLAMA_CACHE"):
        return Path(given).expanduser()
    if platform.system() == "Darwin":
        return Path("~/Library/Caches/llama.cpp").expanduser()
    return _user_cache() / "llama.cpp"


def _of_ollama() -> Iterator[FoundModel]:
    for model in names_of_ollama():
        name = model.partition(":")[2]
        try:
            path = weights_of(model)
        except HarnessError as error:
            problem = str(error).replace(f"model {model} is", "it is")
            yield FoundModel(name, "Ollama", "", 0, "", problem=problem)
            continue
        yield _of_file(path, name, "Ollama", model)


def _in_folder(folder: Path, source: str) -> Iterator[FoundModel]:
    for path in _files(folder):
        # To open a pipe would wait for ever.
        if (
            path.suffix.lower() == ".gguf"
            and path.is_file()
            and not _LATER_PART.fullmatch(path.name)
        ):
            yield _of_file(path, path.stem, source, from_home(path))


def _files(folder: Path) -> Iterator[Path]:
    """Those in it and in its folders; links to folders are not followed."""
    walked = os.walk(folder)
    files = (
        Path(where, name)
        for where, folders, names in walked
        for name in _bounded(Path(where), folder, folders, names)
    )
    return islice(files, _MOST_FILES)


def _bounded(where: Path, top: Path, folders: list[str], files: list[str]) -> list[str]:
    if len(where.relative_to(top).parts) >= _DEEPEST:
        folders.clear()  # `os.walk` goes no deeper then
    return sorted(files)


def _of_file(path: Path, name: str, source: str, model: str) -> FoundModel:
    """Of a GGUF file."""
    size, problem = 0, ""
    try:
        size = sum(part.stat().st_size for part in parts_of(path))
        check_model(read_beginning(path, "it"), "it")
    except (BackendError, OSError) as error:
        problem = str(error)
    return FoundModel(name, source, "gguf", size, str(path), "" if problem else model, problem)


def _of_hub(cache: Path) -> Iterator[FoundModel]:
    repositories: list[Path] = []
    with suppress(OSError):
        repositories = list(islice(cache.glob("models--*"), _MOST_REPOSITORIES))
    for repository in repositories:
        with suppress(OSError):
            yield from _of_repository(repository)


def _of_repository(repository: Path) -> Iterator[FoundModel]:
    name = repository.name.removeprefix("models--").replace("--", "/")
    snapshot, is_main = _snapshot(repository)
    if snapshot is None:
        return
    ggufs = [one for one in _in_folder(snapshot, "hub cache") if one.format]
    yield from ggufs
    config = _read_json(snapshot / "config.json")
    weights, problem = _weights(snapshot)
    if config is None:
        problem = "no config.json"
    elif not problem:
        problem = why_no_text(config)
    if ggufs and not weights:
        return  # its config.json, if any, belongs to these
    if not weights and any((snapshot / file).is_file() for file in _TOKENIZERS):
        problem = problem if weights else f"tokenizer only; for the weights: hf download {name}"
    size = sum(file.stat().st_size for file in weights)
    given = name if is_main and HUB_NAME.fullmatch(name) else from_home(snapshot)
    kind = "hf" if weights else ""
    model = "" if problem else given
    yield FoundModel(name, "hub cache", kind, size, str(snapshot), model, problem)


def _snapshot(repository: Path) -> tuple[Path | None, bool]:
    """The folder that the hub's client gives for the model's name, or the newest one that there is;
    and which of the two it is."""
    revision = _begins(repository / "refs" / "main", 200).decode(errors="replace").strip()
    main = repository / "snapshots" / revision
    if _REVISION.fullmatch(revision) and main.is_dir():
        return main, True
    every = [one for one in (repository / "snapshots").glob("*") if one.is_dir()]
    return max(every, key=lambda one: one.stat().st_mtime, default=None), False


def _weights(snapshot: Path) -> tuple[list[Path], str]:
    """The files of weights, and what keeps them from being loaded."""
    whole, index = snapshot / "model.safetensors", snapshot / "model.safetensors.index.json"
    if whole.is_file():
        return [whole], ""
    if not index.is_file():
        if any(snapshot.glob("*.bin")) or any(snapshot.glob("*.pt")):
            return [], "its weights are pickles, which are never loaded"
        return [], "no weights"
    listed = (_read_json(index) or {}).get("weight_map")
    values = listed.values() if isinstance(listed, dict) else ()
    names = {name for name in values if isinstance(name, str)}
    files = [snapshot / name for name in sorted(names) if Path(name).name == name]
    there = [file for file in files if file.is_file()]
    if not files or len(there) < len(names):
        return there, f"{len(names) - len(there)} of {len(names)} files of weights are missing"
    return files, ""


def _read_json(path: Path) -> Mapping[str, Any] | None:
    try:
        read = json.loads(_begins(path, _MOST_BYTES))
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def _begins(path: Path, most: int) -> bytes:
    """Nothing of what is not a plain file, or cannot be read."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                return file.read(most)
    except OSError:
        pass
    return b""
