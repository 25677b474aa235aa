"""What a side gives of a metric: the samples that two sides are compared by.

A side is an entry of a run, a baseline, or what another tool has measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Literal, TypeAlias

import numpy as np

from harness.comparison.reading import read_entry
from harness.contract import Reply
from harness.imports.records import Figure, ImportRow
from harness.metrics import Metric
from harness.scoring.parsing import Unparsed, parse_lenient
from harness.stats.significance import (
    SAMPLES,
    Samples,
    Times,
    Values,
    Work,
    in_blocks,
    work_in_blocks,
)
from harness.stats.spans import busy_seconds
from harness.store.runs import Side, StoredBaseline, StoredEntry
from harness.store.schema import BatchRow
from harness.summary import headline

ACCURACY = "accuracy"
"""The one metric that a baseline has."""

_ENDS = ("began", "ended")

Clock: TypeAlias = Literal["engine", "client"]
ByQuery: TypeAlias = Mapping[int, float]
"""By the query's row in the test split."""


def samples_of(metric: Metric, side: Side) -> ByQuery | Samples | None:
    """What the side has of the metric: of a share `ByQuery`. `None` where it has no figure."""
    if isinstance(side, ImportRow):
        figure = side.by_metric.get(metric.name)
        return _of_figure(metric, figure) if figure else None
    if isinstance(side, StoredBaseline):
        return right_by_query(side) if metric.name == ACCURACY else None
    # Rates and times that an entry does not have, as those of requests.
    if metric.kind in ("rate", "time") and metric.figure(side.summary) is None:
        return None
    if metric.samples:
        samples: ByQuery | Samples = metric.samples(side)
        return samples
    value = metric.figure(side.summary)
    if value is None:
        return None
    return value if metric.kind == "count" else np.array([value])


def _of_figure(metric: Metric, figure: Figure) -> ByQuery | Samples:
    """Queries of another tool are paired with no others, and its repetitions are its samples."""
    values = np.array(figure.samples or (figure.value,), dtype=np.float64)
    match metric.kind:
        # Which documents were right is not in the file. It does not matter, as nothing is paired.
        case "share":  # so many right ones, and the others
            count = figure.count or 0
            right = round(figure.value * count)
            return {query: float(query < right) for query in range(count)}
        case "rate":  # repetitions of a test are of equally many tokens
            return Work(np.ones(len(values)), 1 / values)
        case "time":  # requests in order
            # Blocks of equal numbers of requests: when each of them was served is not known.
            return Times(tuple(np.array_split(values, min(len(values), SAMPLES[1]))))
        case "per_session":
            return values
        case "count":
            return figure.value


def right_by_query(side: StoredEntry | StoredBaseline) -> dict[int, float]:
    """1 for a query whose verdict is right, 0 for one whose verdict is wrong; none where an entry
    has no accuracy."""
    if isinstance(side, StoredEntry) and headline(side.summary) is None:
        return {}
    queries, verdicts = side.run.queries, verdicts_by_row(side)
    return {
        row: float(verdicts[row] == queries.classes[label])
        for row, label in zip(queries.rows, queries.labels, strict=True)
        if row in verdicts
    }


def verdicts_by_row(side: StoredEntry | StoredBaseline) -> Mapping[int, str]:
    """The class that each query was given, by row of the test split; none where it got none."""
    if isinstance(side, StoredBaseline):
        return side.predictions
    rows, found = side.run.queries.rows, read_entry(side).verdicts
    return {rows[position]: verdict for position, verdict in found.items()}


def readable_by_query(entry: StoredEntry) -> dict[int, float]:
    """The share of each query's replies that could be read; none where nothing was parsed."""
    if entry.summary.parse.lenient is None:
        return {}
    words = entry.summary.label_words
    read: dict[int, list[bool]] = {}
    for (index, _), reply in entry.replies.items():
        prompt = entry.run.prompts[index]
        if prompt.role == "query":
            label = parse_lenient(reply.text, words, cut_off=reply.finish == "length")
            read.setdefault(prompt.row, []).append(not isinstance(label, Unparsed))
    return {row: sum(labels) / len(labels) for row, labels in read.items()}


def prefill_work(entry: StoredEntry) -> Work:
    """Prompt tokens evaluated and what that took, in blocks of batches."""
    return _work(entry, [(one.prefill_tokens, one.prefill_seconds) for one in entry.batches])


def decode_work(entry: StoredEntry) -> Work:
    """Tokens decoded and what that took, in blocks of batches."""
    return _work(entry, [(one.decode_tokens, one.decode_seconds) for one in entry.batches])


def request_work(entry: StoredEntry) -> Work:
    """Replies, and how long the engine was at work on them, in blocks of batches."""
    return _served(entry, lambda _: 1)


