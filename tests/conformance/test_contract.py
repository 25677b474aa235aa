"""One suite for every backend that is installed: what `backends.api` promises, seen from outside.

A backend of a third party joins by its entry point. Each is asked through a worker process, as a
run asks it, and in the interpreter that a run would use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import psutil
import pytest

from backends.api import Batch, Decoding, OptionValue, Reply, SessionInfo, Started
from backends.sharing.prefix_tree import floors
from harness.engine.interpreters import find_interpreter
from harness.engine.models import resolve_model
from harness.engine.registry import Registered
from harness.engine.session import EngineSession

MODEL = "smollm2-135m"
CONTEXT = 1024
TIMEOUT_SECONDS = 600.0  # an engine may compile for minutes when it first opens a model
# How far a log-probability may move with what else is asked, in natural logarithms.
NEAR = 0.05

SHOWN = "Is the number even?\nx: 4 y: yes\nx: 7 y: no\nx: 10 y: yes\nx: 13 y: no\n"
ANSWERS = (" yes", " no")
LONG_ANSWERS = (" a number that is even", " the number is odd, and not even")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one call; `replies[i]` answers prompt i."""

    replies: list[Reply]
    batches: list[Batch]
    started: list[int]

    @property
    def computed_tokens(self) -> int:
        return sum(reply.prompt_tokens - reply.cached_tokens for reply in self.replies)


Ids: TypeAlias = list[int]
Fresh: TypeAlias = Callable[[], EngineSession]


def open_session(backend: Registered, folder: Path) -> EngineSession:
    model = resolve_model(MODEL, backend.load().FORMATS, {})
    known = backend.load().OPTIONS
    options: dict[str, OptionValue] = {"max_model_len": CONTEXT}
    if "dtype" in known:
        options["dtype"] = "float32"  # 8 bits of mantissa are too few to tell right from nearly
    if "enforce_eager" in known:
        options["enforce_eager"] = True  # compiling takes minutes, for each of many sessions
    log = folder / f"{backend.name}.log"
    python = find_interpreter(backend.name, None)
    return EngineSession(backend.target, model, options, TIMEOUT_SECONDS, log, python)


@pytest.fixture(scope="module")
def session(
    backend: Registered, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineSession]:
    opened = open_session(backend, tmp_path_factory.mktemp("session"))
    yield opened
    opened.close()


@pytest.fixture
def fresh(backend: Registered, tmp_path: Path) -> Iterator[Fresh]:
    """Opens sessions that have seen nothing yet."""
    opened: list[EngineSession] = []

    def open_another() -> EngineSession:
        opened.append(open_session(backend, tmp_path))
        return opened[-1]

    yield open_another
    for one in opened:
        one.close()


def tokens(session: EngineSession, *texts: str) -> list[Ids]:
    """The texts as prompts, with the token that the model wants first."""
    first = [] if session.info.bos_id is None else [session.info.bos_id]
    return [first + ids for ids in session.tokenize(texts)]


def labels(session: EngineSession, texts: Sequence[str] = ANSWERS) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, session.tokenize(texts)))


def decoding(session: EngineSession, mode: Any = "free", **options: Any) -> Decoding:
    return Decoding(mode, options.pop("labels", labels(session)), **options)


def ask(session: EngineSession, prompts: Sequence[Ids], how: Decoding) -> Answer:
    """The answer, in which each prompt has exactly one reply."""
    replies: dict[int, Reply] = {}
    batches: list[Batch] = []
    started: list[int] = []
    for event in session.generate(prompts, how):
        if isinstance(event, Started):
            started.extend(event.prompts)
        elif isinstance(event, Batch):
            batches.append(event)
            for reply in event.replies:
                assert reply.prompt not in replies
                replies[reply.prompt] = reply
    assert sorted(replies) == list(range(len(prompts)))
    return Answer([replies[i] for i in range(len(prompts))], batches, started)


def queries(session: EngineSession, count: int) -> list[Ids]:
    """Prompts that share their beginning."""
    return tokens(session, *(f"{SHOWN}x: {number} y:" for number in range(count)))


