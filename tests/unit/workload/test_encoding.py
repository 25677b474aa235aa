"""Encodings: words within their bounds, order kept, decimals read back."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.workload.encoding import EncodingSpec, fit_encoding, parse_encoding

SPECS = st.one_of(
    st.builds("int:{}".format, st.integers(2, 200)),
    st.builds("int:{}:quantile".format, st.integers(2, 200)),
    st.builds("decimal:{}".format, st.integers(0, 15)),
)
NUMBERS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.just(3)),
    elements=st.floats(-1e30, 1e30, allow_nan=False),
)


def read_back(words: Sequence[str]) -> NDArray[np.float64]:
    """What a reader of the words takes them for: bin indices or decimals."""
    return np.array([float(word) for word in words])


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("int:2", EncodingSpec("int", 2)),
        ("int:100:quantile", EncodingSpec("int:quantile", 100)),
        ("decimal:0", EncodingSpec("decimal", 0)),
    ],
)
def test_a_known_form_is_parsed_to_its_parts(text: str, form: EncodingSpec) -> None:
    assert parse_encoding(text) == form


@pytest.mark.parametrize(
    "text",
    [
        "",
        "int",
        "int:1",
        "int:0",
        "int:-5",
        "int:10001",
        "int:9:uniform",
        "int:100:quantile:x",
        "decimal:16",
        "decimal:01",
        "decimal:2:quantile",
        "hex:4",
        " int:9",
        "int:٣",
    ],
)
def test_an_unknown_form_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="not known") as caught:
        fit_encoding(text, np.zeros((1, 1)))
    assert "int:LEVELS:quantile" in caught.value.remedy


def test_uniform_bins_share_out_the_range() -> None:
    encoding = fit_encoding("int:4", np.array([[0.0], [8.0]]))
    words = encoding.encode(np.array([[-99.0], [0], [1.9], [2], [4.1], [8], [99]]))
    assert words == [("0",), ("0",), ("0",), ("1",), ("2",), ("3",), ("3",)]


def test_quantile_bins_share_out_the_rows() -> None:
    train = np.geomspace(1, 1e6, 400)[:, None]
    words = fit_encoding("int:4:quantile", train).encode(train)
    counts = np.bincount([int(word) for (word,) in words])
    assert counts.tolist() == [100, 100, 100, 100]


def test_each_number_has_its_own_bins() -> None:
    encoding = fit_encoding("int:10", np.array([[0.0, 0.0], [1.0, 100.0]]))
    assert encoding.encode(np.array([[0.55, 0.55]])) == [("5", "0")]


def test_decimals_have_no_negative_zero() -> None:
    encoding = fit_encoding("decimal:2", np.zeros((1, 4)))
    words = encoding.encode(np.array([[-0.001, -0.0, -0.006, 12.3456]]))
    assert words == [("0.00", "0.00", "-0.01", "12.35")]


def test_a_row_of_another_width_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        fit_encoding("int:9", np.zeros((2, 3))).encode(np.zeros((2, 2)))


@given(spec=SPECS, train=NUMBERS, numbers=NUMBERS)
def test_encoding_keeps_order_wherever_the_numbers_lie(spec: str, train: Any, numbers: Any) -> None:
    encoding = fit_encoding(spec, train)
    ascending = np.sort(numbers, axis=0)
    read = np.array([read_back(words) for words in encoding.encode(ascending)])
    assert read.shape == numbers.shape
    assert (np.diff(read, axis=0) >= 0).all()


@given(levels=st.integers(2, 200), quantile=st.booleans(), train=NUMBERS, numbers=NUMBERS)
def test_bins_are_whole_numbers_within_the_levels(
    levels: int, quantile: bool, train: Any, numbers: Any
) -> None:
    encoding = fit_encoding(f"int:{levels}" + ":quantile" * quantile, train)
    for words in encoding.encode(numbers):
        read = read_back(words)
        assert tuple(str(int(number)) for number in read) == words
        assert ((read >= 0) & (read < levels)).all()


@given(places=st.integers(0, 15), numbers=NUMBERS)
def test_decimals_are_read_back_within_half_a_unit(places: int, numbers: Any) -> None:
    encoding = fit_encoding(f"decimal:{places}", numbers)
    half = Decimal(5).scaleb(-places - 1)
    for row, words in zip(numbers.tolist(), encoding.encode(numbers), strict=True):
        for number, word in zip(row, words, strict=True):
            assert abs(Decimal(word) - Decimal(number)) <= half


@given(places=st.integers(0, 6), numbers=hnp.arrays(np.float64, (2, 3), elements=st.floats(-9, 9)))
def test_what_was_read_is_written_the_same_again(places: int, numbers: Any) -> None:
    encoding = fit_encoding(f"decimal:{places}", numbers)
    words = encoding.encode(numbers)
    assert encoding.encode(np.array([read_back(row) for row in words])) == words
