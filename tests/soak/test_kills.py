"""Whatever is killed, and whenever: no process stays, no other reply is lost, and it goes on.

The harness or its worker gets a signal while the worker stands still in some phase of a run
(`stuck.py`), or the harness at any moment. After a harness that was ended, no process that it
started may be left, and a resume has to complete the run. After a worker that was ended, the run
has to go on by itself, and may lose no more than the batch that was open.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, product
from multiprocessing.context import ForkServerContext
from pathlib import Path

import psutil

from harness.store.schema import CellRow
from harness.store.store import FILE_NAME, Store
from tests.soak.conftest import Soak
from tests.soak.launch import Launched, context

PHASES = (
    "tokenizer",
    "loading",
    "at once",
    "in a batch",
    "between batches",
    "at the end",
    "closing",
)
ANY = "any moment"
HOW = ("", "lock", "children", "children lock")
OF_HARNESS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
OF_WORKER = (signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP)
MOMENTS = 29
MOMENT_SECONDS = 0.1  # the last moment is about when such a run ends
BATCH = 4
AT_ONCE = 4  # most of a kill is waiting for deadlines
END_SECONDS = 120.0
GONE_SECONDS = 15.0  # a worker that does not close by itself is given ten
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Kill:
    whom: str
    number: signal.Signals
    phase: str
    how: str = ""
    after: float = 0.0

    def __str__(self) -> str:
        after = f" {self.after:.1f} s" if self.phase == ANY else ""
        return f"{self.number.name} to the {self.whom}, {self.phase} {self.how}{after}".strip()


KILLS = [
    *(Kill("harness", *rest) for rest in product(OF_HARNESS, PHASES, HOW)),
    *(Kill("worker", *rest) for rest in product(OF_WORKER, PHASES[1:], HOW)),
    *(
        Kill("harness", number, ANY, after=moment * MOMENT_SECONDS)
        for moment, number in product(range(MOMENTS), OF_HARNESS)
    ),
]


class BrokenError(Exception):
    """A promise that was not held, in words."""


class Run:
    """A run of two entries in a process of its own: the stuck one, and the mock."""

    def __init__(self, forks: ForkServerContext, folder: Path, model: str, data: str) -> None:
        folder.mkdir()
        self.forks, self.folder, self.at = forks, folder, folder / "stuck-at"
        config = {
            "data": data,
            "voters": 2,
            "queries": 4,
            "calibration_queries": 2,
            "max_model_len": 300,
            "baselines": False,
            "timeout_seconds": 20.0,  # a worker of a busy machine starts in less
            "load_timeout_seconds": 20.0,
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in config.items()]
        lines += [
            "[entries.one]", 'backend = "stuck"', f'model = "{model}"', f"batch = {BATCH}",
            "[entries.two]", 'backend = "mock"',
        ]  # fmt: skip
        (folder / "run.toml").write_text("\n".join(lines))
        self.process = self.begin()

    def begin(self) -> Launched:
        return self._harness("run", "--config", "run.toml")

    def resume(self) -> Launched:
        return self._harness("run", "--resume", "latest")

    def _harness(self, *arguments: str) -> Launched:
        paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {"PYTHONPATH": os.pathsep.join(paths), "STUCK_AT": str(self.at)}
        return Launched(self.forks, self.folder, environment, *arguments)

    @property
    def output(self) -> str:
        path = self.folder / "output"
        return path.read_text()[-400:] if path.exists() else ""

    def worker(self) -> psutil.Process:
        """The one that stands still, once it does."""
        give_up = time.monotonic() + END_SECONDS
        while not (self.at.exists() and self.at.read_text()):
            if self.process.exit_code() is not None or time.monotonic() > give_up:
                raise BrokenError(f"it was never stuck: {self.output}")
            time.sleep(LOOK_SECONDS)
        return psutil.Process(int(self.at.read_text()))

    def left(self) -> list[psutil.Process]:
        """What the harness has started, and what that has: all of it has our variable."""
        found = []
        for process in psutil.process_iter():
            try:
                is_ours = process.environ().get("STUCK_AT") == str(self.at)
            except psutil.Error:
                continue
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def check_nothing_is_left(self) -> None:
        give_up = time.monotonic() + GONE_SECONDS
        while left := self.left():
            if time.monotonic() > give_up:
                raise BrokenError(f"{len(left)} processes are left")
            time.sleep(LOOK_SECONDS)

    def is_begun(self) -> bool:
        if not (self.folder / "results" / FILE_NAME).exists():
            return False
        with Store(self.folder / "results") as store:
            return bool(store.runs())

    def cells(self, entry: str) -> list[CellRow]:
        if not self.is_begun():
            return []
        with Store(self.folder / "results") as store:
            return store.cells(store.runs()[0].run_id, entry)


@contextmanager
def started(run: Run) -> Iterator[Run]:
    """Ends what a broken promise leaves."""
    try:
        yield run
    finally:
        run.process.send(signal.SIGKILL)
        run.process.wait(END_SECONDS)
        for process in run.left():
            process.kill()


def check(kill: Kill, run: Run) -> None:
    """Raises `BrokenError`."""
    if kill.phase == ANY:
        time.sleep(kill.after)
        run.process.send(kill.number)
    elif kill.whom == "harness":
        run.worker()
        run.process.send(kill.number)
    else:
        run.worker().send_signal(kill.number)
    code = run.process.wait(END_SECONDS)
    if code is None:
        raise BrokenError("the harness does not end")
    run.check_nothing_is_left()
    if kill.whom == "worker":
        _check_it_went_on(run, code, kill.phase)
    else:
        _check_it_goes_on(kill, run, code)


def _check_it_goes_on(kill: Kill, run: Run, code: int) -> None:
    ended = -kill.number if kill.number == signal.SIGKILL else 128 + kill.number
    # At any moment: it may not listen to signals yet, or be done already.
    expected = {ended, -kill.number, 0} if kill.phase == ANY else {ended}
    if code not in expected:
        raise BrokenError(f"exit code {code}, not {ended}: {run.output}")
    before = [cell for cell in run.cells("one") if cell.status == "done"]
    if kill.phase == "tokenizer" and before:
        raise BrokenError("there are replies before anything was prompted")
    _check_it_is_completed(run)
    if not all(cell in run.cells("one") for cell in before):
        raise BrokenError("a reply is lost")


def _check_it_is_completed(run: Run) -> None:
    run.at.touch()  # it stands still once only
    again = run.resume() if run.is_begun() else run.begin()
    if again.wait(END_SECONDS) != 0:
        again.send(signal.SIGKILL)
        raise BrokenError(f"it could not be resumed: {run.output}")
    after = run.cells("one")
    if not after or any(cell.status != "done" for cell in [*after, *run.cells("two")]):
        raise BrokenError("the resumed run is not complete")
    run.check_nothing_is_left()


def _check_it_went_on(run: Run, code: int, phase: str) -> None:
    if code:
        raise BrokenError(f"exit code {code}: {run.output}")
    one, two = run.cells("one"), run.cells("two")
    if len(one) != len(two):
        raise BrokenError("cells are missing")
    if any(cell.status != "done" for cell in two):
        raise BrokenError("it cost the other entry")
    failed = [cell.reason for cell in one if cell.status == "failed"]
    if len(failed) > (BATCH if phase in ("in a batch", "between batches") else 0):
        raise BrokenError(f"it cost {len(failed)} cells: {set(failed)}")


def test_whatever_is_killed_nothing_stays_and_it_goes_on(
    soak: Soak, tmp_path: Path, small_data: str
) -> None:
    forks = context()

    def fault(place: int, kill: Kill) -> str:
        model = f"{kill.phase} {kill.how}"
        with started(Run(forks, tmp_path / str(place), model, small_data)) as run:
            try:
                check(kill, run)
            except BrokenError as error:
                return str(error)
        return ""

    kills = list(islice(soak.draw("kills", KILLS), soak.most("kills")))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for kill, found in zip(kills, pool.map(fault, range(len(kills)), kills), strict=True):
            soak.count(f"kill of the {kill.whom}", str(kill), found)
    assert {**soak.faults("kill of the harness"), **soak.faults("kill of the worker")} == {}
