"""The suite that is shipped, over every backend that is registered, with a model of ours."""

from __future__ import annotations

from dataclasses import asdict

from harness.engine.session import EngineSession
from harness.testing.conformance.test_contract import *  # noqa: F403
from harness.testing.conformance.test_contract import decoding, generate, queries, takes_text


def test_our_engines_report_all_that_there_is(session: EngineSession) -> None:
    """What the suite does not demand of an engine that cannot report it, ours can."""
    answer = generate(session, queries(session, 3), decoding(session, "free", max_tokens=3))
    by_engine = session.info.capabilities.clock == "engine"
    for batch in answer.batches:
        assert not by_engine or None not in asdict(batch).values()
    for reply in answer.replies:
        assert takes_text(session) or reply.cached_tokens is not None
        assert takes_text(session) or reply.token_ids
        assert reply.label_logprobs is not None
        assert None not in reply.label_logprobs
        assert reply.time_to_first_token_ms is not None