def family(session: EngineSession) -> list[Ids]:
    """Related prompts of all kinds: equal, one within another, branching early and late.

    A model is sure of how they go on, so that rounding does not change what is greedy.
    """
    count = "one two three four five six seven eight nine one two three four five six seven"
    return tokens(
        session,
        f"{count} eight nine one two",
        f"{count} eight nine one",
        count,
        f"{count} eight nine one two",
        f"{count} seven six five four three two one seven six five",
        "one two one two one two one two one two one two one",
        "Monday Tuesday Wednesday Thursday Friday Saturday Sunday Monday Tuesday",
    )


def test_info_is_sane(session: EngineSession) -> None:
    info: SessionInfo = session.info
    assert info.engine
    assert info.engine_version
    assert info.weights
    assert info.device
    assert info.model == MODEL
    assert info.threads >= 1
    assert CONTEXT <= info.allocated_context <= info.declared_context
    assert len(info.vocabulary_sha256) == 64
    assert session.load_seconds > 0


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


def test_every_text_can_be_tokenized(session: EngineSession) -> None:
    texts = ["é 日本 🦙 \u0301", "\x00\x7f", " \n\t ", "e\u0301" * 50, "\udc80"]
    every = session.tokenize(texts)
    assert all(every)
    assert session.tokenize(texts) == every
    replies = ask(session, tokens(session, *texts), decoding(session, max_tokens=2)).replies
    assert {reply.finish for reply in replies} <= {"stop", "length"}


def test_no_prompts_are_no_replies(session: EngineSession) -> None:
    assert ask(session, [], decoding(session)) == Answer([], [], [])


def test_an_empty_prompt_and_one_too_long_are_told_and_the_others_answered(
    session: EngineSession,
) -> None:
    [good] = queries(session, 1)
    limit = session.info.allocated_context - 4
    long = (good * limit)[: limit + 1]
    answer = ask(session, [good, [], long, good], decoding(session, max_tokens=4))
    assert [reply.finish for reply in answer.replies[1:3]] == ["empty", "overflow"]
    assert answer.replies[2].prompt_tokens == len(long)
    assert answer.replies[0].token_ids == answer.replies[3].token_ids != ()
    assert sorted(answer.started) == [0, 3]
    for refused in answer.replies[1:3]:
        assert (refused.text, refused.token_ids, refused.label_logprobs) == ("", (), None)


def test_the_longest_prompt_is_answered(session: EngineSession) -> None:
    [prompt] = tokens(session, "so " * session.info.allocated_context)
    how = decoding(session, "score")
    prompt = prompt[: session.info.allocated_context - max(map(len, how.labels))]
    [reply] = ask(session, [prompt], how).replies
    assert (reply.finish, reply.prompt_tokens) == ("scored", len(prompt))


def test_many_prompts_in_one_call(session: EngineSession) -> None:
    prompts = queries(session, 300)
    answer = ask(session, prompts, decoding(session, "score"))
    assert [reply.finish for reply in answer.replies] == ["scored"] * 300
    assert [reply.prompt_tokens for reply in answer.replies] == list(map(len, prompts))
    assert sorted(answer.started) == list(range(300))


def test_equal_prompts_get_equal_replies(session: EngineSession) -> None:
    [prompt] = queries(session, 1)
    first, *others = ask(session, [prompt] * 5, decoding(session)).replies
    assert all(other.token_ids == first.token_ids for other in others)
    assert all(near(other, first) for other in others)


def test_sharing_changes_no_reply(session: EngineSession, fresh: Fresh) -> None:
    prompts = family(session)
    [unrelated] = tokens(session, "Nothing of the kind is 1 of 2.")
    how = decoding(session, max_tokens=4)
    together = ask(session, prompts, how).replies
    other = fresh()
    for prompt, expected in zip(reversed(prompts), reversed(together), strict=True):
        _, alone = ask(other, [unrelated, prompt], how).replies
        assert (alone.text, alone.token_ids) == (expected.text, expected.token_ids)
        assert near(alone, expected)


@pytest.mark.parametrize("mode", ["free", "choice", "score"])
def test_no_more_is_computed_than_sharing_leaves(fresh: Fresh, mode: str) -> None:
    session = fresh()
    prompts = [*family(session), *queries(session, 5)]
    how = decoding(session, mode, labels=labels(session, LONG_ANSWERS), max_tokens=2)
    computed = ask(session, prompts, how).computed_tokens
    block = session.info.shared_block_tokens
    _, least = floors(prompts, block)
    assert least <= computed <= (least if block == 1 else 1.02 * least)


