"""Runs that are passed on: all of them arrives, and nothing of what was forged does."""

from __future__ import annotations

import json
import shutil
import sqlite3
import stat
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from harness.errors import DataError, HarnessError, StoreError, UsageError
from harness.store.archive import is_archive, read_archive, write_archive
from harness.store.runs import StoredRun
from harness.store.schema import SCHEMA_VERSION
from harness.store.store import FILE_NAME, Store
from tests.unit.store.made import add_run

Member = tuple[zipfile.ZipInfo | str, bytes]


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "source") as store:
        yield store


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "target") as store:
        yield store


def passed_on(source: Store, *ids: str, group: str | None = None) -> Path:
    path = source.path.parent.parent / "run.zip"
    write_archive(source, ids, group, path)
    return path


def everything(run: StoredRun) -> dict[str, Any]:
    """All that is read of a run, but for the numbers of rows."""
    entries = run.entries.values()
    return {
        "run": (run.run_id, run.created, run.name, run.group, run.data_sha256),
        "spec": run.spec,
        "environment": run.environment,
        "facts": run.facts,
        "summary": run.summary if run.is_finished else None,
        "prompts": [replace(prompt, id=0) for prompt in run.prompts],
        "texts": run.texts,
        "ids": [[ids.tolist() for ids in entry.token_ids or []] for entry in entries],
        "replies": list(run.replies()),
        "sessions": [[replace(one, id=0) for one in entry.sessions] for entry in entries],
        "batches": [
            [{**asdict(one), "id": 0, "session_id": 0} for one in entry.batches]
            for entry in entries
        ],
        "baselines": run.baselines,
    }


def test_a_run_arrives_whole_beside_others(source: Store, target: Store) -> None:
    add_run(source, ["yes"])
    first = add_run(source, name="mine", backend=("mock", "other"))
    add_run(target)
    here = add_run(target, ["no"] * 7)
    before = everything(StoredRun(target, target.run(here)))
    path = passed_on(source, first)
    assert is_archive(path)
    assert read_archive(path, target) == [first]
    arrived = everything(StoredRun(target, target.run("mine")))
    assert arrived == everything(StoredRun(source, source.run(first)))
    assert everything(StoredRun(target, target.run(here))) == before
    # and once more, from there
    again = passed_on(target, first)
    with Store(target.path.parent / "third") as third:
        read_archive(again, third)
        assert everything(StoredRun(third, third.run("mine"))) == arrived


def test_an_unfinished_run_arrives_as_it_is(source: Store, target: Store) -> None:
    run_id = add_run(source, finished=False)
    read_archive(passed_on(source, run_id), target)
    assert not StoredRun(target, target.run(run_id)).is_finished


def test_a_group_arrives_under_its_name_or_another(source: Store, target: Store) -> None:
    ids = [add_run(source, [word], group="curve") for word in ("yes", "no")]
    path = passed_on(source, *ids, group="curve")
    assert read_archive(path, target, "theirs") == ids
    assert set(target.groups().values()) == {"theirs"}
    assert StoredRun(target, target.run(ids[0])).summary.group == "theirs"
    with Store(target.path.parent / "third") as third:
        add_run(third, group="curve")
        with pytest.raises(UsageError, match="'curve' is used already"):
            read_archive(path, third)
        assert len(third.runs()) == 1


def test_runs_of_a_group_that_are_passed_on_one_by_one_stand_alone(
    source: Store, target: Store
) -> None:
    for word in ("yes", "no"):
        run_id = add_run(source, [word], group="curve")
        assert read_archive(passed_on(source, run_id), target) == [run_id]
    assert set(target.groups().values()) == {None}


def test_what_is_here_already_is_not_overwritten(source: Store, target: Store) -> None:
    run_id = add_run(source, name="mine")
    path = passed_on(source, run_id)
    with pytest.raises(UsageError, match=f"{run_id} is stored here already"):
        read_archive(path, source)
    other = add_run(target, name="mine")
    with pytest.raises(UsageError, match="'mine' is used already"):
        read_archive(path, target)
    assert [row.run_id for row in target.runs()] == [other]
    read_archive(path, target, "yours")
    assert target.run("yours").run_id == run_id
    with pytest.raises(UsageError, match="cannot be called"):
        read_archive(path, target, "latest")


