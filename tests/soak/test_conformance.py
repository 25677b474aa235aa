"""The whole suite of conformance over vLLM's server: ten minutes on two cores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.testing.conformance.options import Candidate
from harness.testing.conformance.test_contract import *  # noqa: F403
from tests import servers


@pytest.fixture(scope="module")
def candidate() -> Iterator[Candidate]:
    with servers.candidate("vllm-server") as found:
        yield found
