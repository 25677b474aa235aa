"""What a side gives to compare: made by hand, and read back from a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backends.api import Reply, SessionInfo
from harness.comparison import agreement
from harness.comparison.records import Member
from harness.comparison.sides import (
    Side,
    measured,
    measured_elsewhere,
    read_side,
    readable_by_query,
    right_by_query,
)
from harness.imports.records import Figure, Imported, ImportRow
from harness.metrics import metric_of
from harness.pipeline.run import run
from harness.spec import RunSpec
from harness.store.schema import BatchRow, CellRow, PromptRow, SessionRow, SessionUse, TokensRow
from harness.store.store import Store
from harness.summary import Summary
from tests.unit.comparison.test_history import ENVIRONMENT, INFO
from tests.unit.report.conftest import RUN

CLASSES = ("FAKE", "REAL")
VOTERS = 2


@dataclass(frozen=True, slots=True)
class Made:
    """How a side is made: a character a query, `+` right, `-` wrong, `.` without a verdict.

    Query 0 is in row `first_row` of the test split. Replies to the positions in `unread` give no
    label. `batches` are prefill tokens and seconds of each batch, decoded at the same speed.
    """

    verdicts: str = "++--"
    backend: str = "mock"
    run_id: str = "a"
    first_row: int = 100
    text: str = "text"
    token: str = "token"
    unread: Sequence[int] = ()
    batches: Sequence[tuple[int, float]] = ((10, 1.0),) * 8
    info: SessionInfo = INFO
    environment: Any = ENVIRONMENT

    @property
    def prompts(self) -> list[PromptRow]:
        return [
            PromptRow(
                voter=voter,
                role=role,
                position=position,
                row=self.first_row + position,
                label=position % 2,
                examples=5,
                text_sha256=self.text,
                id=1,
            )
            for voter in range(VOTERS)
            for role in ("query", "calibration")
            for position in range(len(self.verdicts))
        ]

    @property
    def read(self) -> agreement.Side:
        prompts: dict[agreement.Place, agreement.Asked] = {
            (one.voter, one.role, one.position): one for one in self.prompts
        }
        return agreement.Side(
            member=Member(run_id=self.run_id, backend=self.backend),
            model_sha256="m",
            prompts=prompts,
            answers={
                place: agreement.Answer(None if place[2] in self.unread else "FAKE", None)
                for place in prompts
            },
            vote="majority",
            verdicts={
                position: CLASSES[(position + (mark == "-")) % 2]
                for position, mark in enumerate(self.verdicts)
                if mark != "."
            },
        )


def side(made: Made = Made(), /, **spec: Any) -> Side:
    """Of a free-decoding run on a file, but for what is given."""
    replies = Reply(prompt=1, finish="stop", prompt_tokens=5, time_to_first_token_ms=20.0)
    return Side(
        spec=RunSpec(**{"backend": (made.backend,), "data": "small.npz", **spec}),
        environment=made.environment,
        run=RUN.model_copy(update={"backend": made.backend}),
        member=Member(run_id=made.run_id, backend=made.backend),
        prompts=made.prompts,
        tokens=[TokensRow(made.token, 5) for _ in made.prompts],
        cells=[
            CellRow(1, "done", 1, batch, None, replies)
            for batch in range(1, len(made.batches) + 1)
            for _ in range(2)
        ],
        batches=[
            BatchRow(place, 1, 2 * seconds, tokens, seconds, tokens, seconds)
            for place, (tokens, seconds) in enumerate(made.batches, start=1)
        ],
        session=SessionRow(1, made.run_id, made.backend, "", made.info, "m", 1.0, SessionUse()),
        read=made.read,
    )


def imported(*figures: Figure, **changes: Any) -> ImportRow:
    told = {
        "tool": "llama-bench",
        "tool_version": "0123abc",
        "engine": "llama.cpp",
        "model": "tiny.gguf",
        "test": "pp64",
        "figures": figures,
        "conditions": {"n_threads": "2", "test_time": "2026-01-02"},
    }
    whole = Imported.model_validate({**told, **changes})
    return ImportRow("import-aa", "2026-01-02", "a.json", "a.json", "aa", whole)


def test_verdicts_go_by_rows_and_what_has_none_is_not_there() -> None:
    assert right_by_query(side(Made("+-.+"))) == {100: 1.0, 101: 0.0, 103: 1.0}


def test_a_query_is_readable_as_far_as_its_replies_are() -> None:
    made = side(Made("++++", unread=(1, 3)))
    assert readable_by_query(made) == {100: 1.0, 101: 0.0, 102: 1.0, 103: 0.0}


def test_where_nothing_is_parsed_nothing_is_readable() -> None:
    made = side()
    parse = made.run.parse.model_copy(update={"lenient": None})
    scored = Side(**{**fields_of(made), "run": made.run.model_copy(update={"parse": parse})})
    assert readable_by_query(scored) == {}


def fields_of(one: Side) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Side.__dataclass_fields__}


def test_speeds_are_tokens_over_seconds_in_blocks_of_batches() -> None:
    found = measured(side(Made(batches=[(10, 1.0), (30, 1.0)] * 16))).works
    for metric in ("prefill_tokens_per_second", "decode_tokens_per_second"):
        assert len(found[metric].took) < 32
        assert (found[metric].amounts.sum(), found[metric].took.sum()) == (16 * 40, 32)
    first_token = found["time_to_first_token_ms"]
    assert (first_token.figure, first_token.took.sum()) == (20.0, 64)


def test_a_block_in_which_nothing_was_done_is_no_sample() -> None:
    found = measured(side(Made(batches=[(10, 1.0), (0, 1.0)] * 4))).works
    assert found["prefill_tokens_per_second"].amounts.tolist() == [10.0] * 4


@pytest.mark.parametrize("batches", [[], [(0, 0.0)]])
def test_a_run_that_did_nothing_has_no_samples(batches: list[tuple[int, float]]) -> None:
    found = measured(side(Made(batches=batches))).works
    assert [len(found[name].took) for name in ("prefill_tokens_per_second",)] == [0]


def test_queries_are_the_same_in_the_same_file_and_in_digits_of_one_seed() -> None:
    assert side(seed=1).data == side(seed=2).data
    assert side(seed=1).data != side(data="other.npz", seed=1).data
    assert side(data="digits", seed=1).data == side(data="digits", seed=1).data
    assert side(data="digits", seed=1).data != side(data="digits", seed=2).data


def test_repetitions_of_another_tool_are_samples() -> None:
    speed = Figure(
        metric="decode_tokens_per_second", unit="tokens/s", value=150.0, samples=(100.0, 200.0)
    )
    time = Figure(metric="mean_time_to_first_token_ms", unit="ms", value=30.0)
    median = Figure(metric="time_to_first_token_ms", unit="ms", value=29.0)
    found = measured_elsewhere(imported(speed, time, median))
    assert found.member == Member(run_id="import-aa", backend="llama.cpp")
    assert found.works["decode_tokens_per_second"].rates.tolist() == [100.0, 200.0]
    assert found.works["time_to_first_token_ms"].rates.tolist() == [30.0]
    assert (set(found.works), found.shares) == ({speed.metric, median.metric}, {})
    sampled = median.model_copy(update={"samples": (20.0, 40.0)})
    assert measured_elsewhere(imported(sampled)).works[median.metric].figure == 30.0
    assert measured_elsewhere(imported(median)).works == {}  # a median is not compared with means


def test_a_share_of_another_tool_is_so_many_right_queries() -> None:
    accuracy = Figure(metric="accuracy", unit="share", value=0.625, count=200)
    right = measured_elsewhere(imported(accuracy, engine="")).shares["accuracy"]
    assert (len(right), sum(right.values())) == (200, 125)
    assert measured_elsewhere(imported(accuracy, engine="")).member.backend == "llama-bench"


def test_a_share_over_nobody_knows_how_many_has_no_queries() -> None:
    accuracy = Figure(metric="accuracy", unit="share", value=0.625)
    assert measured_elsewhere(imported(accuracy)).shares["accuracy"] == {}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, small_data: str) -> Iterator[tuple[Store, Any]]:
    """A run of the mock, which answers some queries with what is no label."""
    folder: Path = tmp_path_factory.mktemp("results")
    spec = RunSpec(
        backend=("mock",),
        data=small_data,
        voters=2,
        queries=12,
        calibration_queries=2,
        max_model_len=200,
        engine={"script": "FAKE|REAL|neither", "tokens_per_second": 500, "jitter": 0.1},
    )
    summary = run(spec, folder)
    with Store(folder) as store:
        yield store, (summary, spec)


def test_what_is_compared_is_what_the_table_shows(
    kept: tuple[Store, tuple[Summary, RunSpec]],
) -> None:
    store, (summary, spec) = kept
    [of_run] = summary.runs
    read = read_side(store, summary, of_run, spec)
    found = measured(read)
    assert len(read.prompts) == len(read.tokens) == len(read.cells) == 2 * (12 + 2)
    for name, by_query in found.shares.items():
        assert len(by_query) == 12
        assert sum(by_query.values()) / 12 == pytest.approx(metric_of(of_run, name))
    for name in ("prefill_tokens_per_second", "decode_tokens_per_second"):
        assert found.works[name].figure == pytest.approx(metric_of(of_run, name))


def test_batches_and_times_go_together(kept: tuple[Store, tuple[Summary, RunSpec]]) -> None:
    store, (summary, spec) = kept
    read = read_side(store, summary, summary.runs[0], spec)
    replies = [cell.reply.time_to_first_token_ms for cell in read.cells if cell.reply]
    times = [time for time in replies if time is not None]
    found = measured(read).works["time_to_first_token_ms"]
    assert found.took.sum() == len(times) == len(read.prompts)
    assert found.amounts.sum() == pytest.approx(sum(times))
