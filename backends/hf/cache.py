"""Keys and values in memory that is taken once.

transformers' own layers join what they hold and what is new to a tensor that is longer: each chunk
of a prompt, and each token of a reply, copies all that is held, and the freed memory between the
growing tensors is not used again. On CPU that was as much memory as the cache itself.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import transformers
from transformers.cache_utils import DynamicLayer

_GROWTH = 1.5  # where the slots that were expected do not do


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types
    """`keys` and `values`, (1, heads, held, numbers), are the first part of memory for `slots`
    tokens. On CPU the rest of it is not resident until it is used."""

    def __init__(self, slots: int) -> None:
        super().__init__()
        self._slots = slots

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Puts new ones behind those that are held, and returns all."""
        held = self.get_seq_length()
        total = held + key_states.shape[-2]
        if not self.is_initialized or total > self._slots:
            self._take(key_states, value_states, total)
        self._all_keys[:, :, held:total] = key_states
        self._all_values[:, :, held:total] = value_states
        self._hold(total)
        return self.keys, self.values

    def keep(self, slots: torch.Tensor) -> None:
        """Only these, in their order."""
        for all_of_them, held in ((self._all_keys, self.keys), (self._all_values, self.values)):
            all_of_them[:, :, : len(slots)] = held.index_select(2, slots)
        self._hold(len(slots))

    def _take(self, key_states: torch.Tensor, value_states: torch.Tensor, total: int) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        if total > self._slots:
            self._slots = int(total * _GROWTH)
        earlier = (self.keys, self.values) if self.is_initialized else (None, None)
        self._all_keys = self._memory(key_states, earlier[0])
        self._all_values = self._memory(value_states, earlier[1])
        self.is_initialized = True

    def _memory(self, states: torch.Tensor, earlier: torch.Tensor | None) -> torch.Tensor:
        row, heads, _, numbers = states.shape
        made = states.new_empty((row, heads, self._slots, numbers))
        if earlier is not None:
            made[:, :, : earlier.shape[-2]] = earlier
        return made

    def _hold(self, total: int) -> None:
        self.keys, self.values = self._all_keys[:, :, :total], self._all_values[:, :, :total]


def cache_of(slots: int) -> Any:
    """A cache of a model, each layer with memory for so many tokens once the first is held."""
    return transformers.Cache(layer_class_to_replicate=partial(PreallocatedLayer, slots))
