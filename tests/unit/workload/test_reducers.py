"""Reducers: what they accept, their shapes, and the laws of least squares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.workload.reducers import ReducerSpec, fit_reducer, parse_reducer


def blobs(classes: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rows (90, 12) whose first numbers tell the class; column 10 is constant, 11 repeats 1."""
    rng = np.random.default_rng(seed)
    y = np.arange(90, dtype=np.int64) % classes
    X = rng.normal(size=(90, 12)).astype(np.float32)
    X[:, :classes] += 3 * np.eye(classes, dtype=np.float32)[y]
    X[:, 10] = 0.1
    X[:, 11] = X[:, 1]
    return X, y


@pytest.mark.parametrize("text", ["none", "top:1", "pca:8", "pls:4", "plsda:123"])
def test_a_known_form_is_parsed_to_its_parts(text: str) -> None:
    assert str(parse_reducer(text)) == text


def test_the_parts_of_a_form() -> None:
    assert parse_reducer("none") == ReducerSpec("none", 0)
    assert parse_reducer("plsda:4") == ReducerSpec("plsda", 4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pca",
        "pca:",
        "pca:0",
        "pca:-1",
        "pca:2.5",
        "PCA:2",
        "none:1",
        "umap:2",
        "pca:2 ",
        "pls:٣",
    ],
)
def test_an_unknown_form_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="not known") as caught:
        parse_reducer(text)
    assert "plsda:K" in caught.value.remedy


@pytest.mark.parametrize(
    ("spec", "classes", "width"),
    [
        ("none", 2, 12),
        ("top:3", 2, 3),
        ("pca:3", 2, 3),
        ("pls:3", 3, 3),
        ("plsda:3", 2, 1),
        ("plsda:3", 4, 4),
    ],
)
def test_width_and_type(spec: str, classes: int, width: int) -> None:
    X, y = blobs(classes)
    numbers = fit_reducer(spec, X, y, seed=0)(X[:7])
    assert numbers.shape == (7, width)
    assert numbers.dtype == np.float64
    assert np.isfinite(numbers).all()


def test_none_changes_nothing() -> None:
    X, y = blobs(2)
    np.testing.assert_array_equal(fit_reducer("none", X, y, seed=0)(X), X)


def test_top_takes_the_informative_numbers_as_they_are() -> None:
    X, y = blobs(3)
    numbers = fit_reducer("top:2", X[:, :10], y, seed=0)(X[:, :10])
    chosen = [int(np.flatnonzero((column[:, None] == X).all(axis=0))[0]) for column in numbers.T]
    assert chosen == sorted(chosen)
    assert set(chosen) < {0, 1, 2}


def test_principal_components_are_uncorrelated_and_fall_in_variance() -> None:
    X, y = blobs(2)
    covariance = np.cov(fit_reducer("pca:5", X, y, seed=0)(X).T)
    variances = np.diag(covariance)
    np.testing.assert_allclose(covariance, np.diag(variances), atol=1e-9)
    assert (np.diff(variances) <= 1e-9).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_the_prediction_points_to_the_class(classes: int) -> None:
    X, y = blobs(classes)
    numbers = fit_reducer("plsda:2", X, y, seed=0)(X)
    guesses = numbers.argmax(axis=1) if classes > 2 else (numbers[:, 0] > 0).astype(int)
    assert (guesses == y).mean() > 0.85


@pytest.mark.parametrize("spec", ["top:4", "pca:4", "pls:4", "plsda:4"])
def test_a_fit_is_reproducible_and_blind_to_other_rows(spec: str) -> None:
    X, y = blobs(2)
    numbers = fit_reducer(spec, X, y, seed=5)(X)
    again = fit_reducer(spec, X, y, seed=5)
    assert numbers.tobytes() == again(X).tobytes()
    np.testing.assert_allclose(again(X[3:4]), numbers[3:4], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("spec", ["top:13", "pca:11", "pls:11", "plsda:11", "plsda:99999"])
def test_more_numbers_than_the_data_have_is_a_usage_error(spec: str) -> None:
    X, y = blobs(2)  # rank 10: one column is constant, one repeats another
    with pytest.raises(UsageError, match=r"at most 1[02]") as caught:
        fit_reducer(spec, X, y, seed=0)
    kind = spec.partition(":")[0]
    assert f"--reducer {kind}:1" in caught.value.remedy
    assert "--feature-fraction 1" in caught.value.remedy


def test_the_rank_counts_rows_too() -> None:
    X, y = blobs(2)
    with pytest.raises(UsageError, match="at most 4"):
        fit_reducer("pca:5", X[:5], y[:5], seed=0)


def test_constant_data_have_no_components() -> None:
    y = np.array([0, 1, 0, 1])
    with pytest.raises(UsageError, match="are constant"):
        fit_reducer("plsda:1", np.ones((4, 3)), y, seed=0)


def test_numbers_that_say_nothing_of_the_labels_are_a_usage_error() -> None:
    X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    with pytest.raises(UsageError, match="are constant"):
        fit_reducer("pls:1", X, np.array([0, 1, 1, 0]), seed=0)


def test_labels_explained_in_full_need_no_more_components() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    X = np.column_stack([y, rng.normal(size=40)])
    numbers = fit_reducer("plsda:2", X, y, seed=0)(X)
    np.testing.assert_allclose(numbers[:, 0], 2 * y - 1, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    X=hnp.arrays(np.float32, (12, 4), elements=st.integers(-3, 3)),
    components=st.integers(1, 4),
    classes=st.integers(2, 3),
)
def test_a_regression_never_predicts_more_than_there_is(
    X: Any, components: int, classes: int
) -> None:
    """The prediction is a projection of the labels, so it cannot vary more than they do."""
    y = np.arange(12) % classes
    try:
        numbers = fit_reducer(f"plsda:{components}", X, y, seed=0)(X)
    except UsageError:
        return
    targets = 2 * np.eye(classes)[y][:, -numbers.shape[1] :] - 1
    assert (numbers.var(axis=0) <= targets.var(axis=0) + 1e-6).all()
