"""Paths without whose they are: a home folder tells the name of a user."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

_HOMES = r"/home/[^/\s'\"]+|/Users/[^/\s'\"]+|/root|[A-Za-z]:\\Users\\[^\\\s'\"]+"
_BEFORE, _AFTER = r"(?<![\w./\\~-])", r"(?![\w.-])"
_ANY_HOME = re.compile(f"{_BEFORE}(?:{_HOMES}){_AFTER}")


def without_home(text: str) -> str:
    """With `~` in place of every home folder: the own one, wherever it is, and those of others."""
    own = os.environ.get("HOME", "").rstrip("/")
    if Path(own).is_absolute():
        text = re.sub(f"{_BEFORE}{re.escape(own)}{_AFTER}", "~", text)
    return _ANY_HOME.sub("~", text)


def without_homes(record: Any) -> Any:
    """The same for every text in lists and mappings; names of fields stay."""
    if isinstance(record, str):
        return without_home(record)
    if isinstance(record, dict):
        return {key: without_homes(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [without_homes(one) for one in record]
    return record
