"""How far a run is: drawn again and again on a terminal and in a notebook; in a log, a line now and
then."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.report.text import duration, lines, number, plain
from harness.report.words import overflow_sentence

if TYPE_CHECKING:
    import harness.bench.timing
    import harness.embedding.run
    import harness.pipeline.baselines
    import harness.pipeline.prompting

LINE_SECONDS = 10.0
"""Between two lines of a log at first, and at least; later lines come less often."""
_MOST_LINE_SECONDS = 60.0
_DRAWN_A_SECOND = 2  # what draws takes its time from a core that may be timed
_BAR_COLUMNS = 24
_SURE_SECONDS = 1.0  # of work, before the rest is estimated from it
_SURE_SHARE = 0.1  # of the work, before that wins over what earlier runs say


@dataclass(frozen=True, slots=True)
class Part:
    """What is said of one thing: what it is and how far, and what goes behind the bar of `share`,
    which is `None` where there is no bar."""

    text: str
    share: float | None = None
    behind: str = ""

    @property
    def line(self) -> str:
        return ", ".join(filter(None, [self.text, self.behind]))


class Outlet(Protocol):
    """Where parts are shown."""

    def open(self, parts: Callable[[], Sequence[Part]]) -> None:
        """Shows them, and from time to time what they are by then."""

    def tell(self) -> None:
        """There is news."""

    def say(self, line: str) -> None:
        """A line that stays."""

    def close(self) -> None: ...


class Nowhere:
    def open(self, parts: Callable[[], Sequence[Part]]) -> None:
        del parts

    def tell(self) -> None:
        return

    def say(self, line: str) -> None:
        del line

    def close(self) -> None:
        return


class Terminal:
    """`moves`: whether it is drawn again all the time, or only when there is news."""

    def __init__(self, console: Console, moves: bool) -> None:
        self._console = console
        self._moves = moves
        self._live: Live | None = None

    def open(self, parts: Callable[[], Sequence[Part]]) -> None:
        self._live = Live(
            console=self._console,
            get_renderable=lambda: Group(*map(_drawn, parts())),
            auto_refresh=self._moves,
            refresh_per_second=_DRAWN_A_SECOND,
            transient=True,
        )
        self._live.start(refresh=True)

    def tell(self) -> None:
        if self._live and not self._moves:
            self._live.refresh()

    def say(self, line: str) -> None:
        self._console.print(lines(line))  # above what is drawn

    def close(self) -> None:
        if self._live:
            self._live.stop()


class Log:
    """A file gets a line now and then, of what is going on then, and none of short work."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._parts: Callable[[], Sequence[Part]] = tuple
        self._began = self._last = 0.0

    def open(self, parts: Callable[[], Sequence[Part]]) -> None:
        self._parts = parts
        self._began = self._last = time.monotonic()

    def tell(self) -> None:
        now = time.monotonic()
        tenth = (now - self._began) / 10
        if now - self._last >= min(max(LINE_SECONDS, tenth), _MOST_LINE_SECONDS):
            self._last = now
            self._console.print(Text(self._parts()[-1].line), soft_wrap=True)

    def say(self, line: str) -> None:
        self._console.print(lines(line))

    def close(self) -> None:
        return


class Cell:
    """The output of a cell of a notebook."""

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._parts: Callable[[], Sequence[Part]] = tuple
        self._handle: Any = None
        self._last = 0.0

    def open(self, parts: Callable[[], Sequence[Part]]) -> None:
        self._parts = parts
        self._last = time.monotonic()
        self._handle = self._display(self._shown(), raw=True, display_id=True)

    def tell(self) -> None:
        now = time.monotonic()
        if now - self._last >= 1 / _DRAWN_A_SECOND:
            self._last = now
            self._handle.update(self._shown(), raw=True)

    def say(self, line: str) -> None:
        self._display({"text/plain": line}, raw=True)

    def close(self) -> None:
        self._handle.update(self._shown(), raw=True)

    def _shown(self) -> dict[str, str]:
        return {"text/plain": "\n".join(part.line for part in self._parts())}


