"""What was kept of one backend of one run, read back: a side of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from harness.comparison import agreement
from harness.comparison.records import Member
from harness.imports.records import Figure, ImportRow
from harness.machine.environment import Environment
from harness.spec import RunSpec
from harness.stats.significance import Work, in_blocks
from harness.store.schema import BatchRow, CellRow, PromptRow, SessionRow, TokensRow
from harness.store.store import Store
from harness.summary import RunSummary, Summary
from harness.workload.dataset import same_rows

ByQuery: TypeAlias = Mapping[int, float]
"""By the query's row in the test split."""


@dataclass(frozen=True, slots=True)
class Side:
    """One backend of one run, read back."""

    spec: RunSpec
    environment: Environment
    run: RunSummary
    member: Member
    prompts: Sequence[PromptRow]
    tokens: Sequence[TokensRow]
    cells: Sequence[CellRow]
    batches: Sequence[BatchRow]
    session: SessionRow
    read: agreement.Side

    @property
    def data(self) -> str:
        """Sides in which it is equal have the same queries in the same rows."""
        return same_rows(self.spec.data, self.spec.seed)


def read_side(store: Store, summary: Summary, run: RunSummary, spec: RunSpec) -> Side:
    """Everything that is kept of one backend of a finished run."""
    run_id, backend = summary.run_id, run.backend
    prompts, cells = store.prompts(run_id), store.cells(run_id, backend)
    member, session = Member(run_id=run_id, backend=backend), store.sessions(run_id, backend)[0]
    indices = {prompt.id: index for index, prompt in enumerate(prompts)}
    return Side(
        spec=spec,
        environment=Environment.model_validate_json(store.run(run_id).environment),
        run=run,
        member=member,
        prompts=prompts,
        tokens=store.prompt_tokens(run_id, backend),
        cells=cells,
        batches=store.batches(run_id, backend),
        session=session,
        read=agreement.make_side(
            member,
            session.model_sha256,
            prompts,
            {indices[cell.prompt_id]: cell.reply for cell in cells if cell.reply is not None},
            agreement.Reading(
                classes=run.accuracy.classes,
                words=run.label_words,
                decoding=spec.decoding,
                vote=run.accuracy.headline,
            ),
        ),
    )


@dataclass(frozen=True, slots=True)
class Measured:
    """What a side gives to compare, by the names of metrics.

    Where `data` is equal, a row is the same query.
    """

    member: Member
    data: str
    shares: Mapping[str, ByQuery]
    works: Mapping[str, Work]


def measured(side: Side) -> Measured:
    return Measured(
        member=side.member,
        data=side.data,
        shares={"accuracy": right_by_query(side), "parse_rate": readable_by_query(side)},
        works={
            "prefill_tokens_per_second": _prefill(side),
            "decode_tokens_per_second": _decode(side),
            "time_to_first_token_ms": _first_tokens(side),
        },
    )


def member_of(side: Side | ImportRow) -> Member:
    """Who it is; of another tool its engine, or the tool itself where it tells none."""
    if isinstance(side, Side):
        return side.member
    return Member(run_id=side.import_id, backend=side.imported.engine or side.imported.tool)


def measured_elsewhere(row: ImportRow) -> Measured:
    """What another tool has measured: its queries are nobody else's, its samples are its own."""
    figures = row.by_metric
    accuracy, mean = figures.get("accuracy"), figures.get("mean_time_to_first_token_ms")
    median = figures.get("time_to_first_token_ms")
    samples = median.samples if median else ()
    speeds = ("prefill_tokens_per_second", "decode_tokens_per_second")
    works = {name: _of_speeds(figures[name]) for name in speeds if name in figures}
    if times := samples or ((mean.value,) if mean else ()):  # a median is not what is compared
        works["time_to_first_token_ms"] = Work(np.array(times), np.ones(len(times)))
    return Measured(
        member=member_of(row),
        data=row.import_id,
        shares={"accuracy": _of_share(accuracy)} if accuracy else {},
        works=works,
    )


def _of_speeds(figure: Figure) -> Work:
    """Repetitions of a test are of equally many tokens."""
    speeds = np.array(figure.samples or (figure.value,))
    return Work(np.ones(len(speeds)), 1 / speeds)


def _of_share(figure: Figure) -> ByQuery:
    """So many right ones, and the others."""
    count = figure.count or 0
    right = round(figure.value * count)
    return {query: float(query < right) for query in range(count)}


def right_by_query(side: Side) -> dict[int, float]:
    """1 for a query whose verdict is right, 0 for one whose verdict is wrong."""
    truth = queries_of(side)
    return {
        truth[position].row: float(verdict == class_of(side, truth[position]))
        for position, verdict in side.read.verdicts.items()
    }


def readable_by_query(side: Side) -> dict[int, float]:
    """The share of each query's replies that could be read; none where nothing was parsed."""
    if side.run.parse.lenient is None:
        return {}
    read: dict[int, list[bool]] = {}
    for place, answer in side.read.answers.items():
        if place[1] == "query":
            read.setdefault(side.read.prompts[place].row, []).append(answer.label is not None)
    return {row: sum(labels) / len(labels) for row, labels in read.items()}


def queries_of(side: Side) -> dict[int, PromptRow]:
    """A prompt of each query, by its position: it has the row and the label."""
    return {prompt.position: prompt for prompt in side.prompts if prompt.role == "query"}


def class_of(side: Side, prompt: PromptRow) -> str:
    return side.run.accuracy.classes[prompt.label]


def _prefill(side: Side) -> Work:
    return _in_blocks(side, [(one.prefill_tokens, one.prefill_seconds) for one in side.batches])


def _decode(side: Side) -> Work:
    return _in_blocks(side, [(one.decode_tokens, one.decode_seconds) for one in side.batches])


def _first_tokens(side: Side) -> Work:
    """Milliseconds to the first token, summed over replies, and how many replies that are."""
    times: dict[int, list[float]] = {batch.id: [] for batch in side.batches}
    for cell in side.cells:
        if cell.reply and cell.batch_id and cell.reply.time_to_first_token_ms is not None:
            times[cell.batch_id].append(cell.reply.time_to_first_token_ms)
    return _in_blocks(side, [(sum(one), len(one)) for one in times.values()])


def _in_blocks(side: Side, pairs: Sequence[tuple[float, float]]) -> Work:
    """One sample a block of batches; one in which nothing of this kind was done is none."""
    blocks = in_blocks(np.array([batch.engine_seconds for batch in side.batches]))
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    amounts, took = (np.bincount(blocks, column).astype(np.float64) for column in table.T)
    done = (amounts > 0) & (took > 0)
    return Work(amounts[done], took[done])
