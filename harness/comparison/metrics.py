"""Every metric, in one place: adding one means adding one entry to `METRICS`.

The table and the JSON of a run, `harness compare`, `harness history` and the gate of the pytest
plugin all go through it. Of what kind the samples are follows from `Metric.kind`:

- "share": `ByQuery`, by the query's row in the test split;
- "rate": `harness.stats.significance.Work`, a sample for each block of batches;
- "time": `harness.stats.significance.Times`, the times of each block's replies;
- "per_session" and "count": no reader, the value is the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from harness.comparison.samples import (
    ACCURACY,
    decode_work,
    first_token_times,
    output_token_times,
    output_work,
    prefill_work,
    readable_by_query,
    request_work,
    right_by_query,
    whole_times,
)
from harness.metrics import Metric
from harness.record import Measured
from harness.stats.significance import Times, Work
from harness.store.runs import StoredEntry
from harness.summary import RunSummary, Summary, Tail, headline


def _first_token(run: RunSummary) -> float | None:
    times = run.speed.time_to_first_token_ms
    return times.p50 if times else None


def _of_load(run: RunSummary, name: str, is_cold: bool) -> float | None:
    """The rate, or the median of the times."""
    if run.load is None or run.load.is_cold != is_cold:
        return None
    found: Measured | Tail | None = getattr(run.load, name)
    if isinstance(found, Tail):
        return found.p50.value
    return found.value if found else None


_REQUEST_RATES: tuple[tuple[str, str, str, Callable[[StoredEntry], Work]], ...] = (
    ("requests_per_second", "requests/s", "requests/s", request_work),
    ("output_tokens_per_second", "output tok/s", "tokens/s", output_work),
)
_REQUEST_TIMES: tuple[tuple[str, str, str, Callable[..., Times]], ...] = (
    ("request_time_to_first_token_ms", "request: ms to first token", "ms", first_token_times),
    ("request_time_per_output_token_ms", "request: ms per token", "ms", output_token_times),
    ("request_seconds", "request: s in total", "s", whole_times),
)
_IN_TABLE = ("requests_per_second", "request_time_to_first_token_ms")
OF_REQUESTS = tuple(name for name, *_ in (*_REQUEST_RATES, *_REQUEST_TIMES))
"""The metrics of load, as they are called of a run that is not cold."""
COLD = "cold_"
"""What the names of the same begin with of a cold run."""


def _of_requests(is_cold: bool) -> Iterator[Metric]:
    """What requests come to. Of cold ones these are other figures, under names of their own."""
    begin, behind = (COLD, ", cold") if is_cold else ("", "")
    for name, title, unit, work in _REQUEST_RATES:
        yield Metric(
            name=begin + name,
            title=title + behind,
            unit=unit,
            more_is_better=True,
            kind="rate",
            value=partial(_of_load, name=name, is_cold=is_cold),
            samples=work,
            in_table=name in _IN_TABLE,
        )
    for name, title, unit, times in _REQUEST_TIMES:
        yield Metric(
            name=begin + name,
            title=title + behind,
            unit=unit,
            more_is_better=False,
            kind="time",
            value=partial(_of_load, name=name, is_cold=is_cold),
            samples=partial(times, clock="client"),
            in_table=name in _IN_TABLE,
        )


def _examples(run: RunSummary) -> float | None:
    shown = run.context_fit.examples_per_voter
    return sum(shown) / len(shown) if shown else None


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name=ACCURACY,
            title="accuracy",
            unit="share of queries",
            more_is_better=True,
            kind="share",
            value=headline,
            samples=right_by_query,
        ),
        Metric(
            name="parse_rate",
            title="parse rate",
            unit="share of replies",
            more_is_better=True,
            kind="share",
            value=lambda run: run.parse.lenient,
            samples=readable_by_query,
        ),
        Metric(
            name="prefill_tokens_per_second",
            title="prefill tok/s",
            unit="tokens/s",
            more_is_better=True,
            kind="rate",
            value=lambda run: run.speed.prefill_tokens_per_second,
            samples=prefill_work,
        ),
        Metric(
            name="decode_tokens_per_second",
            title="decode tok/s",
            unit="tokens/s",
            more_is_better=True,
            kind="rate",
            value=lambda run: run.speed.decode_tokens_per_second,
            samples=decode_work,
        ),
        Metric(
            name="time_to_first_token_ms",
            title="ms to first token",
            unit="ms",
            more_is_better=False,
            kind="time",
            value=_first_token,
            samples=first_token_times,
        ),
        *_of_requests(is_cold=False),
        *_of_requests(is_cold=True),
        Metric(
            name="peak_rss_mib",
            title="peak memory MiB",
            unit="MiB",
            more_is_better=False,
            kind="per_session",
            value=lambda run: run.memory.peak_rss_mib,
        ),
        Metric(
            name="examples_per_voter",
            title="shown examples",
            unit="examples",
            more_is_better=True,
            kind="count",
            value=_examples,
        ),
        Metric(
            name="load_seconds",
            title="load s",
            unit="s",
            more_is_better=False,
            kind="per_session",
            value=lambda run: run.speed.load_seconds,
            in_table=False,
        ),
    )
}


def with_metrics(summary: Summary) -> Summary:
    """The same summary, with the figure of every metric in each of its runs."""
    # Here and not in what is stored: a run of an earlier version gets later metrics too.
    runs = [
        run.model_copy(
            update={"metrics": {name: metric.figure(run) for name, metric in METRICS.items()}}
        )
        for run in summary.runs
    ]
    return summary.model_copy(update={"runs": runs})
