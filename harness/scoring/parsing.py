"""Reading a reply as a label: strictly, or leniently. A reply that cannot be read is no vote.

Both parsers give the index of a label or the reason why there is none; never a default. They read
words, not sense: "not real" is "real" where no label says otherwise.

A label stands alone in a text where its word is not carried on: no letter, digit or combining mark
touches it, directly or over one joiner (hyphen, apostrophe, underscore). So "no" is neither in
"none" nor in "no-one", but is in "**no**", "_no_" and "no.". A number is also carried on by its
sign and by a decimal mark: "1" is neither in "-1" nor in "1.5". Scripts that put no space between
words are therefore read only where the label is set off.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.stats.intervals import wilson
from harness.summary import Parse

# Sets, not strings: the empty text at the end of a reply is `in` every string.
_JOINERS = frozenset("-\u2010\u2011_'\u2019")
_DECIMAL_MARKS = frozenset(".,")
_SIGNS = frozenset("-\u2212.")  # the point is that of .5

NOT_PARSED = Parse(replies=None, strict=None, lenient=None, reasons=None)
"""What stands for the parser in `score` decoding, where nothing is generated."""


class UnparsedReason(StrEnum):
    """Why a reply gives no label."""

    EMPTY = "empty"
    NO_LABEL = "no_label"
    TWO_LABELS = "two_labels"
    CUT_OFF = "cut_off"


@dataclass(frozen=True, slots=True)
class Unparsed:
    """A reply that is no label."""

    reason: UnparsedReason


def parse_strict(text: str, words: Sequence[str], cut_off: bool) -> int | Unparsed:
    """The index of the label word that the reply is, but for white space around it.

    `words` are the label words, all different and without outer white space. `cut_off`: the engine
    stopped for length, so that what follows is unknown and no label is read.
    """
    if cut_off:
        return Unparsed(UnparsedReason.CUT_OFF)
    reply = text.strip()
    if not reply:
        return Unparsed(UnparsedReason.EMPTY)
    if reply in words:
        return list(words).index(reply)
    return Unparsed(UnparsedReason.NO_LABEL)


def parse_lenient(text: str, words: Sequence[str], cut_off: bool) -> int | Unparsed:
    """The index of the one label word that stands alone in the reply, in any case.

    What `parse_strict` reads is read the same. A label inside a longer one ("real" in "not real")
    is not counted there; the same label twice is that label.
    """
    strict = parse_strict(text, words, cut_off)
    if strict != Unparsed(UnparsedReason.NO_LABEL):
        return strict
    labels = _labels_in(_fold(text), [_fold(word) for word in words])
    if len(labels) > 1:
        return Unparsed(UnparsedReason.TWO_LABELS)
    return labels.pop() if labels else strict


def summarise_parse(strict: Sequence[int | Unparsed], lenient: Sequence[int | Unparsed]) -> Parse:
    """How many of the same replies each parser could read, and why the lenient one could not.

    `reasons` has a count for every reason. With no replies there are no shares.
    """
    counts = Counter(parsed.reason for parsed in lenient if isinstance(parsed, Unparsed))
    return Parse(
        replies=len(strict),
        strict=wilson(_readable(strict), len(strict)) if strict else None,
        lenient=wilson(_readable(lenient), len(lenient)) if lenient else None,
        reasons={reason.value: counts[reason] for reason in UnparsedReason},
    )


def _readable(parsed: Sequence[int | Unparsed]) -> int:
    return sum(not isinstance(label, Unparsed) for label in parsed)


def _fold(text: str) -> str:
    """For comparing without case (Unicode, D145), with each run of white space as one space."""
    # Decomposed twice, as D145 has it: folding can give letters that decompose further.
    folded = unicodedata.normalize("NFD", text).casefold()
    return " ".join(unicodedata.normalize("NFD", folded).split())


def _labels_in(text: str, words: Sequence[str]) -> set[int]:
    """The labels that stand alone in the text, outside any longer label; all folded."""
    spans = [
        (match.start(), match.start() + len(word), label)
        for label, word in enumerate(words)
        # a look-ahead, because a word with spaces can overlap with itself
        for match in re.finditer(f"(?={re.escape(word)})", text)
        if _stands_alone(text, match.start(), match.start() + len(word))
    ]
    return {
        label
        for start, end, label in spans
        if not any(s <= start and end <= e and e - s > end - start for s, e, _ in spans)
    }


def _stands_alone(text: str, start: int, end: int) -> bool:
    before, after = text[max(start - 2, 0) : start][::-1], text[end : end + 2]
    # Read outwards: the character that touches the word comes first on both sides.
    signed = text[start].isdigit() and before[:1] in _SIGNS
    return not (signed or _carries_on(text[start], before) or _carries_on(text[end - 1], after))


def _carries_on(edge: str, outside: str) -> bool:
    """Whether the two characters outside a word, read outwards from its edge, belong to it."""
    near, far = outside[:1], outside[1:]
    if near in _DECIMAL_MARKS:
        return edge.isdigit() and far.isdigit()
    return _in_word(far if near in _JOINERS else near)


def _in_word(char: str) -> bool:
    """Whether it is a letter, a digit or a mark; nothing at all is not."""
    return bool(char) and unicodedata.category(char)[0] in "LNM"
