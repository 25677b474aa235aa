"""What all tests share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings

# Property tests are not timed, and run the same way each time.
settings.register_profile("harness", deadline=None, derandomize=True)
settings.load_profile("harness")


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset file of two classes that can be told apart, quickly read and fitted."""
    rng = np.random.default_rng(0)
    y = np.arange(320) % 2
    X = rng.normal(size=(320, 12)) + 0.5 * y[:, None]
    path = tmp_path_factory.mktemp("data") / "small.npz"
    names = np.array(["FAKE", "REAL"])[y]
    np.savez(path, X_train=X[:160], y_train=names[:160], X_test=X[160:], y_test=names[160:])
    return str(path)
