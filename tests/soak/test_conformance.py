"""The whole suite of conformance over vLLM's server: ten minutes on two cores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.testing.conformance.options import Candidate
from harness.testing.conformance.test_contract import *  # noqa: F403 - all of the suite
from tests import servers
from tests.soak.conftest import Soak


@pytest.fixture(scope="module")
def candidate(soak: Soak) -> Iterator[Candidate]:
    if soak.size != "full":
        pytest.skip("it takes as long as a whole sample: SOAK=full")
    with servers.candidate("vllm-server") as found:
        yield found
