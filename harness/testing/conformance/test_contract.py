"""What `backends.api` promises, seen from outside; by capability."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import psutil
import pytest

from harness.contract import (
    Batch,
    Decoding,
    Prompt,
    Reply,
    SessionInfo,
    Started,
    TokenizerInfo,
    minimum_tokens,
    vocabulary_sha256,
)
from harness.engine.session import EngineSession, TokenizerSession
from harness.engine.transport import WorkerFailedError
from harness.errors import EngineError
from harness.testing.conformance.options import Candidate

# How far a log-probability may move with what else is prompted, in natural logarithms.
NEAR = 0.05

SHOWN = "Is the number even?\nx: 4 y: yes\nx: 7 y: no\nx: 10 y: yes\nx: 13 y: no\n"
ANSWERS = (" yes", " no")
LONG_ANSWERS = (" a number that is even", " the number is odd, and not even")
MODES = ("free", "choice", "score")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one call; `replies[i]` answers prompt i."""

    replies: list[Reply]
    batches: list[Batch]
    started: list[int]

    @property
    def computed_tokens(self) -> int | None:
        """`None` where the engine does not report what it had cached."""
        every = [
            None if reply.cached_tokens is None else reply.prompt_tokens - reply.cached_tokens
            for reply in self.replies
        ]
        known = [computed for computed in every if computed is not None]
        return sum(known) if len(known) == len(every) else None


@dataclass(frozen=True, slots=True)
class Another:
    """What another session drew, and the processes that were left when it had been closed."""

    drawn: list[tuple[str, tuple[int, ...]]]
    processes: int
    left: list[psutil.Process]


