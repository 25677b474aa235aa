"""Values in order, drawn with characters for a terminal, a pipe or a log: no colours, no codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

LINES = 16
_X_TICKS, _Y_TICKS = 7, 5
_POINT, _LEVEL, _INTERVAL, _BESIDE = "•", "─", "│", "x"
# For terminals whose encoding has no box drawing.
_AS_ASCII = str.maketrans("┌┐└┘┤├┬┴┼─│┊•", "++++||++|-||*")


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart that is as wide as the page it is drawn on: `draw(columns, ascii_only)`."""

    draw: Callable[[int, bool], str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        del console
        yield Text(self.draw(options.max_width, options.ascii_only), no_wrap=True)


def chart(
    values: Sequence[float],
    breaks: Sequence[int],
    unit: str,
    write: Callable[[float], str],
    width: int,
    ascii_only: bool,
) -> str:
    """Points numbered from 1, their median between breaks, and a dotted line at each break.

    A break at i stands before `values[i]`. `write` makes a value text. All lines are at most
    `width` columns.
    """
    import plotext

    plotext.terminal.limit(False, False)  # the width is given: plotext would look at the terminal
    figure = plotext.figure.clear()  # there is one, which every chart begins again
    figure.theme("colorless")
    figure.plot_size(width, LINES)
    for place in breaks:
        # Runs are numbered from 1: this is between the last run before the break and the first
        # after.
        figure.line(place + 0.5, "vertical", style="dotted")
    for begin, end in pairwise((0, *breaks, len(values))):
        level = median(values[begin:end])
        figure.draw(figure.segment((begin + 0.5, end + 0.5), (level, level), marker=_LEVEL))
    figure.draw(figure.signal(list(range(1, len(values) + 1)), list(values), marker=_POINT))
    numbers = [round(place) for place in _spread(1, len(values), _X_TICKS)]
    figure.ruler("x").ticks(numbers, list(map(str, numbers)))
    heights = _spread(min(values), max(values), _Y_TICKS)
    figure.ruler("y").ticks(heights, list(map(write, heights)))
    figure.label("run number", "x")
    figure.label(unit, "y")
    drawn = str(figure.build().string(colorless=True)).rstrip("\n")
    return drawn.translate(_AS_ASCII) if ascii_only else drawn


@dataclass(frozen=True, slots=True)
class Mark:
    """A value of a curve with its interval, and below it what the place is called. `beside` is
    another value at this place, such as a baseline's."""

    name: str
    value: float
    low: float
    high: float
    beside: float | None = None


def curve_chart(
    marks: Sequence[Mark],
    stop: int | None,
    units: tuple[str, str],
    write: Callable[[float], str],
    width: int,
    ascii_only: bool,
) -> str:
    """The marks at equal distances, and a dotted line at the place of the `stop`.

    `units` are those of the places and of the values.
    """
    import plotext

    plotext.terminal.limit(False, False)
    figure = plotext.figure.clear()
    figure.theme("colorless")
    figure.plot_size(width, LINES)
    if stop is not None:
        figure.line(stop, "vertical", style="dotted")
    places = list(range(len(marks)))
    for place, one in zip(places, marks, strict=True):
        figure.draw(figure.segment((place, place), (one.low, one.high), marker=_INTERVAL))
    beside = {place: one.beside for place, one in enumerate(marks) if one.beside is not None}
    if beside:
        figure.draw(figure.signal(list(beside), list(beside.values()), marker=_BESIDE))
    figure.draw(figure.signal(places, [one.value for one in marks], marker=_POINT))
    figure.ruler("x").ticks(places, [one.name for one in marks])
    ends = [*(one.low for one in marks), *(one.high for one in marks), *beside.values()]
    heights = _spread(min(ends), max(ends), _Y_TICKS)
    figure.ruler("y").ticks(heights, list(map(write, heights)))
    figure.label(units[0], "x")
    figure.label(units[1], "y")
    drawn = str(figure.build().string(colorless=True)).rstrip("\n")
    return drawn.translate(_AS_ASCII) if ascii_only else drawn


def _spread(first: float, last: float, count: int) -> list[float]:
    """So many numbers from the first to the last, at equal distances."""
    return [first + step * (last - first) / (count - 1) for step in range(count)]
