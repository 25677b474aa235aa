"""Reading without the right to write, and damage of the file itself."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.store.runs import Results, has_results
from harness.store.schema import SCHEMA_VERSION
from harness.store.store import FILE_NAME, Store
from tests.unit.store.test_store import begin, save_prompts

READER = """
import sys
from pathlib import Path
from harness.store.runs import Results

with Results(Path(sys.argv[1])) as results:
    print(*(run.run_id for run in results))
"""
LESS_THAN_ROOT = [
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
]


def unprivileged() -> list[str]:
    """What makes a command keep to the rights of files, whoever runs the tests."""
    if os.geteuid() != 0:
        return []
    if shutil.which(LESS_THAN_ROOT[0]) is None:
        pytest.skip("root may write anywhere, and there is no setpriv")
    return LESS_THAN_ROOT


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    for path in [*folder.iterdir(), folder]:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        yield
    finally:
        folder.chmod(0o755)


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {one.name: (one.stat().st_size, one.stat().st_mtime_ns) for one in folder.iterdir()}


def runs_read(folder: Path) -> list[str]:
    done = subprocess.run(
        [*unprivileged(), sys.executable, "-c", READER, str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results"


def test_a_folder_that_cannot_be_written_is_read(folder: Path) -> None:
    with Store(folder) as store:
        run_id = begin(store)
    with read_only(folder):
        before = state(folder)
        assert list(before) == [FILE_NAME]
        assert runs_read(folder) == [run_id]
        assert state(folder) == before


def test_a_file_that_cannot_be_written_is_read_without_a_trace(folder: Path) -> None:
    with Store(folder) as store:
        run_id = begin(store)
    (folder / FILE_NAME).chmod(0o444)
    before = state(folder)
    assert runs_read(folder) == [run_id]
    assert state(folder) == before


@pytest.mark.parametrize("has_shared_memory", [True, False])
def test_what_is_in_the_log_alone_is_read_where_nothing_can_be_written(
    folder: Path, tmp_path: Path, has_shared_memory: bool
) -> None:
    """As on a medium that a store was copied to while a run went on."""
    copied = tmp_path / "copied"
    with Store(folder) as store:
        run_id = begin(store)
        shutil.copytree(folder, copied)
    with closing(sqlite3.connect(f"file:{copied / FILE_NAME}?immutable=1", uri=True)) as raw:
        assert raw.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    if not has_shared_memory:
        (copied / f"{FILE_NAME}-shm").unlink()
    with read_only(copied):
        before = state(copied)
        assert runs_read(copied) == [run_id]
        assert state(copied) == before


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_earlier_file_is_upgraded_in_a_copy_where_it_cannot_be_written(
    old_results: Callable[[int], Path], version: int
) -> None:
    folder = old_results(version)
    with read_only(folder):
        before = state(folder)
        assert len(runs_read(folder)) == 3
        assert state(folder) == before


def test_a_copy_is_removed_when_it_was_read(
    old_results: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(copies))
    monkeypatch.setattr("harness.store.store.is_for_reading_only", lambda _: True)
    with Results(old_results(1)) as results:
        assert len(list(results)) == 3
        assert len(list(copies.iterdir())) == 1
    assert list(copies.iterdir()) == []


def test_without_room_for_a_copy_the_error_says_where_it_goes(
    old_results: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = old_results(1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    monkeypatch.setattr("harness.store.store.is_for_reading_only", lambda _: True)
    with pytest.raises(StoreError, match="No space left on device") as caught:
        Results(folder)
    assert "TMPDIR" in caught.value.remedy


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def zero_the_first_page(path: Path) -> None:
    path.write_bytes(bytes(4096) + path.read_bytes()[4096:])


def zero_the_other_pages(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:4096] + bytes(path.stat().st_size - 4096))


def make_another(path: Path) -> None:
    path.write_text("run,accuracy\n" * 1000)


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def drop_a_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("DROP TABLE baselines")


def drop_a_column(path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("ALTER TABLE cells DROP COLUMN reason")


def forget_the_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA user_version = 0")


def make_the_version_negative(path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA user_version = -7")


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        zero_the_first_page,
        zero_the_other_pages,
        make_another,
        make_empty,
        make_a_folder,
        drop_a_table,
        drop_a_column,
        forget_the_version,
        make_the_version_negative,
    ],
)
def test_a_damaged_file_is_one_error_with_a_remedy(
    folder: Path, damage: Callable[[Path], None]
) -> None:
    with Store(folder) as store:
        save_prompts(store, begin(store), *range(50))
    damage(folder / FILE_NAME)
    before = state(folder)
    assert has_results(folder)
    with pytest.raises(StoreError, match=FILE_NAME) as caught, Results(folder) as results:
        for run in results:
            run.check_prompted()
    assert caught.value.remedy
    assert state(folder) == before


def test_a_new_store_that_several_begin_at_once_is_begun_once(folder: Path) -> None:
    begins = "from pathlib import Path; import sys; from harness.store.store import Store\n"
    begins += 'sys.stdin.readline(); Store(Path(sys.argv[1])).create_run("{}", "{}", [], None)'
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", begins, str(folder)], stdin=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("go\n")
        opener.stdin.flush()
    for opener in openers:
        opener.communicate()
    assert [opener.returncode for opener in openers] == [0] * 6
    with Store(folder) as store:
        assert len(store.runs()) == 6
    with closing(sqlite3.connect(folder / FILE_NAME)) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
