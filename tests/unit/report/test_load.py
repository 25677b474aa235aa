"""A load curve as people read it, on a narrow terminal."""

from __future__ import annotations

import io

from rich.console import Console, Group

from harness.comparison.load import EntryLoad, LoadCurve, LoadPoint
from harness.record import Measured
from harness.report.load import describe
from harness.summary import Load, Tail

RATE = Measured(value=12.34, low=11.9, high=12.8)
TAIL = Tail(p50=RATE, p95=RATE, p99=Measured(value=99.0))


def load(concurrency: int, is_client: bool = True) -> Load:
    times = {
        "request_time_to_first_token_ms": TAIL,
        "request_time_per_output_token_ms": TAIL,
        "request_seconds": TAIL,
    }
    own = {
        "time_to_first_token_ms": TAIL,
        "time_per_output_token_ms": None,
        "batch_seconds": TAIL,
    }
    none, some = (own, times) if is_client else (times, own)
    return Load(
        is_cold=False,
        concurrency=concurrency,
        in_flight=min(concurrency, 3),
        requests=60,
        failed=2,
        requests_per_second=RATE,
        output_tokens_per_second=RATE,
        **dict.fromkeys(none),
        **some,
    )


def point(concurrency: int, is_client: bool = True, same_prompts: bool = True) -> LoadPoint:
    return LoadPoint(
        run_id=f"run-{concurrency}",
        concurrency=concurrency,
        load=load(concurrency, is_client),
        prefill_tokens_per_second=None,
        computed_tokens=300,
        unique_tokens=200,
        accuracy=None,
        peak_rss_mib=None,
        peak_gpu_mib=None,
        same_prompts=same_prompts,
    )


def shown(*points: LoadPoint) -> str:
    entry = EntryLoad(entry="e", backend="b", model="m", is_mock=False, points=list(points))
    curve = LoadCurve(run_ids=[one.run_id for one in points], entries=[entry])
    console = Console(file=io.StringIO(), width=80)
    console.print(Group(*describe(curve)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    return str(text)


def test_figures_have_intervals_and_what_is_not_known_no_column() -> None:
    text = shown(point(1), point(4))
    assert "12.3 (11.9 to 12.8)" in text
    assert "12,340 (11,900 to 12,800)" in text  # the whole request, in ms
    assert "accuracy" not in text
    assert "prefill" not in text
    assert "1.50" in text
    assert "Concurrency 4: at most 3 prompts were in flight." in text
    assert "Times are the client's" in text
    assert "WARNING" not in text


def test_an_engines_own_times_are_called_so_and_other_prompts_are_loud() -> None:
    text = shown(point(1, is_client=False), point(2, is_client=False, same_prompts=False))
    assert "Times are the engine's own" in text
    assert "WARNING: its prompts were not the same at every point" in text
