"""Runs over servers that are killed, that are several, or that are started for the run."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from backends.api import Finding
from backends.llama_cpp.tokenizer import LlamaTokenizer, open_vocabulary
from harness.engine.models import resolve_model
from harness.pipeline.prompting import Update
from harness.pipeline.run import resume, run
from harness.spec import RunSpec
from harness.store.store import Store
from harness.summary import CaveatKind, Summary
from tests.end_to_end.test_resume import lasting, stored_cells
from tests.fakes.server import Fake, Running, running

VOTERS = 4
CELLS = VOTERS * (8 + 2)
KILLS = 2  # `tests/soak/test_servers.py` kills real ones


@cache
def vocabulary() -> LlamaTokenizer:
    return open_vocabulary(resolve_model("smollm2-135m", ("gguf",), {}))


def fake() -> Fake:
    """One with the tokenizer of the embedded model, which takes some time for each reply."""
    tokenize = vocabulary().tokenize
    return Fake(tokenize=lambda text: tokenize([text])[0], holds_seconds=0.03)


def spec_of(data: str, *urls: str) -> RunSpec:
    return RunSpec(
        entries={"mine": {"backend": "server", "url": list(urls)}},
        data=data,
        voters=VOTERS,
        queries=8,
        calibration_queries=2,
        reducer="none",
        feature_fraction=0.3,
        max_model_len=300,
        baselines=False,
    )


@contextmanager
def killed_at_times(server: Running, every: int, times: int) -> Iterator[list[int]]:
    """Stops the server whenever it was asked for so many replies more, and starts it again."""
    kills: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while len(kills) < times and not over.wait(0.005):
            asked = len(server.fake.asked)
            if asked >= (kills[-1] if kills else 0) + every and server.fake.active:
                server.stop()
                kills.append(asked)
                time.sleep(0.2)
                server.fake.troubles.append("half")  # what had begun to come is broken off
                server.start()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield kills
    finally:
        over.set()
        thread.join()


def unkilled(summary: Summary) -> list[dict[str, Any]]:
    """What may not depend on it that requests were sent again."""
    parts: list[dict[str, Any]] = lasting(summary)["runs"]
    for part in parts:
        part["caveats"] = [c for c in part["caveats"] if c.kind is not CaveatKind.SERVER_FINDING]
    return parts


def test_a_server_that_is_killed_in_the_middle_costs_no_finished_reply(
    tmp_path: Path, small_data: str
) -> None:
    folder = tmp_path / "killed"
    with running(fake()) as server:
        spec = spec_of(small_data, server.url)
        whole = run(spec, tmp_path / "whole")
        server.fake.asked.clear()
        with killed_at_times(server, every=10, times=KILLS) as kills:
            run(spec, folder)
        assert len(kills) == KILLS
        before = {key: cell for key, cell in stored_cells(folder, "mine").items() if cell.reply}
        # A server that is ended lets what it has begun go on for 0.1 s, which may not be enough.
        assert CELLS - 2 * KILLS <= len(before) <= CELLS - KILLS
        ended = resume("latest", folder)
    after = stored_cells(folder, "mine")
    assert before.items() <= after.items()
    assert unkilled(ended) == unkilled(whole)
    assert ended.runs[0].cells.done == CELLS


def voters_of(server: Running) -> set[tuple[int, ...]]:
    """The beginnings of the prompts of the run that it was given, which are its voters'."""
    prompts = (body["prompt"] for body in server.fake.asked if body["max_tokens"] == 8)
    return {tuple(prompt[:150]) for prompt in prompts}


def test_several_servers_are_one_row_and_all_prompts_of_a_voter_go_to_one(
    tmp_path: Path, small_data: str
) -> None:
    with running(fake()) as one, running(fake()) as other:
        alone = run(spec_of(small_data, one.url), tmp_path / "alone")
        one.fake.asked.clear()
        both = run(spec_of(small_data, one.url, other.url), tmp_path / "both")
        assert lasting(both) == lasting(alone)
        first, second = voters_of(one), voters_of(other)
        assert first
        assert second
        assert len(first | second) == VOTERS
        assert not first & second


def test_servers_that_differ_are_no_row(tmp_path: Path, small_data: str) -> None:
    another = replace(fake(), models=("another",))
    with running(fake()) as one, running(another) as other:
        summary = run(spec_of(small_data, one.url, other.url), tmp_path)
    [failed] = [c for c in summary.runs[0].caveats if c.kind is CaveatKind.CELLS_FAILED]
    assert f"the servers are not alike: at {one.url}" in str(failed.figures)


def test_a_server_that_dies_costs_its_open_cells_and_others_take_its_voters(
    tmp_path: Path, small_data: str
) -> None:
    with running(fake()) as one, running(fake()) as other:
        over = threading.Event()

        def kill() -> None:
            while len(other.fake.asked) < 10 or not other.fake.active:
                if over.wait(0.005):
                    return
            other.stop()

        killer = threading.Thread(target=kill)
        killer.start()
        summary = run(spec_of(small_data, one.url, other.url), tmp_path)
        over.set()
        killer.join()
        assert summary.runs[0].cells.done >= CELLS - 1
        # One that had begun is given to both, if the end came within it.
        assert len(voters_of(one)) + len(voters_of(other)) in (VOTERS, VOTERS + 1)
        with Store(tmp_path) as store:
            [row] = store.runs()
            [session] = store.sessions(row.run_id, "mine")
        assert Finding("server_lost", 2, 1) in session.info.findings


SERVE = """
import sys, uvicorn
from tests.end_to_end.test_servers_that_end import fake
print("a server of a test", flush=True)
uvicorn.run(fake().app(), port=int(sys.argv[1]), log_level="critical", lifespan="off")
"""


def serves(process: psutil.Process) -> bool:
    try:
        return SERVE in process.cmdline()
    except psutil.Error:  # it has ended, perhaps just now
        return False


def test_a_server_that_is_started_is_started_again_where_it_dies(
    tmp_path: Path, small_data: str
) -> None:
    entry = {"backend": "server", "command": [sys.executable, "-c", SERVE, "{port}"]}
    spec = spec_of(small_data, "").model_copy(update={"entries": {"mine": entry}})
    seen: list[psutil.Process] = []

    def tell(update: Update) -> None:
        children = psutil.Process().children(recursive=True)
        servers = [one for one in children if serves(one)]
        if update.done >= 5 and not seen:
            for one in servers:
                one.kill()
        seen.extend(one for one in servers if update.done >= 5 and one not in seen)

    summary = run(spec, tmp_path, tell)
    assert len(seen) == 2
    assert not any(one.is_running() for one in seen)
    assert summary.runs[0].cells.done >= CELLS - 1
    assert (tmp_path / "logs" / "mine.log").read_text().count("a server of a test") == 2
    assert summary.runs[0].memory.peak_rss_mib
