"""Baselines alone, over the queries that a run of the same data, number of queries and seed draws.

What is fitted is stored at once: who ends the command with some of several names done has these.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from harness.baselines.kind import BaselineKind, Labels, Task
from harness.baselines.registry import ALONE, check_data, find_kinds
from harness.baselines.run import fit_baseline, make_task
from harness.errors import DataError, HarnessError, UsageError
from harness.machine.environment import describe_environment
from harness.machine.homes import without_homes
from harness.machine.memory import MemoryProbe
from harness.spec import BaselineSpec, DataSpec
from harness.store.names import check_name, check_unused
from harness.store.runs import StoredRun
from harness.store.store import Store
from harness.summary import Baseline, Queries, Summary
from harness.workload.voters import draw_queries
from harness.workload.workload import load


@dataclass(frozen=True, slots=True)
class Update:
    """What is being fitted, as the one behind `done` others of `total`, and in a few words what it
    is at."""

    name: str
    said: str
    done: int
    total: int


Observer: TypeAlias = Callable[[Update], None]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was stored, and of the baselines that could not be fitted why, by name."""

    summary: Summary
    failures: Mapping[str, HarnessError]


def fit_alone(
    spec: BaselineSpec,
    results: Path,
    observe: Observer = lambda _: None,
    name: str | None = None,
) -> Fitted:
    """Fits and stores each baseline of the spec. The run can be called by its `name` afterwards.

    One that cannot be fitted does not stop the others. Raises `HarnessError`: where none can be
    fitted, the error of the first.
    """
    began = time.perf_counter()
    if name is not None:
        check_name(name)
    kinds = find_kinds(spec.baseline)
    check_options(kinds, spec)
    with Store(results) as store:
        if name is not None:
            check_unused(name, store.runs())
        dataset = load(spec)
        check_data(kinds, dataset.kind, spec.data)
        rows = draw_queries(dataset.y_test, spec).tolist()
        shared, truth = make_task(dataset, rows, spec.seed)
        summary = Summary(
            run_id="",
            created="",
            name=name,
            group=None,
            data=dataset.facts,
            data_sha256=dataset.sha256,
            wall_seconds=None,
            harness_seconds=None,
            runs=[],
            baselines=[],
            queries=Queries(classes=list(dataset.classes), rows=rows, labels=truth.tolist()),
        )
        failures: dict[str, HarnessError] = {}
        for place, kind in enumerate(kinds):

            def say(said: str, kind: BaselineKind = kind, place: int = place) -> None:
                observe(Update(kind.name, said, place, len(kinds)))

            say("fitting")
            task = task_of(kind, spec, shared, dataset.sha256, results, say)
            try:
                fitted = _fit(kind, task, truth)
            except HarnessError as error:
                failures[kind.name] = error
                continue
            summary = summary.model_copy(
                update={
                    "baselines": [*summary.baselines, fitted],
                    "wall_seconds": time.perf_counter() - began,
                }
            )
            summary = _stored(store, spec, summary, name)
            if task.folder is not None:
                shutil.rmtree(task.folder, ignore_errors=True)
                with suppress(OSError):  # there are none, or others
                    task.folder.parent.rmdir()
    if not summary.baselines:
        raise next(iter(failures.values()))
    return Fitted(Summary.model_validate(without_homes(summary.model_dump())), failures)


def _fit(kind: BaselineKind, task: Task, truth: Labels) -> Baseline:
    with MemoryProbe(os.getpid(), since_start=False) as probe:
        fitted = fit_baseline(kind, task, truth)
    if fitted is None:
        raise DataError(
            f"{kind.name}: there is nothing to learn from in these data",
            remedy="Fit another baseline: `harness baseline --help` names them.",
        )
    if fitted.peak_rss_mib is not None:  # it had a process of its own
        return fitted
    return fitted.model_copy(update={"peak_rss_mib": probe.peak.rss_mib})


def _stored(store: Store, spec: BaselineSpec, summary: Summary, name: str | None) -> Summary:
    """The summary as it is stored, with the run's id: that of a new run for the first baseline."""
    if summary.run_id:
        _finish(store, summary)
        return summary
    environment = describe_environment().model_dump_json()
    run_id = store.create_run(
        spec.model_dump_json(), environment, [], summary.data_sha256, name=name
    )
    try:
        created = StoredRun(store, store.run(run_id)).created
        begun = summary.model_copy(update={"run_id": run_id, "created": created})
        _finish(store, begun)
    except BaseException:  # Ctrl-C among them: nothing half stored is left
        store.delete_runs([run_id])
        raise
    return begun


def _finish(store: Store, summary: Summary) -> None:
    store.save_baselines(summary.run_id, summary.baselines)
    store.finish_run(summary.run_id, summary.model_dump_json())


def options_of(kind: BaselineKind, spec: BaselineSpec) -> Mapping[str, Any]:
    """The fields of the spec that this baseline takes."""
    return {name: getattr(spec, name) for name in kind.takes}


def check_options(kinds: Sequence[BaselineKind], spec: BaselineSpec) -> None:
    """Raises `UsageError` for a field that was given and that none of these baselines takes."""
    taken = {name for kind in kinds for name in kind.takes}
    shared = {"baseline", *DataSpec.model_fields}
    if unused := sorted(spec.model_fields_set - shared - taken):
        flags = {f"--{name.replace('_', '-')}": name for name in unused}
        takers = {
            flag: ", ".join(one.name for one in ALONE if name in one.takes)
            for flag, name in flags.items()
        }
        raise UsageError(
            f"{', '.join(flags)}: not for {', '.join(spec.baseline)}",
            remedy=" ".join(f"{flag} is for: {names}." for flag, names in takers.items()),
        )


def task_of(
    kind: BaselineKind,
    spec: BaselineSpec,
    task: Task,
    data_sha256: str,
    results: Path,
    say: Callable[[str], None],
) -> Task:
    """The task with what is of this baseline alone: options, progress, and a folder."""
    options = options_of(kind, spec)
    # Whatever decides the result, and no path of the data: so it is found again by the same order.
    wanted = [kind.name, data_sha256, spec.seed, spec.queries, options]
    digest = hashlib.sha256(json.dumps(wanted, sort_keys=True, default=str).encode()).hexdigest()
    folder = results / "checkpoints" / f"{kind.name}-{digest[:16]}"
    return replace(task, options=options, say=say, folder=folder)
