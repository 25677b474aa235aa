"""What is stored of a cell that failed: one text of why, and of what to do about it."""

from __future__ import annotations

from harness.machine.homes import without_home

_REMEDY = "\ntry: "  # as the command line prints it; no engine's own words hold that


def failure_text(message: str, remedy: str) -> str:
    """The text that `read_failure` reads, without whose it is: a remedy names the interpreter by
    its path."""
    return without_home(f"{message}{_REMEDY}{remedy}" if remedy else message)


def read_failure(text: str) -> tuple[str, str]:
    """Why, and what to do; that is empty where nothing of it was stored."""
    message, _, remedy = text.partition(_REMEDY)
    return message, remedy
