"""Every kind of wrong record costs the entry that sent it, and nothing else.

Each kind is a run of two entries: one whose backend sends that record once (`lies.py`), and the
mock. The first has to fail with a reason that names the field, and what it was answered before has
to stay; the mock must have all of its replies; the run must be complete after a resume with a
backend that tells the truth.
"""

from __future__ import annotations

import os
import re
import runpy
import time
from importlib.metadata import EntryPoint
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest

from backends.api import ENTRY_POINT_GROUP
from harness.engine import registry
from harness.errors import HarnessError
from harness.pipeline.run import resume, run
from harness.spec import RunSpec
from harness.store.schema import CellRow
from harness.store.store import Store
from tests.soak.conftest import Soak

LIES: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("lies.py")))["LIES"]
KIND = "malformed record"
MOST_SECONDS = 120.0  # of a run and its resume; a deadline that does not hold takes longer


@pytest.fixture
def healed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that ends the lies. The backend is registered as "lies" until the test ends."""
    folder = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", folder, prepend=os.pathsep)
    monkeypatch.setenv("LIES_HEALED", str(tmp_path / "healed"))
    monkeypatch.syspath_prepend(folder)
    targets = {"mock": "backends.mock", "lies": "lies"}
    entries = [EntryPoint(name, target, ENTRY_POINT_GROUP) for name, target in targets.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    return tmp_path / "healed"


def cells_of(folder: Path, entry: str) -> list[CellRow]:
    with Store(folder) as store:
        return store.cells(store.run("latest").run_id, entry)


def fault_of(kind: str, data: str, folder: Path, healed: Path) -> str:
    """The promise that was broken, in words, or nothing."""
    lie = LIES[kind]
    healed.unlink(missing_ok=True)
    spec = RunSpec(
        entries={"liar": {"backend": "lies", "model": kind}, "other": {"backend": "mock"}},
        data=data,
        voters=2,
        queries=4,
        calibration_queries=2,
        max_model_len=300,
        baselines=False,
        timeout_seconds=20.0,
        engine={"batch": 4},
    )
    before, began = set(psutil.Process().children()), time.monotonic()
    try:
        run(spec, folder)
    except HarnessError as error:
        return str(error)
    liar, other = cells_of(folder, "liar"), cells_of(folder, "other")
    done = sum(cell.status == "done" for cell in liar)
    reasons = {cell.reason for cell in liar if cell.status == "failed"}
    if any(cell.status != "done" for cell in other):
        return "it cost the other entry"
    if len(liar) != len(other) or (not reasons and lie.place != "end"):
        return f"it passed, {done} done"
    if not all(re.search(lie.said, reason or "") for reason in reasons):
        return f"it is not named: {reasons}"
    if lie.place in ("batch", "end") and not done:
        return "what was answered before is gone"
    healed.touch()
    resume("latest", folder)
    if any(cell.status != "done" for cell in cells_of(folder, "liar")):
        return "it could not be resumed"
    if time.monotonic() - began > MOST_SECONDS:
        return f"{time.monotonic() - began:.0f} s"
    return "a process is left" if set(psutil.Process().children()) - before else ""


def test_a_wrong_record_costs_its_entry_and_nothing_else(
    soak: Soak, tmp_path: Path, small_data: str, healed: Path
) -> None:
    for kind in islice(soak.draw("records", LIES), soak.most("records")):
        try:
            fault = fault_of(kind, small_data, tmp_path / kind, healed)
        except Exception as error:  # noqa: BLE001 - that would have been exit code 3
            fault = f"a bug in the harness: {type(error).__name__}: {error}"
        soak.count(KIND, kind, fault)
    assert soak.faults(KIND) == {}
