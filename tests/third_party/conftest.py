"""The projects here are run by their own pytest, or are no tests."""

from __future__ import annotations

collect_ignore = ["counting", "watched"]
