"""The built-in dataset: balanced, reproducible, and hard in the right measure."""

from __future__ import annotations

import numpy as np
import pytest

from harness.workload.dataset import Dataset
from harness.workload.digits import load_digits_dataset

FIELDS = ("X_train", "y_train", "X_test", "y_test")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_digits_dataset(seed=0)


def test_shapes_and_balance(digits: Dataset) -> None:
    assert digits.classes == ("FAKE", "REAL")
    assert digits.X_train.shape == (2515, 128)
    assert digits.X_test.shape == (1079, 128)
    assert digits.X_train.dtype == np.float32
    assert digits.y_train.dtype == np.int64
    for y in (digits.y_train, digits.y_test):
        assert abs(int((y == 0).sum()) - int((y == 1).sum())) <= 1


def test_images_are_grey_values_and_magnitudes_are_theirs(digits: Dataset) -> None:
    pixels, magnitudes = digits.X_train[:, :64], digits.X_train[:, 64:]
    assert np.isin(pixels, np.arange(17)).all()
    np.testing.assert_allclose(magnitudes[:, 0], pixels.sum(axis=1), rtol=1e-5)
    # Parseval: the energy of the transform is 64 times that of the image.
    energy = (magnitudes.astype(float) ** 2).sum(axis=1)
    np.testing.assert_allclose(energy, 64 * (pixels.astype(float) ** 2).sum(axis=1), rtol=1e-5)


def test_the_seed_decides(digits: Dataset) -> None:
    again, other = load_digits_dataset(seed=0), load_digits_dataset(seed=1)
    for field in FIELDS:
        assert getattr(digits, field).tobytes() == getattr(again, field).tobytes()
    assert digits.X_train.tobytes() != other.X_train.tobytes()
    assert digits.sha256 == again.sha256 != other.sha256


def test_a_linear_model_finds_most_but_not_all(digits: Dataset) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    accuracy = model.fit(digits.X_train, digits.y_train).score(digits.X_test, digits.y_test)
    assert 0.80 < accuracy < 0.88
