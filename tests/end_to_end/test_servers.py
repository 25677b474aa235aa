"""Runs over servers: what is found of them stands beside the figures, and keys stand nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.pipeline.run import run
from harness.report.words import presented
from harness.spec import RunSpec
from harness.summary import CaveatKind, RunSummary
from tests.fakes.server import Fake, Lies, running

KEY = "sk-very-secret"


def summary_of(data: str, folder: Path, url: str, **more: Any) -> RunSummary:
    spec = RunSpec(
        backend=(f"server:{url}",),
        model=("bytes",),
        data=data,
        voters=1,
        queries=4,
        calibration_queries=2,
        max_model_len=600,
        decoding="score",
        baselines=False,
        **more,
    )
    [found] = presented(run(spec, folder)).runs
    return found


def test_a_run_over_an_honest_server_has_replies_and_nothing_to_say_of_it(
    small_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", KEY)
    with running(Fake("vllm", key=KEY)) as server:
        options = {"server": {"api_key_variable": "MINE"}}
        found = summary_of(small_data, tmp_path, server.url, backends=options)
    assert found.entry == f"server-127.0.0.1-{server.port}"
    assert (found.cells.done, found.cells.failed) == (6, 0)
    assert CaveatKind.SERVER_FINDING not in {one.kind for one in found.caveats}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert all(KEY.encode() not in path.read_bytes() for path in files)


def test_what_a_server_does_to_prompts_is_a_note_with_figures_and_no_answer(
    small_data: str, tmp_path: Path
) -> None:
    lies = Lies(sees=200, counts_whole=True)
    with running(Fake("vllm", lies=lies)) as server:
        found = summary_of(small_data, tmp_path, server.url)
    assert (found.cells.done, found.cells.failed) == (0, 6)
    [caveat] = [one for one in found.caveats if one.kind == CaveatKind.SERVER_FINDING]
    assert (caveat.figures["kind"], caveat.figures["side"]) == ("prompt_cut", "head")
    seen = caveat.figures["seen"]
    assert isinstance(seen, int)
    assert 180 <= seen <= 220
    assert "The server drops the head of a prompt" in caveat.message
