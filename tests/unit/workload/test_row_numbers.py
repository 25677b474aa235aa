"""Row numbers are found by value and by name, and the numbers of embeddings are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.workload.row_numbers import are_whole, find_row_numbers, has_row_name

RNG = np.random.default_rng(0)
N_TRAIN, N_TEST = 90, 30
N = N_TRAIN + N_TEST
NOISE = RNG.normal(size=(N, 8)).astype(np.float32)
Y = np.repeat([0, 1, 0, 1], [45, 45, 15, 15])
BY_CLASS = np.concatenate([np.arange(45), np.arange(45), np.arange(45, 60), np.arange(45, 60)])


def found(X: NDArray[Any], y: NDArray[np.int64] = Y, n_train: int = N_TRAIN) -> int | None:
    return find_row_numbers(X[:n_train], y[:n_train], X[n_train:], y[n_train:])


def beside(column: Any, numbers: NDArray[Any] = NOISE) -> NDArray[np.float64]:
    return np.column_stack([numbers[:, :2], column, numbers[:, 2:]])


@pytest.mark.parametrize(
    "column",
    [
        np.arange(N),
        np.arange(1, N + 1),
        np.arange(N)[::-1],
        RNG.permutation(N),
        RNG.permutation(N) + 100_000,
        np.concatenate([np.arange(N_TRAIN), np.arange(N_TEST)]),
        np.concatenate([RNG.permutation(N_TRAIN), RNG.permutation(N_TEST)]),
        BY_CLASS,
        np.where(Y == 0, BY_CLASS, 5000 + BY_CLASS),
        np.concatenate([np.arange(45), np.arange(45), np.arange(15), np.arange(15)]),
        np.sort(RNG.choice(10**9, N, replace=False)),
        RNG.choice(10**9, N, replace=False),
        RNG.choice(400, N, replace=False),
    ],
)
def test_a_column_of_row_numbers_is_found(column: NDArray[np.int64]) -> None:
    assert found(beside(column)) == 2


def test_in_a_small_table_rows_in_their_order_are_found() -> None:
    y = np.array([0, 1] * 4)
    assert found(beside(np.arange(8), NOISE[:8]), y, n_train=4) == 2


def test_row_numbers_beside_a_single_number_are_found() -> None:
    assert found(np.column_stack([np.arange(N), NOISE[:, 0]])) == 0


@pytest.mark.parametrize(
    "X",
    [
        NOISE,
        RNG.integers(-128, 128, (N, 8)),
        RNG.integers(-(2**15), 2**15, (N, 8)),
        beside(RNG.integers(0, 256, N)),
        beside(np.arange(N) // 2),
        beside(np.zeros(N)),
        beside(np.arange(N) + 0.5),
        np.arange(N * 8).reshape(N, 8),
        np.eye(N)[:, :50],
    ],
    ids=["floats", "bytes", "16 bits", "a byte", "pairs", "zero", "not whole", "all", "one-hot"],
)
def test_numbers_of_an_embedding_are_none(X: NDArray[Any]) -> None:
    assert found(X) is None


def test_whole_numbers_of_a_few_rows_are_none() -> None:
    y = np.array([0, 1] * 4)
    for seed in range(50):
        rng = np.random.default_rng(seed)
        assert found(rng.integers(0, 100, (8, 3)), y, n_train=4) is None
        whole = rng.choice(1000, 7, replace=False)
        assert found(beside([1000, *whole], NOISE[:8]), y, n_train=4) is None


def test_ids_of_which_float32_has_no_two_are_found_as_they_were_read() -> None:
    assert found(beside(10**9 + RNG.permutation(N))) == 2


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i8", ">u8", "f2", ">f4", "g"])
def test_whole_columns_of_every_type(dtype: str) -> None:
    assert are_whole(np.array([[1, 2], [3, 4]], dtype=dtype)).tolist() == [True, True]
    if np.dtype(dtype).kind == "f":
        assert are_whole(np.array([[1, 2.5], [np.nan, 4]], dtype=dtype)).tolist() == [False, False]


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("Unnamed: 0", True),
        ("Unnamed: 0.1", True),
        ("index", True),
        ("level_0", True),
        ("ID", True),
        ("image_id", True),
        ("row", True),
        ("rownames", True),
        ("0", False),
        ("f12", False),
        ("grid", False),
        ("width", False),
        ("idle", False),
    ],
)
def test_names_of_row_numbers(name: str, is_one: bool) -> None:
    assert has_row_name(name) is is_one
