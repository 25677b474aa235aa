"""`harness bench` as its users meet it: over the mock, and over llama.cpp for its shape."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.cli.backends import check
from harness.engine.registry import find_backend
from tests.end_to_end.inside import inside
from tests.end_to_end.test_cli import harness

# quiet: on a slow machine, the progress of even so little is a line
SMALL = ("-p", "20,30", "-n", "6", "-d", "0,40", "-b", "1,3")
MOCK = ("bench", "--quiet", "--backend", "mock", *SMALL)
TESTS = ("pp20", "pp20 cached", "pp30", "pp30 cached", "tg6")
AT_40 = ("pp20 @ d40", "pp20 @ d40 cached", "pp30 @ d40", "pp30 @ d40 cached", "tg6 @ d40")
EXPECTED = [(str(batch), test) for batch in (1, 3) for test in (*TESTS, *AT_40)]


def test_json_is_a_list_of_rows(tmp_path: Path) -> None:
    done = harness(tmp_path, *MOCK, "-r", "2", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)["rows"]
    assert [(str(row["batch"]), row["test"]) for row in rows] == EXPECTED
    assert {len(row["samples_ts"]) for row in rows} == {2}
    assert {row["mock"] for row in rows} == {True}


def test_csv_reads_as_a_table(tmp_path: Path) -> None:
    done = inside(tmp_path, *MOCK, "--format", "csv")
    assert (done.returncode, done.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["batch"], row["test"]) for row in rows] == EXPECTED


@pytest.mark.parametrize("columns", ["80", "140"])
def test_the_table_fits_the_terminal_and_is_for_all_backends(tmp_path: Path, columns: str) -> None:
    (tmp_path / "bench.toml").write_text(
        'backend = "mock"\nvoters = 3\nquiet = true\n[backends.mock]\nbatch = 2\n'
    )
    done = inside(tmp_path, "bench", "--config", "bench.toml", "-r", "1", COLUMNS=columns)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[:3] for line in lines[2:5]] == [
        ["mock", "MOCK", "pp512"],
        ["mock", "MOCK", "pp512"],
        ["mock", "MOCK", "tg128"],
    ]
    assert max(map(len, lines)) <= int(columns)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-p", "x"], 2, "--prompt-tokens 'x' is no list of numbers"),
        (["-p", "0", "-n", "0"], 2, "nothing to time"),
        (["-r", "0"], 2, "--repetitions"),
        (["--format", "xml"], 2, "xml"),
        (["-o", "json"], 2, "--format json"),
        (["--backend", "nope"], 2, "there is no backend 'nope'"),
        (["-d", "900", "--engine-option", "context=1000"], 2, "takes 1412 tokens of context"),
        (["--config", "nope.toml"], 2, "nope.toml"),
    ],
)
def test_exit_codes_and_what_is_said(
    tmp_path: Path, arguments: Sequence[str], code: int, said: str
) -> None:
    done = inside(tmp_path, "bench", "--backend", "mock", *arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_what_was_timed_before_an_engine_failed_is_printed(tmp_path: Path) -> None:
    crash = ("--engine-option", "crash_at=7", "-r", "2", "--format", "json")
    done = inside(tmp_path, "bench", "--backend", "mock", *crash)
    assert done.returncode == 1
    assert [row["test"] for row in json.loads(done.stdout)["rows"]] == ["pp512", "pp512 cached"]
    assert "mock failed in tg128" in done.stderr


def test_llama_cpp_evaluates_prompt_fields_for_and_no_more(tmp_path: Path) -> None:
    llama_cpp = check(find_backend("llama-cpp"))
    if not llama_cpp.available:
        pytest.skip(f"llama-cpp: {llama_cpp.reason}. {llama_cpp.remedy}")
    small = ("-p", "64", "-n", "8", "-d", "0,32", "-r", "2", "--threads", "1", "--format", "json")
    done = harness(tmp_path, "bench", *small)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [(row["test"], row["samples_evaluated"]) for row in rows] == [
        ("pp64", [64, 64]),
        ("pp64 cached", [0, 0]),
        ("tg8", [8, 8]),
        ("pp64 @ d32", [64, 64]),
        ("pp64 @ d32 cached", [0, 0]),
        ("tg8 @ d32", [8, 8]),
    ]
    for row in rows:
        assert (row["backend"], row["n_threads"], row["mock"]) == ("llama-cpp", 1, False)
        assert len(row["model_sha256"]) == 64
        assert row["avg_ts"] > 0
        assert row["peak_rss_mib"] > 0


def test_a_depth_beyond_the_model_is_refused_with_its_limit(tmp_path: Path) -> None:
    llama_cpp = check(find_backend("llama-cpp"))
    if not llama_cpp.available:
        pytest.skip(f"llama-cpp: {llama_cpp.reason}. {llama_cpp.remedy}")
    done = inside(tmp_path, "bench", "-d", "9000")
    assert (done.returncode, done.stdout) == (1, "")
    assert "9512" in done.stderr
    assert "8192" in done.stderr
