"""Whether a folder may be given to transformers or vLLM: what they would read of it, and run.

Both follow what the folder's files say: names of other files, of code, of another model. Only what
lies in the folder counts, as the harness hashes that, and of weights only safetensors, because to
read a pickle is to run it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backends.api import BackendError
from backends.gguf import MOST_IN_BYTE
from backends.rules import MODEL_FILES, why_no_text

_REMEDY = "Give a folder with config.json, safetensors and a tokenizer."
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_DISTRIBUTED = "shard-*-model-*-of-*.safetensors"
_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers")
_LARGEST = 2**53  # whole numbers beyond it are not the same in all that reads JSON


def check_config(folder: Path, name: str, trusted: bool) -> Mapping[str, Any]:
    """The config.json of a folder with a causal language model. Raises as `check_folder` does."""
    config = check_folder(folder, name, trusted)
    _check_head(config, name)
    if (folder / "modules.json").is_file():
        raise BackendError(
            f"{name} makes one embedding of each text and writes none (modules.json)",
            "Give a causal language model.",
        )
    return config


def check_folder(folder: Path, name: str, trusted: bool) -> Mapping[str, Any]:
    """The folder's config.json; `trusted` lets the model bring code of its own.

    Raises `BackendError`, which calls the folder `name`, for a model that may not be read.
    """
    # transformers would load the model that the adapter names, from wherever that is.
    if (folder / "adapter_config.json").exists():
        raise BackendError(
            f"{name} holds an adapter (adapter_config.json) of another model",
            "Merge the adapter into its model, and give that one's folder.",
        )
    if not (folder / "config.json").is_file():
        raise BackendError(f"{name} holds no model: there is no config.json", _REMEDY)
    for path in _files(folder):
        _check_place(path, folder, name)
    config = _json(folder / "config.json", name)
    # transformers would read another file in its stead
    if "configuration_files" in config:
        raise BackendError(
            f"config.json of {name} names other files to read instead (configuration_files)",
            "Put the values of the right one into config.json.",
        )
    _check_values(config, name)
    _check_code(config, name, trusted)
    return config


def check_weights(folder: Path, name: str, config: Mapping[str, Any]) -> None:
    """Raises `BackendError`, which calls the folder `name`, for weights that may not be read."""
    files = weight_files(folder, name, config)
    for file in files:
        if not (folder / file).is_file():
            raise BackendError(f"{name} lacks {file}, a part of its weights", "Fetch it again.")
    _check_amount(config, sum((folder / file).stat().st_size for file in files), name)


def weight_files(folder: Path, name: str, config: Mapping[str, Any]) -> list[str]:
    """Which of the folder's files transformers would load; whether each is there is not looked at.
    Raises `BackendError` as `check_weights` does."""
    if any(folder.glob(_DISTRIBUTED)):  # transformers would take these, whatever else there is
        raise BackendError(
            f"{name} holds a distributed checkpoint ({_DISTRIBUTED})",
            "Save the model with save_pretrained.",
        )
    # In the order in which transformers looks for weights.
    given = config.get("transformers_weights")
    if isinstance(given, str) and given.endswith(".safetensors"):
        files = [given]
    elif isinstance(given, str) and given.endswith(".safetensors.index.json"):
        files = _shards(folder, given, name)
    elif given is not None:
        raise _not_plain(name, "config.json", str(given))
    elif (folder / _WHOLE).is_file():
        files = [_WHOLE]
    elif (folder / _INDEX).is_file():
        files = _shards(folder, _INDEX, name)
    else:
        raise _no_safetensors(folder, name)
    for file in files:
        if Path(file).name != file:
            raise _not_plain(name, "config.json", file)
    return files


def weights_sha256(folder: Path) -> str:
    """The hash of the file of weights, or of the lines that `sha256sum` prints for several."""
    hashes = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as stream:
            hashes[path.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = "\n".join(f"{sha256}  {name}" for name, sha256 in hashes.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """What the engines may read."""
    return (path for pattern in MODEL_FILES for path in sorted(folder.glob(pattern)))


def _check_place(path: Path, folder: Path, name: str) -> None:
    """A link may lead to another file of the folder, or to the blobs of the hub's cache."""
    # In the hub's cache, models--X/snapshots/REVISION/FILE is a link to models--X/blobs/HASH.
    whole = folder.resolve()
    target = path.resolve()
    if not any(target.is_relative_to(place) for place in (whole, whole.parent.parent / "blobs")):
        raise BackendError(
            f"{path.name} in {name} is a link to a file outside the folder, and is not followed",
            "Put the file itself there.",
        )


