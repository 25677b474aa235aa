"""The example's data, and how its engine is made worse to see that the tests notice."""

from __future__ import annotations

import json

import numpy as np
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", default="{}", help="options of the mock, as JSON")
    parser.addoption("--context", default=300, type=int, help="tokens of a prompt and its reply")


@pytest.fixture(scope="session")
def engine(pytestconfig: pytest.Config) -> dict[str, object]:
    given: dict[str, object] = json.loads(pytestconfig.getoption("--engine"))
    # Times of a clock of its own: what else the machine does cannot slow it down.
    return {"tokens_per_second": 10_000, "jitter": 0.05, **given}


@pytest.fixture(scope="session")
def context(pytestconfig: pytest.Config) -> int:
    tokens: int = pytestconfig.getoption("--context")
    return tokens


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Embeddings of two classes that can be told apart."""
    rng = np.random.default_rng(0)
    y = np.arange(320) % 2
    X = rng.normal(size=(320, 12)) + 0.5 * y[:, None]
    names = np.array(["FAKE", "REAL"])[y]
    path = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez(path, X_train=X[:160], y_train=names[:160], X_test=X[160:], y_test=names[160:])
    return str(path)
