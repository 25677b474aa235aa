"""Prompts and replies of a run, to be looked at.

Both come from files and engines: in a table every character that could drive a terminal is written
as an escape, and a long reply is shortened with a mark. JSON and CSV have all of it.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.text import Text

from harness.errors import StoreError, UsageError
from harness.report.formats import Answer
from harness.report.table import Sheet, simple_table
from harness.report.text import NOTHING, Verbatim, escaped, lines, plain, shortened
from harness.scoring.parsing import UnparsedReason
from harness.scoring.verdicts import Verdict
from harness.store.replies import ReplyRecord, as_row, columns_of
from harness.store.runs import StoredEntry, StoredRun
from harness.store.schema import PromptRow
from harness.summary import RunSummary

_WIDEST = 60  # of a reply in a table
_EXAMPLES = 3  # replies that are printed where none could be read
_WIDEST_EXAMPLE = 200
_ENDS = 12  # token ids that a table shows at each end of a prompt
_MARKS = {"c": "calibration", "s": "shuffled"}
"""Letters before the position of a prompt that is no query, and its role."""
_ORDER = {verdict.value: place for place, verdict in enumerate(Verdict)}
_WHY: dict[str, str] = {
    UnparsedReason.EMPTY: "empty",
    UnparsedReason.NO_LABEL: "no label",
    UnparsedReason.TWO_LABELS: "two labels",
    UnparsedReason.CUT_OFF: "cut off",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which replies: `None` for all. Those of all verdicts are counted."""

    entry: str | None = None
    only: Verdict | None = None
    voter: int | None = None
    query: int | None = None


def place_of(record: ReplyRecord) -> str:
    """`VOTER:QUERY`, as `--prompt` takes it; `0:c3` is calibration prompt 3 of voter 0, `0:s3`
    query 3 behind shuffled labels."""
    mark = next((mark for mark, role in _MARKS.items() if role == record.role), "")
    return f"{record.voter}:{mark}{record.query}"


def replies_answer(run: StoredRun, wanted: Wanted, limit: int | None) -> Answer:
    """The replies that have a verdict, those that are worth a look first."""
    _check_range(run, wanted)
    counts: dict[str, Counter[str]] = {}
    every = _counted(_matching(run, wanted), counts)
    matching = (one for one in every if wanted.only in (None, one.verdict))
    if limit is None:
        shown = sorted(matching, key=_rank)
    else:
        shown = heapq.nsmallest(limit, matching, key=_rank)
    of_interest = Verdict if wanted.only is None else [wanted.only]
    left_out = sum(n[one.value] for n in counts.values() for one in of_interest) - len(shown)
    data = {
        "run_id": run.run_id,
        "counts": {
            entry: {one.value: n[one.value] for one in Verdict} for entry, n in counts.items()
        },
        "left_out": left_out,
        "replies": list(map(asdict, shown)),
    }
    parts: list[Any] = [replies_table(shown, counts)] if shown else []
    said = [_count_line(entry, count) for entry, count in counts.items()]
    if left_out:
        said.append(f"and {left_out:,} more: --limit {left_out + len(shown)} shows all.")
    if shown:
        said.append(
            f"A prompt as it was given: harness show {_named(run)} --prompt {place_of(shown[0])}"
        )
    else:
        said.append(f"No such reply in run {run.run_id}.")
    columns = columns_of(run.classes)
    records = [{name: row.get(name) for name in columns} for row in map(as_row, shown)]
    return Answer(Group(*parts, lines(*said)), data, records, is_verbatim=True)


