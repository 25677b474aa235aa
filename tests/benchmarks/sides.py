"""What ours and a plain way took of one job, and how it is printed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats


@dataclass(frozen=True, slots=True)
class Side:
    seconds: float
    cpu_seconds: float
    peak_rss_mib: float


def print_sides(title: str, rounds: Sequence[tuple[Side, Side]]) -> None:
    table = Table(title=title)
    for column in ("round", "side", "s", "CPU s", "peak MiB"):
        table.add_column(column, justify="right")
    for number, pair in enumerate(rounds, start=1):
        for name, side in zip(("ours", "plain"), pair, strict=True):
            figures = f"{side.seconds:.1f}", f"{side.cpu_seconds:.1f}", f"{side.peak_rss_mib:.0f}"
            table.add_row(str(number), name, *figures)
    console = Console(width=100)
    console.print(table)
    for what, ratios in (
        ("CPU s", sorted(plain.cpu_seconds / ours.cpu_seconds for ours, plain in rounds)),
        ("s", sorted(plain.seconds / ours.seconds for ours, plain in rounds)),
    ):
        median = statistics.median(ratios)
        console.print(f"plain / ours, {what}: {median:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def geometric_mean(ratios: Sequence[float]) -> str:
    """With its 95 % interval by Student's t over the rounds."""
    logs = np.log(ratios)
    half = stats.t.ppf(0.975, len(logs) - 1) * stats.sem(logs)
    low, mean, high = np.exp([logs.mean() - half, logs.mean(), logs.mean() + half])
    return f"{mean:.3f} ({low:.3f} to {high:.3f}), {len(logs)} rounds"
