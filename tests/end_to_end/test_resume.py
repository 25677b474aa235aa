"""A run that is killed, anywhere and often, loses nothing that it had stored, and ends the same."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Self

import psutil
import pytest

from harness.engine.interpreters import find_interpreter
from harness.engine.models import resolve_model
from harness.engine.registry import find_backend
from harness.engine.session import check_backend
from harness.errors import EngineError
from harness.pipeline.run import resume, run
from harness.spec import RunSpec
from harness.store.runs import Results
from harness.store.schema import CellRow
from harness.store.store import Store
from harness.summary import CaveatKind, Summary

CHILD = str(Path(__file__).parent / "child.py")
KILLS = 10  # `tests/soak/test_kills.py` has more, and of other kinds
CELLS = 2 * (130 + 10)


class Child:
    """The harness in a process of its own, which prints how many cells are done."""

    def __init__(self, *arguments: str) -> None:
        self._process = psutil.Popen(
            [sys.executable, CHILD, *arguments], stdout=subprocess.PIPE, text=True
        )
        self._workers: set[psutil.Process] = set()
        self.told: list[int] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            if not self.told:
                self._workers.update(self._process.children())
            self.told.append(int(line))

    def wait_for(self, cells: int, seconds: float) -> None:
        """Until it has stored so many cells more than it found, or ends, or the time is over."""
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up and self._process.poll() is None:
            if self.told and self.told[-1] >= self.told[0] + cells:
                return
            time.sleep(0.005)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kills the harness alone: its worker has to notice for itself."""
        if self._process.is_running():
            self._workers.update(self._process.children())
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        assert not psutil.wait_procs(self._workers, timeout=20)[1]


def stored_cells(folder: Path, backend: str) -> Mapping[int, CellRow]:
    """What the store holds of the one run, if it was begun."""
    with Store(folder) as store:
        runs = store.runs()
        assert len(runs) <= 1
        return {cell.prompt_id: cell for row in runs for cell in store.cells(row.run_id, backend)}


def begun(folder: Path) -> bool:
    with Store(folder) as store:
        return bool(store.runs())


OF_TIMES = {CaveatKind.SEVERAL_SESSIONS, CaveatKind.PROCESSORS_SHARED}


def lasting(summary: Summary) -> dict[str, Any]:
    """What may not depend on how often a run was ended: all but times, memory and recomputation."""
    parts: list[dict[str, Any]] = []
    for one in summary.runs:
        values = one.model_dump(exclude={"speed", "memory", "load", "caveats"})
        values["tokens"] = (one.speed.unique_tokens, one.speed.served_tokens)
        values["caveats"] = [caveat for caveat in one.caveats if caveat.kind not in OF_TIMES]
        parts.append(values)
    return {"runs": parts}


def test_a_run_killed_ten_times_ends_as_if_it_had_not_been(tmp_path: Path, small_data: str) -> None:
    spec = RunSpec(
        backend="mock",
        data=small_data,
        voters=2,
        queries=130,
        calibration_queries=10,
        reducer="none",
        feature_fraction=0.3,
        max_model_len=300,
        baselines=False,
        engine={"delay_ms": 5.0, "batch": 2},
    )
    random = Random(0)
    folder = tmp_path / "killed"
    before: Mapping[int, CellRow] = {}
    for episode in range(KILLS):
        with Child(str(folder), *([] if begun(folder) else [spec.model_dump_json()])) as child:
            if episode % 3 == 0:
                child.wait_for(cells=8, seconds=random.uniform(0.1, 2.0))
            else:
                child.wait_for(cells=random.randrange(8), seconds=300)
                time.sleep(random.uniform(0, 0.03))
        after = stored_cells(folder, "mock")
        assert len(after) >= max(child.told, default=0)
        assert before.items() <= after.items()
        before = after
    assert 0 < len(before) < CELLS
    command = (sys.executable, "-m", "harness", "run", "--resume", "latest", "--results")
    subprocess.run([*command, folder], check=True, capture_output=True)
    with Results(folder) as results:
        summary = results.run("latest").summary
    assert lasting(summary) == lasting(run(spec, tmp_path / "whole"))
    assert summary.runs[0].cells.done == CELLS


def test_a_run_of_llama_cpp_killed_in_the_middle_ends_the_same(
    tmp_path: Path, small_data: str
) -> None:
    backend = find_backend("llama-cpp")
    python = find_interpreter(backend.name, None)
    availability = check_backend(backend.target, 60.0, tmp_path / "check.log", python)
    if not availability.available:
        pytest.skip(f"{availability.reason}. {availability.remedy}")
    try:
        resolve_model("smollm2-135m", backend.load().FORMATS, {})
    except EngineError as error:
        pytest.skip(f"{error}. {error.remedy}")
    spec = RunSpec(
        backend="llama-cpp",
        data=small_data,
        voters=2,
        queries=16,
        calibration_queries=0,
        max_model_len=256,
        baselines=False,
        engine={"threads": 1},
    )
    folder = tmp_path / "killed"
    with Child(str(folder), spec.model_dump_json()) as child:
        child.wait_for(cells=1, seconds=300)
    before = stored_cells(folder, "llama-cpp")
    assert 0 < len(before) < 32
    summary, whole = resume("latest", folder), run(spec, tmp_path / "whole")
    assert lasting(summary) == lasting(whole)
    after = stored_cells(folder, "llama-cpp")
    assert before.items() <= after.items()
    for cell, expected in zip(
        after.values(), stored_cells(tmp_path / "whole", "llama-cpp").values(), strict=True
    ):
        assert cell.reply is not None
        assert expected.reply is not None
        assert cell.reply.text == expected.reply.text
        assert cell.reply.label_logprobs == pytest.approx(expected.reply.label_logprobs, abs=0.05)
