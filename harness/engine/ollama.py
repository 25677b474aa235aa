"""The models that Ollama holds on this machine, by its own names.

A name stands for a manifest, a JSON file by the path HOST/NAMESPACE/MODEL/TAG, which names the file
of weights by its hash. Manifests are untrusted input: their sizes are bounded, and of what they say
only a hash leads to a file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from harness.errors import EngineError, HarnessError, UsageError

PREFIX = "ollama:"
_FOLDERS = ("manifests", "manifest-v2")  # of now, and of later versions
_HOSTS = ("registry.ollama.ai", "ollama.com")  # those that a name leaves out
_NAMESPACE, _TAG = "library", "latest"  # left out too
_WEIGHTS, _ADAPTER = "application/vnd.ollama.image.model", "application/vnd.ollama.image.adapter"
_PART = re.compile(r"\w[\w.-]{0,199}", re.ASCII)
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_MOST_BYTES = 2**20  # of a manifest; they have some hundreds
_MOST_MANIFESTS = 10_000


def names() -> list[str]:
    """The models that are there, as `--model` takes them."""
    found = {_name(file) for root in _roots() for file in _manifests(root)}
    return [PREFIX + name for name in sorted(filter(None, found))]


def weights_of(model: str) -> Path:
    """The GGUF file of a model such as `ollama:llama3.2` or `ollama:user/mine:8b`.

    Raises `UsageError` where there is none of that name, `EngineError` where it cannot be given to
    an engine.
    """
    for root, path in _candidates(model.removeprefix(PREFIX)):
        try:
            if path.is_file():
                return _weights(root, path, model)
        except OSError as error:
            raise _unreadable(model, path, error) from error
    raise UsageError(
        f"there is no model {model!r}",
        remedy="`harness models --found` lists those that Ollama holds here.",
    )


def _roots() -> list[Path]:
    if given := os.environ.get("OLLAMA_MODELS"):
        return [Path(given)]
    # The second is that of the service that Ollama's installer sets up on Linux.
    return [Path("~/.ollama/models").expanduser(), Path("/usr/share/ollama/.ollama/models")]


def _manifests(root: Path) -> Iterator[Path]:
    for folder in _FOLDERS:
        with suppress(OSError):  # another user's
            yield from islice((root / folder).glob("*/*/*/*"), _MOST_MANIFESTS)


def _name(manifest: Path) -> str:
    """Empty for a path that is no name."""
    host, namespace, model, tag = manifest.parts[-4:]
    if not all(map(_PART.fullmatch, (host, namespace, model, tag))):
        return ""
    parts = [host, namespace, model]
    if host in _HOSTS:
        parts = [model] if namespace == _NAMESPACE else [namespace, model]
    return "/".join(parts) + (f":{tag}" if tag != _TAG else "")


def _candidates(name: str) -> Iterator[tuple[Path, Path]]:
    """Where the manifest of a name may be, each with the folder that holds its weights."""
    path, _, tag = name.partition(":")
    parts = [*path.split("/"), tag or _TAG]
    if not all(map(_PART.fullmatch, parts)) or len(parts) > 4:
        return
    if len(parts) == 2:
        parts.insert(0, _NAMESPACE)
    hosts = _HOSTS if len(parts) == 3 else (parts.pop(0),)
    for root in _roots():
        for folder in _FOLDERS:
            for host in hosts:
                yield root, root.joinpath(folder, host, *parts)


def _weights(root: Path, manifest: Path, model: str) -> Path:
    digests: dict[str, list[str]] = {_WEIGHTS: [], _ADAPTER: []}
    try:
        with manifest.open("rb") as file:
            layers = json.loads(file.read(_MOST_BYTES))["layers"]
        for layer in layers:
            if layer["mediaType"] in digests:
                digests[layer["mediaType"]].append(str(layer["digest"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(model, manifest, error) from error
    if digests[_ADAPTER]:
        raise EngineError(
            f"model {model} is an adapter on another model",
            remedy="Give a model whose weights are one GGUF file.",
        )
    hashes = [match[1] for one in digests[_WEIGHTS] if (match := _DIGEST.fullmatch(one))]
    if len(hashes) != 1 or len(digests[_WEIGHTS]) != 1:
        raise EngineError(
            f"model {model} is not one GGUF file: Ollama runs it elsewhere, or stores it in "
            "another form",
            remedy="Give a model whose weights are one GGUF file.",
        )
    # Older versions of Ollama write the colon.
    for name in (f"sha256-{hashes[0]}", f"sha256:{hashes[0]}"):
        if (path := root / "blobs" / name).is_file():
            return path
    raise EngineError(
        f"the weights of model {model} are not there: {root / 'blobs'} lacks sha256-{hashes[0]}",
        remedy=f"Fetch it again: ollama pull {model.removeprefix(PREFIX)}",
    )


def _unreadable(model: str, manifest: Path, error: Exception) -> HarnessError:
    said = error.strerror if isinstance(error, OSError) else "it is damaged"
    return EngineError(
        f"Ollama's manifest {manifest} of {model} cannot be read: {said}",
        remedy="Check that you may read Ollama's folder, or name yours in OLLAMA_MODELS.",
    )
