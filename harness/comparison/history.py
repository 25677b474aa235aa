"""`harness history`: from what was kept of all runs to how one metric went.

A series is the runs of one backend and one model that were asked the same on one machine. Versions,
options and the code may change within it: they are what a change of its level is explained by.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.comparison.conditions import conditions, differing, named
from harness.comparison.series import Change, History, Machine, Point, Series
from harness.errors import UsageError
from harness.machine.environment import Environment
from harness.metrics import METRICS, Span, Verdict, metric_of
from harness.spec import RunSpec, what_is_asked
from harness.stats.change_points import ChangePoint, find
from harness.store.store import Store
from harness.summary import Estimate, RunSummary, Summary, headline, is_mock


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished run, read back."""

    spec: RunSpec
    environment: Environment
    summary: Summary


@dataclass(frozen=True, slots=True)
class _Member:
    """One backend of a finished run."""

    whole: Finished
    run: RunSummary

    @property
    def machine(self) -> Machine:
        of = self.whole.environment
        return Machine(
            cpu=of.cpu,
            gpus=[gpu.name for gpu in of.gpus],
            physical_cores=of.physical_cores,
            logical_cores=of.logical_cores,
            usable_cores=of.usable_cores,
        )

    @property
    def series(self) -> str:
        """The same text for all members of one series."""
        asked = what_is_asked(self.whole.spec)
        return json.dumps(
            [self.run.backend, self.whole.spec.model, asked, self.machine.model_dump()]
        )


def read_history(
    store: Store,
    finished: Sequence[Finished],
    metric: str,
    backend: str | None = None,
    model: str | None = None,
    unreadable: int = 0,
) -> History:
    """Every series of these runs of `store`, by a metric of `METRICS`.

    Of one backend or model where these are given: raises `UsageError` where no run has them.
    """
    by_series: dict[str, list[_Member]] = {}
    for member in _chosen(list(_members(finished)), backend, model):
        by_series.setdefault(member.series, []).append(member)
    newest_first = sorted(
        by_series.values(), key=lambda members: members[-1].whole.summary.created, reverse=True
    )
    return History(
        metric=metric,
        unit=METRICS[metric].unit,
        more_is_better=METRICS[metric].more_is_better,
        unreadable=unreadable,
        series=[_series(store, members, metric) for members in newest_first],
    )


def _members(finished: Sequence[Finished]) -> Iterator[_Member]:
    """In the order of time."""
    for one in sorted(finished, key=lambda one: one.summary.created):
        for run in one.summary.runs:
            yield _Member(one, run)


def _chosen(members: Sequence[_Member], backend: str | None, model: str | None) -> list[_Member]:
    chosen = [
        member
        for member in members
        if backend in (None, member.run.backend) and model in (None, member.whole.spec.model)
    ]
    if members and not chosen:
        wanted = ", ".join(filter(None, [backend, model]))
        pairs = dict.fromkeys(f"{one.run.backend}, {one.whole.spec.model}" for one in members)
        raise UsageError(
            f"no finished run is of {wanted}", remedy=f"There are: {'; '.join(pairs)}."
        )
    return chosen


def _series(store: Store, members: Sequence[_Member], metric: str) -> Series:
    first = members[0]
    values = [(member, metric_of(member.run, metric)) for member in members]
    having = [(member, value) for member, value in values if value is not None]
    return Series(
        backend=first.run.backend,
        model=first.whole.spec.model,
        is_mock=is_mock(first.run),
        asked=what_is_asked(first.whole.spec),
        machine=first.machine,
        left_out=len(members) - len(having),
        points=[_point(member, metric, value) for member, value in having],
        changes=[
            _change(store, metric, [member for member, _ in having], one)
            for one in find([value for _, value in having])
        ],
    )


def _point(member: _Member, metric: str, value: float) -> Point:
    estimate = _estimate(member.run, metric)
    return Point(
        run_id=member.whole.summary.run_id,
        created=member.whole.summary.created,
        value=value,
        interval=Span(low=estimate.low, high=estimate.high) if estimate else None,
        engine_version=member.run.engine_version,
        git_revision=member.whole.environment.git_revision,
    )


def _estimate(run: RunSummary, metric: str) -> Estimate | None:
    """A share with its interval; null for any other metric."""
    return {"accuracy": headline(run), "parse_rate": run.parse.lenient}.get(metric)


def _change(store: Store, metric: str, members: Sequence[_Member], found: ChangePoint) -> Change:
    before, after = members[found.index - 1], members[found.index]
    return Change(
        place=found.index,
        before=before.whole.summary.run_id,
        after=after.whole.summary.run_id,
        level_before=found.before,
        level_after=found.after,
        change=_size(metric, found.before, found.after),
        p_adjusted=found.p_adjusted,
        verdict=_direction(metric, found.before, found.after),
        differing=list(differing(_conditions(store, before), _conditions(store, after))),
    )


def _size(metric: str, before: float, after: float) -> float | None:
    if METRICS[metric].is_share:
        return after - before
    return after / before if before else None


def _direction(metric: str, before: float, after: float) -> Verdict:
    more = after > before
    return Verdict.BETTER if more == METRICS[metric].more_is_better else Verdict.WORSE


def _conditions(store: Store, member: _Member) -> dict[str, Any]:
    """All that is kept and may explain another figure, by name."""
    whole, run, spec = member.whole, member.run, member.whole.spec
    session = store.sessions(whole.summary.run_id, run.backend)[0]
    return {
        "git_revision": whole.environment.git_revision,
        **conditions(whole.environment, session),
        "model_forms": spec.models.get(spec.model),
        "prompt_text_sha256": run.prompts.text_sha256,
        "prompt_token_sha256": run.prompts.token_sha256,
        **named("options", {**spec.engine, **spec.backends.get(run.backend, {})}),
        "other_backends": [name for name in spec.backend if name != run.backend],
        "timeout_seconds": spec.timeout_seconds,
        "prompts_from": spec.prompts_from,
    }
