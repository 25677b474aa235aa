"""A transformers model with one KV cache that many sequences share, for `backends.sharing.session`.

The cache holds each token once, in the order of evaluation; a table says which sequences it belongs
to. A token attends to what its sequence holds: that is its row of the attention mask. So prompts
that share a beginning go through the model as one row of tokens, without padding and without copies
of the cache, and replies are decoded the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from backends.api import BackendError, Options, TokenIds
from backends.hf.backend import DEVICE, DTYPE
from backends.hf.tokenizer import HfTokenizer
from backends.rules import THREADS, TRUST_REMOTE_CODE, first_line, usable_cpus
from backends.sharing.generation import Logits
from backends.sharing.session import Step

CHUNK_TOKENS = 512  # tokens that go through the model at once

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

Mask: TypeAlias = NDArray[np.bool_]


class HfContext:
    """A model in `folder`, its tokenizer, and a KV cache of `cells` tokens for `sequences`
    sequences."""

    shares_prefixes = True

    def __init__(
        self, folder: str, tokenizer: HfTokenizer, options: Options, cells: int, sequences: int
    ) -> None:
        self.threads = THREADS.given(options) or usable_cpus()
        torch.set_num_threads(self.threads)
        self.device = torch.device(DEVICE.given(options) or _best_device())
        self.dtype = _dtype(DTYPE.of(options), self.device)
        self._model = _load(folder, self.dtype, TRUST_REMOTE_CODE.of(options))
        self._tokenizer = tokenizer
        self._model.to(self.device).eval()
        self._config = self._model.config.get_text_config()
        self._cache = transformers.DynamicCache()
        self._held = np.zeros((sequences, 0), dtype=np.bool_)  # [sequence, slot of the cache]
        self._positions = np.zeros(0, dtype=np.int64)  # of each slot
        self._ends = _end_tokens(self._model.generation_config, self._tokenizer.eos_id)
        self.cells = cells

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

    def evaluate(
        self, steps: Sequence[Step], alike: bool = True
    ) -> Iterator[tuple[int, list[Logits]]]:
        del alike  # there is one way only
        self._compact()
        for start in range(0, len(steps), CHUNK_TOKENS):
            chunk = steps[start : start + CHUNK_TOKENS]
            yield len(chunk), self._forward(chunk)

    def copy(self, source: int, target: int, length: int) -> None:
        self._held[target] = self._held[source] & (self._positions < length)

    def truncate(self, sequence: int, length: int) -> None:
        self._held[sequence] &= self._positions < length

    def close(self) -> None:
        self._cache = transformers.DynamicCache()

    def _forward(self, steps: Sequence[Step]) -> list[Logits]:
        """Puts tokens through the model; their keys and values stay in the cache."""
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
            rows = out.logits[0].float().cpu().numpy()
        return list(rows) if wanted else []

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
        own = self._held[[step.sequences[0] for step in steps]]
        full = own & (self._positions <= at)
        window = getattr(self._config, "sliding_window", None)
        near = full & (self._positions > at - int(window)) if window else full
        kinds = set(getattr(self._config, "layer_types", None) or ())
        if "sliding_attention" not in kinds:
            # without kinds of layers, a window is one of them all
            return self._mask(full if kinds else near)
        return {"full_attention": self._mask(full), "sliding_attention": self._mask(near)}

    def _mask(self, allowed: Mask) -> torch.Tensor:
        return torch.from_numpy(allowed)[None, None].to(self.device)

    def _tensor(self, values: Any) -> torch.Tensor:
        return torch.tensor(values, device=self.device)

    def _layers(self) -> Sequence[Any]:
        """Each holds `keys` and `values`, (1, heads, slots, numbers), once it was used."""
        return self._cache.layers

    def _compact(self) -> None:
        """Gives back the slots that no sequence holds."""
        kept = self._held.any(axis=0)
        if kept.all():
            return
        self._held, self._positions = self._held[:, kept], self._positions[kept]
        slots = self._tensor(np.flatnonzero(kept))
        for layer in self._layers():
            layer.keys = layer.keys.index_select(2, slots)
            layer.values = layer.values.index_select(2, slots)


def _load(folder: str, dtype: torch.dtype, trusted: bool) -> Any:
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="sdpa",
            trust_remote_code=trusted,
            use_safetensors=True,  # never a pickle
        )
    except (OSError, ValueError) as error:
        raise BackendError(
            f"transformers could not load {folder}: {first_line(error)}",
            "Give a folder with config.json, safetensors and a tokenizer, or a model that is in "
            "the hub's cache on this machine.",
        ) from error


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the hardware computes in it, else float32."""
    if name != "auto":
        return _DTYPES[name]
    if device.type == "cuda":
        has_it = torch.cuda.is_bf16_supported()
    else:
        has_it = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.bfloat16 if has_it else torch.float32


def _end_tokens(generation_config: Any, eos_id: int | None) -> frozenset[int]:
    several = generation_config.eos_token_id
    ends = several if isinstance(several, list) else [several]
    return frozenset(int(t) for t in (*ends, eos_id) if t is not None)
