"""A process that takes more than it may is ended: by the kernel where that may be, else by us."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from harness.machine.limit import MemoryLimit
from harness.machine.memory import MIB, MemoryProbe

IDLE = "import sys; sys.stdin.read()"
NOWHERE = Path("/nonexistent")  # has no cgroups


@pytest.fixture
def leader() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a group of its own."""
    command = [sys.executable, "-c", IDLE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        yield process
        process.kill()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree of cgroups, as files: ours is a leaf, and the one around it has limits for leaves."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/old\n0::/user/app/leaf\n")
    leaf = tmp_path / "sys/fs/cgroup/user/app/leaf"
    leaf.mkdir(parents=True)
    (leaf / "cgroup.subtree_control").write_text("\n")
    (leaf.parent / "cgroup.subtree_control").write_text("cpu memory pids\n")
    return tmp_path


def test_without_a_cgroup_what_has_more_is_ended(leader: subprocess.Popen[bytes]) -> None:
    limit = MemoryLimit(leader.pid, 100 * MIB, NOWHERE)
    limit.look(100 * MIB)
    assert not limit.was_exceeded
    limit.look(100 * MIB + 1)
    assert limit.was_exceeded
    assert leader.wait(10) == -signal.SIGKILL
    limit.look(200 * MIB)  # there is no such group any more
    limit.release()


def test_the_probe_has_it_look(leader: subprocess.Popen[bytes]) -> None:
    limit = MemoryLimit(leader.pid, MIB, NOWHERE)
    with MemoryProbe(leader.pid, look=limit.look):
        assert leader.wait(10) == -signal.SIGKILL
    assert limit.was_exceeded


def test_where_a_cgroup_may_be_made_the_kernel_holds_the_limit(
    root: Path, leader: subprocess.Popen[bytes]
) -> None:
    limit = MemoryLimit(leader.pid, 100 * MIB, root)
    [cgroup] = (root / "sys/fs/cgroup/user/app").glob("harness-*")
    said = {path.name: path.read_text() for path in cgroup.iterdir()}
    assert said == {
        "memory.max": str(100 * MIB),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cgroup.procs": str(leader.pid),
    }
    limit.look(200 * MIB)
    assert leader.poll() is None
    for count, was_exceeded in (("0", False), ("1", True)):
        (cgroup / "memory.events").write_text(f"oom 3\noom_kill {count}\n")
        assert limit.was_exceeded == was_exceeded
    for path in cgroup.iterdir():  # the kernel's own go with the folder
        path.unlink()
    limit.release()
    assert not cgroup.exists()


def test_a_cgroup_goes_when_the_last_of_its_processes_has(
    root: Path, leader: subprocess.Popen[bytes]
) -> None:
    limit = MemoryLimit(leader.pid, 100 * MIB, root)
    [cgroup] = (root / "sys/fs/cgroup/user/app").glob("harness-*")

    def end() -> None:
        for path in cgroup.iterdir():
            path.unlink()

    gone = Timer(0.1, end)
    gone.start()
    limit.release()
    gone.join()
    assert not cgroup.exists()
    limit.release()


def test_nothing_leaves_a_cgroup_that_has_a_limit(
    root: Path, leader: subprocess.Popen[bytes]
) -> None:
    leaf = root / "sys/fs/cgroup/user/app/leaf"
    (leaf / "memory.max").write_text("1000\n")
    limit = MemoryLimit(leader.pid, 100 * MIB, root)
    assert not list(leaf.parent.glob("harness-*"))
    limit.look(200 * MIB)
    assert limit.was_exceeded
    (leaf / "memory.max").write_text("max\n")
    MemoryLimit(leader.pid, 100 * MIB, root)
    assert list(leaf.parent.glob("harness-*"))


def test_a_cgroup_that_may_not_be_made_is_done_without(
    root: Path, leader: subprocess.Popen[bytes]
) -> None:
    taken = root / f"sys/fs/cgroup/user/app/harness-{leader.pid}"
    taken.mkdir()  # another has that name
    limit = MemoryLimit(leader.pid, 100 * MIB, root)
    limit.look(200 * MIB)
    assert leader.wait(10) == -signal.SIGKILL
    assert taken.exists()
