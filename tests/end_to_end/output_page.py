"""`docs/OUTPUT.md`: what the commands print of stored runs, on terminals of 80 and of 140 columns.

    python -m tests.end_to_end.output_page > docs/OUTPUT.md

The runs are the archives in `tests/stores/output`: they are stored once, as engines do not have the
same figures twice, and `tests/stores/README.md` says how they were made. What is printed of them is
made again each time, and `test_output.py` compares it with the page.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from tests.end_to_end.inside import inside

ARCHIVES = Path(__file__).parents[1] / "stores" / "output"
PAGE = Path(__file__).parents[2] / "docs" / "OUTPUT.md"
NARROW, WIDE = 80, 140

_HEAD = """\
# What the commands print

Real output, at two widths of the terminal, of five stored runs. `harness run` prints the same as
`harness show` of its run. A table that does not fit beside one another stands below one another,
and no option, path or run id is broken or cut: columns are `COLUMNS` wide where that is set, else
as wide as the terminal; a file gets 140.

This page is made by `python -m tests.end_to_end.output_page`, and a test compares it with what is
printed now.
"""

_PARTS: tuple[tuple[str, str, tuple[str, ...], tuple[int, ...]], ...] = (
    (
        "One engine",
        "First the answer: what was read, the vote against chance and the best baseline, what fits "
        "and how fast it is. Then the table, the machine, votes and baselines, and notes with what "
        "would help.",
        ("show", "one-engine"),
        (NARROW, WIDE),
    ),
    (
        "Three engines",
        "Who is ahead in what, and whether that is shown. `*` marks it, as there may be no colour.",
        ("show", "three-engines"),
        (NARROW, WIDE),
    ),
    (
        "Three engines compared",
        "`harness compare` has the same lines first. `--explain` says how the figures come about.",
        ("compare", "three-engines"),
        (NARROW, WIDE),
    ),
    (
        "No reply could be read",
        "It has no accuracy; three replies are shown, and what to try. The mock stands "
        "in for a model that writes no label.",
        ("show", "no-label"),
        (NARROW,),
    ),
    (
        "An engine failed",
        "Its row has dashes, the others stand. `harness run` ends with the reason and what to do, "
        "and exit code 1.",
        ("show", "failed"),
        (NARROW,),
    ),
    (
        "A run was interrupted",
        "What there is, and the command that goes on with it.",
        ("show", "interrupted"),
        (NARROW,),
    ),
    ("All runs", "The newest first.", ("list",), (NARROW, WIDE)),
    (
        "Models",
        "Paths stay whole at any width. `--found` lists those of other programs "
        "([README](../README.md#your-own-model)), `--clean` what can be removed.",
        ("models",),
        (NARROW,),
    ),
)


def page() -> str:
    with tempfile.TemporaryDirectory() as folder, _set_apart(folder):
        for archive in sorted(ARCHIVES.glob("*.zip")):
            done = inside(Path(folder), "import", str(archive), "--name", archive.stem)
            assert done.returncode == 0, done.stderr
        return "\n".join([_HEAD, *_sections(Path(folder))])


@contextmanager
def _set_apart(folder: str) -> Iterator[None]:
    """With no models in the cache, and with times as in UTC."""
    with patch.dict(os.environ, {"XDG_CACHE_HOME": folder, "TZ": "UTC"}):
        time.tzset()
        yield
    time.tzset()


def _sections(folder: Path) -> Iterator[str]:
    for title, said, arguments, widths in _PARTS:
        yield f"## {title}\n\n{said}\n"
        for width in widths:
            done = inside(folder, *arguments, COLUMNS=str(width))
            assert done.returncode == 0, done.stderr
            line = f"COLUMNS={width} harness {' '.join(arguments)}"
            yield f"```\n$ {line}\n{_plain(done.stdout)}\n```\n"


def _plain(text: str) -> str:
    """Without the white space that fills lines, and without where packages are on this machine."""
    packages = sysconfig.get_path("purelib")
    where = ".venv/lib/python3.11/site-packages"
    lines = (line.rstrip() for line in text.replace(packages, where).splitlines())
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(page())