def replies_table(records: Sequence[ReplyRecord], entries: Iterable[str]) -> Sheet:
    """A row a reply; which entry it is from stands there where there are several."""
    has_several = len(list(entries)) > 1
    titles = ("voter:\nquery", "true", "read", "verdict", "reply", "log-probabilities")
    rows = []
    for one in records:
        why = f"\n{_WHY[one.reason or '']}" if one.verdict == Verdict.UNPARSED else ""
        said = one.reason if one.verdict == Verdict.FAILED else one.text
        attempt = f"\nattempt {one.attempt}" if one.attempt else ""
        rows.append(
            (
                *([one.entry] if has_several else []),
                place_of(one) + attempt,
                one.true_label,
                one.label or NOTHING,
                f"{one.verdict}{why}",
                shortened(escaped(said or ""), _WIDEST) if said else NOTHING,
                _logprobs(one),
            )
        )
    return simple_table(("entry", *titles) if has_several else titles, rows)


def _logprobs(record: ReplyRecord) -> str:
    known = record.label_logprobs or {}
    figures = (
        f"{name} {NOTHING if value is None else f'{value:.2f}'}" for name, value in known.items()
    )
    return "\n".join(figures) or NOTHING


def _rank(record: ReplyRecord) -> tuple[int, str, int, int, int]:
    return (
        _ORDER[record.verdict or ""],
        record.entry,
        record.voter,
        record.query,
        record.attempt,
    )


def _matching(run: StoredRun, wanted: Wanted) -> Iterator[ReplyRecord]:
    entries = run.entries.values() if wanted.entry is None else [run.entry(wanted.entry)]
    for entry in entries:
        for one in entry.records():
            if (
                one.verdict is not None
                and wanted.voter in (None, one.voter)
                and (wanted.query is None or (one.role, one.query) == ("query", wanted.query))
            ):
                yield one


def _counted(
    records: Iterable[ReplyRecord], counts: dict[str, Counter[str]]
) -> Iterator[ReplyRecord]:
    for one in records:
        counts.setdefault(one.entry, Counter())[one.verdict or ""] += 1
        yield one


def _count_line(entry: str, count: Counter[str]) -> str:
    return f"{entry}: {', '.join(f'{count[one.value]:,} {one.value}' for one in Verdict)}"


def _named(run: StoredRun) -> str:
    return run.name or run.run_id


def _check_range(run: StoredRun, wanted: Wanted) -> None:
    voters = 1 + max((prompt.voter for prompt in run.prompts), default=-1)
    queries = _most(run, "query")
    for flag, value, most in (
        ("--voter", wanted.voter, voters),
        ("--query", wanted.query, queries),
    ):
        if value is not None and not 0 <= value < most:
            raise UsageError(f"{flag} {value}: run {run.run_id} has {_range(most)}")


def _most(run: StoredRun, role: str) -> int:
    return 1 + max((p.position for p in run.prompts if p.role == role), default=-1)


def _range(most: int, mark: str = "") -> str:
    return f"{mark}0 to {mark}{most - 1}" if most else "none"


def prompt_answer(entry: StoredEntry, place: str) -> Answer:
    """A prompt as the entry's engine was given it: its text, and its tokens."""
    run = entry.run
    index = _index_of(run, place)
    prompt = run.prompts[index]
    if run.texts is None:
        raise StoreError(
            f"run {run.run_id} holds no texts of its prompts: an earlier version stored it",
            remedy="Repeat it: harness show RUN --command prints the line.",
        )
    text = run.texts[index]
    ids = entry.token_ids[index].tolist() if entry.token_ids is not None else None
    token_sha256 = entry.tokens[index].token_sha256 if entry.tokens else None
    data = {
        "run_id": run.run_id,
        "entry": entry.name,
        "voter": prompt.voter,
        "role": prompt.role,
        "query": prompt.position,
        "row": prompt.row,
        "true_label": run.classes[prompt.label],
        "examples": prompt.examples,
        "text": text,
        "text_sha256": prompt.text_sha256,
        "n_tokens": None if ids is None else len(ids),
        "token_ids": ids,
        "token_sha256": token_sha256,
    }
    split = "train" if prompt.role == "calibration" else "test"
    what = "query (labels shuffled)" if prompt.role == "shuffled" else prompt.role
    said = lines(
        f"Run {run.run_id}, {entry.name}: {what} {prompt.position} of voter {prompt.voter} "
        f"(row {prompt.row} of the {split} data), with {prompt.examples:,} examples; true label "
        f"{run.classes[prompt.label]}.",
        f"{len(text):,} characters, SHA-256 {prompt.text_sha256}.",
    )
    tokens = lines(*_tokens(ids, token_sha256))
    record = {name: value for name, value in data.items() if name != "token_ids"}
    record["token_ids"] = None if ids is None else " ".join(map(str, ids))
    parts = Group(said, Text(), Verbatim(text), Text(), tokens)
    return Answer(parts, data, [record], is_verbatim=True)


