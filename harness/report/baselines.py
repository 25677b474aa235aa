"""A run of baselines: which is the best, whether it is better than guessing, and what each took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from harness.machine.environment import Environment
from harness.report.answer import Beside, run_json
from harness.report.figures import best_baseline
from harness.report.formats import Answer, flat
from harness.report.machine import machine_lines
from harness.report.table import simple_table
from harness.report.text import NOTHING, brief, lines, number, sentences, share
from harness.report.words import data_sentence
from harness.spec import BaselineSpec, DataSpec
from harness.store.runs import StoredRun
from harness.summary import Baseline, Queries, Summary

_TITLES = ("baseline", "accuracy", "seconds", "peak\nmemory MiB")
_NUMBERS = ("seconds", "peak\nmemory MiB")


def baselines_answer(run: StoredRun, summary: Summary) -> Answer:
    """What the data are, the best baseline, a table of all, and what was classified.

    CSV has a row for each baseline.
    """
    spec = run.any_spec
    assert isinstance(spec, BaselineSpec)
    go_on = "the same command" if run.not_fitted else None
    beside = Beside(environments=run.environments, resume=go_on)
    in_short = lines(*_in_short(spec, summary))
    parts: list[RenderableType] = [
        in_short,
        Text(),
        simple_table(_TITLES, map(_row, summary.baselines), _NUMBERS),
    ]
    if summary.data is not None:
        parts.insert(0, lines(data_sentence(spec.data, summary.data)))
    if facts := list(_facts(summary.baselines)):
        parts += [Text(), lines(*facts)]
    parts += [Text(), what_was_classified(spec, summary), machine_lines(run.environments)]
    data = run_json(spec, summary, beside).model_dump(mode="json")
    records = [_record(one, spec, summary, run.environment) for one in summary.baselines]
    return Answer(Group(*parts), data, records, in_short=in_short)


def what_was_classified(spec: DataSpec, summary: Summary) -> Text:
    """One line: run, data, number of queries, seed."""
    called = f" ({summary.name})" if summary.name else ""
    digest = f" ({brief(summary.data_sha256)})" if summary.data_sha256 else ""
    count = len(summary.queries.rows) if summary.queries else 0
    return sentences(
        f"Run {summary.run_id}{called}: {spec.data}{digest}; baselines; {count:,} "
        f"{'query' if count == 1 else 'queries'}; seed {spec.seed}"
    )


def chance_of(queries: Queries) -> float:
    """The share of the most frequent class among the queries."""
    return max(map(queries.labels.count, set(queries.labels))) / len(queries.labels)


def _in_short(spec: BaselineSpec, summary: Summary) -> Iterator[str]:
    assert summary.queries is not None
    best, chance = best_baseline(summary.baselines), chance_of(summary.queries)
    found = best.estimate
    which = "Best baseline, " if len(summary.baselines) > 1 else ""
    figures = f"{which}{best.name}: {share(found)}"
    if found.low <= chance <= found.high:
        verdict = f"the interval covers chance ({chance:.2f}): not shown to beat guessing."
    else:
        verdict = f"chance is {chance:.2f}{': worse than guessing' * (found.high < chance)}."
    yield f"{figures}; {verdict}"
    done = {one.kind for one in summary.baselines}
    if left := [name for name in spec.baseline if name not in done]:
        yield f"Not fitted: {', '.join(left)}. The same command goes on with the run."


def _facts(baselines: Sequence[Baseline]) -> Iterator[str]:
    """A line for each baseline that has something to say of how it was made."""
    for one in baselines:
        if one.facts:
            yield f"{one.kind}: {'; '.join(f'{n} {_value(v)}' for n, v in one.facts.items())}."


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return brief(value)
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.3g}"


def _row(one: Baseline) -> tuple[str, ...]:
    gpu = "" if one.peak_gpu_mib is None else f"\nGPU {number(one.peak_gpu_mib)}"
    memory = NOTHING if one.peak_rss_mib is None else f"{number(one.peak_rss_mib)}{gpu}"
    return f"{one.name}\n{one.kind}", share(one.estimate), number(one.seconds), memory


def _record(
    one: Baseline, spec: BaselineSpec, summary: Summary, environment: Environment
) -> dict[str, Any]:
    return {
        "run_id": summary.run_id,
        "created": summary.created,
        "name": summary.name,
        "baseline": one.kind,
        "title": one.name,
        "data": spec.data,
        "seed": spec.seed,
        "queries": len(summary.queries.rows) if summary.queries else 0,
        "accuracy": one.estimate.value,
        "low": one.estimate.low,
        "high": one.estimate.high,
        "seconds": one.seconds,
        "peak_rss_mib": one.peak_rss_mib,
        "peak_gpu_mib": one.peak_gpu_mib,
        "facts": "; ".join(f"{name} {value}" for name, value in one.facts.items()),
        **flat(Environment, environment, "environment."),
    }
