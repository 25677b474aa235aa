from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.store.prompts import pack_ids, pack_texts, tokens_sha256, unpack_ids, unpack_texts

ANY_TEXT = st.text(st.characters(codec=None))  # lone surrogates too
INT32 = st.integers(-(2**31), 2**31 - 1)


@given(st.text(st.characters(codec=None)), st.lists(ANY_TEXT))
def test_texts_come_back_exactly(beginning: str, tails: list[str]) -> None:
    texts = [beginning + tail for tail in tails]
    assert unpack_texts(pack_texts(texts)) == texts


@given(st.lists(INT32), st.lists(st.lists(INT32)))
def test_token_ids_come_back_exactly(beginning: list[int], tails: list[list[int]]) -> None:
    token_ids = [beginning + tail for tail in tails]
    stored = unpack_ids(pack_ids(token_ids))
    assert [ids.tolist() for ids in stored] == token_ids
    assert all(ids.dtype == np.int32 for ids in stored)


@pytest.mark.parametrize(
    "texts", [[], [""], ["only one"], ["", "a"], ["same", "same"], ["\ud83d\ude00"]]
)
def test_edges_come_back(texts: list[str]) -> None:
    assert unpack_texts(pack_texts(texts)) == texts
    token_ids = [list(map(ord, text)) for text in texts]
    assert [ids.tolist() for ids in unpack_ids(pack_ids(token_ids))] == token_ids


def test_what_prompts_share_is_stored_once() -> None:
    beginning = np.random.default_rng(0).integers(0, 2**31, 1000).tolist()
    one = len(pack_ids([[*beginning, 1]]))
    hundred = len(pack_ids([[*beginning, number] for number in range(100)]))
    assert hundred < 1.2 * one


def test_an_id_beyond_int32_is_refused() -> None:
    with pytest.raises(OverflowError):
        pack_ids([[2**31]])


@pytest.mark.parametrize(
    "content", [b"", b"no zlib", zlib.compress(b""), pack_texts(["ab", "ac"])[:-5]]
)
def test_damaged_content_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError):
        unpack_texts(content)


def test_lengths_that_do_not_add_up_are_damage() -> None:
    whole = zlib.decompress(pack_texts(["ab", "ac"]))
    with pytest.raises(ValueError, match="do not add up"):
        unpack_texts(zlib.compress(whole[:-1]))


def test_the_hash_of_tokens_does_not_depend_on_how_they_are_held() -> None:
    known = "0c730b69905c5ef7a4ca5269f72365400bde2dd2c04eaf9bbb3d1c4a265a0131"
    assert tokens_sha256([1, 2]) == known  # of two little-endian int64
    assert tokens_sha256([1, 2]) == tokens_sha256(np.array([1, 2], dtype=np.int32).tolist())
    assert tokens_sha256([1, 2]) != tokens_sha256([2, 1])
