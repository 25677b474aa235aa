"""A real server that is killed and started again, often, while a run goes on.

No finished reply may be lost, and with the rest of them the run has to end as one that nothing
disturbed: temperature 0, one request at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from backends.server.managed import ManagedServer, free_port
from harness.pipeline.prompting import Update
from harness.pipeline.run import resume, run
from harness.spec import RunSpec
from harness.store.schema import CellRow
from harness.store.store import Store
from harness.summary import Summary
from tests import servers
from tests.soak.conftest import Soak

MODEL = "smollm2-135m"
CONTEXT = 256
QUERIES = 3  # so many cells for each kill, in each of two voters


@dataclass
class Killed:
    """A server that is killed whenever so many cells more are done, and started again at once."""

    name: str
    most: int
    random: Random
    port: int = field(default_factory=free_port)
    kills: int = 0
    server: ManagedServer = field(init=False)
    killer: threading.Timer | None = None

    def __post_init__(self) -> None:
        self.server = servers.start(self.name, MODEL, CONTEXT + 1, self.port)
        self.server.wait_until_ready()

    def tell(self, update: Update) -> None:
        """As an observer of the run, which goes on meanwhile."""
        if self.kills < self.most and update.done >= QUERIES * (self.kills + 1):
            self.kills += 1
            self.killer = threading.Timer(self.random.uniform(0, 0.5), self._kill)
            self.killer.start()

    def wait_until_back(self) -> None:
        """One that takes longer to start than a client waits for it is not there at once."""
        if self.killer:
            self.killer.join()
        self.server.wait_until_ready()

    def _kill(self) -> None:
        self.server._process.kill()
        self.server.close()
        self.server = servers.start(self.name, MODEL, CONTEXT + 1, self.port)


@contextmanager
def killed(name: str, most: int, seed: int) -> Iterator[Killed]:
    one = Killed(name, most, Random(seed))
    try:
        yield one
    finally:
        if one.killer:
            one.killer.join()
        one.server.close()


def cells_of(folder: Path) -> dict[tuple[int, int], CellRow]:
    with Store(folder) as store:
        [row] = store.runs()
        return {(c.prompt_id, c.attempt): c for c in store.cells(row.run_id, "mine") if c.reply}


def outcome(summary: Summary) -> object:
    """Votes, parse rate and accuracy, and the hashes of what was prompted."""
    [one] = summary.runs
    return one.prompts, one.parse, one.accuracy.majority, one.cells


@pytest.mark.parametrize("name", ["llama-server", "llama_cpp.server"])
def test_killing_a_server_loses_no_reply(
    soak: Soak, tmp_path: Path, small_data: str, name: str
) -> None:
    most = soak.most("restarts")
    try:
        with servers.serving(name, MODEL, CONTEXT + 1) as url:
            whole = run(spec_of(url, small_data, most), tmp_path / "whole")
    except servers.NotHereError as error:
        pytest.skip(str(error))
    folder = tmp_path / "killed"
    with killed(name, most, soak.seed) as one:
        url = f"http://127.0.0.1:{one.port}"
        ended = run(spec_of(url, small_data, most), folder, one.tell)
        before = cells_of(folder)
        for _ in range(most):  # it may be killed in a resume, too
            one.wait_until_back()
            ended = resume("latest", folder, one.tell)
            after = cells_of(folder)
            lost = sum(cell != after.get(key) for key, cell in before.items())
            soak.count("restarts", f"{name} resume", f"{lost} replies lost" if lost else "")
            before = after
    assert one.kills == most
    texts = [cell.reply.text for cell in before.values() if cell.reply]
    expected = [cell.reply.text for cell in cells_of(tmp_path / "whole").values() if cell.reply]
    is_same = texts == expected and outcome(ended) == outcome(whole)
    for number in range(most):
        fault = "" if is_same else "it ended otherwise"
        soak.count("restarts", f"{name} kill {number}", fault)
    assert not soak.faults("restarts")


def spec_of(url: str, data: str, kills: int) -> RunSpec:
    return RunSpec(
        entries={"mine": {"backend": "server", "url": url}},
        data=data,
        voters=2,
        queries=QUERIES * (kills + 1) // 2 + 1,
        calibration_queries=0,
        reducer="none",
        feature_fraction=0.3,
        max_model_len=CONTEXT,
        baselines=False,
    )
