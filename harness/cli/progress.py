"""How far a run is, on stderr."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from harness.cli.console import remarks, tell
from harness.report.text import number, plain

if TYPE_CHECKING:
    from harness.asking import Update

LINE_SECONDS = 10.0


class Watch:
    """An observer of a run; `run_id` is known from the first update on.

    A terminal shows one bar a backend. A file gets a line now and then, none of a short run.
    """

    def __init__(self, shown: bool) -> None:
        console = remarks()
        self.run_id: str | None = None
        self._lines = shown and not console.is_terminal
        self._told = time.monotonic()
        self._began: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
            transient=True,
        )
        self._loading = self._progress.add_task("loading", total=None, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def __call__(self, update: Update) -> None:
        self.run_id = update.run_id
        if update.backend not in self._tasks:
            self._begin(update)
        now = time.monotonic()
        note = describe(update, now - self._began[update.backend])
        count = update.done + update.failed
        self._progress.update(self._tasks[update.backend], completed=count, note=note)
        if self._lines and now - self._told >= LINE_SECONDS:
            self._told = now
            told = [f"{update.backend}: {count}/{update.total} cells", note]
            tell(", ".join(filter(None, told)))

    def _begin(self, update: Update) -> None:
        self._progress.update(self._loading, visible=False)
        self._began[update.backend] = time.monotonic()
        self._tasks[update.backend] = self._progress.add_task(
            plain(update.backend), total=update.total, completed=update.done, note=""
        )


def describe(update: Update, seconds: float) -> str:
    """What the bar does not show: failed cells, prompt tokens per second so far."""
    failed = [f"{update.failed} failed"] if update.failed else []
    rate = [f"{number(update.prompt_tokens / seconds)} prompt tokens/s"] if seconds > 0 else []
    return ", ".join(failed + rate)
