from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch: Any = pytest.importorskip("torch")
pytest.importorskip("transformers")

from backends.hf.cache import cache_of  # noqa: E402  # it imports both

HEADS, KEY, VALUE = 2, 3, 5  # latent attention has values of another size than keys


@given(
    slots=st.integers(1, 12),
    moves=st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=6),
)
def test_it_holds_what_tensors_that_are_joined_hold(
    slots: int, moves: list[tuple[int, bool]]
) -> None:
    cache = cache_of(slots)
    keys, values = torch.zeros(1, HEADS, 0, KEY), torch.zeros(1, HEADS, 0, VALUE)
    for count, is_cut in moves:
        new = torch.rand(1, HEADS, count, KEY), torch.rand(1, HEADS, count, VALUE)
        found = cache.update(*new, 0)
        keys, values = torch.cat([keys, new[0]], dim=2), torch.cat([values, new[1]], dim=2)
        if is_cut:
            of_every_second = torch.arange(0, keys.shape[2], 2)
            cache.layers[0].keep(of_every_second)
            keys, values = keys[:, :, of_every_second], values[:, :, of_every_second]
            found = cache.layers[0].keys, cache.layers[0].values
        assert torch.equal(found[0], keys) and torch.equal(found[1], values)
        assert cache.get_seq_length() == keys.shape[2]


def test_no_memory_is_taken_while_there_is_room() -> None:
    cache, places = cache_of(8), set()
    for _ in range(4):
        keys, _ = cache.update(torch.rand(1, HEADS, 2, KEY), torch.rand(1, HEADS, 2, VALUE), 0)
        places.add(keys.data_ptr())
    assert len(places) == 1
