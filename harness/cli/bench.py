"""`harness bench`: raw speed, in llama-bench's terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from harness.cli.console import checked, give, remarks, tell
from harness.errors import EndedBySignal, UsageError

if TYPE_CHECKING:
    from harness.bench.rows import LoadRow, Plan, Row
    from harness.cli.output import Output
    from harness.spec import RunSpec


def bench(**given: Any) -> None:
    """Time prefill and generation, as llama-bench does.

    Give several numbers with commas, or repeat the flag. Every combination is timed.
    Prompts are timed cold, and once more when they are cached.
    """
    from harness.bench.rows import Plan
    from harness.cli.order import read_order
    from harness.cli.points import points_of, take_lists
    from harness.report.bench import bench_answer

    of_plan = {key: given[key] for key in _LEAST if given.get(key) not in (None, [])}
    plan = Plan(**_numbers(of_plan))
    flags, lists = take_lists({key: value for key, value in given.items() if key not in _LEAST})
    order = read_order(flags)
    assert not isinstance(order.what, str)  # a run's id comes of --resume, which is not among these
    specs = points_of(order.what, lists) or [order.what]
    # Before anything is timed, which may take an hour.
    wanted = checked(order.output.target)
    rows: list[Row | LoadRow] = []
    try:
        _carry_out(plan, specs, order.output, rows)
    except EndedBySignal:
        tell(f"Interrupted. Rows that were finished: {len(rows)}.")
        raise
    # Also after Ctrl-C or an error: rows that are finished are an answer.
    finally:
        if rows:
            give(bench_answer(rows), wanted)


_LEAST = {"prompt_tokens": 0, "generate_tokens": 0, "depth": 0, "batch": 1, "repetitions": 1}
"""The smallest number that each part of a plan may have."""


def _numbers(given: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be timed. Raises `UsageError`."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        flag = f"--{key.replace('_', '-')}"
        if isinstance(value, list):
            found[key] = parse_numbers(value, flag, _LEAST[key])
        elif isinstance(value, int) and value >= _LEAST[key]:
            found[key] = value
        else:
            raise UsageError(
                f"{flag} is {value!r}: use a whole number of {_LEAST[key]} or more",
                remedy="`harness bench --help` says what each takes.",
            )
    return found


def parse_numbers(texts: Iterable[str], name: str, minimum: int) -> tuple[int, ...]:
    """The numbers of texts such as `512,1024`. Raises `UsageError`."""
    parts = [part.strip() for text in texts for part in text.split(",")]
    if not all(part.isdecimal() and int(part) >= minimum for part in parts):
        raise UsageError(
            f"{name} {','.join(texts)!r} is no list of numbers of {minimum} or more",
            remedy="For example: 512,1024.",
        )
    return tuple(map(int, parts))


def _carry_out(
    plan: Plan, specs: Sequence[RunSpec], output: Output, rows: list[Row | LoadRow]
) -> None:
    """Times, with progress; `rows` holds what is finished, however it ends."""
    from harness.bench.timing import bench
    from harness.report.progress import BenchWatch, outlet_of

    with BenchWatch(outlet_of(remarks(), not output.quiet, moves=False)) as watch:
        for spec in specs:
            with closing(bench(plan, spec, output.results / "logs", watch)) as timed:
                for row in timed:
                    rows.append(row)