def test_what_is_forgotten_is_computed_again(fresh: Fresh) -> None:
    session = fresh()
    prompts = [*family(session), *queries(session, 5)]
    how = decoding(session, max_tokens=4)
    cold, warm = ask(session, prompts, how), ask(session, prompts, how)
    session.forget()
    again = ask(session, prompts, how)
    assert warm.computed_tokens <= cold.computed_tokens == again.computed_tokens
    for one, other in zip(cold.replies, again.replies, strict=True):
        assert (one.finish, one.token_ids, one.text) == (other.finish, other.token_ids, other.text)
        assert one.cached_tokens == other.cached_tokens
        assert near(one, other)


def test_free_ends_at_max_tokens(session: EngineSession) -> None:
    for most in (1, 3):
        for reply in ask(session, family(session), decoding(session, max_tokens=most)).replies:
            assert reply.finish in ("length", "stop")
            assert len(reply.token_ids) <= most
            assert reply.finish == "stop" or len(reply.token_ids) == most


def test_free_goes_on_behind_the_end_where_told(session: EngineSession) -> None:
    most = 24
    ended = f"Monday Tuesday Wednesday Thursday Friday Saturday Sunday.{session.info.eos_text}"
    prompts = [*family(session), *tokens(session, ended)]
    how = decoding(session, labels=(), max_tokens=most, ignore_end=True)
    answer = ask(session, prompts, how)
    for reply in answer.replies:
        assert (reply.finish, len(reply.token_ids)) == ("length", most)
    assert sum(batch.decode_tokens for batch in answer.batches) == len(prompts) * (most - 1)
    assert all(batch.decode_seconds > 0 for batch in answer.batches)


def test_free_ends_before_a_stop_string(session: EngineSession) -> None:
    prompts = queries(session, 1)
    [whole] = ask(session, prompts, decoding(session, max_tokens=8)).replies
    stop = whole.text.strip()[-1]
    how = decoding(session, max_tokens=8, stop=("never said", stop))
    [reply] = ask(session, prompts, how).replies
    assert reply.finish == "stop"
    assert reply.text == whole.text[: whole.text.index(stop)]
    assert reply.token_ids == whole.token_ids[: len(reply.token_ids)]


@pytest.mark.parametrize("answers", [ANSWERS, LONG_ANSWERS], ids=["short", "long"])
def test_choice_generates_one_of_the_labels(
    session: EngineSession, answers: tuple[str, ...]
) -> None:
    how = decoding(session, "choice", labels=labels(session, answers), max_tokens=1)
    for reply in ask(session, family(session), how).replies:
        assert reply.finish == "label"
        assert reply.text == answers[how.labels.index(reply.token_ids)]


@pytest.mark.parametrize("answers", [ANSWERS, LONG_ANSWERS], ids=["short", "long"])
def test_score_generates_nothing(session: EngineSession, answers: tuple[str, ...]) -> None:
    how = decoding(session, "score", labels=labels(session, answers))
    for reply in ask(session, family(session), how).replies:
        assert (reply.finish, reply.text, reply.token_ids) == ("scored", "", ())
        assert reply.time_to_first_token_ms is reply.time_per_output_token_ms is None


@pytest.mark.parametrize("mode", ["free", "choice", "score"])
@pytest.mark.parametrize("answers", [ANSWERS, LONG_ANSWERS], ids=["short", "long"])
def test_label_logprobs_are_shares_of_one(
    session: EngineSession, mode: str, answers: tuple[str, ...]
) -> None:
    how = decoding(session, mode, labels=labels(session, answers), max_tokens=2)
    for reply in ask(session, queries(session, 5), how).replies:
        logprobs = reply.label_logprobs
        assert logprobs is not None
        assert len(logprobs) == len(answers)
        assert max(logprobs) <= 0
        assert math.fsum(map(math.exp, logprobs)) < 1 + 1e-6


def test_no_labels_are_no_logprobs(session: EngineSession) -> None:
    [reply] = ask(session, queries(session, 1), decoding(session, labels=())).replies
    assert not reply.label_logprobs


