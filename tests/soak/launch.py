"""The command line in processes of its own, with our backend registered.

They are forked from a process that has imported the harness already: to import it takes most of
the time of a short run.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.synchronize import Event
from pathlib import Path

from backends.api import ENTRY_POINT_GROUP
from harness.cli.app import main
from harness.engine import registry

_TARGETS = {"mock": "backends.mock", "stuck": "stuck"}
_LOOK_SECONDS = 0.05
_START_SECONDS = 60.0
_ONE_AT_A_TIME = threading.Lock()  # a process that two threads ask has an end for one of them only


def context() -> ForkServerContext:
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["harness.cli.app", "harness.pipeline.run", "harness.report.answer",
                                 "harness.comparison.compare", "sklearn.preprocessing",
                                 "sklearn.cross_decomposition"])  # fmt: skip
    return made


def _be_the_harness(
    folder: Path, environment: Mapping[str, str], arguments: list[str], is_harness: Event
) -> None:
    # A shell starts background jobs with Ctrl-C ignored, which this test would hand on.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    is_harness.set()
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    sys.path.append(str(Path(__file__).parent))  # where `stuck` is; its workers have PYTHONPATH
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for one, other in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(one, other)
    entries = [EntryPoint(name, target, ENTRY_POINT_GROUP) for name, target in _TARGETS.items()]
    vars(registry)["entry_points"] = lambda group: entries
    sys.argv = ["harness", *arguments]
    main()


class Launched:
    def __init__(
        self,
        forks: ForkServerContext,
        folder: Path,
        environment: Mapping[str, str],
        *arguments: str,
    ) -> None:
        is_harness = forks.Event()
        self._process: ForkServerProcess = forks.Process(
            target=_be_the_harness, args=(folder, dict(environment), list(arguments), is_harness)
        )
        with _ONE_AT_A_TIME:
            self._process.start()
        # A signal before that would end the fork, in the way of `multiprocessing`.
        is_harness.wait(_START_SECONDS)
        assert self._process.pid is not None
        self.pid = self._process.pid

    def exit_code(self) -> int | None:
        with _ONE_AT_A_TIME:
            return self._process.exitcode

    def wait(self, seconds: float) -> int | None:
        """Its exit code, or `None` where it did not end by then."""
        give_up = time.monotonic() + seconds
        while (code := self.exit_code()) is None and time.monotonic() < give_up:
            time.sleep(_LOOK_SECONDS)
        return code

    def send(self, number: int) -> None:
        if self.exit_code() is None:
            os.kill(self.pid, number)