def _tokens(ids: list[int] | None, sha256: str | None) -> Iterator[str]:
    if ids is None:
        yield "The run holds no token ids of this entry."
        return
    yield f"{len(ids):,} tokens, SHA-256 {sha256}:"
    if len(ids) <= 2 * _ENDS + 1:
        yield " ".join(map(str, ids))
        return
    between = f"... {len(ids) - 2 * _ENDS:,} more (--json has all) ..."
    yield " ".join([*map(str, ids[:_ENDS]), between, *map(str, ids[-_ENDS:])])


def _index_of(run: StoredRun, place: str) -> int:
    """Where the prompt `VOTER:QUERY` stands among those of the run."""
    voters = 1 + max((prompt.voter for prompt in run.prompts), default=-1)
    shuffled = _most(run, "shuffled")
    remedy = (
        f"VOTER is {_range(voters)}; QUERY is {_range(_most(run, 'query'))}, or for a calibration "
        f"prompt {_range(_most(run, 'calibration'), 'c')}"
        + (f", behind shuffled labels {_range(shuffled, 's')}." if shuffled else ".")
    )
    voter, _, query = place.partition(":")
    role = _MARKS.get(query[:1], "query")
    number = query if role == "query" else query[1:]
    if not (voter.isdecimal() and number.isdecimal()):
        raise UsageError(f"--prompt {plain(place)} is not VOTER:QUERY, such as 0:3", remedy=remedy)
    for index, prompt in enumerate(run.prompts):
        if _is_at(prompt, int(voter), role, int(number)):
            return index
    raise UsageError(f"run {run.run_id} has no prompt {plain(place)}", remedy=remedy)


def _is_at(prompt: PromptRow, voter: int, role: str, position: int) -> bool:
    return (prompt.voter, prompt.role, prompt.position) == (voter, role, position)


def unparsed_notes(run: StoredRun, summaries: Sequence[RunSummary]) -> list[Text]:
    """Of each entry whose every reply could not be read three of them, and what to try."""
    found = []
    for one in summaries:
        if one.parse.replies and one.parse.lenient and not one.parse.lenient.value:
            found.append(_unparsed(run, one))
    return found


def _unparsed(run: StoredRun, summary: RunSummary) -> Text:
    unparsed = (
        one for one in run.entry(summary.entry).records() if one.verdict == Verdict.UNPARSED
    )
    first = [one for one, _ in zip(unparsed, range(_EXAMPLES), strict=False)]
    words = shortened(", ".join(summary.label_words), _WIDEST_EXAMPLE)
    said = [
        f"No reply of {summary.entry} could be read as a label ({words}). The first "
        f"{len(first)} of {summary.parse.replies:,}:"
    ]
    for one in first:
        text = shortened(escaped(one.text or ""), _WIDEST_EXAMPLE)
        said.append(f'  {place_of(one)}  "{text}"')
    said.append(f"try: {_remedy(run, summary)}")
    said.append(f"All of them: harness show {_named(run)} --replies --only unparsed")
    return lines(*said)


def _remedy(run: StoredRun, summary: RunSummary) -> str:
    reasons = summary.parse.reasons or {}
    cut_off = reasons.get(UnparsedReason.CUT_OFF, 0)
    others = "--decoding choice, which generates labels only, or score; or another --prompt."
    if cut_off * 2 >= (summary.parse.replies or 0):
        return f"a larger --max-tokens (most replies were cut off at {run.max_tokens}); {others}"
    return others
