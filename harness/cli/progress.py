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
    import harness.bench.timing
    import harness.embedding.run
    from harness.pipeline.prompting import Update

LINE_SECONDS = 10.0


class _Bars:
    """A terminal shows one bar an entry. A file gets a line now and then, none of short work.

    `moves`: whether bars are drawn again all the time, or only when there is news. `first` is what
    happens before the first update.
    """

    def __init__(self, shown: bool, moves: bool, first: str) -> None:
        console = remarks()
        self._lines = shown and not console.is_terminal
        self._last_line = time.monotonic()
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            SpinnerColumn(),
            # Names come from files: `[models.X]` would be markup.
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),  # leaves room for the rest on 80 columns
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
            auto_refresh=moves,  # a thread of rich's draws, on a core that may be timed
            transient=True,
        )
        self._waiting = self._progress.add_task(first, total=None, note="")

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

    def _begin(self, name: str, total: int, completed: int = 0) -> None:
        self._tasks[name] = self._progress.add_task(
            plain(name), total=total, completed=completed, note=""
        )

    def _say_now_and_then(self, *parts: str) -> None:
        now = time.monotonic()
        if self._lines and now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            tell(", ".join(filter(None, parts)))


class Watch(_Bars):
    """An observer of a run; `run_id` is known from the first update on."""

    def __init__(self, shown: bool) -> None:
        super().__init__(shown, moves=True, first="preparing")
        self.run_id: str | None = None
        self._began: dict[str, float] = {}

    def __call__(self, update: Update) -> None:
        self.run_id = update.run_id
        entry = update.entry
        if update.loading:
            description = f"loading {plain(entry)}"
            self._progress.update(self._waiting, description=description, visible=True)
            self._say_now_and_then(description)
            return
        self._progress.update(self._waiting, visible=False)
        if entry not in self._tasks:
            self._began[entry] = time.monotonic()
            self._begin(entry, update.total, update.done)
        note = describe(update, time.monotonic() - self._began[entry])
        count = update.done + update.failed
        self._progress.update(self._tasks[entry], completed=count, note=note)
        self._say_now_and_then(f"{entry}: {count}/{update.total} cells", note)


class BenchWatch(_Bars):
    """An observer of a bench. What is being timed has the machine to itself: nothing moves."""

    def __init__(self, shown: bool) -> None:
        super().__init__(shown, moves=False, first="loading")

    def __call__(self, update: harness.bench.timing.Update) -> None:
        if update.entry not in self._tasks:
            self._progress.update(self._waiting, visible=False)
            self._begin(update.entry, update.total)
        note = f"{update.test}: {update.repetition or 'warm-up'}"
        self._progress.update(
            self._tasks[update.entry], completed=update.done, note=note, refresh=True
        )
        self._say_now_and_then(f"{update.entry}: {update.done}/{update.total} repetitions", note)


class EmbedWatch(_Bars):
    """An observer of `harness embed`."""

    def __init__(self, shown: bool) -> None:
        super().__init__(shown, moves=True, first="loading the model")

    def __call__(self, update: harness.embedding.run.Update) -> None:
        if _IMAGES not in self._tasks:
            self._progress.update(self._waiting, visible=False)
            self._begin(_IMAGES, update.total)
        skipped = [f"{update.skipped} skipped"] if update.skipped else []
        note = ", ".join([*skipped, f"{number(update.images_per_second)} images/s"])
        self._progress.update(self._tasks[_IMAGES], completed=update.done, note=note)
        self._say_now_and_then(f"{update.done}/{update.total} images", note)


_IMAGES = "images"


def describe(update: Update, seconds: float) -> str:
    """What the bar does not show: failed cells, prompt tokens per second so far."""
    failed = [f"{update.failed} failed"] if update.failed else []
    rate = [f"{number(update.prompt_tokens / seconds)} prompt tokens/s"] if seconds > 0 else []
    return ", ".join(failed + rate)
