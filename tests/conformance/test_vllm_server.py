"""What of the suite vLLM's server is put to in minutes; `make soak SOAK=full` has all of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.testing.conformance.options import Candidate
from harness.testing.conformance.test_contract import (  # noqa: F401 - pytest finds them here
    cold,
    session,
    test_an_empty_prompt_and_one_too_long_are_refused_and_the_others_answered,
    test_attempts_are_samples_and_the_first_is_a_single_one,
    test_free_ends_before_a_stop_string,
    test_info_is_sane,
    test_label_logprobs_do_not_depend_on_the_decoding,
    test_no_more_is_computed_than_sharing_leaves,
    test_times_to_tokens_are_reported_where_there_are_tokens,
)
from tests import servers
from tests.conformance.test_contract import (  # noqa: F401 - pytest finds it here
    test_our_engines_report_all_that_there_is,
)


@pytest.fixture(scope="module", params=["vllm-server"])
def candidate() -> Iterator[Candidate]:
    with servers.candidate("vllm-server") as found:
        yield found
