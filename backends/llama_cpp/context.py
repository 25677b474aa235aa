"""llama.cpp's C interface, as far as the backend needs it, in Python's terms.

Evaluates tokens, copies sequences by reference, hands out logits. What to evaluate, and when, is
`backends.sharing.session`'s business; tokens and texts are `backends.llama_cpp.tokenizer`'s.
"""

from __future__ import annotations

import ctypes
import math
import platform
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import llama_cpp as lib
import numpy as np

from backends.api import BackendError, ModelRef, Options, TokenIds
from backends.llama_cpp.backend import (
    BATCH_TOKENS,
    CACHE_TYPE_K,
    CACHE_TYPE_V,
    FLASH_ATTN,
    MAIN_GPU,
    N_BATCH,
    N_GPU_LAYERS,
    N_UBATCH,
    NO_MMAP,
)
from backends.llama_cpp.devices import tensor_split
from backends.llama_cpp.tokenizer import LlamaTokenizer, allocated, last_words, load_model
from backends.rules import THREADS, check_length, usable_cpus
from backends.sharing.generation import Logits
from backends.sharing.session import Step

# On a CPU, llama.cpp's flash attention goes one way up to 63 tokens a call and another, faster one
# from 64 on; on that one, sums depend on where in the cache a token lies, and the 8-bit activations
# of quantized weights make much of little. So long runs of tokens that begin a prompt, which lie in
# the cache as they would if it were alone, take the fast way up to the last multiple of 128, and
# the rest takes the other. A lone token takes a third way, unless it gets company (`_never_alone`).
# It is the piece of n_ubatch tokens that takes a way, so on a CPU a call is one piece.
TILE_TOKENS = 128
LEAST_FAST_TOKENS = 64
SHORT_CALL_TOKENS = 60

_CACHE_TYPES = {
    "f32": lib.GGML_TYPE_F32,
    "f16": lib.GGML_TYPE_F16,
    "q8_0": lib.GGML_TYPE_Q8_0,
    "q4_0": lib.GGML_TYPE_Q4_0,
}
_FLASH_ATTN = {"auto": -1, "off": 0, "on": 1}


