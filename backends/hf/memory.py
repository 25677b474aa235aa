"""What transformers takes for a model, from its config.json and the heads of its weights.

Neither torch nor transformers is imported: that takes seconds. Every layer caches keys and values
of each token that is held, in the format of the weights. A sliding window saves nothing here, as
`backends.hf.context` holds all tokens for all sequences.

What the files say is read for vLLM, too.
"""

from __future__ import annotations

import json
import math
import platform
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from backends.api import BackendError, MemoryPlan, ModelRef, Options
from backends.gguf import read_head
from backends.gguf_shape import PLAIN_KINDS, Shape
from backends.hf.backend import DEVICE, DTYPE
from backends.hf.weights import given_folder
from backends.sharing.session import BRANCH_SLOTS

MIB = 2**20
_NUMBER_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_SIZES = {"hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size"}
_MOST_HEAD = 100 * MIB  # of a safetensors file, as its format has it
_MOST = 2**31
_ENGINE_BYTES = 400 * MIB  # a worker with torch and transformers; measured
_WORD_BYTES = 1024  # a token of the vocabulary, in the maps of the tokenizer and of ours; measured
_LAYER = re.compile(r"\blayers\.(\d{1,6})\.")
_WITH_KEYS = {"full_attention", "sliding_attention", "chunked_attention"}
_CHUNK_TOKENS = 512  # that go through the model at once
_BRANCHES = 64  # whose logits are computed together


@dataclass(frozen=True, slots=True)
class Numbers:
    """How many numbers a model has and makes: `weights`, and those that it caches of a token,
    `layer` of them in one layer, `attended` with what several heads share repeated for each of
    them. `head` are those of the matrix that makes logits. `has_equal_layers`: each caches keys and
    values of all tokens, as far as that is known."""

    weights: int
    cached: int
    layer: int
    attended: int
    vocabulary: int
    head: int
    has_equal_layers: bool


def numbers_of(model: ModelRef) -> Numbers | None:
    """Of a GGUF file or a folder; `None` where no weights are there, or their sizes are not known.
    Raises `BackendError` for files that cannot be right."""
    if model.format == "gguf":
        return _of_gguf(model.location, model.name)
    folder = given_folder(model)
    return _of_folder(folder, model.name) if any(folder.glob("*.safetensors")) else None


def predict(model: ModelRef, options: Options, tokens: int) -> MemoryPlan | None:
    """`None` and `BackendError` as `numbers_of` has them."""
    on_gpu = (DEVICE.given(options) or "cpu") != "cpu"
    size = _NUMBER_BYTES.get(DTYPE.of(options)) or (2 if on_gpu or _computes_in_bfloat16() else 4)
    found = numbers_of(model)
    if found is None:
        return None
    token_bytes = found.cached * size
    # A GPU's memory is taken for all slots at once; a CPU's is resident as far as it is used.
    slots = tokens + BRANCH_SLOTS if on_gpu else tokens
    # Logits are made in the format of the weights, and copied as float32.
    logits = _BRANCHES * found.vocabulary * (size + 4)
    return MemoryPlan(
        tokens=tokens,
        weights_bytes=found.weights * size,
        cache_bytes=slots * token_bytes,
        token_bytes=token_bytes,
        compute_bytes=logits + tokens * (_mask_bytes(size) + _copied(found, size, on_gpu) * size),
        engine_bytes=_ENGINE_BYTES + found.vocabulary * _WORD_BYTES,
        on_gpu=on_gpu,
    )


def _mask_bytes(size: int) -> int:
    """Of a token that is held: a truth value for each token of a chunk, and the number that torch
    makes of it."""
    return _CHUNK_TOKENS * (1 + size)


def _copied(model: Numbers, size: int, on_gpu: bool) -> int:
    """Numbers of a token that are copied while its layer attends to it. What several heads share is
    repeated for each of them (`repeat_kv` of transformers), and on CPU all heads' are packed once
    more for products in half precision (`cpu_flash_attention` of torch)."""
    repeated = model.attended if model.attended > model.layer else 0
    packed = model.attended if size == 2 and not on_gpu else 0
    return repeated + packed


