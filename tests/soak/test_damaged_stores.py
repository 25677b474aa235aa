"""Whatever field of a store is damaged, every command ends in order and shows the other runs."""

from __future__ import annotations

import io
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import main
from harness.pipeline.run import run
from harness.spec import RunSpec
from harness.store.store import FILE_NAME, Store
from tests.soak.conftest import Soak
from tests.soak.damage import Damage, damages, plant
from tests.unit.store.test_imports import ONE

KIND = "damaged field of a store"


@dataclass(frozen=True, slots=True)
class Stored:
    """A store of three runs, of which one will be damaged."""

    folder: Path
    sound: str
    damaged: str
    later: str


@dataclass(frozen=True, slots=True)
class Ended:
    command: tuple[str, ...]
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, small_data: str) -> Stored:
    folder = tmp_path_factory.mktemp("sound")
    plain: dict[str, Any] = {"data": small_data, "voters": 2, "queries": 4, "max_model_len": 300}
    entries = {name: {"backend": "mock"} for name in ("one", "two")}
    spec = RunSpec(entries=entries, calibration_queries=2, **plain)
    ids = [run(spec, folder).run_id for _ in range(3)]
    with Store(folder) as store:
        store.save_imports([ONE])
    return Stored(folder, *ids)


def end(monkeypatch: pytest.MonkeyPatch, *command: str) -> Ended:
    monkeypatch.setattr(sys, "argv", ["harness", *command])
    code: object = 0
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
    assert isinstance(code, int)
    return Ended(command, code, out.getvalue(), err.getvalue())


def commands(stored: Stored, folder: Path) -> list[tuple[str, ...]]:
    where = ("--results", str(folder))
    return [
        ("list", *where),
        ("list", "--json", *where),
        ("history", "--all", *where),
        ("history", "--json", *where),
        ("show", stored.damaged, *where),
        ("show", stored.damaged, "--json", *where),
        ("show", stored.damaged, "--recompute", *where),
        ("compare", stored.damaged, *where),
        ("compare", stored.sound, stored.damaged, "--json", *where),
        ("compare", stored.sound, stored.damaged, "--flips", *where),
        ("show", f"import-{ONE.sha256[:10]}", *where),
        ("show", stored.sound, *where),
    ]


def faults(stored: Stored, every: list[Ended]) -> list[str]:
    """What is against the law."""
    found = []
    for ended in every:
        name = " ".join(ended.command[:3])
        if ended.code not in (0, 1):
            lines = [line for line in ended.err.splitlines() if line.strip()]
            found.append(f"{name}: exit {ended.code}: {' | '.join(lines[-4:])}")
        if ended.code == 1 and not ended.err.startswith("error: "):
            found.append(f"{name}: exit 1 without a reason: {ended.err[:200]!r}")
        hides = stored.sound not in ended.out or stored.later not in ended.out
        if ended.command[0] in ("list", "history") and hides:
            found.append(f"{name}: a sound run is hidden")
        if ended.command[:2] == ("show", stored.sound) and ended.code:
            found.append(f"{name}: a sound run cannot be shown")
    return found


def law(
    stored: Stored, folder: Path, damage: Damage, monkeypatch: pytest.MonkeyPatch, seed: int
) -> list[str] | None:
    """What is against the law; `None` where this cannot be planted."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(stored.folder / FILE_NAME, folder / FILE_NAME)
    if not plant(folder / FILE_NAME, stored.damaged, damage, seed):
        return None
    return faults(stored, [end(monkeypatch, *command) for command in commands(stored, folder)])


def test_a_sound_store_has_no_faults(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = [end(monkeypatch, *command) for command in commands(stored, stored.folder)]
    assert [one.code for one in ended] == [0] * len(ended)
    assert faults(stored, ended) == []


def test_a_damaged_field_is_named_and_hides_nothing(
    soak: Soak, stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = soak.draw("fields", damages(stored.folder / FILE_NAME, stored.damaged))
    for _ in range(soak.most("fields")):
        found, damage = None, None
        while found is None:  # what cannot be planted was not tried
            damage = next(every)
            found = law(stored, tmp_path / "damaged", damage, monkeypatch, soak.seed)
        soak.count(KIND, str(damage), "; ".join(found))
    assert soak.faults(KIND) == {}
