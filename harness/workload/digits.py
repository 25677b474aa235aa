"""The built-in dataset: scanned digits (REAL) against digits drawn from a model of them (FAKE).

It needs no download and is neither trivial nor hopeless: a random forest on all 128 numbers gets
about nine in ten right.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.workload.dataset import Dataset, Vectors, make_dataset

_COMPONENTS = 10
_DARKEST = 16  # scikit-learn's digits have grey values of 0..16
_TEST_SHARE = 0.3


def load_digits_dataset(seed: int) -> Dataset:
    """1,797 scans and as many fakes as 128-number embeddings, 70 % of each class in train.

    `seed` decides the fakes and the split.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    scans, digits = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    fakes = np.concatenate([_draw_fakes(scans[digits == digit], rng) for digit in range(10)])
    X = _embed(np.concatenate([fakes, scans]))
    y = np.repeat(np.array([0, 1], dtype=np.int64), len(scans))
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=_TEST_SHARE, stratify=y, random_state=seed
    )
    return make_dataset("digits", ("FAKE", "REAL"), (X_train, y_train), (X_test, y_test))


def _draw_fakes(scans: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """As many new images (n, 64) as there are scans (n, 64) of one digit.

    Principal components are uncorrelated, so the Gaussian fitted to them is a product of ten.
    """
    from sklearn.decomposition import PCA

    pca = PCA(_COMPONENTS).fit(scans)
    scores = rng.normal(scale=np.sqrt(pca.explained_variance_), size=(len(scans), _COMPONENTS))
    images: NDArray[np.float64] = pca.inverse_transform(scores)
    # Scans have whole grey values: a fraction would give a fake away.
    return np.clip(np.round(images), 0, _DARKEST)


def _embed(images: NDArray[np.float64]) -> Vectors:
    """Images (n, 64) as their 64 pixels and the 64 magnitudes of their 2-D Fourier transform."""
    magnitudes = np.abs(np.fft.fft2(images.reshape(-1, 8, 8))).reshape(-1, 64)
    return np.concatenate([images, magnitudes], axis=1).astype(np.float32)
