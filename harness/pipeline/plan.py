"""`harness run --plan`: what a run will prompt, and what it will take, before it is begun.

The prompts are drawn and packed as the run would. The time comes of earlier runs of the entry on
this machine, or, where there are none with prompts about as long, of a few prompts of this run. Of
an engine on the CPU it is taken for what other processes leave of the processors now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from statistics import fmean
from typing import Literal

from harness.engine.engine import EnginePlan
from harness.errors import EngineError
from harness.fit.memory import Free, Memory, free_now, lack_of_memory, memory_at
from harness.machine.environment import describe_environment
from harness.pipeline.pace import (
    Pace,
    earlier_paces,
    least_tokens,
    probed_pace,
    seconds_now,
    seconds_of,
)
from harness.pipeline.run import make_baselines, plan, prepare, settle
from harness.record import Record, Span
from harness.spec import RunSpec, entries_of
from harness.stats.growth import Interval
from harness.store.runs import StoredRun
from harness.store.store import Store
from harness.workload.workload import Workload


class Forecast(Record):
    """A figure, and the interval that one more is in in 9 of 10 cases."""

    value: float
    interval: Span

    @staticmethod
    def of(found: Interval) -> Forecast:
        return Forecast(value=found.value, interval=Span(low=found.low, high=found.high))


class PlannedEntry(Record):
    """What one entry of the run will be given, and take.

    `prompts` counts each attempt. `prompt_tokens` are those of all prompts; `prefill_tokens` those
    that are left to evaluate where each shared beginning is computed once. `seconds` are those of
    loading and of all prompts, by so many `earlier_runs`, or by a few prompts where these are 0.
    `memory` is predicted, `None` where the backend does not say. `failure` says why the entry
    cannot be run; it has no figures then.
    """

    entry: str
    backend: str
    model: str
    prompts: int | None = None
    prompt_tokens: int | None = None
    prefill_tokens: int | None = None
    memory: Memory | None = None
    seconds: Forecast | None = None
    source: Literal["earlier runs", "a short probe"] | None = None
    earlier_runs: int = 0
    failure: str | None = None
    remedy: str = ""


class RunPlan(Record):
    """`voters`, `queries`, `examples_per_voter` and `limit` as the run will have them.

    `seconds` are those of the whole run, `harness_seconds` of that are for all but the engines;
    `None` where an entry's are not known.
    """

    voters: int
    queries: int
    shots: int | None
    max_model_len: int
    limit: int
    examples_per_voter: list[int]
    entries: list[PlannedEntry]
    harness_seconds: float
    seconds: Forecast | None


def plan_run(
    given: RunSpec, results: Path, observe: Callable[[str], None] = lambda _: None
) -> RunPlan:
    """Prompts nothing but a short probe, and stores nothing. Raises `HarnessError`."""
    began = time.perf_counter()
    free = free_now(given.memory_limit)
    observe("packing the prompts")
    with Store(results) as store:
        spec, source = settle(given, store)
        planned = plan(spec, results)
        # By force: what takes too much memory is shown, and not refused.
        bold = spec.model_copy(update={"force": True})
        workload, failures = prepare(bold, planned, source, given_fields=given.model_fields_set)
        prepared_seconds = time.perf_counter() - began
        entries: list[PlannedEntry] = []
        known: list[float] = []
        for one in planned.plans:
            if one.entry.name in failures:
                continue
            entry, outside_of_it = _entry(one, spec, workload, store, free, observe)
            entries.append(entry)
            known += outside_of_it
    entries += [_failed(given, name, error) for name, error in failures.items()]
    outside = _harness_seconds(spec, workload, known, prepared_seconds, observe)
    return RunPlan(
        voters=len(workload.voters),
        queries=len(workload.query_rows),
        shots=spec.shots,
        max_model_len=spec.max_model_len,
        limit=workload.packed.limit,
        examples_per_voter=list(map(len, workload.packed.shown)),
        entries=entries,
        harness_seconds=outside,
        seconds=_total(entries, outside),
    )


def _entry(
    one: EnginePlan,
    spec: RunSpec,
    workload: Workload,
    store: Store,
    free: Free,
    observe: Callable[[str], None],
) -> tuple[PlannedEntry, list[float]]:
    """The entry, and what earlier runs say of the seconds outside the engines."""
    name, packed = one.entry.name, workload.packed
    runs = (StoredRun(store, row) for row in store.runs())
    paces: Sequence[Pace] = earlier_paces(runs, one, spec, workload, describe_environment())
    count, failure, remedy = len(paces), None, ""
    memory = _memory(one, packed.limit, free)
    lack = lack_of_memory(memory, packed.limit) if memory is not None else None
    if not paces and lack is not None and not spec.force:
        failure, remedy = str(lack), lack.remedy
    elif not paces:
        observe(f"prompting {name} with a few prompts")
        try:
            paces = [probed_pace(one, spec, workload)]
        except EngineError as error:
            failure, remedy = str(error), error.remedy
    ids = packed.token_ids[workload.vocabularies[name]]
    then = seconds_of(paces, ids, spec.attempts)
    now = seconds_now(paces, then) if paces else None
    entry = PlannedEntry(
        entry=name,
        backend=one.entry.backend,
        model=one.entry.model,
        prompts=len(ids) * spec.attempts,
        prompt_tokens=sum(map(len, ids)) * spec.attempts,
        prefill_tokens=least_tokens(ids, spec.attempts, paces[0].block if paces else 1),
        memory=memory,
        seconds=None if now is None else Forecast.of(now),
        source=None if not paces else "earlier runs" if count else "a short probe",
        earlier_runs=count,
        failure=failure,
        remedy=remedy,
    )
    if now is None:
        return entry, []
    # What is outside is as much slower now as the engine is.
    return entry, [
        pace.harness_seconds * now.value / seconds
        for pace, seconds in zip(paces, then, strict=True)
        if pace.harness_seconds is not None
    ]


def _memory(one: EnginePlan, limit: int, free: Free) -> Memory | None:
    """Files that cannot be right predict nothing; loading them says what is wrong."""
    try:
        with closing(one.open_tokenizer()) as opened:
            found = memory_at(opened.predict_memory, [limit], free)
    except EngineError:
        return None
    return found[1][0] if found else None


def _failed(spec: RunSpec, name: str, error: EngineError) -> PlannedEntry:
    entry = next(one for one in entries_of(spec) if one.name == name)
    return PlannedEntry(
        entry=name,
        backend=entry.backend,
        model=entry.model,
        failure=str(error),
        remedy=error.remedy,
    )


def _harness_seconds(
    spec: RunSpec,
    workload: Workload,
    known: Sequence[float],
    prepared_seconds: float,
    observe: Callable[[str], None],
) -> float:
    """As in earlier runs with the same work; else what preparing took, and fitting the baselines
    takes."""
    if known:
        return fmean(known)
    observe("fitting the baselines")
    began = time.perf_counter()
    make_baselines(spec, workload)
    return prepared_seconds + time.perf_counter() - began


def _total(entries: Sequence[PlannedEntry], outside: float) -> Forecast | None:
    """One after the other. What disturbs a machine disturbs all of them, so the ends are added."""
    each = [one.seconds for one in entries]
    known = [one for one in each if one is not None]
    if not known or len(known) < len(each):
        return None
    engines = sum(one.value for one in known)
    whole = (engines + outside) / engines  # what is outside is disturbed as much
    low, high = (sum(getattr(one.interval, end) for one in known) for end in ("low", "high"))
    return Forecast(value=engines * whole, interval=Span(low=low * whole, high=high * whole))
