"""Why vLLM did not load, out of errors that hide it.

pydantic's errors begin with a line that names a class and no cause. An error of vLLM's second
process, in which a GPU's engine runs, is in the log alone: the one that is raised says "See root
cause above".
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

from backends.rules import first_line

_ELSEWHERE = "root cause"  # "See root cause above", "See stack trace for root cause"
_STDERR = 2
_LOG_BYTES = 2**20  # from the end of the log
# `(EngineCore pid=7) ERROR 01-02 03:04:05 [core.py:9] ValueError: too little memory`
_RAISED = re.compile(r"^(?:\([^)]*\) )?(?:ERROR [^\]]*\] )?(?:\w+\.)*\w*(?:Error|Exception): (.+)$")


def cause(error: BaseException) -> str:
    """In one line, without the point at its end."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = cause_in(_log()) if _ELSEWHERE in str(error) else "; ".join(_of_pydantic(error))
    return (said or first_line(error)).removesuffix(".")


def cause_in(log: str) -> str:
    """What the last error of another process said; empty where there is none."""
    found = [match[1] for line in log.splitlines() if (match := _RAISED.match(line.strip()))]
    said = [text for text in found if _ELSEWHERE not in text]
    return said[-1] if said else ""


def _of_pydantic(error: Any) -> list[str]:
    """What each of a validation error's parts says; none for any other error."""
    if not hasattr(error, "error_count"):
        return []
    parts = [(".".join(map(str, one["loc"])), one["msg"]) for one in error.errors()]
    return [
        ": ".join(filter(None, [where, said.removeprefix("Value error, ").split("\n")[0]]))
        for where, said in parts
    ]


def _log() -> str:
    """The end of what this process and its children have written to stderr, if that is a file."""
    try:
        size = os.fstat(_STDERR).st_size
        if not stat.S_ISREG(os.fstat(_STDERR).st_mode):  # to read a pipe would wait for ever
            return ""
        with Path(f"/dev/fd/{_STDERR}").open("rb") as file:
            file.seek(max(0, size - _LOG_BYTES))
            return file.read(_LOG_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
