"""Baselines alone, over the queries that a run of the same data, number of queries and seed draws.

What is fitted is stored at once. After any end, the same command goes on with the run that it
began: what is fitted is not fitted again, and a training goes on from its last checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from harness.baselines.kind import BaselineKind, Labels, Task
from harness.baselines.registry import ALONE, check_data, find_kinds
from harness.baselines.run import fit_baseline, make_task
from harness.errors import DataError, HarnessError, StoreError, UsageError
from harness.machine.environment import describe_environment
from harness.machine.homes import without_homes
from harness.machine.memory import MemoryProbe
from harness.spec import BaselineSpec, DataSpec
from harness.store.lock import prompting
from harness.store.names import check_name, check_unused
from harness.store.runs import StoredRun
from harness.store.store import Store
from harness.summary import Baseline, Queries, Summary
from harness.workload.dataset import Dataset
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


CHECKPOINTS = "checkpoints"
"""The folder of them in a results folder; that of each training is removed with its result."""

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
        if name is not None and _begun(store, spec, name) is None:
            check_unused(name, store.runs())
        dataset = load(spec)
        check_data(kinds, dataset.kind, spec.data)
        rows = draw_queries(dataset.y_test, spec).tolist()
        shared, truth = make_task(dataset, rows, spec.seed)
        failures: dict[str, HarnessError] = {}
        with _opened(store, spec, name, dataset.sha256) as run:
            summary = run.summary if run.is_finished else _nothing_yet(run, dataset, rows, truth)
            before = summary.wall_seconds or 0.0
            done = {one.kind: one for one in summary.baselines}
            for place, kind in enumerate(kinds):

                def say(said: str, kind: BaselineKind = kind, place: int = place) -> None:
                    observe(Update(kind.name, said, place, len(kinds)))

                if kind.name in done:
                    say("fitted before")
                    continue
                say("fitting")
                task = task_of(kind, spec, shared, dataset.sha256, results, say)
                try:
                    done[kind.name] = _fit(kind, task, truth)
                except HarnessError as error:
                    failures[kind.name] = error
                    continue
                summary = summary.model_copy(
                    update={
                        "baselines": [done[one.name] for one in kinds if one.name in done],
                        "wall_seconds": before + time.perf_counter() - began,
                    }
                )
                store.finish_run(run.run_id, summary.model_dump_json(), summary.baselines)
                remove_unwanted(store)
    if not summary.baselines:
        raise next(iter(failures.values()))
    return Fitted(Summary.model_validate(without_homes(summary.model_dump())), failures)


def _begun(
    store: Store, spec: BaselineSpec, name: str | None, data_sha256: str | None = None
) -> StoredRun | None:
    """The newest run that the same command began, over these data if they are given, and that
    lacks a baseline."""
    for row in store.runs():
        run = StoredRun(store, row)
        is_of_data = data_sha256 in (None, run.data_sha256)
        with suppress(StoreError):  # what cannot be read is no run to go on with
            if run.name == name and is_of_data and run.given == spec and run.not_fitted:
                return run
    return None


@contextmanager
def _opened(
    store: Store, spec: BaselineSpec, name: str | None, data_sha256: str
) -> Iterator[StoredRun]:
    """The run to go on with, else a new one; no other process fits its baselines meanwhile.

    One that comes to nothing is deleted: no baseline was fitted, and no training was begun.
    """
    results = store.path.parent
    run = _begun(store, spec, name, data_sha256)
    if run is None:
        environment = describe_environment().model_dump_json()
        run_id = store.create_run(spec.model_dump_json(), environment, [], data_sha256, name=name)
    else:
        run_id = run.run_id
    with prompting(results, run_id):
        try:
            # Read under the lock: until then, another process may have fitted more.
            yield StoredRun(store, store.run(run_id))
        finally:
            left = StoredRun(store, store.run(run_id))
            begun = (results / CHECKPOINTS / one for one in _trainings(left))
            if not left.is_finished and not any(folder.exists() for folder in begun):
                store.delete_runs([run_id])
            remove_unwanted(store)


def _nothing_yet(
    run: StoredRun, dataset: Dataset, query_rows: Sequence[int], truth: Labels
) -> Summary:
    return Summary(
        run_id=run.run_id,
        created=run.created,
        name=run.name,
        group=None,
        data=dataset.facts,
        data_sha256=dataset.sha256,
        wall_seconds=None,
        harness_seconds=None,
        runs=[],
        baselines=[],
        queries=Queries(
            classes=list(dataset.classes), rows=list(query_rows), labels=truth.tolist()
        ),
    )


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


def options_of(kind: BaselineKind, spec: BaselineSpec) -> Mapping[str, Any]:
    """The fields of the spec that this baseline takes."""
    return {name: getattr(spec, name) for name in kind.takes}


def check_options(kinds: Sequence[BaselineKind], spec: BaselineSpec) -> None:
    """Raises `UsageError` for a field that was given and that none of these baselines takes, and
    for what one of them cannot do."""
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
    for kind in kinds:
        kind.check_options(options_of(kind, spec))


def task_of(
    kind: BaselineKind,
    spec: BaselineSpec,
    task: Task,
    data_sha256: str,
    results: Path,
    say: Callable[[str], None],
) -> Task:
    """The task with what is of this baseline alone: options, progress, and a folder."""
    folder = results / CHECKPOINTS / _training(kind, spec, data_sha256)
    return replace(task, options=options_of(kind, spec), say=say, folder=folder)


def _training(kind: BaselineKind, spec: BaselineSpec, data_sha256: str | None) -> str:
    """The name of the folder of its checkpoints."""
    # Whatever decides the result, and no path of the data: so it is found again by the same order.
    wanted = [kind.name, data_sha256, spec.seed, spec.queries, options_of(kind, spec)]
    digest = hashlib.sha256(json.dumps(wanted, sort_keys=True, default=str).encode()).hexdigest()
    return f"{kind.name}-{digest[:16]}"


def _trainings(run: StoredRun) -> set[str]:
    """The same of all that a run of baselines lacks; of one of engines nothing."""
    spec = run.given
    if not isinstance(spec, BaselineSpec):
        return set()
    return {_training(kind, spec, run.data_sha256) for kind in find_kinds(run.not_fitted)}


def remove_unwanted(store: Store) -> None:
    """Removes the checkpoints that no run is left to go on with."""
    folder = store.path.parent / CHECKPOINTS
    if not folder.is_dir():
        return
    # Before the runs are read: another process may begin one meanwhile, and its training.
    there = list(folder.iterdir())
    wanted: set[str] = set()
    for row in store.runs():
        try:
            wanted |= _trainings(StoredRun(store, row))
        except HarnessError:  # of a newer version, perhaps, which can go on with them
            return
    for one in there:
        if one.name not in wanted:
            shutil.rmtree(one, ignore_errors=True)
    with suppress(OSError):  # there are others
        folder.rmdir()
