"""What `harness fit --probe` found: how much each engine answers, in how much memory and time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from harness.fit.probe import Bounds, Probe, Step
from harness.machine.memory import MIB, size
from harness.report.table import Sheet, simple_table
from harness.report.text import NOTHING, duration_within, lines, number

_ANSWERED = "What was answered, in tokens of prompt and reply:"
_STEPS = "Each length in a worker of its own; peaks in MiB:"
_KIB = 1024


def probe_sentence(found: Probe) -> str:
    """How much is answered, and why no more."""
    if not found.answered_tokens:
        return f"{found.entry}: not even {found.failed_tokens:,} tokens are answered: {_why(found)}"
    said = f"{found.entry} answers {found.answered_tokens:,} tokens"
    if found.answered_tokens > found.declared_context:
        said += f", more than the {found.declared_context:,} that its model was made for"
    if found.failed_tokens is None:
        return f"{said}. No more was tried."
    return f"{said}, and not {found.failed_tokens:,}: {_why(found)}"


def _why(found: Probe) -> str:
    step = next(one for one in found.steps if one.tokens == found.failed_tokens)
    return step.reason.rstrip(".") + "."


def probe_parts(probes: Sequence[Probe]) -> list[Sheet | Text]:
    if not probes:
        return []
    titles = ("declared", "allocated", "answered", "not answered", "RoPE scaling")
    answered = simple_table(
        ["entry", *titles],
        [
            [
                one.entry,
                _count(one.declared_context),
                _count(one.allocated_context),
                _count(one.answered_tokens),
                _count(one.failed_tokens),
                one.rope_scaling or "none",
            ]
            for one in probes
        ],
        numbers=titles[:-1],
    )
    figures = ("tokens", "peak", "predicted", "prefill s", "tokens/s")
    steps = simple_table(
        ["entry", *figures, "outcome"],
        [[one.entry, *_step(one, step)] for one in probes for step in one.steps],
        numbers=figures,
    )
    said = [line for one in probes for line in _laws(one)]
    return [lines("", _ANSWERED), answered, lines("", _STEPS), steps, lines(*said)]


def _count(tokens: int | None) -> str:
    return NOTHING if tokens is None else f"{tokens:,}"


def _step(found: Probe, step: Step) -> list[str]:
    measured = step.measured
    peak = (measured.peak_gpu_bytes or measured.peak_rss_bytes) if measured else None
    took = next((one for one in found.prefills if one.tokens == step.tokens - 1), None)
    return [
        f"{step.tokens:,}",
        *(NOTHING if one is None else f"{one / MIB:,.0f}" for one in (peak, step.total_bytes)),
        number(took.seconds if took else None),
        number(took.tokens / took.seconds if took else None),
        {"memory": "too much memory"}.get(step.outcome, step.outcome),
    ]


def _laws(found: Probe) -> Iterator[str]:
    if found.memory_limit_bytes is not None:
        whence = "--memory-limit" if found.is_limit_given else "what was free"
        yield f"{found.entry}: at most {size(found.memory_limit_bytes)} of memory, {whence}."
    if (slope := found.bytes_per_token) is not None:
        kv = found.kv_bytes_per_token
        predicted = "" if kv is None else f"; {number(kv / _KIB)} predicted for the KV cache alone"
        yield f"{found.entry}: a token more takes {_span(slope, _KIB)} KiB{predicted}."
    if found.linear_seconds is not None and found.quadratic_seconds is not None:
        linear, quadratic = found.linear_seconds, found.quadratic_seconds
        if quadratic.value >= 0:
            yield (
                f"{found.entry}: the prefill of n thousand tokens takes {_span(linear, 1e-3)} n + "
                f"{_span(quadratic, 1e-6)} n\N{SUPERSCRIPT TWO} seconds."
            )
        else:  # it never takes less: the machine was disturbed
            yield (
                f"{found.entry}: longer prompts took no more time a token than shorter ones; the "
                "mean is taken for what follows."
            )
    for one in found.extrapolated:
        took = one.seconds
        said, ends = duration_within(took.value, took.low, took.high)
        yield (
            f"{found.entry}: a prompt of {one.tokens:,} tokens would take about {said} ({ends})."
        )


def _span(bounds: Bounds, unit: float) -> str:
    """With the interval, in such units."""
    scaled = (one / unit for one in (bounds.value, bounds.low, bounds.high))
    value, low, high = (f"{one:,.0f}" if abs(one) >= 100 else f"{one:.3g}" for one in scaled)
    return f"{value} ({low} to {high})"
