"""How engines serve several prompts at once, and how that goes with the number of them.

The points of a load curve are the runs of a group that differ in their concurrency alone: the same
prompts, each time with so many of them in flight until none is left (a closed loop).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from harness.comparison.metrics import COLD, OF_REQUESTS
from harness.comparison.samples import (
    clock_of,
    first_token_times,
    most_in_flight,
    output_token_times,
    output_work,
    request_work,
    whole_times,
)
from harness.record import Estimate, Record
from harness.spec import CONCURRENCY, RunSpec, concurrency_of, is_cold
from harness.stats.significance import measured
from harness.stats.tails import tail
from harness.store.runs import StoredEntry, StoredRun
from harness.summary import Load, Missing, headline, is_mock

_ENGINE_TIMES = ("time_to_first_token_ms", "time_per_output_token_ms", "batch_seconds")


class LoadPoint(Record):
    """One entry with so many prompts in flight. `same_prompts`: it was given the very token ids of
    the first point."""

    run_id: str
    concurrency: int
    load: Load | None
    prefill_tokens_per_second: float | None
    computed_tokens: int | None
    unique_tokens: int | None
    accuracy: Estimate | None
    peak_rss_mib: float | None
    peak_gpu_mib: float | None
    same_prompts: bool


class EntryLoad(Record):
    entry: str
    backend: str
    model: str
    is_mock: bool
    points: list[LoadPoint]


class LoadCurve(Record):
    """`run_ids` in the order of their concurrency."""

    run_ids: list[str]
    entries: list[EntryLoad]


def load_of(entry: StoredEntry, failed: int) -> Load | None:
    """What an entry's requests come to. `None` where no prompts were in flight side by side, as far
    as is known."""
    spec = entry.run.given_spec  # of what is shown, an entry may have another name
    concurrency = concurrency_of(spec, entry.name)
    if entry.info is None or (concurrency is None and clock_of(entry) == "engine"):
        return None
    return Load(
        is_cold=is_cold(spec, entry.name),
        concurrency=concurrency,
        in_flight=most_in_flight(entry),
        requests=len(entry.replies),
        failed=failed,
        requests_per_second=measured(request_work(entry)),
        output_tokens_per_second=measured(output_work(entry)),
        request_time_to_first_token_ms=tail(first_token_times(entry, "client")),
        request_time_per_output_token_ms=tail(output_token_times(entry, "client")),
        request_seconds=tail(whole_times(entry, "client")),
        time_to_first_token_ms=tail(first_token_times(entry)),
        time_per_output_token_ms=tail(output_token_times(entry)),
        batch_seconds=tail(whole_times(entry)),
    )


def missing_of(entry: StoredEntry, load: Load | None) -> dict[str, Missing]:
    """Of each figure of load that cannot be had the reason, by its name."""
    if load is None:
        reason = Missing.NO_CONCURRENCY if entry.info else Missing.NOT_LOADED
        return dict.fromkeys(("load", *OF_REQUESTS, *(COLD + name for name in OF_REQUESTS)), reason)
    is_client = clock_of(entry) == "client"
    found = {} if load.concurrency else {"concurrency": Missing.NO_CONCURRENCY}
    for name in _ENGINE_TIMES:
        if getattr(load, name) is None:
            found[name] = Missing.CLIENT_CLOCK if is_client else _why_null(entry, name)
    for name in OF_REQUESTS:
        if getattr(load, name) is None:
            is_other_clock = name.startswith("request_") and not is_client
            reason = Missing.ENGINE_CLOCK if is_other_clock else _why_null(entry, name)
            found |= {name: reason, COLD + name: reason}
        elif load.is_cold:
            found[name] = Missing.COLD_RUN
        else:
            found[COLD + name] = Missing.WARM_RUN
    return found


def _why_null(entry: StoredEntry, name: str) -> Missing:
    """Why a figure has no value whose clock is the entry's."""
    if not entry.replies:
        return Missing.NO_REPLY
    if entry.run.spec.decoding == "score":
        return Missing.SCORE_GENERATES_NOTHING
    is_of_later = name.endswith("time_per_output_token_ms")
    if is_of_later and all(len(reply.token_ids) < 2 for reply in entry.replies.values()):
        return Missing.NO_SECOND_TOKEN
    return Missing.NOT_REPORTED


def load_curve_of(runs: Sequence[StoredRun]) -> LoadCurve | None:
    """The load curve of these runs; `None` where fewer than two are finished, or where they differ
    in something else."""
    finished = [run for run in runs if run.is_finished]
    if not differ_in_concurrency([run.spec for run in finished]):
        return None
    ordered = sorted(finished, key=lambda run: cast(int, run.spec.engine[CONCURRENCY]))
    return LoadCurve(
        run_ids=[run.run_id for run in ordered],
        entries=[_entry(name, ordered) for name in ordered[0].entries],
    )


def differ_in_concurrency(specs: Sequence[RunSpec]) -> bool:
    """Whether the specs differ in that, all of them, and in nothing else."""
    given = {spec.engine.get(CONCURRENCY) for spec in specs}
    if len(specs) < 2 or len(given) < len(specs) or None in given:
        return False
    others = [spec.model_copy(update={"engine": {**spec.engine, CONCURRENCY: 1}}) for spec in specs]
    return all(one == others[0] for one in others)


def _entry(name: str, runs: Sequence[StoredRun]) -> EntryLoad:
    first = runs[0].entry(name).summary
    return EntryLoad(
        entry=name,
        backend=first.backend,
        model=first.model,
        is_mock=is_mock(first),
        points=[_point(run, name, first.prompts.token_sha256) for run in runs],
    )


def _point(run: StoredRun, name: str, prompts: str) -> LoadPoint:
    one = run.entry(name).summary
    return LoadPoint(
        run_id=run.run_id,
        concurrency=cast(int, run.spec.engine[CONCURRENCY]),
        load=one.load,
        prefill_tokens_per_second=one.speed.prefill_tokens_per_second,
        computed_tokens=one.speed.computed_tokens,
        unique_tokens=one.speed.unique_tokens,
        accuracy=headline(one),
        peak_rss_mib=one.memory.peak_rss_mib,
        peak_gpu_mib=one.memory.peak_gpu_mib,
        same_prompts=one.prompts.token_sha256 == prompts,
    )