def test_label_logprobs_do_not_depend_on_the_decoding(session: EngineSession) -> None:
    prompts = queries(session, 3)
    scored = ask(session, prompts, decoding(session, "score")).replies
    for how in (
        decoding(session, "choice"),
        decoding(session, "free", max_tokens=2),
        decoding(session, "free", max_tokens=2, temperature=1.5, seed=3),
    ):
        replies = ask(session, prompts, how).replies
        assert all(near(one, other) for one, other in zip(scored, replies, strict=True))


def test_a_long_labels_logprob_is_the_sum_over_its_tokens(session: EngineSession) -> None:
    if session.info.is_mock:
        pytest.skip("the mock's probabilities are made up for whole labels")
    [prompt] = queries(session, 1)
    long = labels(session, LONG_ANSWERS)
    [whole] = ask(session, [prompt], decoding(session, "score", labels=long)).replies
    assert whole.label_logprobs is not None
    for label, expected in zip(long, whole.label_logprobs, strict=True):
        steps = [
            ask(
                session,
                [[*prompt, *label[:depth]]],
                decoding(session, "score", labels=((token,),)),
            ).replies[0]
            for depth, token in enumerate(label)
        ]
        total = sum(step.label_logprobs[0] for step in steps if step.label_logprobs)
        assert total == pytest.approx(expected, abs=NEAR)


def test_sampling_is_reproducible_by_its_seed(fresh: Fresh) -> None:
    def drawn(seed: int) -> list[tuple[int, ...]]:
        session = fresh()
        how = decoding(session, max_tokens=4, temperature=1.5, seed=seed)
        return [reply.token_ids for reply in ask(session, queries(session, 8), how).replies]

    assert drawn(seed=1) == drawn(seed=1) != drawn(seed=2)


def test_labels_of_many_tokens_are_scored_for_many_prompts(session: EngineSession) -> None:
    long = labels(session, (" yes" * 12, " no" * 12))
    answer = ask(session, queries(session, 12), decoding(session, "choice", labels=long))
    assert all(reply.token_ids in long for reply in answer.replies)


def test_a_seed_does_not_change_what_is_greedy(session: EngineSession) -> None:
    prompts = queries(session, 4)
    one, other = (
        [reply.token_ids for reply in ask(session, prompts, decoding(session, seed=seed)).replies]
        for seed in (1, 2)
    )
    assert one == other


@pytest.mark.parametrize("mode", ["free", "choice", "score"])
def test_batches_account_for_all_work(session: EngineSession, mode: str) -> None:
    answer = ask(session, [*queries(session, 10), []], decoding(session, mode, max_tokens=3))
    assert sum(batch.prefill_tokens for batch in answer.batches) == answer.computed_tokens
    for batch in answer.batches:
        answered = [reply for reply in batch.replies if reply.finish != "empty"]
        later = sum(max(len(reply.token_ids) - 1, 0) for reply in answered)
        assert (batch.engine_seconds > 0) == bool(answered)
        assert (batch.prefill_seconds > 0) >= (batch.prefill_tokens > 0)
        assert batch.decode_tokens in (0, later)  # a label is chosen without decoding it
        assert (batch.decode_seconds > 0) == (batch.decode_tokens > 0)
        assert batch.prefill_seconds + batch.decode_seconds <= batch.engine_seconds


def test_times_to_tokens_are_told_where_there_are_tokens(session: EngineSession) -> None:
    answer = ask(session, queries(session, 3), decoding(session, max_tokens=3))
    for batch in answer.batches:
        for reply in batch.replies:
            assert reply.time_to_first_token_ms is not None
            assert 0 <= reply.time_to_first_token_ms <= 1000 * batch.engine_seconds
            assert (reply.time_per_output_token_ms or 0.0) >= 0
            assert len(reply.token_ids) > 1 or reply.time_per_output_token_ms is None


def test_no_process_is_left_behind(fresh: Fresh) -> None:
    us = psutil.Process()
    before = set(us.children(recursive=True))
    session = fresh()
    ask(session, queries(session, 2), decoding(session, max_tokens=1))
    ours = set(us.children(recursive=True)) - before
    assert ours
    session.close()
    assert not psutil.wait_procs(ours, timeout=5)[1]


def near(one: Reply, other: Reply) -> bool:
    return one.label_logprobs == pytest.approx(other.label_logprobs, abs=NEAR)
