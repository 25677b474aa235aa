"""Whatever is killed, and whenever: no process stays, no other reply is lost, and it goes on.

    python -m pytest tests/soak/test_kills.py             a sample of the kills, another each day
    SOAK=full python -m pytest tests/soak/test_kills.py   all of them

The harness or its worker gets a signal while the worker stands still in some phase of a run
(`stuck.py`). After a harness that was ended, no process of the worker's group may be left, and a
resume has to complete the run. After a worker that was ended, the run has to go on by itself, and
may lose no more than the batch that was open. A table of the outcomes is printed at the end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from random import Random

import psutil
import pytest

from harness.store.schema import CellRow
from harness.store.store import Store

# The command line, with our backend registered. A shell starts background jobs with Ctrl-C ignored,
# which this test would hand on.
MAIN = """
    import signal
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    from importlib.metadata import EntryPoint
    from backends.api import ENTRY_POINT_GROUP
    from harness.cli import main
    from harness.engine import registry
    targets = {"mock": "backends.mock", "stuck": "stuck"}
    entries = [EntryPoint(name, target, ENTRY_POINT_GROUP) for name, target in targets.items()]
    registry.entry_points = lambda group: entries
    main()
"""
PHASES = (
    "tokenizer",
    "loading",
    "at once",
    "in a batch",
    "between batches",
    "at the end",
    "closing",
)
HOW = ("", "lock", "children", "children lock")
OF_HARNESS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
OF_WORKER = (signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP)
KILLS = [
    *(("harness", *rest) for rest in product(PHASES, HOW, OF_HARNESS)),
    *(("worker", *rest) for rest in product(PHASES[1:], HOW, OF_WORKER)),
]
SAMPLE = 12
BATCH = 4
GONE_SECONDS = 15.0  # a worker that does not close by itself is given ten


class Run:
    """A run of two entries in a process of its own: the stuck one, and the mock."""

    def __init__(self, folder: Path, model: str, data: str) -> None:
        folder.mkdir()
        self.folder, self.at = folder, folder / "stuck-at"
        config = {
            "data": data,
            "voters": 2,
            "queries": 4,
            "calibration_queries": 2,
            "max_model_len": 300,
            "baselines": False,
            "timeout_seconds": 8.0,
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in config.items()]
        lines += [
            "[entries.one]", 'backend = "stuck"', f'model = "{model}"', f"batch = {BATCH}",
            "[entries.two]", 'backend = "mock"',
        ]  # fmt: skip
        (folder / "run.toml").write_text("\n".join(lines))
        self.process = self.harness("run", "--config", "run.toml")

    def harness(self, *arguments: str) -> subprocess.Popen[bytes]:
        paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {"PYTHONPATH": os.pathsep.join(paths), "STUCK_AT": str(self.at)}
        with (self.folder / "output").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(MAIN), *arguments],
                cwd=self.folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_until_stuck(self) -> list[psutil.Process]:
        """The workers of that moment, and what they have started."""
        give_up = time.monotonic() + 60
        while not (self.at.exists() and self.at.read_text()):
            assert self.process.poll() is None, (self.folder / "output").read_text()
            assert time.monotonic() < give_up
            time.sleep(0.02)
        return psutil.Process(self.process.pid).children()

    def cells(self, entry: str) -> list[CellRow]:
        with Store(self.folder / "results") as store:
            runs = store.runs()
            return store.cells(runs[0].run_id, entry) if runs else []


def left_of(groups: Sequence[int]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            is_member = os.getpgid(process.pid) in groups
        except ProcessLookupError:
            continue
        if is_member and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def outcome_of(whom: str, phase: str, how: str, number: int, run: Run) -> str:
    """What became of it, in words; those that begin with "WRONG" may not be."""
    workers = run.wait_until_stuck()
    groups = [worker.pid for worker in workers]
    if whom == "harness":
        run.process.send_signal(number)
    else:
        [worker] = workers
        worker.send_signal(number)
    try:
        code = run.process.wait(60)
    except subprocess.TimeoutExpired:
        return "WRONG: the harness does not end"
    give_up = time.monotonic() + GONE_SECONDS
    while left := left_of(groups):
        if time.monotonic() > give_up:
            return f"WRONG: {len(left)} processes are left"
        time.sleep(0.05)
    if whom == "worker":
        return _went_on(run, code, phase)
    expected = -number if number == signal.SIGKILL else 128 + number
    if code != expected:
        return f"WRONG: exit code {code}, not {expected}"
    before = [cell for cell in run.cells("one") if cell.status == "done"]
    if phase == "tokenizer":
        return "nothing was begun, nothing is left" if not before else "WRONG: cells"
    if run.harness("run", "--resume", "latest").wait(60):
        return "WRONG: it could not be resumed"
    after = run.cells("one")
    if not all(cell in after for cell in before):
        return "WRONG: a reply is lost"
    if any(cell.status != "done" for cell in [*after, *run.cells("two")]):
        return "WRONG: the resumed run is not complete"
    return "nothing is left, and it was resumed"


def _went_on(run: Run, code: int, phase: str) -> str:
    failed = [cell.reason for cell in run.cells("one") if cell.status == "failed"]
    if code:
        return f"WRONG: exit code {code}"
    if len(run.cells("one")) != len(run.cells("two")):
        return "WRONG: cells are missing"
    if any(cell.status != "done" for cell in run.cells("two")):
        return "WRONG: it cost the other entry"
    most = BATCH if phase in ("in a batch", "between batches") else 0
    if len(failed) > most:
        return f"WRONG: it cost {len(failed)} cells: {set(failed)}"
    return f"it went on, {len(failed)} cells failed"


def test_whatever_is_killed_nothing_stays_and_it_goes_on(
    tmp_path: Path, small_data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kills = KILLS
    if os.environ.get("SOAK") != "full":
        kills = Random(time.strftime("%Y-%m-%d")).sample(kills, SAMPLE)
    outcomes = {}
    for place, (whom, phase, how, number) in enumerate(kills):
        run = Run(tmp_path / str(place), f"{phase} {how}", small_data)
        try:
            outcome = outcome_of(whom, phase, how, number, run)
        except AssertionError as error:
            outcome = f"WRONG: it was never stuck: {error}"
        finally:
            run.process.kill()
            run.process.wait()
        outcomes[f"{signal.Signals(number).name} to the {whom}, {phase} {how}"] = outcome
    with capsys.disabled():
        print(f"\n{len(kills)} of {len(KILLS)} kills")  # noqa: T201
        of_whom = Counter((name.split(",")[0], outcome) for name, outcome in outcomes.items())
        for (whom, outcome), count in sorted(of_whom.items()):
            print(f"{count:5}  {whom}: {outcome}")  # noqa: T201
    assert {name: one for name, one in outcomes.items() if one.startswith("WRONG")} == {}
