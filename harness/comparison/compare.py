"""`harness compare`: from what was kept of several runs to how the others differ from the first.

A side is one backend of one run, or what another tool has measured. The first side is what the
others are measured against.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.comparison import agreement
from harness.comparison.conditions import OF_ENGINE, conditions, differing
from harness.comparison.records import (
    Agreement,
    Compared,
    Comparison,
    FieldDifference,
    Flip,
    PromptDifference,
    What,
)
from harness.comparison.sides import (
    ByQuery,
    Measured,
    Side,
    class_of,
    measured,
    measured_elsewhere,
    member_of,
    queries_of,
    right_by_query,
)
from harness.imports.records import ImportRow, import_json
from harness.metrics import Difference
from harness.spec import RunSpec
from harness.stats.significance import Values, adjusted, cochran_q, ratio, share_difference
from harness.summary import Summary

_ELSEWHERE = {"backend", "prompts_from"}
_UNLIKE_ANYWAY = frozenset({"test_time", "date"})


def compare(summaries: Sequence[Summary], sides: Sequence[Side | ImportRow]) -> Compared:
    """How every side but the first differs from the first; there are two or more."""
    every = [_measured(side) for side in sides]
    corrected = _corrected([_differences(every[0], other) for other in every[1:]])
    return Compared(
        runs=list(summaries),
        imports=[import_json(side) for side in sides if isinstance(side, ImportRow)],
        against_first=[
            _comparison(sides[0], other, differences)
            for other, differences in zip(sides[1:], corrected, strict=True)
        ],
        same_accuracy_p=_same_accuracy(every) if len(every) > 2 else None,
        agreements=agreements([side for side in sides if isinstance(side, Side)]),
    )


def agreements(sides: Sequence[Side]) -> list[Agreement]:
    """How far the backends of each pair agree."""
    return agreement.agreements([side.read for side in sides])


def _measured(side: Side | ImportRow) -> Measured:
    return measured(side) if isinstance(side, Side) else measured_elsewhere(side)


def _comparison(
    first: Side | ImportRow, other: Side | ImportRow, differences: list[Difference]
) -> Comparison:
    if not (isinstance(first, Side) and isinstance(other, Side)):
        return _elsewhere(first, other, differences)
    prompts, others = first.run.prompts, other.run.prompts
    return Comparison(
        first=first.member,
        other=other.member,
        elsewhere=False,
        same_text=prompts.text_sha256 == others.text_sha256,
        same_tokens=prompts.token_sha256 == others.token_sha256,
        first_difference=first_difference(first, other),
        spec=spec_differences(first.spec, other.spec),
        conditions=[*_conditions(first, other), *_outcomes(first, other)],
        differences=differences,
        flips=list(_flips(first, other)),
    )


def _elsewhere(
    first: Side | ImportRow, other: Side | ImportRow, differences: list[Difference]
) -> Comparison:
    """With what another tool has measured, of which no prompts are known."""
    ones, others = _told(first), _told(other)
    both = ones.keys() & others.keys()
    return Comparison(
        first=member_of(first),
        other=member_of(other),
        elsewhere=True,
        same_text=False,
        same_tokens=False,
        first_difference=None,
        spec=[],
        conditions=[one for one in differing(ones, others) if one.field in both],
        differences=differences,
        flips=[],
    )


def _told(side: Side | ImportRow) -> dict[str, str]:
    """What is known of either kind."""
    if isinstance(side, Side):
        info = side.session.info
        return {
            "tool": "harness run",
            "engine": info.engine_version,
            "test": side.spec.data,
            "model": info.model,
            "n_threads": str(info.threads),
        }
    told = side.imported
    own = {name: value for name, value in told.conditions.items() if name not in _UNLIKE_ANYWAY}
    return {
        "tool": f"{told.tool} {told.tool_version}".rstrip(),
        "engine": told.engine,
        "test": told.test,
        "model": told.model,
        **own,
    }


def first_difference(first: Side, other: Side) -> PromptDifference | None:
    """Where what two sides were asked parts; null where it is the same."""
    ones, others = _asked(first), _asked(other)
    for place in ones | others:
        if what := _what_differs(ones.get(place), others.get(place)):
            voter, role, position = place
            return PromptDifference(voter=voter, role=role, position=position, what=what)
    return None


def _asked(side: Side) -> dict[agreement.Place, tuple[str, str]]:
    """The hashes of text and tokens of each prompt, in the order of the run."""
    pairs = zip(side.prompts, side.tokens, strict=True)
    return {(p.voter, p.role, p.position): (p.text_sha256, t.token_sha256) for p, t in pairs}


def _what_differs(one: tuple[str, str] | None, other: tuple[str, str] | None) -> What | None:
    if one is None or other is None:
        return "missing"
    if one[0] != other[0]:
        return "text"
    return None if one == other else "tokens"


def spec_differences(first: RunSpec, other: RunSpec) -> list[FieldDifference]:
    """The fields in which two specs differ, in the order of the spec, but which engines they name
    and whose prompts they ask: both are seen elsewhere."""
    ones, others = (spec.model_dump(mode="json", exclude=_ELSEWHERE) for spec in (first, other))
    return list(differing(ones, others))


def _conditions(first: Side, other: Side) -> Iterator[FieldDifference]:
    """Two engines are of different versions and read different formats: that is no news."""
    no_news = frozenset() if first.member.backend == other.member.backend else OF_ENGINE
    every = [conditions(side.environment, side.session) for side in (first, other)]
    return (one for one in differing(*every) if one.field not in no_news)


def _outcomes(first: Side, other: Side) -> Iterator[FieldDifference]:
    """What the accuracy is that of, where it is not the same: which vote, on how many queries."""
    votes, others = (
        {"vote": side.run.accuracy.headline, "queries_answered": side.run.accuracy.answered}
        for side in (first, other)
    )
    return differing(votes, others)


def _differences(first: Measured, other: Measured) -> list[Difference]:
    """By every metric that both sides have."""
    found = [
        _share_difference(metric, first, other) for metric in first.shares if metric in other.shares
    ]
    found += [
        ratio(metric, first.works[metric], other.works[metric])
        for metric in first.works
        if metric in other.works
    ]
    return [one for one in found if one is not None]


def _share_difference(metric: str, first: Measured, other: Measured) -> Difference | None:
    """Rows of the same data are the same queries, whatever else was asked."""
    ones, others = first.shares[metric], other.shares[metric]
    paired = first.data == other.data
    queries = sorted(ones.keys() | others.keys())
    asked = (queries, queries) if paired else (sorted(ones), sorted(others))
    return share_difference(metric, _values(asked[0], ones), _values(asked[1], others), paired)


def _values(queries: Sequence[int], shares: ByQuery) -> Values:
    return np.array([shares.get(query, np.nan) for query in queries], dtype=np.float64)


def _flips(first: Side, other: Side) -> Iterator[Flip]:
    """Of queries that both sides gave a verdict on, in the same data and in the first's order."""
    if first.data != other.data:
        return
    positions = {prompt.row: position for position, prompt in queries_of(other).items()}
    ones, others = right_by_query(first), right_by_query(other)
    for position, prompt in sorted(queries_of(first).items()):
        row = prompt.row
        if row in ones and row in others and ones[row] != others[row]:
            yield Flip(
                position=position,
                row=row,
                truth=class_of(first, prompt),
                first=first.read.verdicts[position],
                other=other.read.verdicts[positions[row]],
            )


def _same_accuracy(every: Sequence[Measured]) -> float | None:
    """Cochran's Q over the queries that all sides gave a verdict on; null in different data."""
    if len({one.data for one in every}) > 1:
        return None
    right = [one.shares["accuracy"] for one in every]
    queries = sorted(set.intersection(*(set(one) for one in right)))
    return cochran_q([_values(queries, one) for one in right]) if queries else None


def _corrected(found: Sequence[Sequence[Difference]]) -> list[list[Difference]]:
    """Holm's correction, of each metric over all that are compared with the first."""
    corrected: list[list[Difference]] = [[] for _ in found]
    for metric in dict.fromkeys(one.metric for every in found for one in every):
        having = [
            (place, one)
            for place, every in enumerate(found)
            for one in every
            if one.metric == metric
        ]
        for (place, _), one in zip(having, adjusted([one for _, one in having]), strict=True):
            corrected[place].append(one)
    return corrected