class LlamaContext:
    """A model and one unified KV cache of `slots` tokens for `sequences` sequences.

    Refuses a `longest` sequence that is longer than the model was made for.
    """

    short_length: int | None = None

    def __init__(
        self, model: ModelRef, options: Options, longest: int, slots: int, sequences: int
    ) -> None:
        self.threads = THREADS.given(options) or usable_cpus()
        self._call_tokens, self._piece_tokens = batch_tokens(options)
        # Held as long as the model: llama.cpp does not copy what its pointers point to.
        self._params = _model_params(options)
        self._model = load_model(model, self._params)
        self.tokenizer = LlamaTokenizer(self._model)
        try:  # before memory is taken for it
            declared = self.tokenizer.info.declared_context
            check_length(longest, declared, model.name, options)
        except BackendError:
            self.tokenizer.close()
            raise
        self.shares_prefixes = not (
            lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model)
        )
        self.uses_gpu = bool(lib.llama_supports_gpu_offload()) and N_GPU_LAYERS.given(options) != 0
        self.vocabulary_size = self.tokenizer.vocabulary_size
        self._row = ctypes.c_float * self.vocabulary_size
        self._views: dict[int, Logits] = {}
        self.slots = slots
        self._most_outputs = sequences
        self._companion = sequences  # a sequence that the caller does not know of
        self._context = lib.llama_init_from_model(
            self._model, self._context_params(options, slots, sequences)
        )
        if not self._context:
            self.tokenizer.close()
            raise BackendError(
                f"llama.cpp could not make a context of {slots} tokens{last_words()}",
                "Use a smaller --max-model-len, or a smaller KV cache type.",
            )
        self.allocated = allocated()
        self._memory = lib.llama_get_memory(self._context)
        # 0: of tokens, not of embeddings.
        self._batch = lib.llama_batch_init(self._call_tokens, 0, sequences + 1)

    def _context_params(self, options: Options, slots: int, sequences: int) -> Any:
        params = lib.llama_context_default_params()
        params.n_ctx = slots + 1  # one for the companion
        params.n_batch, params.n_ubatch = self._call_tokens, self._piece_tokens
        params.n_seq_max = params.n_outputs_max = sequences + 1
        params.kv_unified = True  # a token may belong to many sequences (DECISIONS.md)
        params.swa_full = True  # a pruned sliding window could not be branched from
        params.no_perf = True
        params.n_threads = params.n_threads_batch = self.threads
        flash_attn = FLASH_ATTN.given(options) or ("auto" if self.uses_gpu else "on")
        params.flash_attn_type = _FLASH_ATTN[flash_attn]
        params.type_k = _CACHE_TYPES[CACHE_TYPE_K.of(options)]
        params.type_v = _CACHE_TYPES[CACHE_TYPE_V.of(options)]
        return params

    @property
    def description(self) -> str:
        """Architecture, number of parameters and quantization."""
        buffer = ctypes.create_string_buffer(256)
        lib.llama_model_desc(self._model, buffer, len(buffer))
        kind, _, behind = buffer.value.decode("utf-8", errors="replace").partition(" ")
        # llama.cpp guesses the size in between by the number of layers: 256M for one of 135M.
        millions = lib.llama_model_n_params(self._model) / 1e6
        return f"{kind} {millions:.0f}M {behind.partition(' ')[2]}"

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer.tokenize(texts)

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        return self.tokenizer.token_texts(token_ids)

    def detokenize(self, token_ids: TokenIds) -> str:
        return self.tokenizer.detokenize(token_ids)

    def is_end(self, token: int) -> bool:
        return self.tokenizer.is_end(token)

    def expect(self, is_long: bool) -> None:
        """Of no concern: the size of the context decides, for all of its sequences."""

    def evaluate(
        self, steps: Sequence[Step], alike: bool = True
    ) -> Iterator[tuple[int, list[Logits]]]:
        """Evaluates tokens in order; yields, after each call into the engine, how many tokens
        it was and the logits of those steps in it that want them, which the next call overwrites.
        """
        for chunk in self._calls(steps):
            together = self._never_alone(chunk) if alike else chunk
            self._fill(together)
            status = lib.llama_decode(self._context, self._batch)
            if status != 0:
                raise RuntimeError(f"llama_decode returned {status}{last_words()}")
            # A GPU may still be at work when llama_decode returns: that time would be the next
            # call's.
            lib.llama_synchronize(self._context)
            if len(together) > len(chunk):
                self.truncate(self._companion, 0)
            yield len(chunk), [self._logits(i) for i, s in enumerate(chunk) if s.wants_logits]

    def _calls(self, steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
        if self.uses_gpu:
            yield from _chunks(steps, self._call_tokens, self._most_outputs)
            return
        for run, size in _runs(steps, self._piece_tokens):
            yield from _chunks(run, size, self._most_outputs)

    def _never_alone(self, steps: Sequence[Step]) -> Sequence[Step]:
        """A token that would be evaluated alone gets company, in a sequence of its own; that
        takes about half as long again."""
        return steps if len(steps) > 1 else [*steps, Step(0, 0, (self._companion,), False)]

    def _fill(self, steps: Sequence[Step]) -> None:
        batch = self._batch
        batch.n_tokens = len(steps)
        for i, step in enumerate(steps):
            batch.token[i] = step.token
            batch.pos[i] = step.position
            batch.n_seq_id[i] = len(step.sequences)
            sequences = (lib.llama_seq_id * len(step.sequences))(*step.sequences)
            ctypes.memmove(batch.seq_id[i], sequences, ctypes.sizeof(sequences))
            batch.logits[i] = step.wants_logits

    def _logits(self, index: int) -> Logits:
        """A view of llama.cpp's own memory; making one takes longer than finding it again."""
        address = ctypes.addressof(lib.llama_get_logits_ith(self._context, index).contents)
        if address not in self._views:
            self._views[address] = np.ctypeslib.as_array(self._row.from_address(address))
        return self._views[address]

    def copy(self, source: int, target: int, length: int) -> None:
        """`target` becomes the first `length` tokens of `source`, by reference."""
        self.truncate(target, 0)
        if length:
            lib.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def truncate(self, sequence: int, length: int) -> None:
        """Keeps the first `length` tokens of a sequence."""
        lib.llama_memory_seq_rm(self._memory, sequence, length, -1)  # -1: to the end

    def close(self) -> None:
        lib.llama_batch_free(self._batch)
        lib.llama_free(self._context)
        self.tokenizer.close()


def batch_tokens(options: Options) -> tuple[int, int]:
    """The most tokens of a call, and of the pieces in which llama.cpp evaluates it."""
    call, piece = N_BATCH.given(options), N_UBATCH.given(options)
    if call and piece and piece > call:
        raise BackendError(
            f"n_ubatch is {piece} and n_batch {call}: a piece cannot be larger than the whole",
            f"Use an n_ubatch of {call} or less, or a larger n_batch.",
        )
    piece = piece or min(call or BATCH_TOKENS, BATCH_TOKENS)
    return call or max(piece, BATCH_TOKENS), piece


def _runs(steps: Sequence[Step], most: int) -> Iterator[tuple[Sequence[Step], int]]:
    """Runs of steps, each with the most tokens a call of it takes on a CPU, `most` at most."""
    slow = min(SHORT_CALL_TOKENS, most)
    # In calls of less than a tile, some would have too few tokens for the fast way.
    least_fast = LEAST_FAST_TOKENS if most >= TILE_TOKENS else math.inf
    short, at = 0, 0  # where the steps begin that wait for short calls, and the next to look at
    while at < len(steps):
        end = _end_of_branch(steps, at)
        tiled = (steps[end].position + 1) // TILE_TOKENS * TILE_TOKENS - steps[at].position
        if tiled >= least_fast:
            if short < at:
                yield steps[short:at], slow
            calls = math.ceil(tiled / most)
            yield steps[at : at + tiled], math.ceil(tiled / calls)  # evenly: none too small
            short = at + tiled
        at = end + 1
    if short < len(steps):
        yield steps[short:], slow


def _end_of_branch(steps: Sequence[Step], start: int) -> int:
    """The last of the steps from `start` on that continue one another."""
    for index, (step, following) in enumerate(pairwise(steps[start:]), start):
        if step.wants_logits or following.position != step.position + 1:
            return index
    return len(steps) - 1


def _chunks(steps: Sequence[Step], most: int, most_outputs: int) -> Iterator[Sequence[Step]]:
    """Runs of steps that one call takes: it is limited in tokens, and in tokens with logits.

    No run is of one token, as long as the limits allow it.
    """
    start = 0
    while left := len(steps) - start:
        size = min(left, most - 1 if left == most + 1 else most)
        outputs = accumulate(step.wants_logits for step in steps[start : start + size])
        size = sum(count <= most_outputs for count in outputs)
        yield steps[start : start + size]
        start += size


def _model_params(options: Options) -> Any:
    params = lib.llama_model_default_params()
    layers = N_GPU_LAYERS.given(options)
    params.n_gpu_layers = -1 if layers is None else layers  # -1: all
    main = MAIN_GPU.given(options)
    if main is not None:
        params.split_mode, params.main_gpu = lib.LLAMA_SPLIT_MODE_NONE, main
    if shares := tensor_split(options):
        # llama.cpp reads as many as there may be devices.
        params.tensor_split = (ctypes.c_float * lib.llama_max_devices())(*shares)
    if NO_MMAP.of(options):
        params.load_mode = lib.LLAMA_LOAD_MODE_NONE
    params.use_extra_bufts = _repacking_pays()
    return params


def _repacking_pays() -> bool:
    """Whether weights should be rearranged for the CPU. With it, sums depend on how many tokens
    are evaluated together; on an x86 CPU without matrix units it was slower, too."""
    features = lib.llama_print_system_info()
    return platform.machine() not in ("x86_64", "AMD64") or b"AMX_INT8 = 1" in features