def output_work(entry: StoredEntry) -> Work:
    """Tokens of replies, and how long the engine was at work, in blocks of batches."""
    return _served(entry, lambda reply: len(reply.token_ids))


def first_token_times(entry: StoredEntry, clock: Clock = "engine") -> Times:
    """Milliseconds to the first token of each reply that has one, in blocks of batches; none where
    the times are not those of the clock."""
    return _times(entry, clock, lambda reply, _: reply.time_to_first_token_ms)


def output_token_times(entry: StoredEntry, clock: Clock = "engine") -> Times:
    """Milliseconds for each token but the first, by reply, likewise."""
    return _times(entry, clock, lambda reply, _: reply.time_per_output_token_ms)


def whole_times(entry: StoredEntry, clock: Clock = "engine") -> Times:
    """Seconds from the beginning to the end of what answered each reply, likewise: of a client its
    request, of an engine the batch."""
    return _times(entry, clock, lambda _, batch: batch.ended - batch.began)


def clock_of(entry: StoredEntry) -> Clock:
    """Whose the times of an entry's replies are."""
    return entry.info.capabilities.clock if entry.info else "engine"


def has_own_prompts(entry: StoredEntry) -> bool:
    """Whether it was given other prompts than are stored: each behind a beginning of its own."""
    findings = (one for session in entry.sessions for one in session.info.findings)
    return any(one.kind == "prompts_not_equal" for one in findings)


def most_in_flight(entry: StoredEntry) -> int:
    """The most replies that were under way at once, as the spans of their batches have it."""
    sizes = Counter(cell.batch_id for cell in entry.cells)
    most = 0
    for session in entry.sessions:  # each has a clock of its own
        own = [batch for batch in entry.batches if batch.session_id == session.id]
        # What ends makes room for what begins at the same time.
        moves = sorted(
            move
            for one in own
            for move in ((one.began, 1, sizes[one.id]), (one.ended, 0, -sizes[one.id]))
        )
        most = max(most, *accumulate(change for _, _, change in moves), 0)
    return most


def _times(
    entry: StoredEntry, clock: Clock, time_of: Callable[[Reply, BatchRow], float | None]
) -> Times:
    if clock_of(entry) != clock:
        return Times(())
    batches = {batch.id: batch for batch in entry.batches}
    block_of = dict(zip(batches, _blocks(entry), strict=True))
    # Blocks in the order of time: the correlation is that of neighbours.
    times: dict[int, list[float]] = {block: [] for block in sorted(block_of.values())}
    for cell in entry.cells:
        if cell.reply is None or cell.batch_id is None:
            continue
        time = time_of(cell.reply, batches[cell.batch_id])
        if time:  # a clock may be too coarse for some
            times[block_of[cell.batch_id]].append(time)
    return Times(tuple(np.array(block) for block in times.values() if block))


def _served(entry: StoredEntry, amount_of: Callable[[Reply], int]) -> Work:
    """By the union of the batches' spans: those that overlap count once."""
    amounts: Counter[int] = Counter()
    for cell in entry.cells:
        if cell.reply is not None and cell.batch_id is not None:
            amounts[cell.batch_id] += amount_of(cell.reply)
    took = _busy(entry)
    ids = (batch.id for batch in entry.batches)
    return _work(entry, [(amounts[id_], seconds) for id_, seconds in zip(ids, took, strict=True)])


def _work(entry: StoredEntry, pairs: Sequence[tuple[int | None, float | None]]) -> Work:
    """One sample a block of batches. A batch of which the engine does not report it has no part in
    it."""
    known = [None not in pair for pair in pairs]
    table = np.array([pair for pair in pairs if None not in pair], dtype=np.float64).reshape(-1, 2)
    blocks = np.array(_blocks(entry), dtype=np.int64)[known]
    return work_in_blocks(blocks, *table.T)


def _blocks(entry: StoredEntry) -> list[int]:
    """The block of each batch: batches that followed one another, of about equal busy time."""
    batches = entry.batches
    # By session first: times of two sessions cannot be compared.
    in_order = sorted(range(len(batches)), key=lambda i: (batches[i].session_id, batches[i].began))
    blocks = np.zeros(len(batches), dtype=np.int64)
    blocks[in_order] = in_blocks(_busy(entry)[in_order])
    return [int(block) for block in blocks]


def _busy(entry: StoredEntry) -> Values:
    """The seconds that each batch adds to the union of the spans of its session's."""
    batches = entry.batches
    added = np.zeros(len(batches))
    for session in {batch.session_id for batch in batches}:  # each has a clock of its own
        own = [i for i, batch in enumerate(batches) if batch.session_id == session]
        began, ended = (np.array([getattr(batches[i], end) for i in own]) for end in _ENDS)
        added[own] = busy_seconds(began, ended)
    return added
