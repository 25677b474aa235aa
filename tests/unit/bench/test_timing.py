"""From a plan to rows, over the mock and over an engine that shares whole blocks only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

import harness.bench.timing
from backends.api import Batch, Capabilities, Decoding, Prompt, Reply, SessionInfo, TokenIds
from backends.sharing.prefix_tree import common_prefix_length
from harness.bench.rows import Plan, Row
from harness.bench.timing import RandomPrompts, Update, bench
from harness.engine.engine import Engine, EnginePlan
from harness.engine.session import EngineSession, WorkerEvent
from harness.errors import EngineError, UsageError
from harness.machine.memory import MemoryPeak
from harness.spec import RunSpec

SMALL = Plan(prompt_tokens=(20,), generate_tokens=(6,), repetitions=2)


def names(plan: Plan) -> list[tuple[int, str]]:
    return [(test.batch, test.name) for test in plan.tests]


def test_the_default_is_llama_benchs() -> None:
    assert names(Plan()) == [(1, "pp512"), (1, "tg128")]


def test_lists_give_every_combination_in_the_order_of_llama_bench() -> None:
    plan = Plan((512, 64), (8,), depth=(0, 10), batch=(1, 4))
    assert names(plan) == [
        (batch, f"{test}{depth}")
        for batch in (1, 4)
        for depth in ("", " @ d10")
        for test in ("pp512", "pp64", "tg8")
    ]


def test_a_length_of_nought_leaves_a_test_out() -> None:
    assert names(Plan(prompt_tokens=(0,))) == [(1, "tg128")]
    assert names(Plan(generate_tokens=(0, 4), prompt_tokens=(0, 5))) == [(1, "pp5"), (1, "tg4")]


IDS = st.lists(st.integers(0, 500), min_size=4, max_size=60, unique=True)


@given(IDS, st.integers(0, 30), st.integers(1, 20), st.integers(0, 9), st.data())
def test_no_two_prompts_in_a_row_share_more_than_the_depth(
    ids: list[int], longest: int, length: int, seed: int, data: st.DataObject
) -> None:
    prompts = RandomPrompts(ids, longest, seed)
    depth = data.draw(st.integers(0, longest))
    drawn = [prompt for _ in range(3) for prompt in prompts.draw(2, depth, length)]
    assert all(len(prompt) == depth + length for prompt in drawn)
    assert all(set(prompt) <= set(ids) for prompt in drawn)
    assert all(common_prefix_length(a, b) == depth for a, b in pairwise(drawn))
    assert all(common_prefix_length(prompts.beginning, prompt) == depth for prompt in drawn)


def test_prompts_are_those_of_their_seed() -> None:
    first, same, other = (
        RandomPrompts(range(99), 5, seed).draw(2, depth=5, length=9) for seed in (1, 1, 2)
    )
    assert first == same != other


Bench = Callable[..., list[Row]]


@pytest.fixture
def mock(tmp_path: Path) -> Bench:
    def run(plan: Plan, observe: Callable[[Update], None] = lambda _: None, **engine: Any) -> Any:
        return list(bench(plan, RunSpec(backend=("mock",), engine=engine), tmp_path, observe))

    return run


def test_each_test_has_its_rows_and_each_row_its_samples(mock: Bench) -> None:
    rows = mock(Plan((20, 30), (6,), depth=(0, 40), batch=(1, 3), repetitions=2))
    assert [(row.test.batch, row.test.name) for row in rows] == [
        (batch, f"{test}{depth}{cached}")
        for batch in (1, 3)
        for depth in ("", " @ d40")
        for test, cached in (
            *(("pp20", ""), ("pp20", " cached"), ("pp30", ""), ("pp30", " cached")),
            ("tg6", ""),
        )
    ]
    for row in rows:
        assert (row.backend, row.info.is_mock, len(row.samples)) == ("mock", True, 2)
        for sample in (row.warm_up, *row.samples):
            assert sample.tokens == row.test.wanted_tokens
            assert sample.seconds > 0


def test_what_stands_before_is_evaluated_before_and_not_counted(mock: Bench) -> None:
    for row in mock(Plan((20,), (6,), depth=(40,), batch=(1, 3), repetitions=2)):
        # the mock keeps one prompt: one that is asked again is cached, three are not
        is_kept = row.test.is_cached and row.test.batch == 1
        expected = 0 if is_kept else row.test.wanted_tokens
        assert {sample.evaluated for sample in row.samples} == {expected}


def test_generation_does_not_end_early(mock: Bench) -> None:
    plan = Plan((0,), (50,), batch=(2,), repetitions=1)
    [row] = mock(plan, script="no")  # a reply of two tokens, left to itself
    assert row.samples[0].tokens == 100


def test_the_context_is_as_long_as_the_longest_test(mock: Bench) -> None:
    rows = mock(Plan((20,), (6,), depth=(0, 40), repetitions=1))
    assert {row.info.allocated_context for row in rows} == {60}
    rows = mock(Plan((4,), (6,), repetitions=1))
    assert {row.info.allocated_context for row in rows} == {8}


def test_an_engine_that_takes_text_only_is_refused(
    mock: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    info_of: Any = vars(EngineSession)["info"]

    def text_only(self: EngineSession) -> Any:
        return replace(info_of.func(self), capabilities=Capabilities(prompts="text"))

    monkeypatch.setattr(EngineSession, "info", property(text_only))
    with pytest.raises(UsageError, match="mock takes prompts as text only"):
        mock(Plan((4,), (0,), repetitions=1))


def test_a_context_too_short_is_reported_before_anything_is_timed(mock: Bench) -> None:
    seen: list[Update] = []
    with pytest.raises(UsageError, match=r"mock: .* takes 60 tokens .* no more than 50"):
        mock(Plan((20,), (6,), depth=(0, 40)), seen.append, context=50)
    assert seen == []


def test_nothing_to_time_is_an_error() -> None:
    with pytest.raises(UsageError, match="nothing to time"):
        next(bench(Plan((0,), (0,)), RunSpec(backend=("mock",)), Path("logs")))


def test_an_unknown_option_is_an_error(mock: Bench) -> None:
    with pytest.raises(UsageError, match="has no option speed"):
        mock(SMALL, speed=9)


def test_an_engine_that_fails_is_reported_with_its_test(mock: Bench) -> None:
    with pytest.raises(EngineError, match=r"mock failed in pp20: .*signal 9"):
        mock(SMALL, crash_at=2)


def test_rows_come_as_they_are_finished(tmp_path: Path) -> None:
    spec = RunSpec(backend=("mock",), engine={"crash_at": 7})  # three of the prompts twice, then
    rows = bench(SMALL, spec, tmp_path)
    assert [next(rows).test.name, next(rows).test.name] == ["pp20", "pp20 cached"]
    with pytest.raises(EngineError, match="tg6"):
        next(rows)


def test_progress_counts_repetitions_and_the_warm_up(mock: Bench) -> None:
    seen: list[Update] = []
    mock(SMALL, seen.append)
    assert [(one.test, one.repetition) for one in seen] == [
        (test, number) for test in ("pp20", "tg6") for number in range(3)
    ]
    assert [(one.done, one.total) for one in seen] == [(done, 6) for done in range(6)]


def test_entries_are_timed_one_after_the_other_under_their_names(tmp_path: Path) -> None:
    entries: dict[str, dict[str, Any]] = {
        "one": {"backend": "mock"},
        "two": {"backend": "mock", "model": "other"},
    }
    rows = bench(replace(SMALL, generate_tokens=()), RunSpec(entries=entries), tmp_path)
    for name, model in (("one", "smollm2-135m"), ("two", "other")):
        pair = [next(rows), next(rows)]
        assert {(row.entry, row.info.model) for row in pair} == {(name, model)}
        assert len(psutil.Process().children()) == 1
        assert (tmp_path / f"{name}.log").exists()
    assert list(rows) == []


def test_an_entry_that_cannot_be_opened_is_reported_before_anything_is_timed(
    tmp_path: Path,
) -> None:
    entries: dict[str, dict[str, Any]] = {
        "one": {"backend": "mock"},
        "two": {"backend": "mock", "python": "/none/python"},
    }
    with pytest.raises(EngineError, match="no interpreter /none/python"):
        next(bench(SMALL, RunSpec(entries=entries), tmp_path))
    assert not (tmp_path / "one.log").exists()


def test_a_model_that_takes_too_much_names_the_lengths_of_a_bench(tmp_path: Path) -> None:
    """There is no --max-model-len."""
    engine = {"memory_gib": 0.001, "token_kib": 1024}
    plan = Plan(prompt_tokens=(2000,))
    with (
        patch("harness.bench.timing.free_now", return_value=lambda on_gpu: 2**30),
        pytest.raises(EngineError, match="too much") as refused,
    ):
        next(bench(plan, RunSpec(backend=("mock",), engine=engine), tmp_path))
    assert "prompts and replies of at most 1022 tokens together, or a" in refused.value.remedy


class BlockEngine:
    """Stores all prompts, in blocks of 16 tokens; takes a second for every token it evaluates.

    Its batches overlap: each begins when half of the one before is done.
    """

    info = SessionInfo("blocks", "blocks 1", "m", "w", "cpu", 1, 999, 999, "0" * 64)
    peak = MemoryPeak(1.0, None)
    model_sha256 = None
    reports = True

    def __init__(self, plan: EnginePlan, max_model_len: int) -> None:
        self.plan = plan
        self.name = plan.entry.name
        self.session = self
        self._now = 0.0
        self._seen: list[TokenIds] = []

    def __enter__(self) -> BlockEngine:
        return self

    def __exit__(self, *_: object) -> None: ...

    def load(self) -> SessionInfo:
        return self.info

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(text.encode()) for text in texts]

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[WorkerEvent]:
        for index, prompt in enumerate(one.token_ids for one in prompts):
            shared = max((common_prefix_length(one, prompt) for one in self._seen), default=0)
            cached = min(shared, len(prompt) - 1) // 16 * 16
            self._seen.append(prompt)
            computed = len(prompt) - cached
            reply = Reply(index, "scored", len(prompt), cached)
            began, self._now = self._now - computed / 2, self._now + computed / 2 + 1.0
            figures = (computed, float(computed), 0, 0.0) if self.reports else ()
            yield WorkerEvent("blocks", Batch((reply,), began, self._now, *figures))


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.bench.timing, "Engine", cast("type[Engine]", BlockEngine))


@pytest.mark.usefixtures("blocks")
def test_what_an_engine_had_to_evaluate_all_the_same_counts(tmp_path: Path) -> None:
    plan = Plan((32,), (0,), depth=(40,), batch=(2,), repetitions=2)
    timed = bench(plan, RunSpec(backend=("mock",)), tmp_path)
    cold, cached = (row for row in timed if isinstance(row, Row))
    # of 40 tokens 32 are whole blocks: 8 more for each of two prompts, a second for each
    assert [(s.tokens, s.evaluated, s.seconds) for s in cold.samples] == 2 * [(80, 80, 80.0)]
    # of 72 tokens 64 are; asked again, it is the whole answer that is timed: two spans of 9 s, of
    # which the second begins 4 s before the first one's end
    assert [(s.tokens, s.evaluated, s.seconds) for s in cached.samples] == 2 * [(64, 16, 14.0)]


@pytest.mark.usefixtures("blocks")
def test_an_engine_that_did_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="did nothing, or reports no time"):
        list(bench(Plan((0,), (5,)), RunSpec(backend=("mock",)), tmp_path))


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("plan", [Plan((32,), (0,)), Plan((0,), (5,))])
def test_an_engine_that_reports_no_times_is_an_error(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BlockEngine, "reports", False)
    with pytest.raises(EngineError, match="reports no time of its own"):
        list(bench(plan, RunSpec(backend=("mock",)), tmp_path))