def test_an_archive_names_no_home(source: Store) -> None:
    run_id = add_run(source, model="/home/ada/models/m.gguf", data="/home/ada/d.csv")
    path = passed_on(source, run_id)
    assert b"/home/ada" not in zipfile.ZipFile(path).read(FILE_NAME)
    assert "/home/ada" in source.run(run_id).spec


def test_a_damaged_run_is_not_passed_on(source: Store, tmp_path: Path) -> None:
    run_id = add_run(source)
    with closing(sqlite3.connect(source.path, isolation_level=None)) as raw:
        raw.execute("UPDATE cells SET token_ids = '}'")
    with pytest.raises(StoreError, match=r"cannot be read: cells\.token_ids"):
        passed_on(source, run_id)
    assert not (tmp_path / "run.zip").exists()


def test_prompts_that_are_not_those_of_their_hashes_are_not_passed_on(
    source: Store, tmp_path: Path
) -> None:
    run_id = add_run(source)
    with closing(sqlite3.connect(source.path, isolation_level=None)) as raw:
        raw.execute("UPDATE prompts SET text_sha256 = ?", ["a" * 64])
    with pytest.raises(StoreError, match="the texts of voter 0 are not those of their hashes"):
        passed_on(source, run_id)
    assert not (tmp_path / "run.zip").exists()


def test_a_file_that_cannot_be_written_is_one_error(source: Store, tmp_path: Path) -> None:
    run_id = add_run(source)
    with pytest.raises(StoreError, match=r"run\.zip cannot be written: No such file"):
        write_archive(source, [run_id], None, tmp_path / "gone" / "run.zip")


def forge(path: Path, *members: Member) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content, compress_type=zipfile.ZIP_DEFLATED)


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("manifest.json")), archive.read(FILE_NAME)


