"""What transformers takes for a model, from its config.json and the heads of its weights.

Neither torch nor transformers is imported: that takes seconds. What is cached of a token is in the
format of the weights (`backends.hf.shape`). A sliding window saves nothing here, as
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
from backends.gguf import MOST_IN_BYTE, read_head
from backends.gguf_shape import Shape
from backends.hf.backend import DTYPE
from backends.hf.folder import weight_files
from backends.hf.placement import is_on_gpu
from backends.hf.shape import count, has_equal_layers, held_of, refused
from backends.hf.weights import given_folder
from backends.sharing.session import BRANCH_SLOTS

MIB = 2**20
_NUMBER_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_SIZES = {"hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size"}
_MOST_HEAD = 100 * MIB  # of a safetensors file, as its format has it
_ENGINE_BYTES = 400 * MIB  # a worker with torch and transformers; measured
_WORD_BYTES = 1024  # a token of the vocabulary, in the maps of the tokenizer and of ours; measured
_LAYER = re.compile(r"\blayers\.(\d{1,6})\.")
_SCORE_BYTES = {
    "gemma2": {2: 10, 4: 8},
    "gpt_oss": {2: 6, 4: 12},
}
"""Of a token for each token of a chunk and each head, by the size of a number: in models that
transformers computes by its plain attention only. Measured on CPU (docs/FIT.md)."""
_UNMEASURED = {
    *("big_bird", "bigbird_pegasus", "bloom", "codegen", "cpmant", "deepseek_v4", "falcon_mamba"),
    *("flint", "git", "got_ocr2", "gpt_neo", "gpt_neox_japanese", "gptj", "granite_swa"),
    *("granitemoe_swa", "hy_v4", "inkling2_text", "mamba", "mamba2", "megatron-bert"),
    *("mimo_v2_flash", "mpt", "mvp", "openai-gpt", "prophetnet", "reformer", "rembert"),
    *("roformer", "rwkv", "trocr", "vaultgemma", "xglm", "xlm", "xlnet", "xlstm"),
}
"""Other such kinds."""
_CHUNK_TOKENS = 512  # that go through the model at once
_BRANCHES = 64  # whose logits are computed together


@dataclass(frozen=True, slots=True)
class Numbers:
    """How many numbers a model has and makes: `weights`, and those that it caches of a token,
    `layer` of them in one layer, `attended` with what several heads share repeated for each of
    them. `head` are those of the matrix that makes logits. `has_equal_layers`: each caches keys and
    values of all tokens, as far as that is known. `heads`: of queries. `kind`: as config.json calls
    it. `has_latent`: keys and values are unfolded from what is cached (MLA)."""

    weights: int
    cached: int
    layer: int
    attended: int
    vocabulary: int
    head: int
    has_equal_layers: bool
    heads: int
    kind: str
    has_latent: bool = False


def numbers_of(model: ModelRef) -> Numbers | None:
    """Of a GGUF file or a folder; `None` where no weights are there, or their sizes are not known.
    Raises `BackendError` for files that cannot be right."""
    if model.format == "gguf":
        return _of_gguf(model.location, model.name)
    return _of_folder(given_folder(model), model.name)


def predict(model: ModelRef, options: Options, tokens: int) -> MemoryPlan | None:
    """`None` and `BackendError` as `numbers_of` has them; `None` also where it is not known on what
    the model will run."""
    found, on_gpu = numbers_of(model), is_on_gpu(options)
    if found is None or on_gpu is None:
        return None
    size = _NUMBER_BYTES.get(DTYPE.of(options)) or (2 if on_gpu or _computes_in_bfloat16() else 4)
    attending = _attending_bytes(found, size, on_gpu)
    if attending is None:
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
        compute_bytes=logits + tokens * (_mask_bytes(size) + attending),
        engine_bytes=_ENGINE_BYTES + found.vocabulary * _WORD_BYTES,
        on_gpu=on_gpu,
    )


def _mask_bytes(size: int) -> int:
    """Of a token that is held: a truth value for each token of a chunk, and the number that torch
    makes of it."""
    return _CHUNK_TOKENS * (1 + size)


def _attending_bytes(model: Numbers, size: int, on_gpu: bool) -> int | None:
    """Of a token that is held, while its layer attends to it. What several heads share is repeated
    for each of them (`repeat_kv` of transformers), and on CPU all heads' are packed once more for
    products in half precision (`cpu_flash_attention` of torch). Plain attention has all scores at
    once instead; `None` where they were not measured."""
    repeated = model.attended if model.attended > model.layer else 0
    if model.kind in _UNMEASURED or (on_gpu and model.kind in _SCORE_BYTES):
        return None
    if score := _SCORE_BYTES.get(model.kind):
        return repeated * size + _CHUNK_TOKENS * model.heads * score[size]
    packed = model.attended if size == 2 and not on_gpu else 0
    return (repeated + packed) * size


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
        heads=shape.query_heads,
        kind=str(head.values.get("general.architecture")).replace("-", "_"),
    )


@lru_cache(maxsize=1)
def _of_folder(folder: Path, name: str) -> Numbers | None:
    if not (folder / "config.json").is_file():
        return None
    config = _object((folder / "config.json").read_bytes(), "config.json", name)
    text = config.get("text_config")
    values = text if isinstance(text, dict) else config
    # GPT-2 and others call them otherwise, and some leave out what is the default of their kind.
    # Quantized weights have other sizes than --dtype.
    if not values.keys() >= _SIZES or config.get("quantization_config"):
        return None
    files = _loaded(folder, name, config)
    held = held_of(values, name)
    if not files or held is None:
        return None
    # What predicts further tokens (MTP) stands behind the last layer, and is not loaded.
    layers = count(values, "num_hidden_layers", name)
    extra = count(values, "num_nextn_predict_layers", name, 0)
    vocabulary = count(values, "vocab_size", name)
    return Numbers(
        weights=sum(_numbers_of(path, name, layers if extra else None) for path in files),
        cached=held.cached,
        layer=held.layer,
        attended=held.attended,
        vocabulary=vocabulary,
        head=vocabulary * count(values, "hidden_size", name),
        has_equal_layers=has_equal_layers(values),
        heads=count(values, "num_attention_heads", name),
        kind=str(values.get("model_type")),
        has_latent=held.has_latent,
    )


def _loaded(folder: Path, name: str, config: Mapping[str, Any]) -> list[Path]:
    """The files of weights that are loaded; none where one is not there, or may not be read: what
    is wrong with them, loading says."""
    try:
        paths = [folder / file for file in weight_files(folder, name, config)]
    except BackendError:
        return []
    return paths if all(path.is_file() for path in paths) else []


def _numbers_of(path: Path, name: str, layers: int | None) -> int:
    """How many numbers the tensors of a safetensors file have; of layers, the first so many."""
    with path.open("rb") as file:
        begins = file.read(8)
        length = struct.unpack("<Q", begins)[0] if len(begins) == 8 else 0
        if not 0 < length <= min(_MOST_HEAD, path.stat().st_size - 8):
            raise refused(name, f"the head of {path.name} has {length} bytes")
        head = _object(file.read(length), path.name, name)
    total = 0
    for tensor, said in head.items():
        found = _LAYER.search(tensor)
        if tensor == "__metadata__" or (layers and found and int(found[1]) >= layers):
            continue
        shape = said.get("shape") if isinstance(said, dict) else None
        if not isinstance(shape, list) or any(type(n) is not int or n < 0 for n in shape):
            raise refused(
                name, f"{path.name} says that the shape of {tensor[:40]} is {shape!r:.40}"
            )
        total += math.prod(shape)
    if total > MOST_IN_BYTE * path.stat().st_size:
        raise refused(name, f"{path.name} speaks of {total} numbers in a file too small for them")
    return total


def _object(data: bytes, file: str, name: str) -> Mapping[str, Any]:
    try:
        read = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise refused(name, f"{file} is no JSON") from error
    if not isinstance(read, dict):
        raise refused(name, f"{file} is no JSON object")
    return read