def _json(path: Path, name: str) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BackendError(f"{path.name} in {name} cannot be read: {error}", _REMEDY) from error
    if not isinstance(read, dict):
        raise BackendError(f"{path.name} in {name} is no JSON object", _REMEDY)
    return read


def _of_text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part about the language model, of a model that sees images too."""
    part = config.get("text_config")
    return part if isinstance(part, dict) else config


def _check_values(config: Mapping[str, Any], name: str) -> None:
    """What every model has."""
    for key in (*_SIZES, "max_position_embeddings", "num_attention_heads"):
        value = _of_text(config).get(key)
        if value is not None and not (type(value) is int and 0 < value < _LARGEST):
            raise BackendError(
                f"{key} in config.json of {name} is {str(value)[:40]!r}, and not the number that "
                "it should be",
                "Fetch config.json again.",
            )


def _check_code(config: Mapping[str, Any], name: str, trusted: bool) -> None:
    """Refuses a model that transformers has no code of its own for, unless its code is trusted."""
    from transformers import CONFIG_MAPPING

    kind = config.get("model_type")
    known = isinstance(kind, str) and kind in CONFIG_MAPPING
    # For a kind that it knows, transformers runs its own code, and not that of the folder.
    if "auto_map" in config and not known and not trusted:
        raise BackendError(
            f"{name} can only be loaded by running code that came with it",
            "If you trust that code: --trust-remote-code",
        )


def _check_head(config: Mapping[str, Any], name: str) -> None:
    """Refuses what reads texts and writes none; where config.json does not say, loading shows."""
    reason = why_no_text(config)
    if not reason:
        return
    raise BackendError(
        f"{name} is not a model that this backend can have write text: {reason}",
        "Give a causal language model.",
    )


def _shards(folder: Path, index: str, name: str) -> list[str]:
    weight_map = _json(folder / index, name).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BackendError(f"{index} in {name} names no files (weight_map)", "Fetch it again.")
    for file in weight_map.values():
        plain = isinstance(file, str) and file.endswith(".safetensors")
        if not plain or Path(file).name != file:
            raise _not_plain(name, index, str(file))
    return sorted(set(weight_map.values()))


def _not_plain(name: str, where: str, file: str) -> BackendError:
    return BackendError(
        f"{where} in {name} names {file[:80]!r} as weights. Only safetensors in the folder itself "
        "are loaded: to read a pickle can run any code",
        "Convert the weights to safetensors, or fetch the model again.",
    )


def _no_safetensors(folder: Path, name: str) -> BackendError:
    pickles = sorted(path.name for suffix in _PICKLES for path in folder.glob(f"*{suffix}"))
    if pickles:
        return BackendError(
            f"the weights in {name} are pickles ({pickles[0]}), which can run any code when they "
            "are read, and are never loaded",
            "Convert them to safetensors.",
        )
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if others:
        return BackendError(
            f"{name} holds safetensors ({others[0]}), but neither {_WHOLE} nor {_INDEX}", _REMEDY
        )
    return BackendError(f"{name} holds no safetensors", _REMEDY)


def _check_amount(config: Mapping[str, Any], size_bytes: int, name: str) -> None:
    """Refuses sizes that the weights cannot have: engines take memory for them before they look."""
    # A size that is not given counts as 1, which refuses nothing.
    vocabulary, width, layers = (_of_text(config).get(key) or 1 for key in _SIZES)
    most = MOST_IN_BYTE * size_bytes  # and as many layers: no weights are packed as tightly
    if vocabulary * width > most or layers * width > most:
        raise BackendError(
            f"config.json of {name} speaks of a vocabulary of {vocabulary}, a width of {width} and "
            f"{layers} layers, and its weights are {size_bytes} bytes only",
            "Check that config.json belongs to the weights, and that they are whole.",
        )