def _drawn(part: Part) -> RenderableType:
    """At 80 columns and fewer, nothing is cut: a long text goes on in the next line."""
    text = Text(part.text)
    if part.share is None:
        return text
    row = Table.grid(padding=(0, 1))
    row.add_row(ProgressBar(total=1.0, completed=part.share, width=_BAR_COLUMNS), Text(part.behind))
    return Group(text, row)


class _Board(ABC):
    """What is going on, in an outlet. One that `ticks` is looked at every second."""

    def __init__(self, outlet: Outlet, ticks: bool) -> None:
        self._outlet = outlet
        self._ends = Event()
        self._began = time.monotonic()
        # A daemon: if the harness is ended in between, it does not wait for this thread.
        self._ticking = Thread(target=self._tick, name="progress", daemon=True) if ticks else None
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        self._outlet.open(self.parts)
        self._closing.callback(self._outlet.close)
        if self._ticking:
            self._ticking.start()
            self._closing.callback(self._ticking.join)
            self._closing.callback(self._ends.set)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()

    def _tick(self) -> None:
        while not self._ends.wait(1.0):
            self._outlet.tell()

    @abstractmethod
    def parts(self) -> Sequence[Part]:
        """What is shown now, the newest last; one at least."""


class Watch(_Board):
    """An observer of a run; `run_id` is known from the first update on."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__(outlet, ticks=not isinstance(outlet, Nowhere | Terminal))
        self.run_id: str | None = None
        self._latest: dict[tuple[str, str], _Seen] = {}

    def __call__(self, update: harness.pipeline.prompting.Update) -> None:
        self.run_id = update.run_id
        key = update.run_id, update.entry
        before = self._latest.pop(key, None)
        self._latest[key] = _seen(update, before, time.monotonic())
        if (found := update.overflow) is not None:
            self._outlet.say(
                f"{found.shown:,} of {found.available:,} examples fit. "
                f"{overflow_sentence(found.tokens, found.limit)}"
            )
        self._outlet.tell()

    def parts(self) -> Sequence[Part]:
        now = time.monotonic()
        if not self._latest:
            return [Part(f"preparing the prompts, {_whole(now - self._began)}")]
        every = list(self._latest.values())
        # A stage that something else came after has ended, and at the end all have.
        going_on = [] if self._ends.is_set() else every[-1:]
        return [part_of(one, now) for one in every if one in going_on or not one.update.stage]


class BenchWatch(_Board):
    """An observer of a bench. What is being timed has the machine to itself: nothing moves."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__(outlet, ticks=False)
        self._latest: dict[str, Part] = {}

    def __call__(self, update: harness.bench.timing.Update) -> None:
        done = f"{plain(update.entry)}: {update.done}/{update.total} repetitions"
        behind = f"{update.test}: {update.repetition or 'warm-up'}"
        self._latest.pop(update.entry, None)
        self._latest[update.entry] = Part(done, update.done / update.total, behind)
        self._outlet.tell()

    def parts(self) -> Sequence[Part]:
        return list(self._latest.values()) or [Part("loading")]


class EmbedWatch(_Board):
    """An observer of `harness embed`."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__(outlet, ticks=not isinstance(outlet, Nowhere | Terminal))
        self._latest: harness.embedding.run.Update | None = None

    def __call__(self, update: harness.embedding.run.Update) -> None:
        self._latest = update
        self._outlet.tell()

    def parts(self) -> Sequence[Part]:
        found = self._latest
        if found is None:
            return [Part(f"loading the model, {_whole(time.monotonic() - self._began)}")]
        skipped = f", {found.skipped:,} skipped" if found.skipped else ""
        left = _whole((found.total - found.done) / found.images_per_second)
        behind = f"{number(found.images_per_second)} images/s, about {left} left"
        share = found.done / found.total
        return [Part(f"{found.done:,}/{found.total:,} images{skipped}", share, behind)]


class FitWatch(_Board):
    """Shows what `harness fit` is doing."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__(outlet, ticks=not isinstance(outlet, Nowhere | Terminal))
        self._doing = "opening tokenizers"

    def __call__(self, doing: str) -> None:
        self._doing = doing
        self._outlet.tell()

    def parts(self) -> Sequence[Part]:
        return [Part(f"{plain(self._doing)}, {_whole(time.monotonic() - self._began)}")]


