"""What an engine says of a call must be possible, with what it was given and in the time it had."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backends.api import (
    Batch,
    Capabilities,
    Decoding,
    Event,
    Finding,
    Progress,
    Prompt,
    Reply,
    SessionInfo,
    Started,
)
from backends.wire import WireError
from harness.engine.audit import MOST_FINDINGS, Audit

INFO = SessionInfo(
    "toy", "toy 1", "m", "w", "cpu", 1, declared_context=99, allocated_context=99,
    vocabulary_sha256="0" * 64, vocabulary_size=8,
)  # fmt: skip
LABELS = ((1,), (2, 3))
FREE, CHOICE, SCORE = (Decoding(mode, LABELS) for mode in ("free", "choice", "score"))
PROMPTS = [Prompt([7] * 10), Prompt([8] * 20)]
REPLY = Reply(0, "stop", 10, 0, "yes", (5, 6, 7), (-1.0, -2.0), 400.0, 50.0)
BATCH = Batch((REPLY,), 100.0, 101.0, 10, 0.5, 2, 0.25)


def audit(decoding: Decoding = FREE, clock_began: float | None = 99.0, **info: Any) -> Audit:
    return Audit(replace(INFO, **info), PROMPTS, decoding, clock_began)


def begun(decoding: Decoding = FREE, **info: Any) -> Audit:
    """One whose prompts the engine has taken up."""
    taken = audit(decoding, **info)
    taken.take(Started((0, 1)), 0.0)
    return taken


def with_reply(**changes: Any) -> Batch:
    return replace(BATCH, replies=(replace(REPLY, **changes),))


def of_choice(**changes: Any) -> Batch:
    label: dict[str, Any] = {"finish": "label", "text": "no", "token_ids": (2, 3)}
    batch = with_reply(**{**label, **changes})
    return replace(batch, decode_tokens=0, decode_seconds=0.0)


def of_score(**changes: Any) -> Batch:
    nothing: dict[str, Any] = {"finish": "scored", "text": "", "token_ids": ()}
    batch = with_reply(**{**nothing, **changes})
    return replace(batch, decode_tokens=0, decode_seconds=0.0)


@pytest.mark.parametrize(
    ("decoding", "event"),
    [
        (FREE, BATCH),
        (FREE, with_reply(finish="length")),
        (FREE, with_reply(finish="failed", text="a reason " * 100, token_ids=())),
        (FREE, Batch((Reply(0, "overflow", 10), Reply(1, "empty", 20)), 100.0, 100.0, 0, 0.0)),
        (FREE, Batch((REPLY,), 100.0, 101.0)),
        (CHOICE, of_choice()),
        (SCORE, of_score()),
        (FREE, Started((0, 1))),
        (FREE, Progress(30)),
    ],
)
def test_what_can_be_is_taken(decoding: Decoding, event: Event) -> None:
    taken = audit(decoding) if isinstance(event, Started) else begun(decoding)
    assert taken.take(event, elapsed_seconds=1.0)


@pytest.mark.parametrize("event", [Progress(0), Started(()), Batch((), 100.0, 100.0)])
def test_a_sign_of_life_alone_does_not_bring_a_call_on(event: Event) -> None:
    assert not audit().take(event, elapsed_seconds=1.0)


@pytest.mark.parametrize(
    ("decoding", "event", "said"),
    [
        (FREE, replace(BATCH, began=98.0), r"batch\.began: 98.0 is before the call, at 99.0"),
        (FREE, replace(BATCH, ended=103.0), r"batch\.ended: 3.000 s of work, 1.000 s after"),
        (FREE, replace(BATCH, prefill_seconds=0.8), r"prefill_seconds and decode_seconds: 1.050 s"),
        (FREE, replace(BATCH, prefill_seconds=0.0), r"batch\.prefill_seconds: 0 for 10 tokens"),
        (FREE, replace(BATCH, decode_seconds=0.0), r"batch\.decode_seconds: 0 for 2 tokens"),
        (FREE, replace(BATCH, prefill_tokens=31), r"prefill_tokens: 31 in all, .* have 30"),
        (FREE, replace(BATCH, decode_tokens=17), r"decode_tokens: 17 in all, .* may have 16"),
        (FREE, with_reply(prompt_tokens=9), r"reply\.prompt_tokens: 9 of a prompt of 10"),
        (FREE, with_reply(finish="overflow", prompt_tokens=9), r"reply\.prompt_tokens: 9"),
        (FREE, with_reply(finish="label"), r"reply\.finish: 'label' is not stop or length"),
        (CHOICE, of_choice(token_ids=(2,)), r"reply\.token_ids: they are none of the labels"),
        (SCORE, of_score(text="yes"), r"reply\.text: 3 characters, and 0 tokens were wanted"),
        (SCORE, of_score(token_ids=(1,)), r"reply\.token_ids: 1, and at most 0 were wanted"),
        (FREE, with_reply(token_ids=(5, 8)), r"reply\.token_ids: 8 is none of the 8 tokens"),
        (FREE, with_reply(token_ids=(1,) * 9), r"reply\.token_ids: 9, and at most 8"),
        (FREE, with_reply(text="a" * 30_000_000), r"reply\.text: 30000000 characters"),
        (FREE, with_reply(time_to_first_token_ms=1100.0), r"reply\.time_to_first_token_ms"),
        (FREE, with_reply(time_per_output_token_ms=400.0), r"and time_per_out.* 1.200 s"),
        (FREE, replace(BATCH, replies=(REPLY, REPLY)), "a prompt is answered twice"),
        (FREE, Started((1, 1)), "a prompt is begun twice"),
        # 30 tokens of prompts and 2 of a label behind each, behind each of two beginnings
        (FREE, Progress(69), r"progress\.prompt_tokens: 69 in all, .* have 68"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(decoding: Decoding, event: Event, said: str) -> None:
    with pytest.raises(WireError, match=said):
        begun(decoding).take(event, elapsed_seconds=1.0)


def test_findings_are_few() -> None:
    taken = audit()
    for _ in range(MOST_FINDINGS):
        assert not taken.take(Finding("retried", requests=1, seconds=0.1), 1.0)
    with pytest.raises(WireError, match="finding: more than 100 a call"):
        taken.take(Finding("retried", requests=1, seconds=0.1), 1.0)


def test_what_is_answered_was_begun() -> None:
    with pytest.raises(WireError, match="answered and not begun"):
        audit().take(BATCH, elapsed_seconds=1.0)


def test_what_was_said_before_counts() -> None:
    taken = audit()
    taken.take(Started((0,)), 1.0)
    assert taken.open_prompts == [0]
    taken.take(BATCH, 1.0)
    assert taken.open_prompts == []
    with pytest.raises(WireError, match="answered twice"):
        taken.take(BATCH, 2.0)
    with pytest.raises(WireError, match="begun twice"):
        taken.take(Started((0,)), 2.0)
    second = Batch((replace(REPLY, prompt=1, prompt_tokens=20),), 101.0, 102.0, 21, 0.5)
    for tokens in (20, 21):
        taken = begun()
        taken.take(BATCH, 1.0)
        if tokens == 20:
            assert taken.take(replace(second, prefill_tokens=tokens), 2.0)
            continue
        with pytest.raises(WireError, match="prefill_tokens: 31 in all"):
            taken.take(replace(second, prefill_tokens=tokens), 2.0)


def test_prompts_of_a_refused_batch_stay_open() -> None:
    taken = begun()
    wrong = Reply(1, "stop", 19)
    with pytest.raises(WireError, match="prompt_tokens"):
        taken.take(replace(BATCH, replies=(REPLY, wrong)), 1.0)
    assert taken.open_prompts == [0, 1]


def test_an_engine_that_takes_text_counts_tokens_of_its_own() -> None:
    texts = Capabilities(prompts="text")
    prompts = [Prompt([7] * 10, "a longer text")]
    taken = Audit(replace(INFO, capabilities=texts), prompts, CHOICE, None)
    taken.take(Started((0,)), 0.0)
    batch = of_choice(prompt_tokens=13)
    assert taken.take(replace(batch, prefill_tokens=13), 1.0)


def test_the_clock_of_a_mock_need_not_be_ours() -> None:
    assert begun(is_mock=True).take(replace(BATCH, ended=1000.0), elapsed_seconds=0.001)
