"""Files of other tools: which kind one is shows in its content, never in its name.

What stands in a file is untrusted: it is data of the expected types, or the file is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError

from harness.errors import DataError, UsageError
from harness.imports import llama_bench, lm_eval, vllm_bench
from harness.imports.records import Imported, ImportFile

MOST_BYTES = 64 * 2**20
# Beyond 308 digits `float` raises OverflowError, which nothing here catches.
_MOST_DIGITS = 30  # of a whole number: far beyond any time in nanoseconds
_MOST_ERRORS = 3
_READERS = (*llama_bench.READERS, *vllm_bench.READERS, *lm_eval.READERS)
_SPACE = re.compile(r"\s*")
_WHAT_IS_READ = (
    "Give what one of these wrote: llama-bench -o json or jsonl; harness bench --json; vllm bench "
    "serve --save-result; vllm bench throughput or latency --output-json; lm-evaluation-harness "
    "(its results_*.json); harness export RUN -o run.zip."
)


def read_file(path: Path) -> ImportFile:
    """The tests in a file. Raises `UsageError` where there is none, `DataError` that names it where
    it cannot be read."""
    try:
        if not path.is_file():
            raise UsageError(f"{path}: there is no such file", remedy=_WHAT_IS_READ)
        with path.open("rb") as file:
            # One byte more shows that there is more; the size in the folder may change while it is
            # read.
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", remedy="Check its permissions.") from error
    if len(content) > MOST_BYTES:
        raise DataError(
            f"{path}: more than {MOST_BYTES // 2**20} MiB, which no such file has",
            remedy="`vllm bench serve` writes less without --save-detailed.",
        )
    return ImportFile(path.name, sha256(content).hexdigest(), read_content(content, str(path)))


def read_content(content: bytes, where: str) -> tuple[Imported, ...]:
    """The tests in the bytes of a file. Raises `DataError` that names `where` they are from."""
    try:
        tests = tuple(test for one in _documents(_text(content)) for test in _read(one, where))
    except ValidationError as error:
        raise DataError(f"{where}: {_wrong(error)}", remedy=_WHAT_IS_READ) from error
    # json raises RecursionError for lists within lists, some thousands deep.
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: this is no JSON: {error}", remedy=_WHAT_IS_READ) from error
    if not tests:
        raise DataError(f"{where}: there are no figures in it", remedy=_WHAT_IS_READ)
    return tests


def _text(content: bytes) -> str:
    """A shell may have written UTF-16, or a byte order mark."""
    return content.decode(json.detect_encoding(content))


def _documents(text: str) -> Iterator[object]:
    """The JSON values that stand one behind the other in a text, and the rows of lists."""
    decoder = json.JSONDecoder(parse_int=_integer)
    at = _behind_space(text, 0)
    while at < len(text):
        value, end = decoder.raw_decode(text, at)
        yield from _rows(value)
        at = _behind_space(text, end)


def _rows(value: object) -> list[object]:
    """Those of a list, or of what `harness bench --json` writes; anything else is one itself."""
    if isinstance(value, dict) and {"schema_version", "rows"} <= value.keys():
        value = value["rows"]
    return value if isinstance(value, list) else [value]


def _behind_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _read(document: object, where: str) -> list[Imported]:
    if isinstance(document, dict):
        for reader in _READERS:
            if reader.keys <= document.keys():
                return reader.read(document)
    raise DataError(f"{where}: this JSON is of no tool that is known here", remedy=_WHAT_IS_READ)


def _wrong(error: ValidationError) -> str:
    """The first things that are wrong, each with its place."""
    # Without the input: it is untrusted, and may be long.
    wrong = error.errors(include_url=False, include_input=False, include_context=False)
    stated = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in wrong[:_MOST_ERRORS]]
    more = [f"and {len(wrong) - _MOST_ERRORS:,} more"] if len(wrong) > _MOST_ERRORS else []
    return "; ".join([*stated, *more])
