"""`harness history`: from what is stored of all runs to how one metric went.

A series is the runs of one entry, backend and model over the same data with the same prompts on
one machine. Versions, options and the code may change within it: they are what a change of its
level is explained by. Members of groups (a curve, a search) are no history.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from harness.comparison.conditions import conditions, differing, named
from harness.comparison.metrics import METRICS
from harness.comparison.series import Change, History, Machine, Point, Series
from harness.errors import StoreError, UsageError
from harness.machine.homes import without_homes
from harness.metrics import Metric, Outcome
from harness.spec import OF_DATA, entries_of, prompt_fields
from harness.stats.change_points import ChangePoint, find
from harness.store.runs import StoredEntry, StoredRun
from harness.summary import is_mock


def read_history(
    runs: Iterable[StoredRun], metric: str, backend: str | None = None, model: str | None = None
) -> History:
    """Every series of the finished runs among these, by a metric of `METRICS`.

    Of one backend or model where these are given: raises `UsageError` where no run has them. A run
    that cannot be read is named, and left out.
    """
    of = METRICS[metric]
    entries, unreadable = _entries(runs)
    by_series: dict[str, list[StoredEntry]] = {}
    for entry in _chosen(entries, backend, model):
        by_series.setdefault(_series_of(entry), []).append(entry)
    newest_first = sorted(
        by_series.values(), key=lambda members: members[-1].run.created, reverse=True
    )
    return History(
        metric=metric,
        unit=of.unit,
        more_is_better=of.more_is_better,
        unreadable=unreadable,
        series=[_series(members, of) for members in newest_first],
    )


def _entries(runs: Iterable[StoredRun]) -> tuple[list[StoredEntry], list[str]]:
    """Those of finished runs in no group, in the order of time, and the ids of unreadable runs."""
    entries: list[StoredEntry] = []
    unreadable = []
    # ISO 8601 in UTC, so the order of texts is that of time.
    for run in sorted(runs, key=lambda run: run.created):
        if run.group is None:
            try:
                # What is damaged has to fail here, where the run can still be left out.
                run.check()
                if run.is_finished:
                    entries += [run.entry(one.entry) for one in run.summary.runs]
            except StoreError:
                unreadable.append(run.run_id)
    return entries, unreadable


def _chosen(
    entries: Sequence[StoredEntry], backend: str | None, model: str | None
) -> list[StoredEntry]:
    chosen = [
        entry
        for entry in entries
        if backend in (None, entry.backend) and model in (None, entry.model)
    ]
    if entries and not chosen:
        wanted = ", ".join(filter(None, [backend, model]))
        pairs = dict.fromkeys(f"{one.backend}, {one.model}" for one in entries)
        raise UsageError(
            f"no finished run is of {wanted}", remedy=f"There are: {'; '.join(pairs)}."
        )
    return chosen


def _machine(entry: StoredEntry) -> Machine:
    of = entry.run.environment
    return Machine(
        cpu=of.cpu,
        gpus=[gpu.name for gpu in of.gpus],
        physical_cores=of.physical_cores,
        logical_cores=of.logical_cores,
        usable_cores=of.usable_cores,
    )


def _series_of(entry: StoredEntry) -> str:
    """The same text for all members of one series: data go by their content where it is known, and
    by their path where it is not."""
    fields, data = prompt_fields(entry.run.spec), entry.run.data_sha256
    # Not the default, but what it came to: earlier versions had that number for a default.
    fields["max_tokens"] = entry.run.max_tokens
    if data is not None:
        # The hash takes its place: a file that was moved, or whose column was named, is the same.
        fields = {name: value for name, value in fields.items() if name not in OF_DATA}
    machine = _machine(entry).model_dump()
    return json.dumps([_name(entry), entry.backend, entry.model, data, fields, machine])


def _name(entry: StoredEntry) -> str:
    """Without the model, which stands behind it only where there were others in the run."""
    known = {one.name: one.series for one in entries_of(entry.run.given_spec)}
    return known.get(entry.name, entry.name)


def _series(members: Sequence[StoredEntry], metric: Metric) -> Series:
    first = members[0]
    values = [(entry, metric.figure(entry.summary)) for entry in members]
    having = [(entry, value) for entry, value in values if value is not None]
    return Series(
        entry=_name(first),
        backend=first.backend,
        model=first.model,
        is_mock=is_mock(first.summary),
        data_sha256=first.run.data_sha256,
        spec=prompt_fields(first.run.spec),
        machine=_machine(first),
        left_out=len(members) - len(having),
        points=[
            Point(
                run_id=entry.run.run_id,
                name=entry.run.name,
                created=entry.run.created,
                value=value,
                interval=metric.interval(entry.summary),
                engine_version=entry.summary.engine_version,
                git_revision=entry.run.environment.git_revision,
            )
            for entry, value in having
        ],
        changes=[
            _change(metric, [entry for entry, _ in having], one)
            for one in find([value for _, value in having])
        ],
    )


def _change(metric: Metric, members: Sequence[StoredEntry], found: ChangePoint) -> Change:
    before, after = members[found.index - 1], members[found.index]
    change: float | None
    if metric.is_share:
        change = found.after - found.before
    else:
        change = found.after / found.before if found.before else None
    more = found.after > found.before
    return Change(
        place=found.index,
        before=before.run.run_id,
        after=after.run.run_id,
        level_before=found.before,
        level_after=found.after,
        change=change,
        p_adjusted=found.p_adjusted,
        outcome=Outcome.BETTER if more == metric.more_is_better else Outcome.WORSE,
        differing=list(differing(_explaining(before), _explaining(after))),
    )


def _explaining(entry: StoredEntry) -> dict[str, Any]:
    """All that is stored and may explain another figure, by name."""
    run, spec, prompts = entry.run, entry.run.spec, entry.summary.prompts
    # The entries are those of the given spec: a shown one may name them otherwise.
    own = {one.name: without_homes(dict(one.options)) for one in entries_of(run.given_spec)}
    return {
        **conditions(entry),
        "model_forms": spec.models.get(entry.model),
        "prompt_text_sha256": prompts.text_sha256,
        "prompt_token_sha256": prompts.token_sha256,
        **named("options", {**spec.engine, **own.get(entry.name, {})}),  # an entry's options win
        "other_entries": [name for name in run.entries if name != entry.name],
        "timeout_seconds": spec.timeout_seconds,
        "prompts_from": spec.prompts_from,
    }
