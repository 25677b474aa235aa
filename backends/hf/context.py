"""A transformers model with one KV cache that many sequences share, for `backends.sharing.session`.

The cache holds each token once, in the order of evaluation; a table says which sequences it belongs
to. A token attends to what its sequence holds: that is its row of the attention mask. So prompts
that share a beginning go through the model as one row of tokens, without padding and without copies
of the cache, and replies are decoded the same way.

Models that cannot be evaluated like that are refused, by name where it is known and by
`backends.hf.checks` where it shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from backends.api import Allocated, BackendError, Options, TokenIds
from backends.hf.backend import DEVICE, DTYPE
from backends.hf.cache import cache_of
from backends.hf.devices import device, dtype
from backends.hf.loading import load_whole
from backends.hf.tokenizer import HfTokenizer
from backends.rules import THREADS, TRUST_REMOTE_CODE, first_line, usable_cpus
from backends.sharing.generation import Logits
from backends.sharing.session import Step

CHUNK_TOKENS = 512  # tokens that go through the model at once

_MASKED = {"full_attention", "sliding_attention", "chunked_attention"}
"""The kinds of layers that hold nothing but each token's keys and values, and that `_masks` has a
mask for."""
ANOTHER_BACKEND = "Give the model to another backend."

Mask: TypeAlias = NDArray[np.bool_]


class HfContext:
    """A model in `folder`, which the user calls `name`, its tokenizer, and a KV cache of `slots`
    tokens for `sequences` sequences."""

    shares_prefixes = True
    allocated = Allocated()  # torch takes memory as it needs it

    def __init__(
        self,
        folder: str,
        name: str,
        tokenizer: HfTokenizer,
        options: Options,
        slots: int,
        sequences: int,
    ) -> None:
        self.threads = THREADS.given(options) or usable_cpus()
        torch.set_num_threads(self.threads)
        self.device = device(DEVICE.given(options))
        self.dtype = dtype(DTYPE.of(options), self.device)
        self._model = _load(folder, name, self.dtype, TRUST_REMOTE_CODE.of(options))
        self._tokenizer = tokenizer
        self._model.to(self.device).eval()
        # A model that sees images has one configuration for each of its parts.
        self._config = self._model.config.get_text_config()
        self.vocabulary_size = int(self._model.get_input_embeddings().weight.shape[0])
        tokenizer.check_rows(self.vocabulary_size, name)
        _check_kind(self._model, self._config, slots, name)
        self._takes_booleans = self._model.config._attn_implementation == "sdpa"
        self.short_length = _short_length(self._config)
        self._is_long = False
        self._company = sequences  # a sequence that the caller does not know of
        self._cache = cache_of(slots)
        self._held = np.zeros((sequences + 1, 0), dtype=np.bool_)  # [sequence, slot of the cache]
        self._positions = np.zeros(0, dtype=np.int64)  # of each slot
        self._ends = _end_tokens(self._model.generation_config, self._tokenizer.eos_id)
        self.slots = slots

    @property
    def description(self) -> str:
        millions = sum(p.numel() for p in self._model.parameters()) / 1e6
        kind = str(self.dtype).removeprefix("torch.")
        return f"{self._config.model_type} {millions:.0f}M {kind}"

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self._tokenizer.tokenize(texts)

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        return self._tokenizer.token_texts(token_ids)

    def detokenize(self, token_ids: TokenIds) -> str:
        return self._tokenizer.detokenize(token_ids)

    def is_end(self, token: int) -> bool:
        return token in self._ends

    def expect(self, is_long: bool) -> None:
        self._is_long = is_long

    @property
    def plain_ids(self) -> Sequence[int]:
        """The tokens that a text is made of, special ones left out."""
        return [token for token in self._tokenizer.plain_ids if token < self.vocabulary_size]

    @property
    def turning_points(self) -> list[int]:
        """Lengths from which on a prompt is computed in another way: what a window or a chunk
        holds, and what the positions were first made for."""
        names = ("sliding_window", "attention_chunk_size", "window_size")
        found = [getattr(self._config, name, None) for name in names]
        return sorted(x for x in (*found, self.short_length) if isinstance(x, int) and x > 0)

    def alone(self, token_ids: TokenIds) -> list[Logits]:
        """The logits behind each token of a prompt, as a forward pass of it alone has them."""
        with torch.inference_mode():
            out = self._model(input_ids=self._tensor([list(token_ids)]), use_cache=False)
            return list(out.logits[0].float().cpu().numpy())

    def evaluate(
        self, steps: Sequence[Step], alike: bool = True
    ) -> Iterator[tuple[int, list[Logits]]]:
        del alike  # there is one way only
        # Once for each call, and not at each `truncate`: it copies the whole cache.
        self._compact()
        for start in range(0, len(steps), CHUNK_TOKENS):
            chunk = steps[start : start + CHUNK_TOKENS]
            yield len(chunk), self._forward(chunk)

    def copy(self, source: int, target: int, length: int) -> None:
        self._held[target] = self._held[source] & (self._positions < length)

    def truncate(self, sequence: int, length: int) -> None:
        self._held[sequence] &= self._positions < length

    def close(self) -> None:
        self._cache = cache_of(0)

    def _forward(self, steps: Sequence[Step]) -> list[Logits]:
        """Puts tokens through the model; their keys and values stay in the cache."""
        steps = self._accompanied(steps)
        self._take(steps)
        wanted = [i for i, step in enumerate(steps) if step.wants_logits]
        with torch.inference_mode():
            out = self._model(
                input_ids=self._tensor([[step.token for step in steps]]),
                position_ids=self._tensor([[step.position for step in steps]]),
                attention_mask=self._masks(steps),
                past_key_values=self._cache,
                use_cache=True,
                # one row at least: some models take an empty choice for all of them
                logits_to_keep=self._tensor(wanted or [0]),
            )
            rows = out.logits[0].float().cpu().numpy()  # numpy has no bfloat16
        self.truncate(self._company, 0)
        return list(rows) if wanted else []

    def _accompanied(self, steps: Sequence[Step]) -> Sequence[Step]:
        """A longrope model takes the largest position of a call for the length of the prompt. So
        the first tokens of a long prompt get a token beside them, at a position beyond
        `short_length`, which none of them sees."""
        turn = self.short_length
        if turn is None or not self._is_long or max(step.position for step in steps) >= turn:
            return steps
        return [*steps, Step(0, turn, (self._company,), wants_logits=False)]

    def _take(self, steps: Sequence[Step]) -> None:
        """Gives each token a slot, held by the sequences it belongs to."""
        new = np.zeros((len(self._held), len(steps)), dtype=np.bool_)
        for slot, step in enumerate(steps):
            new[list(step.sequences), slot] = True
        self._held = np.concatenate([self._held, new], axis=1)
        positions = np.array([step.position for step in steps], dtype=np.int64)
        self._positions = np.concatenate([self._positions, positions])

    def _masks(self, steps: Sequence[Step]) -> Any:
        """What each token attends to, (1, 1, tokens, slots), for each kind of layer."""
        at = np.array([step.position for step in steps])[:, None]
        # Any of its sequences will do: up to the position of a token, all that it belongs to hold
        # the same tokens.
        own = self._held[[step.sequences[0] for step in steps]]
        # `_take` has given slots to the later tokens of this call already.
        full = own & (self._positions <= at)
        window = getattr(self._config, "sliding_window", None)
        near = full & (self._positions > at - int(window)) if window else full
        kinds = set(getattr(self._config, "layer_types", None) or ())
        if not kinds & {"sliding_attention", "chunked_attention"}:
            # without kinds of layers, a window is one of them all
            return self._mask(full if kinds else near)
        masks = {"full_attention": self._mask(full)}
        if "sliding_attention" in kinds:
            masks["sliding_attention"] = self._mask(near)
        if "chunked_attention" in kinds:
            chunk = int(self._config.attention_chunk_size)
            masks["chunked_attention"] = self._mask(
                full & (self._positions // chunk == at // chunk)
            )
        return masks

    def _mask(self, allowed: Mask) -> torch.Tensor:
        """For the plain attention of some models, what is added to the scores."""
        mask = torch.from_numpy(allowed)[None, None].to(self.device)
        if self._takes_booleans:
            return mask
        closed = torch.finfo(self.dtype).min  # as in transformers' own masks
        return torch.zeros_like(mask, dtype=self.dtype).masked_fill(~mask, closed)

    def _tensor(self, values: Any) -> torch.Tensor:
        return torch.tensor(values, device=self.device)

    def _compact(self) -> None:
        """Gives back the slots that no sequence holds."""
        kept = self._held.any(axis=0)
        if kept.all():
            return
        self._held, self._positions = self._held[:, kept], self._positions[kept]
        slots = self._tensor(np.flatnonzero(kept))
        with torch.inference_mode():
            for layer in self._cache.layers:
                layer.keep(slots)


def _load(folder: str, name: str, dtype: torch.dtype, trusted: bool) -> Any:
    try:
        return load_whole(
            name,
            pretrained_model_name_or_path=folder,
            dtype=dtype,
            attn_implementation=_attention(folder, trusted),
            trust_remote_code=trusted,
            use_safetensors=True,  # never a pickle
        )
    except BackendError:
        raise
    except Exception as error:  # whatever a damaged folder makes transformers raise
        raise BackendError(
            f"transformers could not load {name}: {first_line(error).replace(folder, name)}",
            "Give a folder with config.json, safetensors and a tokenizer, or a model that is in "
            "the hub's cache on this machine.",
        ) from error


def _attention(folder: str, trusted: bool) -> str:
    """The fast way, or the plain one for models that have no other: Gemma 2, gpt-oss."""
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trusted)
    mapping = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    kind = mapping.get(type(config), None)
    # Code that comes with a model is not in the mapping.
    return "sdpa" if getattr(kind, "_supports_sdpa", True) else "eager"


def _check_kind(model: Any, config: Any, slots: int, name: str) -> None:
    """Refuses models whose results would depend on what else is in the cache, by their kind."""
    kinds = set(getattr(config, "layer_types", None) or ()) - _MASKED
    if kinds or getattr(model, "_is_stateful", False):
        what = f"layers of the kind {', '.join(sorted(kinds))}" if kinds else "recurrent layers"
        raise BackendError(
            f"{name} is a {config.model_type} model, which has {what}: they hold more than each "
            "token's keys and values, and prompts cannot share that here",
            ANOTHER_BACKEND,
        )
    scale = getattr(config, "floor_scale", None)  # of Llama 4
    if getattr(config, "attn_temperature_tuning", False) and scale and slots > scale:
        raise BackendError(
            f"{name} is a {config.model_type} model, which scales its attention from token {scale} "
            "on by the place in the cache, and prompts cannot share that here",
            f"Use a --max-model-len that is {slots - int(scale)} tokens shorter, or give the "
            "model to another backend.",
        )


def _short_length(config: Any) -> int | None:
    """For positions of two kinds (longrope), the longest prompt that has the first kind."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(value for value in rope.values() if isinstance(value, Mapping))]
    lengths = [
        int(kind.get("original_max_position_embeddings") or 0)
        or int(getattr(config, "original_max_position_embeddings", 0))
        for kind in kinds
        if kind.get("rope_type") == "longrope"
    ]
    return min(lengths, default=None)


def _end_tokens(generation_config: Any, eos_id: int | None) -> frozenset[int]:
    several = generation_config.eos_token_id  # one token, a list of them, or none
    ends = several if isinstance(several, list) else [several]
    return frozenset(int(t) for t in (*ends, eos_id) if t is not None)
