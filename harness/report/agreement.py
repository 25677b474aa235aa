"""Whether entries agree, as a table and as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from harness.comparison.records import (
    Agreement,
    LabelAgreement,
    Member,
    OddsDifference,
    VerdictAgreement,
    VerdictDifference,
)
from harness.report.table import Sheet, simple_table
from harness.report.text import NOTHING, lines, number, percent
from harness.report.words import worded

_TITLES = ("do they agree?", "equal labels", "log-odds apart:\nmedian (largest)", "other verdicts")
_MOST_SHOWN = 5


def with_replies(agreements: Sequence[Agreement]) -> list[Agreement]:
    """Without pairs of which one gave no reply to any prompt of both."""
    return [
        one
        for one in agreements
        if not one.prompts or one.labels.answered or one.log_odds or one.verdicts.queries
    ]


def agreement_table(agreements: Sequence[Agreement]) -> Sheet:
    """A row for each pair of entries."""
    several = _of_several_runs(agreements)
    return simple_table(
        _TITLES,
        (
            (
                f"{_name(one.first, several)}\n{_name(one.other, several)}",
                _labels(one.labels) if one.prompts else "no prompt in common",
                _log_odds(one),
                _verdicts(one.verdicts),
            )
            for one in agreements
        ),
    )


def agreement_notes(agreements: Sequence[Agreement]) -> Text:
    """The caveats with their advice."""
    several = _of_several_runs(agreements)
    return lines(
        *(
            f"note: {_pair(one, several)}: {caveat.message} {caveat.advice}"
            for one in agreements
            for caveat in map(worded, one.caveats)
        )
    )


def where_they_differ(agreements: Sequence[Agreement]) -> Text:
    """The first queries with other verdicts and the cell furthest apart, of each pair."""
    several = _of_several_runs(agreements)
    return lines(
        *(f"{_pair(one, several)}: {said}" for one in agreements for said in _differences(one))
    )


def _differences(one: Agreement) -> Iterator[str]:
    if differing := one.verdicts.differing:
        shown = "; ".join(map(_verdict, differing[:_MOST_SHOWN]))
        left = len(differing) - _MOST_SHOWN
        more = f"; and {left:,} more (--json has all)" if left > 0 else ""
        yield f"other verdicts on query {shown}{more}."
    if one.log_odds and one.log_odds.largest:
        yield f"log-odds furthest apart at {_place(one.log_odds.furthest[0])}."


def _labels(labels: LabelAgreement) -> str:
    """`90 % of 38`, and how many replies gave no label on the one side and on the other."""
    if not labels.answered:
        return NOTHING
    unread = labels.unread_first, labels.unread_other
    of = f"{percent(labels.share)} of {labels.read:,}"
    return f"{of}\nunread: {unread[0]:,} / {unread[1]:,}" if any(unread) else of


def _log_odds(one: Agreement) -> str:
    if one.log_odds is None:
        return NOTHING
    figures = f"{number(one.log_odds.median)} ({number(one.log_odds.largest)})"
    return f"{figures}\nsame weights" if one.same_weights else figures


def _verdicts(verdicts: VerdictAgreement) -> str:
    if not verdicts.queries:
        return NOTHING
    votes = dict.fromkeys((verdicts.first_vote, verdicts.other_vote))
    return f"{len(verdicts.differing):,} of {verdicts.queries:,}\n{' / '.join(votes)}"


def _verdict(one: VerdictDifference) -> str:
    return f"{one.position} (row {one.row}): {one.first} / {one.other}"


def _place(one: OddsDifference) -> str:
    what = {
        "query": "query",
        "calibration": "calibration query",
        "shuffled": "query behind shuffled labels",
    }[one.role]
    return f"voter {one.voter}, {what} {one.position} (row {one.row}): {number(one.difference)}"


def _of_several_runs(agreements: Sequence[Agreement]) -> bool:
    return len({member.run_id for one in agreements for member in (one.first, one.other)}) > 1


def _pair(one: Agreement, several: bool) -> str:
    return f"{_name(one.first, several)} / {_name(one.other, several)}"


def _name(member: Member, several: bool) -> str:
    return member.called if several else member.entry
