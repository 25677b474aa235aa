from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from harness.contract import has_nvidia
from harness.machine.free import free_bytes


def cgroup(root: Path, path: str, limit: str, current: int = 100) -> None:
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(limit)
    (folder / "memory.current").write_text(str(current))
    (folder / "memory.stat").write_text("anon 5\nactive_file 30\ninactive_file 10\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/jobs/one\n")
    return tmp_path


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"jobs/one": "1000"}, 940),  # what it holds of files is given back
        ({"jobs/one": "max", "jobs": "500"}, 440),
        ({"jobs/one": "1000", "jobs": "500"}, 440),
        ({"jobs/one": "50"}, 0),
    ],
)
def test_the_least_of_all_cgroups_around_it(root: Path, limits: dict[str, str], left: int) -> None:
    for path, limit in limits.items():
        cgroup(root, path, limit)
    assert free_bytes(False, root) == left


def test_without_a_limit_it_is_what_the_machine_has(root: Path) -> None:
    cgroup(root, "jobs/one", "max")
    free = free_bytes(False, root)
    assert free is not None
    assert free == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_of_gpus_that_are_not_there_nothing_is_known() -> None:
    if not has_nvidia():
        assert free_bytes(True) is None
