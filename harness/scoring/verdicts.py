"""What became of a single reply. Nothing is imported here: help texts name these."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """In the order in which they are worth a look."""

    WRONG = "wrong"
    UNPARSED = "unparsed"
    FAILED = "failed"
    RIGHT = "right"