@pytest.fixture(scope="module")
def session(
    candidate: Candidate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineSession]:
    """One for nearly all of the tests, since loading takes most of the time."""
    with closing(candidate.open_session(tmp_path_factory.mktemp("session"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def tokenizer(
    candidate: Candidate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TokenizerSession]:
    with closing(candidate.open_tokenizer(tmp_path_factory.mktemp("tokenizer"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def another(
    session: EngineSession, candidate: Candidate, tmp_path_factory: pytest.TempPathFactory
) -> Another:
    _ = session.info  # it has started all that it starts
    us = psutil.Process()
    before = set(us.children(recursive=True))
    with closing(candidate.open_session(tmp_path_factory.mktemp("another"))) as opened:
        drawn = draw(opened, seed=1)
        ours = set(us.children(recursive=True)) - before
    return Another(drawn, len(ours), psutil.wait_procs(ours, timeout=5)[1])


@pytest.fixture
def cold(session: EngineSession) -> EngineSession:
    """The session with nothing stored of earlier prompts."""
    if not session.info.capabilities.can_forget:
        pytest.skip("the engine cannot forget")
    session.forget()
    return session


def takes_text(session: EngineSession) -> bool:
    return session.info.capabilities.prompts == "text"


def prompts(session: EngineSession, *texts: str, attempt: int = 0) -> list[Prompt]:
    """The texts as prompts, with the token that the model wants first."""
    # The caller adds it: `tokenize` adds none.
    first = [] if session.info.bos_id is None else [session.info.bos_id]
    return [
        Prompt(first + ids, text if takes_text(session) else "", attempt)
        for text, ids in zip(texts, session.tokenize(texts), strict=True)
    ]


def queries(session: EngineSession, count: int, attempt: int = 0) -> list[Prompt]:
    """Prompts that share their beginning."""
    texts = (f"{SHOWN}x: {number} y:" for number in range(count))
    return prompts(session, *texts, attempt=attempt)


def family(session: EngineSession) -> list[Prompt]:
    """Related prompts of all kinds: equal, one within another, branching early and late.

    A model is sure of how they go on, so that rounding does not change what is greedy.
    """
    count = "one two three four five six seven eight nine one two three four five six seven"
    return prompts(
        session,
        f"{count} eight nine one two",
        f"{count} eight nine one",
        count,
        f"{count} eight nine one two",
        f"{count} seven six five four three two one seven six five",
        "one two one two one two one two one two one two one",
        "Monday Tuesday Wednesday Thursday Friday Saturday Sunday Monday Tuesday",
    )


def labels(session: EngineSession, texts: Sequence[str] = ANSWERS) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, session.tokenize(texts)))


def decoding(session: EngineSession, mode: Any = "free", **options: Any) -> Decoding:
    return Decoding(mode, options.pop("labels", labels(session)), **options)


def generate(session: EngineSession, given: Sequence[Prompt], how: Decoding) -> Answer:
    """The answer, in which each prompt has exactly one reply.

    "choice" and "score" may be refused where not all label log-probabilities can be had.
    """
    replies: dict[int, Reply] = {}
    batches: list[Batch] = []
    started: list[int] = []
    try:
        for one in session.generate(given, how):
            if isinstance(one.event, Started):
                started.extend(one.event.prompts)
            elif isinstance(one.event, Batch):
                batches.append(one.event)
                for reply in one.event.replies:
                    assert reply.prompt not in replies
                    replies[reply.prompt] = reply
    except WorkerFailedError as error:
        may_refuse = how.mode != "free" and session.info.capabilities.label_logprobs != "exact"
        if may_refuse and isinstance(error.__cause__, EngineError) and not session.has_failed:
            pytest.skip(f"the engine refuses {how.mode}: {error}")
        raise
    assert sorted(replies) == list(range(len(given)))
    return Answer([replies[i] for i in range(len(given))], batches, started)


def said(replies: Sequence[Reply]) -> list[tuple[str, tuple[int, ...]]]:
    return [(reply.text, reply.token_ids) for reply in replies]


def draw(session: EngineSession, seed: int) -> list[tuple[str, tuple[int, ...]]]:
    # At this temperature, and over eight prompts, two seeds hardly ever draw the same.
    how = decoding(session, max_tokens=4, temperature=1.5, seed=seed)
    return said(generate(session, queries(session, 8), how).replies)


def near(one: Reply, other: Reply) -> bool:
    """Whether their log-probabilities are, as far as both are reported."""
    if one.label_logprobs is None or other.label_logprobs is None:
        return one.label_logprobs == other.label_logprobs
    both = zip(one.label_logprobs, other.label_logprobs, strict=True)
    return all(a is None or b is None or abs(a - b) <= NEAR for a, b in both)


def needs_exact_logprobs(session: EngineSession) -> None:
    if session.info.capabilities.label_logprobs != "exact":
        pytest.skip("the engine does not report the log-probability of every label")


def needs_token_ids(session: EngineSession) -> None:
    if takes_text(session):
        pytest.skip("the engine takes text only")


def test_info_is_sane(session: EngineSession, candidate: Candidate) -> None:
    info: SessionInfo = session.info
    assert info.engine
    assert info.engine_version
    assert info.weights
    assert info.device
    assert info.model == candidate.model.name
    # A server that is there already does not say.
    assert info.threads >= 1 or info.capabilities.location == "remote"
    assert info.shared_block_tokens >= 1
    longest = int(candidate.options["max_model_len"])
    assert longest <= info.allocated_context <= info.declared_context
    assert len(info.vocabulary_sha256) == 64
    assert session.load_seconds > 0


def test_what_the_tokenizer_says_of_the_model_is_what_the_session_says(
    session: EngineSession, tokenizer: TokenizerSession
) -> None:
    names = [field.name for field in fields(TokenizerInfo)]
    expected = {name: getattr(session.info, name) for name in names}
    assert {name: getattr(tokenizer.info, name) for name in names} == expected


def test_the_tokenizer_writes_the_sessions_tokens(
    session: EngineSession, tokenizer: TokenizerSession
) -> None:
    special = f"{session.info.bos_text} and {session.info.eos_text}"
    texts = [SHOWN, *ANSWERS, *LONG_ANSWERS, special, "é 日本 🦙 \u0301", "\x00\x7f", " \n\t ", ""]
    every = tokenizer.tokenize(texts)
    assert every == session.tokenize(texts)
    assert tokenizer.token_texts(every[0]) == session.token_texts(every[0])


def test_special_tokens_are_parsed_and_none_is_added(session: EngineSession) -> None:
    word, nothing = session.tokenize(["word", ""])
    assert nothing == []
    assert word
    assert word[0] != session.info.bos_id
    for special in filter(None, (session.info.bos_text, session.info.eos_text)):
        [one] = session.tokenize([special])
        assert len(one) == 1
        assert session.tokenize([f"word{special}"]) == [word + one]


def test_tokens_have_texts_that_tell_them_apart(session: EngineSession) -> None:
    [ids] = session.tokenize([f"{session.info.eos_text}one two three"])
    texts = session.token_texts(ids)
    assert len(set(texts)) == len(set(ids))
    assert texts[0] == session.info.eos_text or not session.info.eos_text
    assert session.token_texts([]) == []


def test_the_vocabulary_has_as_many_ids_as_it_says(session: EngineSession) -> None:
    """Its hash is that of the texts of all of them."""
    size = session.info.vocabulary_size
    if size is None:
        pytest.skip("the engine does not say how many token ids there are")
    assert vocabulary_sha256(session.token_texts(range(size))) == session.info.vocabulary_sha256


def test_every_text_can_be_tokenized(session: EngineSession) -> None:
    # The last one is half of a surrogate pair: no UTF-8 can be made of it, and an engine that tries
    # to gets an error.
    texts = ["é 日本 🦙 \u0301", "\x00\x7f", " \n\t ", "e\u0301" * 50, "\udc80"]
    every = session.tokenize(texts)
    assert all(every)
    assert session.tokenize(texts) == every
    how = decoding(session, max_tokens=2)
    replies = generate(session, prompts(session, *texts), how).replies
    assert {reply.finish for reply in replies} <= {"stop", "length"}


def test_no_prompts_are_no_replies(session: EngineSession) -> None:
    assert generate(session, [], decoding(session)) == Answer([], [], [])


def test_an_empty_prompt_and_one_too_long_are_refused_and_the_others_answered(
    session: EngineSession,
) -> None:
    [good] = queries(session, 1)
    [long] = prompts(session, SHOWN * session.info.allocated_context)
    given = [good, Prompt([]), long, good]
    answer = generate(session, given, decoding(session, max_tokens=4))
    assert [reply.finish for reply in answer.replies[1:3]] == ["empty", "overflow"]
    assert takes_text(session) or answer.replies[2].prompt_tokens == len(long.token_ids)
    first, last = said([answer.replies[0], answer.replies[3]])
    assert first == last != ("", ())
    assert sorted(answer.started) == [0, 3]
    for refused in answer.replies[1:3]:
        assert (refused.text, refused.token_ids, refused.label_logprobs) == ("", (), None)


def test_the_longest_prompt_is_answered(session: EngineSession) -> None:
    needs_token_ids(session)
    how = decoding(session, "free", max_tokens=2)
    [long] = prompts(session, "so " * session.info.allocated_context)
    # 2 is the `max_tokens` of the reply.
    longest = Prompt(long.token_ids[: session.info.allocated_context - 2])
    [reply] = generate(session, [longest], how).replies
    assert reply.finish in ("length", "stop")
    assert reply.prompt_tokens == session.info.allocated_context - 2


def test_the_longest_prompt_is_scored(session: EngineSession) -> None:
    needs_token_ids(session)
    how = decoding(session, "score")
    [long] = prompts(session, "so " * session.info.allocated_context)
    # Room for the longest label, as a score is of the prompt with the label behind it.
    length = session.info.allocated_context - max(map(len, how.labels))
    [reply] = generate(session, [Prompt(long.token_ids[:length])], how).replies
    assert (reply.finish, reply.prompt_tokens) == ("scored", length)


def test_many_prompts_in_one_call(session: EngineSession) -> None:
    given = queries(session, 300)
    answer = generate(session, given, decoding(session, max_tokens=1))
    assert {reply.finish for reply in answer.replies} <= {"stop", "length"}
    if not takes_text(session):
        lengths = [len(prompt.token_ids) for prompt in given]
        assert [reply.prompt_tokens for reply in answer.replies] == lengths
    assert sorted(answer.started) == list(range(300))


def test_equal_prompts_get_equal_greedy_replies_in_every_attempt(session: EngineSession) -> None:
    [prompt] = queries(session, 1)
    given = [prompt, *(queries(session, 1, attempt)[0] for attempt in range(4))]
    first, *others = generate(session, given, decoding(session)).replies
    assert said(others) == said([first]) * 4
    assert all(near(other, first) for other in others)


def test_attempts_are_samples_and_the_first_is_a_single_one(session: EngineSession) -> None:
    how = decoding(session, max_tokens=4, temperature=1.0, seed=3)
    once, again = queries(session, 8), queries(session, 8, attempt=1)
    single = generate(session, once, how).replies
    both = said(generate(session, [*again, *once], how).replies)
    assert both[8:] == said(single)
    assert both[:8] != both[8:]


def test_sharing_changes_no_reply(session: EngineSession) -> None:
    given = family(session)
    [unrelated] = prompts(session, "Nothing of the kind is 1 of 2.")
    how = decoding(session, max_tokens=4)
    together = generate(session, given, how).replies
    for prompt, expected in zip(reversed(given), reversed(together), strict=True):
        if session.info.capabilities.can_forget:
            session.forget()
        _, alone = generate(session, [unrelated, prompt], how).replies
        assert said([alone]) == said([expected])
        assert near(alone, expected)


@pytest.mark.parametrize("mode", MODES)
def test_no_more_is_computed_than_sharing_leaves(cold: EngineSession, mode: str) -> None:
    needs_token_ids(cold)
    given = [*family(cold), *queries(cold, 5), *queries(cold, 3, attempt=1)]
    how = decoding(cold, mode, labels=labels(cold, LONG_ANSWERS), max_tokens=2)
    computed = generate(cold, given, how).computed_tokens
    if computed is None:
        pytest.skip("the engine does not report what it had cached")
    block = cold.info.shared_block_tokens
    _, least = minimum_tokens([prompt.token_ids for prompt in given], block)
    assert least <= computed <= (least if block == 1 else 1.02 * least)


def test_what_is_forgotten_is_computed_again(cold: EngineSession) -> None:
    given = [*family(cold), *queries(cold, 5)]
    how = decoding(cold, max_tokens=4)
    first, warm = generate(cold, given, how), generate(cold, given, how)
    cold.forget()
    again = generate(cold, given, how)
    assert again.computed_tokens == first.computed_tokens
    if first.computed_tokens is not None and warm.computed_tokens is not None:
        assert warm.computed_tokens <= first.computed_tokens
    for one, other in zip(first.replies, again.replies, strict=True):
        assert (one.finish, one.token_ids, one.text) == (other.finish, other.token_ids, other.text)
        assert one.cached_tokens == other.cached_tokens
        assert near(one, other)


def test_free_ends_at_max_tokens(session: EngineSession) -> None:
    for most in (1, 3):
        how = decoding(session, max_tokens=most)
        for reply in generate(session, family(session), how).replies:
            assert reply.finish in ("length", "stop")
            assert len(reply.token_ids) <= most
            assert takes_text(session) or reply.finish == "stop" or len(reply.token_ids) == most


def test_free_goes_on_behind_the_end_where_wanted(session: EngineSession) -> None:
    if not session.info.capabilities.can_ignore_end:
        pytest.skip("the engine's replies end where they end")
    most = 24
    ended = f"Monday Tuesday Wednesday Thursday Friday Saturday Sunday.{session.info.eos_text}"
    given = [*family(session), *prompts(session, ended)]
    how = decoding(session, labels=(), max_tokens=most, ignore_end=True)
    answer = generate(session, given, how)
    for reply in answer.replies:
        assert reply.finish == "length"
        assert takes_text(session) or len(reply.token_ids) == most
    decoded = [b.decode_tokens for b in answer.batches if b.decode_tokens is not None]
    # The first token of each reply comes out of the prefill.
    assert not decoded or sum(decoded) == len(given) * (most - 1)
    assert all(batch.decode_seconds is None or batch.decode_seconds > 0 for batch in answer.batches)


def test_free_ends_before_a_stop_string(session: EngineSession) -> None:
    given = queries(session, 1)
    [whole] = generate(session, given, decoding(session, max_tokens=8)).replies
    stop = whole.text.strip()[-1]
    how = decoding(session, max_tokens=8, stop=("never said", stop))
    [reply] = generate(session, given, how).replies
    assert reply.finish == "stop"
    assert reply.text == whole.text[: whole.text.index(stop)]
    assert reply.token_ids == whole.token_ids[: len(reply.token_ids)]


@pytest.mark.parametrize("answers", [ANSWERS, LONG_ANSWERS], ids=["short", "long"])
def test_choice_generates_one_of_the_labels(
    session: EngineSession, answers: tuple[str, ...]
) -> None:
    how = decoding(session, "choice", labels=labels(session, answers), max_tokens=1)
    for reply in generate(session, family(session), how).replies:
        assert reply.finish == "label"
        assert reply.text in answers
        assert takes_text(session) or reply.token_ids == how.labels[answers.index(reply.text)]


@pytest.mark.parametrize("answers", [ANSWERS, LONG_ANSWERS], ids=["short", "long"])
def test_score_generates_nothing(session: EngineSession, answers: tuple[str, ...]) -> None:
    how = decoding(session, "score", labels=labels(session, answers))
    for reply in generate(session, family(session), how).replies:
        assert (reply.finish, reply.text, reply.token_ids) == ("scored", "", ())
        assert reply.time_to_first_token_ms is reply.time_per_output_token_ms is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("answers", [ANSWERS, LONG_ANSWERS], ids=["short", "long"])
def test_label_logprobs_are_shares_of_one(
    session: EngineSession, mode: str, answers: tuple[str, ...]
) -> None:
    how = decoding(session, mode, labels=labels(session, answers), max_tokens=2)
    reported = session.info.capabilities.label_logprobs
    for reply in generate(session, queries(session, 5), how).replies:
        logprobs = reply.label_logprobs
        if reported == "none":
            assert logprobs is None
            continue
        assert logprobs is not None
        assert len(logprobs) == len(answers)
        known = [one for one in logprobs if one is not None]
        assert len(known) == len(answers) or reported == "top_k"
        assert max(known, default=0) <= 0
        # No label begins another, so at most one of them is written: their shares add up to 1 or
        # less.
        assert math.fsum(map(math.exp, known)) < 1 + 1e-6


def test_no_labels_are_no_logprobs(session: EngineSession) -> None:
    [reply] = generate(session, queries(session, 1), decoding(session, labels=())).replies
    assert not reply.label_logprobs


def test_label_logprobs_do_not_depend_on_the_decoding(session: EngineSession) -> None:
    needs_exact_logprobs(session)
    given = queries(session, 3)
    scored = generate(session, given, decoding(session, "score")).replies
    for how in (
        decoding(session, "choice"),
        decoding(session, "free", max_tokens=2),
        decoding(session, "free", max_tokens=2, temperature=1.5, seed=3),
    ):
        replies = generate(session, given, how).replies
        assert all(near(one, other) for one, other in zip(scored, replies, strict=True))


def test_a_long_labels_logprob_is_the_sum_over_its_tokens(session: EngineSession) -> None:
    needs_exact_logprobs(session)
    needs_token_ids(session)
    if session.info.is_mock:
        pytest.skip("a mock's probabilities are made up for whole labels")
    [prompt] = queries(session, 1)
    long = labels(session, LONG_ANSWERS)
    [whole] = generate(session, [prompt], decoding(session, "score", labels=long)).replies
    assert whole.label_logprobs is not None
    for label, expected in zip(long, whole.label_logprobs, strict=True):
        total = 0.0
        for depth, token in enumerate(label):
            behind = Prompt([*prompt.token_ids, *label[:depth]])
            how = decoding(session, "score", labels=((token,),))
            [step] = generate(session, [behind], how).replies
            [logprob] = step.label_logprobs or ()
            assert logprob is not None
            total += logprob
        assert total == pytest.approx(expected, abs=NEAR)


def test_samples_differ_by_their_seed(session: EngineSession) -> None:
    assert draw(session, seed=1) == draw(session, seed=1) != draw(session, seed=2)


def test_another_session_draws_the_same(session: EngineSession, another: Another) -> None:
    assert another.drawn == draw(session, seed=1)


def test_labels_of_many_tokens_are_scored_for_many_prompts(session: EngineSession) -> None:
    texts = (" yes" * 12, " no" * 12)
    how = decoding(session, "choice", labels=labels(session, texts))
    answer = generate(session, queries(session, 12), how)
    assert all(reply.text in texts for reply in answer.replies)


def test_a_seed_does_not_change_what_is_greedy(session: EngineSession) -> None:
    given = queries(session, 4)
    one, other = (
        said(generate(session, given, decoding(session, seed=seed)).replies) for seed in (1, 2)
    )
    assert one == other


@pytest.mark.parametrize("mode", MODES)
def test_batches_account_for_all_work(session: EngineSession, mode: str) -> None:
    given = [*queries(session, 10), Prompt([])]
    answer = generate(session, given, decoding(session, mode, max_tokens=3))
    prefill = [batch.prefill_tokens for batch in answer.batches]
    if None not in prefill and answer.computed_tokens is not None:
        assert sum(tokens or 0 for tokens in prefill) == answer.computed_tokens
    for batch in answer.batches:
        answered = [reply for reply in batch.replies if reply.finish != "empty"]
        later = sum(max(len(reply.token_ids) - 1, 0) for reply in answered)
        assert (batch.engine_seconds > 0) == bool(answered)
        if batch.prefill_tokens is not None and batch.prefill_seconds is not None:
            # `>=` of truth values: where there are tokens there is time. Time without tokens is
            # allowed.
            assert (batch.prefill_seconds > 0) >= (batch.prefill_tokens > 0)
        if batch.decode_tokens is not None:
            # a label is chosen without decoding it
            assert takes_text(session) or batch.decode_tokens in (0, later)
            if batch.decode_seconds is not None:
                assert (batch.decode_seconds > 0) == (batch.decode_tokens > 0)
        parts = (batch.prefill_seconds or 0.0) + (batch.decode_seconds or 0.0)
        assert parts <= batch.engine_seconds + 1e-9


def test_spans_of_batches_lie_in_order_on_one_clock(session: EngineSession) -> None:
    """Within a call they may overlap; the next call begins when the last one has ended."""
    given = [Prompt([]), *queries(session, 100)]
    how = decoding(session, max_tokens=2)
    began = time.perf_counter()
    calls = [generate(session, given, how).batches for _ in range(2)]
    took = time.perf_counter() - began
    first, second = calls
    for batches in calls:
        assert all(batch.began <= batch.ended for batch in batches)
        assert all(one.ended <= other.ended for one, other in pairwise(batches))
    start, middle = min(batch.began for batch in first), max(batch.ended for batch in first)
    assert middle <= min(batch.began for batch in second)
    # The clock of a mock may be made up, and runs faster than ours.
    assert session.info.is_mock or second[-1].ended - start <= took


def test_times_to_tokens_are_reported_where_there_are_tokens(session: EngineSession) -> None:
    by_engine = session.info.capabilities.clock == "engine"
    answer = generate(session, queries(session, 3), decoding(session, max_tokens=3))
    for batch in answer.batches:
        for reply in batch.replies:
            first = reply.time_to_first_token_ms
            assert first is not None or not by_engine
            assert 0 <= (first or 0.0) <= 1000 * batch.engine_seconds
            assert (reply.time_per_output_token_ms or 0.0) >= 0
            if not takes_text(session):
                assert len(reply.token_ids) > 1 or reply.time_per_output_token_ms is None


def test_no_process_is_left_behind(another: Another) -> None:
    assert another.processes
    assert not another.left