def with_manifest(**changes: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        manifest, store = parts(path)
        forge(path, ("manifest.json", json.dumps(manifest | changes).encode()), (FILE_NAME, store))

    return change


def with_store(*statements: str) -> Callable[[Path], None]:
    """The store changed, and its size and hash stated as they are then."""

    def change(path: Path) -> None:
        manifest, content = parts(path)
        store = path.with_suffix(".sqlite")
        store.write_bytes(content)
        with closing(sqlite3.connect(store, isolation_level=None)) as raw:
            raw.execute("PRAGMA ignore_check_constraints = ON")
            raw.create_function("bomb", 0, lambda: zlib.compress(bytes(2**21)))
            for statement in statements:
                raw.execute(statement)
        content = store.read_bytes()
        manifest |= {"bytes": len(content), "sha256": sha256(content).hexdigest()}
        forge(path, ("manifest.json", json.dumps(manifest).encode()), (FILE_NAME, content))

    return change


def twice(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python's own writer
        forge(path, (FILE_NAME, b"a"), (FILE_NAME, b"b"))


def with_member(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        manifest, store = parts(path)
        forge(
            path, ("manifest.json", json.dumps(manifest).encode()), (FILE_NAME, store), (name, b"")
        )

    return change


def in_place_of_the_store(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        manifest, store = parts(path)
        forge(path, ("manifest.json", json.dumps(manifest).encode()), (name, store))

    return change


def as_a_link(path: Path) -> None:
    manifest, _ = parts(path)
    link = zipfile.ZipInfo(FILE_NAME)
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    forge(path, ("manifest.json", json.dumps(manifest).encode()), (link, b"/etc/passwd"))


def as_a_bomb(path: Path) -> None:
    manifest, _ = parts(path)
    forge(path, ("manifest.json", json.dumps(manifest).encode()), (FILE_NAME, bytes(2**22)))


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


FORGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a path": (in_place_of_the_store("../harness.sqlite"), "no archive of runs"),
    "an absolute path": (in_place_of_the_store("/tmp/harness.sqlite"), "no archive of runs"),
    "one member more": (with_member("../../.bashrc"), "no archive of runs"),
    "a member twice": (twice, "no archive of runs"),
    "a link": (as_a_link, "is a link"),
    "a bomb": (as_a_bomb, "no run is like this"),
    "a flipped byte": (flipped, "damaged"),
    "another hash": (with_manifest(sha256="0" * 64), "not that of its SHA-256"),
    "another size": (with_manifest(bytes=5), "5 are stated"),
    "another format": (with_manifest(format="tar"), "no archive of runs: format"),
    "no runs": (with_manifest(run_ids=[]), "no archive of runs: run_ids"),
    "another kind of value": (with_manifest(version="1"), "no archive of runs: version"),
    "a newer archive": (with_manifest(version=2), "newer version"),
    "a newer schema": (with_manifest(schema_version=SCHEMA_VERSION + 1), "newer version"),
    "a schema that is not stated": (with_store("PRAGMA user_version = 99"), "not as the harness"),
    "newer records": (with_store("UPDATE runs SET records_version = 99"), "newer version"),
    "other runs": (with_manifest(run_ids=["20260101-000000-aaaa"]), "not those that its manifest"),
    "another group": (with_manifest(group="curve"), "not of one group"),
    "a trigger": (
        with_store("CREATE TRIGGER t AFTER INSERT ON runs BEGIN SELECT 1; END"),
        "not as the harness",
    ),
    "a view": (with_store("CREATE VIEW v AS SELECT 1"), "not as the harness"),
    "a missing table": (with_store("DROP TABLE imports"), "lacks imports"),
    "a reply of another type": (with_store("UPDATE cells SET token_ids = '}'"), "token_ids"),
    "a number that is none": (with_store("UPDATE sessions SET load_seconds = 'x'"), "load_seconds"),
    "a status that is none": (with_store("UPDATE cells SET status = 'x'"), "status"),
    "a spec that is none": (with_store("UPDATE runs SET spec = '[]'"), "cannot be read"),
    "another text": (with_store("UPDATE prompts SET text_sha256 = '00'"), "not those of their"),
    "other tokens": (with_store("UPDATE prompt_tokens SET n_tokens = 9"), "not those of their"),
    "texts that are a bomb": (with_store("UPDATE prompt_texts SET content = bomb()"), "damaged"),
    "an entry that is a path": (
        with_store("PRAGMA foreign_keys = OFF", "UPDATE entries SET name = '../../x'"),
        "is no name",
    ),
    "a name that is an id": (
        with_store("INSERT INTO run_names SELECT run_id, '2026' FROM runs"),
        "cannot be called",
    ),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive that could be imported."""
    path = tmp_path_factory.mktemp("sound") / "run.zip"
    with Store(path.parent / "source") as store:
        write_archive(store, [add_run(store, finished=False)], None, path)
    return path


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(tmp_path_factory.mktemp("empty")) as store:
        yield store


@pytest.mark.parametrize("kind", FORGED)
def test_of_a_forged_archive_nothing_is_stored(
    sound: Path, empty: Store, kind: str, tmp_path: Path
) -> None:
    path = Path(shutil.copy(sound, tmp_path))
    change, why = FORGED[kind]
    change(path)
    with pytest.raises(HarnessError, match=why) as caught:
        read_archive(path, empty)
    assert caught.value.remedy
    assert empty.runs() == []
    assert not (tmp_path.parent / "harness.sqlite").exists()


def test_an_error_names_the_archive_and_no_temporary_folder(
    sound: Path, empty: Store, tmp_path: Path
) -> None:
    path = Path(shutil.copy(sound, tmp_path))
    with_store("DROP TABLE imports")(path)
    with pytest.raises(DataError) as caught:
        read_archive(path, empty)
    assert str(caught.value) == f"{path}: {FILE_NAME} is damaged: it lacks imports.id"


def test_what_is_no_zip_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    assert not is_archive(tmp_path / "a.json")
    assert not is_archive(tmp_path / "nothing")
