"""Cold requests over fakes: by a salt, by a switch, or by a beginning of their own."""

from __future__ import annotations

import pytest

from backends.api import Batch, Decoding, Prompt, Reply
from backends.server.session import MOST_NONCE_TOKENS, ServerSession
from tests.fakes.server import Fake
from tests.unit.backends.server.conftest import Open, tokenize

TEXTS = ["a long beginning, the first", "a long beginning, the second"]


def replies(session: ServerSession) -> list[Reply]:
    ids = session.tokenize(TEXTS)
    prompts = [Prompt(one, text) for one, text in zip(ids, TEXTS, strict=True)]
    events = session.generate(prompts, Decoding("free", (), max_tokens=2))
    found = [one for event in events if isinstance(event, Batch) for one in event.replies]
    assert {one.finish for one in found} <= {"stop", "length"}, found
    return sorted(found, key=lambda one: one.prompt)


def test_each_cold_request_of_vllm_has_a_salt_of_its_own(opened: Open) -> None:
    fake = Fake("vllm")
    session, _ = opened(fake, cold=True)
    assert [one.cached_tokens for one in replies(session)] == [0, 0]
    assert session.info.findings == ()
    salts = [body["cache_salt"] for body in list(fake.asked)[-2:]]
    assert salts[0] != salts[1]
    warm, _ = opened(Fake("vllm"))
    assert (replies(warm)[1].cached_tokens or 0) > 0


def test_a_cold_request_of_llama_server_does_without_its_cache(opened: Open) -> None:
    fake = Fake("llama-server")
    session, _ = opened(fake, cold=True)
    replies(session)
    assert [body["cache_prompt"] for body in list(fake.asked)[-2:]] == [False, False]


@pytest.mark.parametrize("flavour", ["openai", "sglang"])
def test_where_a_server_cannot_forget_each_prompt_has_another_beginning(
    opened: Open, flavour: str
) -> None:
    fake = Fake(flavour) if flavour == "sglang" else Fake(flavour, tokenize=tokenize)  # type: ignore[arg-type]
    session, _ = opened(fake, cold=True)
    assert [one.kind for one in session.info.findings][-1] == "prompts_not_equal"
    assert session.info.allocated_context == 600
    sent = [len(ids) for ids in session.tokenize(TEXTS)]
    assert [one.prompt_tokens for one in replies(session)] == sent
    key = "input_ids" if flavour == "sglang" else "prompt"
    first, second = (body[key] for body in list(fake.asked)[-2:])
    assert first[:4] != second[:4]
    [nonce] = session.tokenize(["0f1e2d3c\n"])
    assert len(nonce) <= MOST_NONCE_TOKENS