def _computes_in_bfloat16() -> bool:
    """As oneDNN decides on x86, without torch. Where it is not known, the larger is taken."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        flags = set(Path("/proc/cpuinfo").read_text().partition("flags")[2].split("\n")[0].split())
    except OSError:
        return False
    return {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= flags


@lru_cache(maxsize=1)
def _of_gguf(location: str, name: str) -> Numbers:
    head = read_head(Path(location), name)
    shape = Shape(head, name)
    of_layer, attended = shape.attended_numbers
    return Numbers(
        weights=sum(head.tensors.values()),
        cached=sum(map(sum, shape.cached_numbers)),
        layer=of_layer,
        attended=attended,
        vocabulary=shape.vocabulary,
        head=shape.vocabulary * shape.width,
        has_equal_layers=shape.has_equal_layers,
    )


@lru_cache(maxsize=1)
def _of_folder(folder: Path, name: str) -> Numbers | None:
    config = _object((folder / "config.json").read_bytes(), "config.json", name)
    text = config.get("text_config")
    values = text if isinstance(text, dict) else config
    # GPT-2 and others call them otherwise, and some leave out what is the default of their kind.
    # Quantized weights have other sizes than --dtype.
    if not values.keys() >= _SIZES or config.get("quantization_config"):
        return None
    files = sorted(folder.glob("*.safetensors"))
    # What foretells further tokens (MTP) stands behind the last layer, and is not loaded.
    layers = _count(values, "num_hidden_layers", name)
    extra = _count(values, "num_nextn_predict_layers", name, 0)
    of_layer, attended = _layer_numbers(values, name)
    return Numbers(
        weights=sum(_numbers_of(path, name, layers if extra else None) for path in files),
        cached=_cached_layers(values, name) * of_layer,
        layer=of_layer,
        attended=attended,
        vocabulary=_count(values, "vocab_size", name),
        head=_count(values, "vocab_size", name) * _count(values, "hidden_size", name),
        has_equal_layers=_has_equal_layers(values),
    )


def _layer_numbers(config: Mapping[str, Any], name: str) -> tuple[int, int]:
    """Of a token in one layer: the numbers of its keys and values, and those of all heads."""
    heads = _count(config, "num_attention_heads", name)
    if config.get("kv_lora_rank"):  # latent attention (MLA), which transformers caches unfolded
        keys = _count(config, "qk_nope_head_dim", name) + _count(config, "qk_rope_head_dim", name)
        numbers = heads * (keys + _count(config, "v_head_dim", name))
        return numbers, numbers
    of_cache = _count(config, "num_key_value_heads", name, heads)
    width = _count(config, "hidden_size", name) // heads
    of_head = 2 * _count(config, "head_dim", name, width)
    return of_cache * of_head, heads * of_head


def _cached_layers(config: Mapping[str, Any], name: str) -> int:
    """How many hold keys and values of their own: not recurrent ones, and not those that take what
    earlier layers hold (Gemma 3n)."""
    layers = _count(config, "num_hidden_layers", name)
    kinds, linear = config.get("layer_types"), config.get("linear_attn_config")
    if isinstance(linear, dict) and isinstance(full := linear.get("full_attn_layers"), list):
        return min(len(full), layers)  # Kimi Linear
    shared = min(_count(config, "num_kv_shared_layers", name, 0), layers)
    if not isinstance(kinds, list):
        return layers - shared
    return sum(kind in _WITH_KEYS for kind in kinds[: layers - shared])


def _has_equal_layers(config: Mapping[str, Any]) -> bool:
    """As `Shape.has_equal_layers`."""
    if config.get("model_type") not in PLAIN_KINDS:
        return False
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return all(kind == "full_attention" for kind in kinds)
    return not (config.get("sliding_window") and config.get("use_sliding_window", True))


def _count(config: Mapping[str, Any], key: str, name: str, default: int | None = None) -> int:
    value = config.get(key)
    if value is None and default is not None:
        return default
    least = 0 if default == 0 else 1
    if type(value) is not int or not least <= value <= _MOST:
        raise _refused(name, f"config.json says that {key} is {str(value)[:40]}")
    return value


def _numbers_of(path: Path, name: str, layers: int | None) -> int:
    """How many numbers the tensors of a safetensors file have; of layers, the first so many."""
    with path.open("rb") as file:
        begins = file.read(8)
        length = struct.unpack("<Q", begins)[0] if len(begins) == 8 else 0
        if not 0 < length <= min(_MOST_HEAD, path.stat().st_size - 8):
            raise _refused(name, f"the head of {path.name} has {length} bytes")
        head = _object(file.read(length), path.name, name)
    total = 0
    for tensor, said in head.items():
        found = _LAYER.search(tensor)
        if tensor == "__metadata__" or (layers and found and int(found[1]) >= layers):
            continue
        shape = said.get("shape") if isinstance(said, dict) else None
        if not isinstance(shape, list) or any(type(n) is not int or n < 0 for n in shape):
            raise _refused(
                name, f"{path.name} says that the shape of {tensor[:40]} is {shape!r:.40}"
            )
        total += math.prod(shape)
    # No format packs more than 16 numbers into a byte.
    if total > 16 * path.stat().st_size:
        raise _refused(name, f"{path.name} speaks of {total} numbers in a file too small for them")
    return total


def _object(data: bytes, file: str, name: str) -> Mapping[str, Any]:
    try:
        read = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _refused(name, f"{file} is no JSON") from error
    if not isinstance(read, dict):
        raise _refused(name, f"{file} is no JSON object")
    return read


def _refused(name: str, why: str) -> BackendError:
    return BackendError(f"the files of {name} cannot be right: {why}", "Fetch the model again.")
