from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from backends.in_use import free, hold, mark_of

HOLD = """
import sys
from pathlib import Path
from backends.in_use import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_what_a_process_holds_is_not_free_until_it_ends(tmp_path: Path) -> None:
    mark = mark_of(tmp_path / "made")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "made")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        with free(mark) as is_free:
            assert not is_free
        process.communicate("")
    with free(mark) as is_free:
        assert is_free


def test_many_can_hold_and_the_time_of_the_last_is_known(tmp_path: Path) -> None:
    made = tmp_path / "new" / "made"
    hold(made)
    first = mark_of(made).stat().st_mtime_ns
    hold(made)
    assert mark_of(made).stat().st_mtime_ns >= first
    with free(mark_of(made), tmp_path / "other.lock") as is_free:
        assert not is_free
