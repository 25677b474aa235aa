"""Words and figures as text that is safe to print.

Names, replies and error messages come from files and engines. They are printed as they are, never
as rich's markup, and without the control characters that could drive a terminal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, JustifyMethod, OverflowMethod
from rich.containers import Lines
from rich.text import Text

from harness.machine.homes import without_home
from harness.record import Estimate, Measured

NOTHING = "\N{EN DASH}"
_LONGEST = 200
# 40 hexadecimal digits or more: git's SHA-1, and SHA-256. Shorter ones may be plain numbers.
_HASH = re.compile(r"(?P<begin>[0-9a-f]{7})[0-9a-f]{33,}(?P<dirty>\+dirty)?")


def plain(text: str) -> str:
    """One line of the printable characters; white space of any kind becomes a space."""
    spaced = (" " if character.isspace() else character for character in text)
    # Escape is not printable, nor are the marks that turn the direction of writing around.
    return "".join(character for character in spaced if character.isprintable())


def escaped(text: str, stays: str = "") -> str:
    """The text on one line, with an escape as Python writes it for each character that does not
    print (but for those of `stays`): nothing is left out."""
    return "".join(
        character
        if character in stays or character.isprintable() or unicodedata.category(character) == "Zs"
        else character.encode("unicode_escape", errors="surrogatepass").decode()
        for character in text
    )


def shortened(text: str, most: int) -> str:
    """At most so many characters of it, and how many were left out."""
    if len(text) <= most:
        return text
    return f"{text[:most]}... (+{len(text) - most:,})"


@dataclass(frozen=True, slots=True)
class Verbatim:
    """A text of several lines as it is: no line is broken, so that it can be copied. Characters
    that do not print are escaped."""

    text: str

    def __rich__(self) -> Text:
        return Text(escaped(self.text, stays="\n"), no_wrap=True, overflow="ignore")


class Sentences(Text):
    """Text in which no word is broken: a path that is longer than a line of the terminal stays
    whole, so that it can be copied. For a `Group`: of texts that are printed by themselves, rich
    makes a plain one."""

    def wrap(
        self,
        console: Console,
        width: int,
        *,
        justify: JustifyMethod | None = None,
        overflow: OverflowMethod | None = None,
        tab_size: int = 8,
        no_wrap: bool | None = None,
    ) -> Lines:
        del console, justify, overflow, tab_size, no_wrap
        wrapped = Lines()
        for line in self.split(allow_blank=True):
            for part in line.divide(_line_begins(line.plain, width)):
                part.rstrip()
                wrapped.append(part)
        return wrapped


def _line_begins(text: str, width: int) -> list[int]:
    """Where it goes on in a new line: before a word that is no more within the width."""
    found, begin = [], 0
    for word in re.finditer(r"\S+", text):
        if word.start() > begin and cell_len(text[begin : word.end()]) > width:
            begin = word.start()
            found.append(begin)
    return found


def sentences(*parts: str) -> Sentences:
    """As `lines`, of what may name paths and commands."""
    return Sentences(lines(*parts).plain)


def lines(*parts: str) -> Text:
    """Text of several lines, each made plain, and without whose home folder it names."""
    return Text("\n".join(plain(without_home(part)) for part in parts))


def unbroken(text: str) -> Text:
    """A line to be copied, such as a command or a path: never broken by a narrow terminal."""
    return Text(plain(without_home(text)), no_wrap=True, overflow="ignore")


def ends_apart(paths: Collection[str]) -> dict[str, str]:
    """Of each path its last part, and more of it where two end alike. What is no path stays."""
    parts = {path: [part for part in path.split("/") if part] for path in paths}
    found = {}
    for path, own in parts.items():
        others = [theirs for other, theirs in parts.items() if other != path]
        counts = range(1, len(own) + 1)
        enough = (n for n in counts if all(theirs[-n:] != own[-n:] for theirs in others))
        count = next(enough, len(own))
        found[path] = path if count >= len(own) else "/".join(own[-count:])
    return found


def number(value: float | None) -> str:
    """Three digits, or all digits before the point: 0.12, 12.3, 12,345."""
    if value is None:
        return NOTHING
    places = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{places}f}"


def factor(value: float) -> str:
    """A ratio with two decimals or more: 0.000068, 0.082, 1.04, 11.44, 16,226."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"


def percent(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:.3g} %"


def interval(estimate: Estimate) -> str:
    return f"({estimate.low:.2f} to {estimate.high:.2f})"


def share(estimate: Estimate | None) -> str:
    """`0.83 (0.71 to 0.91)`."""
    return NOTHING if estimate is None else f"{estimate.value:.2f} {interval(estimate)}"


def measured(figure: Measured | None, times: float = 1.0) -> str:
    """`12.3 (11.9 to 12.8)`, or `12.3 (11.9 or more)`, in a unit of which the figure's has so many
    `times`."""
    if figure is None:
        return NOTHING
    value = number(times * figure.value)
    if figure.low is None:
        return value
    end = "or more" if figure.high is None else f"to {number(times * figure.high)}"
    return f"{value} ({number(times * figure.low)} {end})"


_STEPS = (0.01, 0.1, 1, 10, 60, 600, 3600)  # of seconds; behind two digits come larger ones


def duration(seconds: float) -> str:
    """With two digits or a little more: 4.2 s, 42 s, 2 min 10 s, 42 min, 1 h 20 min."""
    return _in_steps(seconds, _step(seconds))


def duration_within(seconds: float, low: float, high: float) -> tuple[str, str]:
    """A duration, and the interval behind it: with as many digits more as tell the three apart,
    as far as whole seconds do."""
    values = (seconds, low, high)
    written = [list(map(duration, values))]
    for finer in (1, 2):
        steps = [max(_step(one) - finer, 0) for one in values]
        written.append(list(map(_in_steps, values, steps)))
    most = max(len(set(one)) for one in written)
    said, begin, end = next(one for one in written if len(set(one)) == most)
    return said, f"{begin} to {end}"


def _step(seconds: float) -> int:
    return sum(step <= seconds / 10 for step in _STEPS[1:])


def _in_steps(seconds: float, place: int) -> str:
    step = _STEPS[place]
    rounded = round(seconds / step) * step
    if rounded < 90:
        return f"{round(rounded, 2):g} s"
    minutes, rest = divmod(round(rounded), 60)
    hours, more = divmod(minutes, 60)
    parts = [(hours, "h"), (more, "min"), (rest, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def span(values: Sequence[int]) -> str:
    """One number, or the least and the greatest."""
    least, most = min(values), max(values)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def p_value(value: float) -> str:
    """`p = 0.012`, `p < 0.001`."""
    # Rounded, it would be "p = 0.000", and no p-value is 0.
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def p_column(value: float | None) -> str:
    """For a column whose head says that it is p."""
    if value is None:
        return NOTHING
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def brief(value: object) -> str:
    """Anything stored, as text: hashes by how they begin, and nothing endless."""
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    text = "none" if value in (None, "") else str(value)
    if hashed := _HASH.fullmatch(text):
        return hashed["begin"] + "+" * bool(hashed["dirty"])
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
