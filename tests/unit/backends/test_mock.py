"""What the mock's options make it do, so that what is made of its figures can be tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pytest
from numpy.typing import NDArray

from backends.api import (
    NO_FILES,
    BackendError,
    Batch,
    Decoding,
    ModelRef,
    OptionValue,
    Prompt,
    Reply,
    TokenizerInfo,
)
from backends.mock import MockSession, open_session, open_tokenizer

LABELS = ((70,), (82,), (88,))  # F, R, X
MODEL = ModelRef("m", NO_FILES, "")
INFO = [field.name for field in fields(TokenizerInfo)]
SCORE, FREE = Decoding("score", LABELS), Decoding("free", LABELS)


def session(**options: OptionValue) -> MockSession:
    return open_session(MODEL, {"max_model_len": 1000, **options})


def batches(
    one: MockSession, texts: Sequence[str], decoding: Decoding = SCORE, attempt: int = 0
) -> list[Batch]:
    prompts = [Prompt(ids, attempt=attempt) for ids in one.tokenize(texts)]
    events = one.generate(prompts, decoding)
    return [event for event in events if isinstance(event, Batch)]


def replies(
    one: MockSession, texts: Sequence[str], decoding: Decoding = SCORE, attempt: int = 0
) -> list[Reply]:
    found = [reply for batch in batches(one, texts, decoding, attempt) for reply in batch.replies]
    return sorted(found, key=lambda reply: reply.prompt)


def labels(one: MockSession, texts: Sequence[str]) -> list[int]:
    every = [np.array(reply.label_logprobs, np.float64) for reply in replies(one, texts)]
    return [int(logprobs.argmax()) for logprobs in every]


PROMPTS = [f"prompt {number}: {number % 100}" for number in range(400)]


def test_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(BackendError, match="no option speed"):
        session(speed=3)
    with pytest.raises(BackendError, match="no option speed"):
        open_tokenizer(MODEL, {"speed": 3})


def test_the_tokenizer_is_the_sessions() -> None:
    tokenizer, one = open_tokenizer(MODEL, {}), session()
    assert all(getattr(one.info, name) == getattr(tokenizer.info, name) for name in INFO)
    texts = ["<bos>word<eos>", "é \udc80"]
    assert tokenizer.tokenize(texts) == one.tokenize(texts)
    ids = tokenizer.tokenize(texts)[0]
    assert tokenizer.token_texts(ids) == one.token_texts(ids)


def test_it_has_a_declared_context_and_takes_no_more() -> None:
    with pytest.raises(BackendError, match=r"more than the 1048576 that m was made for"):
        session(max_model_len=2**20 + 1)


def test_attempts_are_samples_and_the_first_is_a_single_one() -> None:
    drawn = Decoding("free", LABELS, temperature=1.0, seed=5)

    def said(decoding: Decoding, attempt: int) -> list[str]:
        return [reply.text for reply in replies(session(), PROMPTS, decoding, attempt)]

    assert said(drawn, 0) != said(drawn, 1) != said(drawn, 2)
    assert said(FREE, 0) == said(FREE, 1)
    [single] = session().tokenize([PROMPTS[0]])
    events = session().generate([Prompt(single)], drawn)
    [batch] = [event for event in events if isinstance(event, Batch)]
    assert batch.replies[0].text == said(drawn, 0)[0]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("1 2 49", 0),
        ("99 50", 1),
        ("99 49.9 x", 0),
        ("0 -3", 0),
        ("0 1234.5\nlabel:", 1),
        ("nothing", 0),
    ],
)
def test_a_threshold_answers_by_the_last_number(text: str, label: int) -> None:
    assert labels(session(threshold=50), [text]) == [label]
    [reply] = replies(session(threshold=50), [text], FREE)
    assert reply.text == chr(LABELS[label][0])


def test_errors_are_the_next_label_on_the_share_of_prompts() -> None:
    right = labels(session(), PROMPTS)
    assert labels(session(errors=0.0), PROMPTS) == right
    assert labels(session(errors=1.0), PROMPTS) == [(label + 1) % 3 for label in right]
    wrong = np.mean(np.array(labels(session(errors=0.3), PROMPTS)) != right)
    assert wrong == pytest.approx(0.3, abs=3 * (0.3 * 0.7 / 400) ** 0.5)


def test_beyond_a_plateau_more_lines_make_no_fewer_errors() -> None:
    right = labels(session(), PROMPTS)

    def wrong(lines: int) -> float:
        """The share of prompts of so many lines that get another label than without errors."""
        texts = ["\n" * lines + text for text in PROMPTS]
        sure, unsure = (labels(session(**{**of, "threshold": 50}), texts) for of in ({}, planted))
        return float(np.mean(np.array(sure) != unsure))

    planted: dict[str, OptionValue] = {"errors": 0.1, "plateau": 8}
    assert wrong(8) == pytest.approx(0.1, abs=0.04)
    assert wrong(32) == pytest.approx(0.1, abs=0.04)
    assert wrong(2) == pytest.approx(0.26, abs=0.06)
    assert labels(session(plateau=1), PROMPTS) == right


def test_errors_are_the_same_for_one_seed_and_others_for_another() -> None:
    made = [labels(session(errors=0.5, noise_seed=seed), PROMPTS) for seed in (0, 0, 1)]
    assert made[0] == made[1] != made[2]
    assert labels(session(errors=0.5), PROMPTS[::-1]) == made[0][::-1]


def test_labels_are_scored_as_they_are_said() -> None:
    noisy = {"threshold": 50, "errors": 0.5}
    said = [reply.text for reply in replies(session(**noisy), PROMPTS, FREE)]
    assert said == [chr(LABELS[label][0]) for label in labels(session(**noisy), PROMPTS)]


def test_a_given_speed_makes_the_times() -> None:
    long = Decoding("free", LABELS, max_tokens=5, ignore_end=True)
    ended = 0.0
    for batch in batches(session(tokens_per_second=200), ["", *PROMPTS], long):
        assert batch.prefill_tokens is not None and batch.decode_tokens is not None
        assert batch.prefill_seconds == pytest.approx(batch.prefill_tokens / 200)
        assert batch.decode_seconds == pytest.approx(batch.decode_tokens / 200)
        assert batch.began == ended
        ended += (batch.prefill_tokens + batch.decode_tokens) / 200
        assert batch.ended == pytest.approx(ended)
        ended = batch.ended
        if batch.replies[0].finish == "empty":
            continue
        assert batch.prefill_seconds is not None
        assert {reply.time_to_first_token_ms for reply in batch.replies} == {
            1000 * batch.prefill_seconds
        }


def speeds(count: int, tokens: int, **options: OptionValue) -> NDArray[np.float64]:
    """Of prompts of so many tokens that share none, one a batch, at about 100 tokens per second."""
    texts = [chr(97 + number % 26) * tokens for number in range(count)]
    one = session(tokens_per_second=100, batch=1, **options)
    found = []
    for text in texts:
        one.forget()
        [batch] = batches(one, [text])
        assert batch.prefill_tokens and batch.prefill_seconds
        found.append(batch.prefill_tokens / batch.prefill_seconds)
    return np.array(found)


def test_jitter_is_the_deviation_of_the_logarithm() -> None:
    logs = np.log(speeds(400, 3000, jitter=0.2, max_model_len=4000))
    assert np.std(logs) == pytest.approx(0.2, rel=0.15)
    assert np.mean(logs) == pytest.approx(np.log(100), abs=0.03)


def test_what_slows_it_down_lasts_for_some_seconds() -> None:
    def correlation(rates: NDArray[np.float64]) -> float:
        logs = np.log(rates) - np.log(rates).mean()
        return float((logs[1:] * logs[:-1]).sum() / (logs**2).sum())

    # after 0.5 s, 3.5 s and 30 s: exp(-t / 3.7)
    assert correlation(speeds(400, 50, jitter=0.2)) > 0.75
    assert correlation(speeds(400, 350, jitter=0.2)) == pytest.approx(0.39, abs=0.15)
    assert abs(correlation(speeds(400, 3000, jitter=0.2, max_model_len=4000))) < 0.15


def test_jitter_is_the_same_for_one_seed_and_another_for_another() -> None:
    same = [speeds(20, 50, jitter=0.2, noise_seed=seed).tolist() for seed in (3, 3, 4)]
    assert same[0] == same[1] != same[2]
    assert set(speeds(20, 50)) == {100.0}


def test_requests_in_flight_overlap_and_share_the_speed() -> None:
    one = session(concurrency=2, tokens_per_second=100, delay_ms=500, script="yes")
    assert one.info.capabilities.clock == "client"
    found = batches(one, ["aaaa", "bbbb", "cccc"], FREE)
    spans = [(batch.began, batch.ended) for batch in found]
    # A wait, 4 tokens of the prompt and 2 behind the first of the reply, each at half the speed.
    assert np.array(spans) == pytest.approx(np.array([(0, 0.62), (0, 0.62), (0.62, 1.24)]))
    [reply] = found[0].replies
    assert reply.time_to_first_token_ms == pytest.approx(580)
    assert reply.time_per_output_token_ms == pytest.approx(20)
    assert [batch.prefill_seconds for batch in found] == [None] * 3


def test_each_slot_has_the_prompt_before_and_a_cold_one_uses_nothing() -> None:
    texts = ["same 1", "same 2", "same 3"]
    assert [one.cached_tokens for one in replies(session(concurrency=2), texts)] == [0, 0, 5]
    cold = session(concurrency=2, cold=True)
    assert [one.cached_tokens for one in replies(cold, texts)] == [0, 0, 0]
    assert [one.kind for one in cold.info.findings] == ["prompts_not_equal"]
    warm = session(concurrency=1)
    replies(warm, texts)
    warm.forget()
    assert replies(warm, texts[:1])[0].cached_tokens == 0
