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


class _Memory:
    """Numbers of so many `slots`, (1, heads, slots, numbers). On CPU what no token has used yet is
    not resident."""

    def __init__(self, like: torch.Tensor, slots: int) -> None:
        row, heads, _, numbers = like.shape
        self._all = like.new_empty((row, heads, slots, numbers))

    def put(self, states: torch.Tensor, behind: int) -> torch.Tensor:
        """Those that are held then."""
        end = behind + states.shape[2]
        if end > self._all.shape[2]:
            held, self._all = self._all[:, :, :behind], _Memory(states, int(end * _GROWTH))._all
            self._all[:, :, :behind] = held
        self._all[:, :, behind:end] = states
        return self._all[:, :, :end]


# `__init_subclass__` and `__init__` of transformers' class have no types: hence the two ignores.
class PreallocatedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """`keys` and `values`, (1, heads, tokens held, numbers), are the first part of memory for
    `slots` tokens, and more where that is not enough."""

    def __init__(self, slots: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._slots = slots

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self._keys = _Memory(key_states, self._slots)
        self._values = _Memory(value_states, self._slots)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Puts new ones behind those that are held, and returns all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        return self._hold(key_states, value_states, self.get_seq_length())

    def keep(self, slots: torch.Tensor) -> None:
        """Only these, in their order."""
        keys, values = self.keys, self.values
        if keys is not None and values is not None:
            self._hold(keys.index_select(2, slots), values.index_select(2, slots), 0)

    def _hold(
        self, keys: torch.Tensor, values: torch.Tensor, behind: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        held = self._keys.put(keys, behind), self._values.put(values, behind)
        self.keys, self.values = held
        return held


def cache_of(slots: int) -> Any:
    """A cache of a model, each layer with memory for so many tokens once the first is held."""
    kind: Any = transformers.Cache
    return kind(layer_class_to_replicate=partial(PreallocatedLayer, slots))
