"""`harness compare`: from what is stored of several runs to how the others differ from the first.

A side is one entry of one run, a baseline, or what another tool has measured. The first side is
what the others are measured against.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from harness.comparison import agreement
from harness.comparison.conditions import OF_ENGINE, conditions, differing
from harness.comparison.metrics import METRICS
from harness.comparison.reading import Place, read_entry
from harness.comparison.records import (
    Agreement,
    Compared,
    Comparison,
    FieldDifference,
    Flip,
    Lead,
    Member,
    Over,
    PromptDifference,
    What,
)
from harness.comparison.samples import (
    ACCURACY,
    ByQuery,
    has_own_prompts,
    right_by_query,
    samples_of,
    verdicts_by_row,
)
from harness.imports.records import ImportRow, import_json
from harness.metrics import Difference, Metric, Outcome
from harness.spec import OF_DATA, DataSpec, RunSpec
from harness.stats.significance import Values, adjusted, cochran_q, difference, turned
from harness.store.runs import Side, StoredBaseline, StoredEntry, StoredRun

# Each side shows its own entry, and `first_difference` shows whether the prompts are the same. Of
# the models that a spec names, only the side's own counts (`_models`).
_SEEN_ELSEWHERE = {"backend", "model", "entries", "prompts_from"}
_SHARED = set(DataSpec.model_fields)
# No two measurements have the same: a warning in every comparison would warn of nothing.
_UNLIKE_ANYWAY = frozenset({"test_time", "date"})


def compare(sides: Sequence[Side]) -> Compared:
    """How every side but the first differs from the first; there are two or more.

    Raises `StoreError` where a run is not finished, or cannot be read.
    """
    entries = [side for side in sides if isinstance(side, StoredEntry)]
    runs = {side.run.run_id: side.run for side in sides if not isinstance(side, ImportRow)}
    pairs = {name: _pairs(metric, sides) for name, metric in METRICS.items()}
    return Compared(
        runs=[run.summary for run in runs.values()],
        imports=[import_json(side) for side in sides if isinstance(side, ImportRow)],
        against_first=[
            _comparison(
                sides[0], other, [of[0, place] for of in pairs.values() if (0, place) in of]
            )
            for place, other in enumerate(sides[1:], start=1)
        ],
        same_accuracy_p=_same_accuracy(sides) if len(sides) > 2 else None,
        leads=_leads(sides, pairs),
        agreements=agreements(entries),
    )


def leads(sides: Sequence[Side]) -> list[Lead]:
    """Who is ahead in each metric, as `compare` has it."""
    return _leads(sides, {name: _pairs(metric, sides) for name, metric in METRICS.items()})


_Pairs: TypeAlias = Mapping[tuple[int, int], Difference]
"""By the places of both sides: how the second differs from the first."""


def _pairs(metric: Metric, sides: Sequence[Side]) -> _Pairs:
    """All pairs with the first side, and with the one that has the best figure.

    One correction for all of them: each pair has one p-value, wherever it is shown.
    """
    best = _best(metric, sides)
    wanted = [(0, place) for place in range(1, len(sides))]
    if best:  # neither none nor the first, whose pairs are all there
        wanted += [(place, best) for place in range(1, len(sides)) if place != best]
    found = {(one, two): _difference(metric, sides[one], sides[two]) for one, two in wanted}
    known = {places: one for places, one in found.items() if one is not None}
    return dict(zip(known, adjusted(metric, list(known.values())), strict=True))


def _best(metric: Metric, sides: Sequence[Side]) -> int | None:
    """The place of the first side with the best figure."""
    sign = 1 if metric.more_is_better else -1
    figures = {place: _figure(metric, side) for place, side in enumerate(sides)}
    ranks = {place: sign * value for place, value in figures.items() if value is not None}
    return max(ranks, key=lambda place: ranks[place]) if ranks else None


def _figure(metric: Metric, side: Side) -> float | None:
    if isinstance(side, StoredEntry):
        return metric.figure(side.summary)
    if isinstance(side, StoredBaseline):
        return side.record.estimate.value if metric.name == ACCURACY else None
    figure = side.by_metric.get(metric.name)
    return figure.value if figure else None


def _leads(sides: Sequence[Side], pairs: Mapping[str, _Pairs]) -> list[Lead]:
    found = []
    for name, of in pairs.items():
        best = _best(METRICS[name], sides)
        if best is None:
            continue
        over = [
            Over(side=_member(side), difference=one)
            for place, side in enumerate(sides)
            if (one := _over(of, best, place))
        ]
        if over:
            is_first = all(one.difference.outcome is Outcome.BETTER for one in over)
            found.append(
                Lead(metric=name, best=_member(sides[best]), ahead_of_all=is_first, over=over)
            )
    return found


def _over(of: _Pairs, best: int, place: int) -> Difference | None:
    """How the best side differs from the one at this place."""
    if (place, best) in of:
        return of[place, best]
    return turned(of[best, place]) if (best, place) in of else None


def agreements(entries: Sequence[StoredEntry]) -> list[Agreement]:
    """How far each pair of entries agrees that were given the prompts of the run."""
    return agreement.agreements(
        [read_entry(entry) for entry in entries if not has_own_prompts(entry)]
    )


def unpaired_because(first: Side, other: Side) -> str | None:
    """Why the queries of two sides are not the same ones; `None` where they are.

    A query is named by its split and row, so it is the same where the data are: in one run, or in
    runs over data of the same content.
    """
    if isinstance(first, ImportRow) or isinstance(other, ImportRow):
        return "another tool has measured one of them"
    if first.run.run_id == other.run.run_id:
        return None
    for side in (first, other):
        if side.run.data_sha256 is None:
            return f"run {side.run.run_id} was stored without the identity of its data"
    if first.run.data_sha256 != other.run.data_sha256:
        return "their data are not the same"
    return None


def _difference(metric: Metric, first: Side, other: Side) -> Difference | None:
    """`None` where a side does not have the metric, or it means something else on the other."""
    ones, others = samples_of(metric, first), samples_of(metric, other)
    if ones is None or others is None:
        return None
    paired = unpaired_because(first, other) is None
    if metric.kind == "count" and not paired:
        return None  # examples of other data are longer or shorter: more of them are no gain
    if isinstance(ones, Mapping) and isinstance(others, Mapping):
        # All queries of either side, NaN where one has none: pairs stay in line.
        queries = sorted(ones.keys() | others.keys())
        one_by_one = (queries, queries) if paired else (sorted(ones), sorted(others))
        first_values, other_values = map(_values, one_by_one, (ones, others))
        return difference(metric, first_values, other_values, paired)
    assert not isinstance(ones, Mapping)  # one metric has one kind of samples
    assert not isinstance(others, Mapping)
    return difference(metric, ones, others)


def _values(queries: Sequence[int], shares: ByQuery) -> Values:
    return np.array([shares.get(query, np.nan) for query in queries], dtype=np.float64)


def _comparison(first: Side, other: Side, differences: list[Difference]) -> Comparison:
    unpaired = unpaired_because(first, other)
    if not (isinstance(first, StoredEntry) and isinstance(other, StoredEntry)):
        elsewhere = isinstance(first, ImportRow) or isinstance(other, ImportRow)
        return Comparison(
            first=_member(first),
            other=_member(other),
            elsewhere=elsewhere,
            unpaired_because=unpaired,
            same_text=False,
            same_tokens=False,
            prompts_equal=None,  # not known of another tool, and a baseline has none
            first_difference=None,
            spec=[] if elsewhere else _data_differences(first, other),
            conditions=list(_differing_stated(first, other)) if elsewhere else [],
            differences=differences,
            flips=list(_flips(first, other)) if unpaired is None else [],
        )
    prompts, others_prompts = first.summary.prompts, other.summary.prompts
    same_tokens = prompts.token_sha256 == others_prompts.token_sha256
    return Comparison(
        first=_member(first),
        other=_member(other),
        elsewhere=False,
        unpaired_because=unpaired,
        same_text=prompts.text_sha256 == others_prompts.text_sha256,
        same_tokens=same_tokens,
        prompts_equal=same_tokens,
        first_difference=first_difference(first, other),
        spec=[
            *_models(first, other),
            *_without_data(first, other, spec_differences(_spec(first.run), _spec(other.run))),
        ],
        conditions=[*_conditions(first, other), *_outcomes(first, other)],
        differences=differences,
        flips=list(_flips(first, other)) if unpaired is None else [],
    )


def _member(side: Side) -> Member:
    if isinstance(side, StoredEntry):
        return read_entry(side).member
    if isinstance(side, StoredBaseline):
        return Member(
            run_id=side.run.run_id,
            entry=side.name,
            backend="baseline",
            run_name=side.run.name,
        )
    name = side.imported.engine or side.imported.tool
    return Member(run_id=side.import_id, entry=name, backend=name)


def _stated(side: Side) -> dict[str, str]:
    """What is known of every kind."""
    if isinstance(side, StoredBaseline):
        return {"tool": "harness baseline", "test": side.run.any_spec.data}
    if isinstance(side, StoredEntry):
        info = side.info
        engine = {"engine": info.engine_version, "n_threads": str(info.threads)} if info else {}
        test, model = side.run.spec.data, side.summary.model
        return {"tool": "harness run", **engine, "test": test, "model": model}
    of = side.imported
    own = {name: value for name, value in of.conditions.items() if name not in _UNLIKE_ANYWAY}
    return {
        "tool": f"{of.tool} {of.tool_version}".rstrip(),
        "engine": of.engine,
        "test": of.test,
        "model": of.model,
        **own,
    }


def _differing_stated(first: Side, other: Side) -> Iterator[FieldDifference]:
    """Of what is known of both."""
    ones, others = _stated(first), _stated(other)
    both = ones.keys() & others.keys()
    return (one for one in differing(ones, others) if one.field in both)


def first_difference(first: StoredEntry, other: StoredEntry) -> PromptDifference | None:
    """Where what two entries were given parts; `None` where it is the same."""
    ones, others = _given(first), _given(other)
    for place in ones | others:
        if what := _what_differs(ones.get(place), others.get(place)):
            voter, role, position = place
            return PromptDifference(voter=voter, role=role, position=position, what=what)
    return None


def _given(entry: StoredEntry) -> dict[Place, tuple[str, str]]:
    """The hashes of text and tokens of each prompt, in the order of the run; nothing of an entry
    whose tokens are not known, as its tokenizer could not be opened."""
    if not entry.tokens:
        return {}
    pairs = zip(entry.run.prompts, entry.tokens, strict=True)
    return {(p.voter, p.role, p.position): (p.text_sha256, t.token_sha256) for p, t in pairs}


def _what_differs(one: tuple[str, str] | None, other: tuple[str, str] | None) -> What | None:
    if one is None or other is None:
        return "missing"
    if one[0] != other[0]:
        return "text"
    return None if one == other else "tokens"


def _models(first: StoredEntry, other: StoredEntry) -> Iterator[FieldDifference]:
    return differing({"model": first.model}, {"model": other.model})


def _spec(run: StoredRun) -> RunSpec:
    """With what the default of `max_tokens` came to: to have given that number is no difference."""
    return run.spec.model_copy(update={"max_tokens": run.max_tokens})


def spec_differences(first: RunSpec, other: RunSpec) -> list[FieldDifference]:
    """The fields in which two specs differ, in the order of the spec, but which entries and models
    they name and whose prompts they use: these are seen elsewhere."""
    ones, others = (
        spec.model_dump(mode="json", exclude=_SEEN_ELSEWHERE) for spec in (first, other)
    )
    return list(differing(ones, others))


def _data_differences(first: Side, other: Side) -> list[FieldDifference]:
    """The fields that runs of engines and of baselines have in common."""
    ones, others = (
        {}
        if isinstance(side, ImportRow)
        else side.run.any_spec.model_dump(mode="json", include=_SHARED)
        for side in (first, other)
    )
    return list(_without_data(first, other, differing(ones, others)))


def _without_data(
    first: Side, other: Side, found: Iterable[FieldDifference]
) -> Iterator[FieldDifference]:
    """Where the data are the same by their content, it does not matter where they were read."""
    seen = OF_DATA if unpaired_because(first, other) is None else frozenset[str]()
    return (one for one in found if one.field not in seen)


def _conditions(first: StoredEntry, other: StoredEntry) -> Iterator[FieldDifference]:
    """Without what says nothing: the versions and formats of two different engines, and the commit
    of whatever repository the run was started in."""
    no_news = {"git_revision"} | (set() if first.backend == other.backend else OF_ENGINE)
    every = differing(conditions(first), conditions(other))
    return (one for one in every if one.field not in no_news)


def _outcomes(first: StoredEntry, other: StoredEntry) -> Iterator[FieldDifference]:
    """Where the two accuracies are not of the same thing: which vote, on how many queries."""
    votes, others = (
        {
            "vote": entry.summary.accuracy.headline,
            "queries_answered": entry.summary.accuracy.answered,
        }
        for entry in (first, other)
    )
    return differing(votes, others)


def _flips(first: Side, other: Side) -> Iterator[Flip]:
    """Of the same queries, those that both sides have a verdict on, in the first's order."""
    if isinstance(first, ImportRow) or isinstance(other, ImportRow):
        return
    ones, others = right_by_query(first), right_by_query(other)
    said, others_said = verdicts_by_row(first), verdicts_by_row(other)
    queries = first.run.queries
    pairs = zip(queries.rows, queries.labels, strict=True)
    for position, (row, label) in enumerate(pairs):
        if row in ones and row in others and ones[row] != others[row]:
            yield Flip(
                position=position,
                row=row,
                truth=queries.classes[label],
                first=said[row],
                other=others_said[row],
            )


def _same_accuracy(sides: Sequence[Side]) -> float | None:
    """Cochran's Q over the queries that all sides have a verdict on; `None` in different data."""
    ours = [side for side in sides if not isinstance(side, ImportRow)]
    # Neighbours are enough: to have the same data goes from one to the next.
    if len(ours) < len(sides) or any(unpaired_because(*pair) for pair in pairwise(ours)):
        return None
    right = [right_by_query(side) for side in ours]
    queries = sorted(set.intersection(*(set(one) for one in right)))
    return cochran_q([_values(queries, one) for one in right]) if queries else None