class BaselineWatch(_Board):
    """An observer of `harness baseline`."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__(outlet, ticks=not isinstance(outlet, Nowhere | Terminal))
        self._latest: harness.pipeline.baselines.Update | None = None
        self._since = self._began

    def __call__(self, update: harness.pipeline.baselines.Update) -> None:
        if self._latest is None or self._latest.name != update.name:
            self._since = time.monotonic()
        self._latest = update
        self._outlet.tell()

    def parts(self) -> Sequence[Part]:
        found, now = self._latest, time.monotonic()
        if found is None:
            return [Part(f"reading the data, {_whole(now - self._began)}")]
        place = f" ({found.done + 1} of {found.total})" if found.total > 1 else ""
        took = _whole(now - self._since)
        return [Part(f"{found.name}{place}: {plain(found.said)}, {took}")]


@dataclass(frozen=True, slots=True)
class _Seen:
    """The latest update of an entry, and since when it is in this state: in a stage, or prompted.

    `first` is the first update of the state.
    """

    update: harness.pipeline.prompting.Update
    first: harness.pipeline.prompting.Update
    since: float


def _seen(update: harness.pipeline.prompting.Update, before: _Seen | None, now: float) -> _Seen:
    if before is None or bool(before.update.stage) != bool(update.stage):
        return _Seen(update, update, now)
    return _Seen(update, before.first, before.since)


def part_of(seen: _Seen, now: float) -> Part:
    """What is shown of an entry."""
    update, seconds = seen.update, now - seen.since
    entry = plain(update.entry)
    if update.stage:
        total = update.forecast_seconds
        whole = f"; about {_whole(total)} in all, by earlier runs" if total else ""
        return Part(f"{entry}: {plain(update.stage)}, {_whole(seconds)}{whole}")
    count, tokens = update.done + update.failed, update.prompt_tokens
    failed = f", {update.failed:,} failed" if update.failed else ""
    said = f"{entry}: {count:,}/{update.total:,} prompts{failed}"
    if count >= update.total:
        return Part(said)
    if tokens and update.expected_tokens:
        said += f", {tokens:,}/{max(tokens, update.expected_tokens):,} tokens"
    if tokens and seconds >= _SURE_SECONDS:
        said += f", {number(tokens / seconds)} tokens/s"
    share = share_done(update, seen.first)
    left = _seconds_left(update.forecast_seconds, seconds, share)
    about = [f"about {_whole(left)} left"] if left >= 1 else []
    return Part(said, share, ", ".join([f"{100 * share:.0f} %", _whole(seconds), *about]))


def _seconds_left(forecast: float, seconds: float, share: float) -> float:
    """By earlier runs at first, where there are any; then by what was done since the beginning."""
    if forecast and share < _SURE_SHARE:
        return forecast * (1 - share)
    return seconds * (1 - share) / share if share and seconds >= _SURE_SECONDS else 0.0


def share_done(
    update: harness.pipeline.prompting.Update, first: harness.pipeline.prompting.Update
) -> float:
    """Of the prompts that had no reply at `first`.

    Half of it are their tokens, which come before replies do, and half are replies, as each takes
    time of its own. An engine that does not say how many tokens it has evaluated has replies only.
    """
    before = first.done + first.failed
    waiting = update.total - before
    answered = (update.done + update.failed - before) / waiting if waiting else 0.0
    if not update.prompt_tokens or not update.expected_tokens:
        return answered
    # An engine that shares less than it could evaluates more tokens than were expected.
    return (min(update.prompt_tokens / update.expected_tokens, 1.0) + answered) / 2


def _whole(seconds: float) -> str:
    """Of a clock that goes on: in whole seconds."""
    return duration(round(seconds))


def outlet_of(console: Console, shown: bool, moves: bool = True) -> Outlet:
    """Where a command shows it."""
    if not shown:
        return Nowhere()
    return Terminal(console, moves) if console.is_terminal else Log(console)


def notebook_outlet() -> Outlet:
    """The cell that is running; nowhere, where this is no notebook."""
    if not Console().is_jupyter:
        return Nowhere()
    from IPython.display import display

    return Cell(display)
