"""What `harness fit` found: a sentence for each combination, and a row for each length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from rich.console import Group
from rich.text import Text

from harness.fit.memory import Memory, smallness
from harness.fit.probe import Probe
from harness.fit.rows import FitRow, Help
from harness.fit.shares import Shares
from harness.machine.memory import MIB, size
from harness.record import Record
from harness.report.formats import Answer, flat
from harness.report.probe import probe_parts, probe_sentence
from harness.report.table import Sheet, simple_table
from harness.report.text import NOTHING, lines, number, percent

_BEYOND = "*"
_LEGEND = "* more tokens than the model was made for: counted. --probe shows who takes so many."
_MEMORY = "Memory, predicted from the heads of the model's files, in MiB:"
_LOADED = "The same measured, by the engine's own figures and the process's peak, in MiB:"
_PREDICTED = ("KiB / token", "weights", "cache", "buffers", "engine", "sum")
_MEASURED = ("cache", "buffers", "peak")
_SHARES = "Shares of the longest prompt:"
_MARKUP = "markup: what a chat template adds, and the token that a model wants first."
_COMBINED = ("entry", "data", "prompt", "reducer", "feature_fraction", "encoding")
_TITLES = {"feature_fraction": "features"}


class FitJson(Record):
    """What `harness fit --json` prints."""

    rows: list[FitRow]
    probes: list[Probe]


def fit_answer(rows: Sequence[FitRow], probes: Sequence[Probe] = ()) -> Answer:
    said = [_sentence(same) for _, same in groupby(rows, key=_combination)]
    said += map(probe_sentence, probes)
    parts = Group(
        *(lines(*said), "", _counts(rows), ""),
        *(lines(_SHARES), _shares(rows), *_memory(rows), *probe_parts(probes)),
        lines(*_notes(rows)),
    )
    data = FitJson(rows=list(rows), probes=list(probes)).model_dump(mode="json")
    return Answer(
        parts,
        data,
        [flat(FitRow, row) for row in rows],
        columns=flat(FitRow, None),
        in_short=lines(*said),
    )


def _combination(row: FitRow) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in _COMBINED)


def _longest(rows: Iterable[FitRow]) -> FitRow:
    """They stand in the order in which the lengths were given."""
    return max(rows, key=lambda row: row.max_model_len)


def _sentence(rows: Iterable[FitRow]) -> str:
    """Of all lengths: whether everything fits into the longest, and what helps if it does not."""
    row = _longest(rows)
    whose = f"{row.entry}, {' '.join(filter(None, [row.data, row.prompt, row.reducer]))}"
    if row.encoding is not None:
        whose += f" {row.encoding}"
    if row.fits:
        return (
            f"{whose}: all {_all(row)} fit from {row.tokens_needed:,} tokens on "
            f"(made for {row.declared_context:,})."
        )
    made = f" (made for {row.declared_context:,})" if row.is_beyond_model else ""
    over = f"{row.tokens_over:,} tokens too long" if row.tokens_over else "some texts are too long"
    most = f"{row.examples_that_fit:,} fit" if row.examples_that_fit else "not one fits"
    helps = ", ".join(_help(one, row) for one in row.helps if one.flag != "shots")
    what = f"{_all(row)} do" if row.examples_wanted else "a query behind no example does"
    most = f", {most}" if row.examples_wanted else ""
    return (
        f"{whose}: {what} not fit in {row.max_model_len:,}{made}: {over}{most}. "
        f"What helps: {_fewer(row)}{helps or 'a model with a longer context'}."
    )


def _all(row: FitRow) -> str:
    return f"{row.examples_wanted:,} examples" if row.examples_wanted != 1 else "1 example"


def _fewer(row: FitRow) -> str:
    return f"--shots {row.examples_that_fit}, " if row.examples_that_fit else ""


def _help(one: Help, row: FitRow) -> str:
    fitting = "all fit" if one.examples >= row.examples_wanted else f"{one.examples:,} fit"
    about = "" if one.is_exact else "about "
    flag = f"--{one.flag.replace('_', '-')} {one.value}"
    return f"{flag} ({fitting}; all take {about}{one.tokens:,})"


def _counts(rows: Sequence[FitRow]) -> Sheet:
    varying = _varying(rows)
    titles = [_TITLES.get(name, name) for name in varying]
    figures = ("context", "examples fit", "left over", "too long", "tokens each", "fill")
    return simple_table(
        [*titles, *figures],
        [
            [
                *_cells(row, varying),
                _length(row),
                f"all {row.examples_that_fit:,}"
                if row.fits
                else f"{row.examples_that_fit:,} of {row.examples_wanted:,}",
                f"{row.examples_left_over:,}",
                f"{row.tokens_over:,}" if row.tokens_over else NOTHING,
                number(row.tokens_per_example),
                percent(row.fill_ratio),
            ]
            for row in rows
        ],
        numbers=figures,
        whole=titles[:1],
    )


def _shares(rows: Sequence[FitRow]) -> Sheet:
    """The longest of each combination: the shares hardly change from length to length."""
    longest = [_longest(same) for _, same in groupby(rows, key=_combination)]
    varying = _varying(rows)
    titles = [_TITLES.get(name, name) for name in varying]
    names = list(Shares.model_fields)
    shown = ["texts" if row.encoding is None else "numbers" for row in rows[:1]]
    figures = [shown[0] if shown and name == "content" else name for name in names]
    # All of one length have it in the table above: this one is wide enough.
    with_length = len({row.max_model_len for row in longest}) > 1
    if with_length:
        figures.insert(0, "context")
    return simple_table(
        [*titles, *figures],
        [
            [
                *_cells(row, varying),
                *([_length(row)] if with_length else []),
                *(percent(round(getattr(row.shares, name), 3)) for name in names),
            ]
            for row in longest
        ],
        numbers=figures,
        whole=titles[:1],
    )


def _memory(rows: Sequence[FitRow]) -> list[Sheet | Text]:
    """Nothing where no backend says. A row an entry and length: nothing else decides it."""
    each = {(row.entry, row.max_model_len): row for row in rows if row.memory or row.measured}
    if not each:
        return []
    found: list[Sheet | Text] = []
    if known := [row for row in each.values() if row.memory]:
        found += [lines("", _MEMORY), _table(known, _PREDICTED, _predicted)]
        longest = [_longest(same) for _, same in groupby(known, key=lambda row: row.entry)]
        found.append(lines(*(_held(row.entry, row.max_model_len, row.memory) for row in longest)))
    if loaded := [row for row in each.values() if row.measured]:
        found += [lines("", _LOADED), _table(loaded, _MEASURED, _measured)]
    return found


def _table(
    rows: Iterable[FitRow], figures: Sequence[str], of: Callable[[FitRow], Sequence[str]]
) -> Sheet:
    cells = [[row.entry, _length(row), *of(row)] for row in rows]
    titles = ["entry", "context", *figures]
    return simple_table(titles, cells, numbers=titles[1:], whole=titles[:1])


def _predicted(row: FitRow) -> list[str]:
    memory = row.memory
    if memory is None:
        return []
    parts = (memory.weights_bytes, memory.cache_bytes, memory.compute_bytes, memory.engine_bytes)
    per_token = number((row.kv_bytes_per_token or 0) / 1024)
    return [per_token, *map(_mib, (*parts, memory.total_bytes))]


def _measured(row: FitRow) -> list[str]:
    found = row.measured
    if found is None:
        return []
    peak = found.peak_gpu_bytes or found.peak_rss_bytes
    return [_mib(found.cache_bytes), _mib(found.compute_bytes), _mib(peak)]


def _mib(count: int | None) -> str:
    return NOTHING if count is None else f"{count / MIB:,.0f}"


def _held(entry: str, length: int, memory: Memory | None) -> str:
    if memory is None:
        return ""
    where = "GPU memory" if memory.device == "gpu" else "memory"
    said = f"{entry}: how much {where} may be taken cannot be known"
    if memory.free_bytes is not None:
        said = f"{entry}: {size(memory.free_bytes)} of {where} may be taken"
    if memory.bytes_over:
        said += f", {size(memory.bytes_over)} too little for {length:,} tokens"
    if too_small := smallness(memory, length):
        said += f"; {too_small}"
    if memory.longest_context:
        said += f"; a context of {memory.longest_context:,} tokens would fit"
        if sequences := memory.parallel_sequences:
            said += f", or {sequences:,} sequence{'s' if sequences > 1 else ''} of {length:,}"
    return f"{said}."


def _varying(rows: Sequence[FitRow]) -> list[str]:
    """What tells rows apart, beside their lengths; the entry always."""
    return [
        name
        for name in _COMBINED
        if name == "entry" or len({getattr(row, name) for row in rows}) > 1
    ]


def _cells(row: FitRow, names: Iterable[str]) -> list[str]:
    values = (getattr(row, name) for name in names)
    return [NOTHING if value is None else str(value) for value in values]


def _length(row: FitRow) -> str:
    return f"{row.max_model_len:,}{_BEYOND if row.is_beyond_model else ''}"


def _notes(rows: Sequence[FitRow]) -> list[str]:
    return [*([_LEGEND] if any(row.is_beyond_model for row in rows) else []), _MARKUP]
