"""The command line as its users meet it: a process, its exit code, its stdout and its stderr.

A process takes a second to start, so where one would show no more there is none: `inside`.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from backends.api import Reply
from harness.cli.backends import check
from harness.store.store import FILE_NAME, Store
from tests.end_to_end.inside import environment, inside

HARNESS = (sys.executable, "-m", "harness")
SCHEMA = Path(__file__).parents[2] / "docs" / "run.schema.json"
SPEC = (
    'backend = "llama-cpp"\nvoters = 2\nqueries = 8\ncalibration_queries = 4\nmax_model_len = 420\n'
    "quiet = true\n"  # on a slow machine, the progress of even so little is a line
)
PROMPTS = 2 * (8 + 4)
PATIENCE_SECONDS = 300  # for what hangs: on a loaded machine, a minute is little


@dataclass(frozen=True, slots=True)
class Workplace:
    """A folder to work in, with two runs of one spec: one as a table, one resumed, as JSON."""

    folder: Path
    table: subprocess.CompletedProcess[str]
    interrupted: subprocess.CompletedProcess[str]
    resumed: subprocess.CompletedProcess[str]

    def harness(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return harness(self.folder, *arguments, **environment)

    def inside(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return inside(self.folder, *arguments, **environment)

    @property
    def run_ids(self) -> list[str]:
        """The oldest first."""
        with Store(self.folder / "results") as store:
            return [row.run_id for row in reversed(store.runs())]


def harness(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HARNESS, *arguments],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )


def interrupt(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Starts a run, and presses Ctrl-C when the first replies have been stored."""
    # a shell starts background jobs with Ctrl-C ignored, which this test would hand on
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*HARNESS, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, handler)
    before = stored_cells(folder)
    give_up = time.monotonic() + PATIENCE_SECONDS
    while stored_cells(folder) == before and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=PATIENCE_SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, said)


def stored_cells(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "results" / FILE_NAME)) as connection:
        count: int = connection.execute("SELECT count(*) FROM cells").fetchone()[0]
    return count


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, small_data: str) -> Iterator[Workplace]:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "bench.toml").write_text(f'data = "{small_data}"\n{SPEC}')
    asked = ("run", "--config", "bench.toml", "--backend", "mock")
    yield Workplace(
        folder,
        table=harness(folder, *asked),
        interrupted=interrupt(folder, *asked, "--engine-option", "delay_ms=150"),
        resumed=harness(folder, "run", "--resume", "latest", "--json", "--quiet"),
    )


def test_table_and_notes_are_on_stdout(workplace: Workplace) -> None:
    done = workplace.table
    assert done.returncode == 0, done.stderr
    assert "MOCK" in done.stdout
    # The line breaks where the path of the data lets it.
    in_one_line = " ".join(done.stdout.split())
    assert "2 voters x 8 queries; free decoding; 420 tokens of context; seed 0" in in_one_line
    assert "note: This is the mock" in done.stdout
    assert done.stderr == ""
    assert "\x1b" not in done.stdout + done.stderr


def test_json_is_one_object_of_the_schema(workplace: Workplace) -> None:
    done = workplace.resumed
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads(done.stdout)
    jsonschema.validate(summary, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert summary["runs"][0]["cells"] == {"done": PROMPTS, "failed": 0, "not_needed": 0}


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(workplace: Workplace) -> None:
    done = workplace.interrupted
    run_id = workplace.run_ids[-1]
    assert (done.returncode, done.stdout) == (130, "")
    assert f"  harness run --resume {run_id}\n" in done.stderr
    assert re.search(rf"stored: mock \d+ of {PROMPTS}\.", done.stderr)
    assert "Traceback" not in done.stderr
    with Store(workplace.folder / "results") as store:
        sessions = [cell.session_id for cell in store.cells(run_id, "mock")]
    assert len(set(sessions)) == 2


def test_resume_completes_the_run(workplace: Workplace) -> None:
    run_id = workplace.run_ids[-1]
    assert json.loads(workplace.resumed.stdout)["run_id"] == run_id
    assert len(replies(workplace, run_id)) == PROMPTS


def test_resume_says_that_nothing_was_left(workplace: Workplace) -> None:
    """It shows the run, and would look as if it had run again."""
    run_id = workplace.run_ids[0]
    done = workplace.inside("run", "--resume", run_id)
    assert (done.returncode, done.stdout) == (0, workplace.inside("show", run_id).stdout)
    assert done.stderr == f"Run {run_id} is complete: nothing was left to prompt.\n"


def replies(workplace: Workplace, run_id: str) -> list[Reply]:
    """The replies in the order of the prompts, less what no two runs have in common."""
    with Store(workplace.folder / "results") as store:
        cells = store.cells(run_id, "mock")
    return [
        replace(cell.reply, prompt=0, cached_tokens=0, time_to_first_token_ms=None)
        for cell in cells
        if cell.reply
    ]


def test_one_seed_gives_the_same_prompts_and_replies(workplace: Workplace) -> None:
    first, resumed = (replies(workplace, run_id) for run_id in workplace.run_ids)
    assert len(first) == PROMPTS
    assert first == resumed


def test_compare_sees_the_same_prompts(workplace: Workplace) -> None:
    first, resumed = workplace.run_ids
    done = workplace.harness("compare", first, resumed, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [run["run_id"] for run in found["runs"]] == [first, resumed]
    (comparison,) = found["against_first"]
    assert (comparison["other"]["run_id"], comparison["same_tokens"]) == (resumed, True)
    assert [one["field"] for one in comparison["spec"]] == ["engine"]
    (agreement,) = found["agreements"]
    assert [agreement[side]["run_id"] for side in ("first", "other")] == [first, resumed]
    assert (agreement["prompts"], agreement["labels"]["share"]) == (PROMPTS, 1.0)
    assert (agreement["log_odds"]["prompts"], agreement["log_odds"]["largest"]) == (PROMPTS, 0.0)
    assert (agreement["verdicts"]["queries"], agreement["verdicts"]["differing"]) == (8, [])


def test_compare_prints_one_table_and_the_verdict(workplace: Workplace) -> None:
    first, second = workplace.run_ids
    done = workplace.inside("compare", first, second)
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    assert f"mock {second}: given the same prompts as mock {first}." in text
    assert text.startswith(f"MOCK, whose figures mean nothing: mock {first}, mock {second}.")
    assert text.count("MOCK, whose figures mean nothing") == 1  # a pipe has no screen


@pytest.mark.parametrize("runs", [["latest"], ["latest", "latest"]])
def test_compare_wants_two_runs(workplace: Workplace, runs: Sequence[str]) -> None:
    done = workplace.inside("compare", *runs)
    assert (done.returncode, done.stdout) == (2, "")
    assert "two runs or more" in done.stderr


def test_show_prints_what_run_printed(workplace: Workplace) -> None:
    first, resumed = workplace.run_ids
    table = workplace.harness("show", first)
    assert (table.returncode, table.stdout) == (0, workplace.table.stdout)
    answer = workplace.harness("show", resumed, "--json")
    assert (answer.returncode, answer.stdout) == (0, workplace.resumed.stdout)


def test_a_summary_computed_again_is_the_stored_one(workplace: Workplace) -> None:
    for run_id in workplace.run_ids:
        stored = workplace.inside("show", run_id)
        again = workplace.inside("show", run_id, "--recompute")
        assert (again.returncode, again.stdout) == (0, stored.stdout), again.stderr


def test_a_run_of_a_newer_version_is_one_error_everywhere(
    workplace: Workplace, tmp_path: Path
) -> None:
    shutil.copytree(workplace.folder / "results", tmp_path / "results")
    older, newer = workplace.run_ids
    with closing(sqlite3.connect(tmp_path / "results" / FILE_NAME)) as connection:
        connection.execute("UPDATE runs SET records_version = 99 WHERE run_id = ?", (newer,))
        connection.commit()
    said = f"error: run {newer} was written by a newer version of the harness\n"
    for arguments in (["show", newer], ["compare", older, newer], ["run", "--resume", newer]):
        done = inside(tmp_path, *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(said)
    for command in ("list", "history"):
        done = inside(tmp_path, command, "--json")
        assert done.returncode == 1
        assert done.stderr.startswith(said)
        assert older in done.stdout


def test_an_entry_that_fails_whole_has_its_row_and_the_others_stand(tmp_path: Path) -> None:
    (tmp_path / "bench.toml").write_text(
        "voters = 1\nqueries = 4\ncalibration_queries = 0\nmax_model_len = 300\nquiet = true\n"
        "baselines = false\n"
        '[entries.good]\nbackend = "mock"\n'
        '[entries.bad]\nbackend = "mock"\ncrash_at = 1\n'
    )
    done = harness(tmp_path, "run", "--config", "bench.toml")
    assert done.returncode == 1
    assert done.stderr.startswith("error: bad gave no reply: the engine was killed")
    assert "bad: 4 of 4 cells failed." in done.stdout.split("\n\n")[0].splitlines()
    assert "note: bad: 4 cells failed" in done.stdout
    assert "no prompt got a reply." in " ".join(done.stdout.split())
    # How it was prompted, and whether it agrees, are no questions.
    compared = harness(tmp_path, "compare", "latest")
    for answer in (done, compared):
        assert "bad: majority vote" not in answer.stdout
        assert "do they agree?" not in answer.stdout
        assert "WARNING" not in answer.stdout
    good = harness(tmp_path, "show", "latest", "--json")
    cells = {run["entry"]: run["cells"]["done"] for run in json.loads(good.stdout)["runs"]}
    assert cells == {"good": 4, "bad": 0}


SMALL = ("--backend", "mock", "--voters", "1", "--queries", "4")
PRINTING = {
    "run": ("run", *SMALL, "--no-baselines", "--quiet"),
    "list": ("list",),
    "show": ("show", "latest"),
    "compare": ("compare", "{0}", "{1}"),
    "bench": ("bench", "--backend", "mock", "-p", "8", "-n", "4", "-r", "1", "--quiet"),
    "import": ("import", "bench.json"),
    "history": ("history",),
    "backends": ("backends",),
    "models": ("models",),
}
"""What prints an answer, with the arguments that it needs here."""

KNOWN = {
    **dict.fromkeys(("run", "list", "show", "compare", "bench", "history"), "mock"),
    "import": "import-",
    "backends": "llama-cpp",
    "models": "smollm2-135m",
}
"""A word of each answer."""


@pytest.fixture(scope="module")
def bench_file(workplace: Workplace) -> Path:
    workplace.inside(*PRINTING["bench"], "--json", "-o", "bench.json")
    return workplace.folder / "bench.json"


@pytest.fixture(scope="module")
def checked_once() -> Iterator[None]:
    """Each engine is looked at in a process, for some seconds."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("harness.cli.backends.check", cache(check))
        yield


@pytest.mark.usefixtures("checked_once")
@pytest.mark.parametrize("command", PRINTING)
def test_every_answer_comes_in_four_formats_and_goes_to_a_file(
    workplace: Workplace, bench_file: Path, tmp_path: Path, command: str
) -> None:
    results = tmp_path / "results"
    shutil.copytree(workplace.folder / "results", results)
    shutil.copy(bench_file, tmp_path)
    given = [word.format(*workplace.run_ids) for word in PRINTING[command]]
    said: dict[str, str] = {}
    for name in ("table", "json", "csv", "md"):
        done = inside(tmp_path, *given, "--format", name, "-o", f"answer.{name}")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        said[name] = (tmp_path / f"answer.{name}").read_text()
    assert json.loads(said["json"])["schema_version"] == 1
    assert len(list(csv.DictReader(io.StringIO(said["csv"])))) > 0
    assert said["md"].startswith("| ") or "\n| " in said["md"]
    assert "\x1b" not in said["table"]
    assert KNOWN[command] in said["table"]
    short = inside(tmp_path, *given, "--json")
    assert json.loads(short.stdout).keys() == json.loads(said["json"]).keys()
    both = inside(tmp_path, *given, "--json", "--format", "md")
    assert (both.returncode, both.stdout) == (2, "")
    assert "--json and --format differ" in both.stderr


@pytest.mark.parametrize("command", PRINTING)
def test_an_output_that_cannot_be_is_refused_before_any_work(
    workplace: Workplace, tmp_path: Path, command: str
) -> None:
    given = [word.format(*workplace.run_ids) for word in PRINTING[command]]
    for output, said in (
        ("md", "Give --format md."),
        ("no/such/file", "no folder"),
        (".", "folder"),
    ):
        done = inside(tmp_path, *given, "-o", output)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_show_fits_a_wide_terminal(workplace: Workplace) -> None:
    done = workplace.inside("show", "latest", COLUMNS="200")
    assert ["entry", "and"] in [line.split()[:2] for line in done.stdout.splitlines()]


def test_list_is_newest_first(workplace: Workplace) -> None:
    listed: list[dict[str, Any]] = json.loads(workplace.inside("list", "--json").stdout)["runs"]
    assert [run["run_id"] for run in listed] == workplace.run_ids[::-1]
    assert {run["state"] for run in listed} == {"done"}
    assert {run["voters"] for run in listed} == {2}
    table = workplace.inside("list").stdout
    assert [table.index(run["run_id"]) for run in listed] == sorted(
        table.index(run["run_id"]) for run in listed
    )


@pytest.mark.usefixtures("checked_once")
def test_backends_and_models_are_listed(workplace: Workplace) -> None:
    answer = json.loads(workplace.inside("backends", "--json").stdout)
    found = {one["name"]: one for one in answer["backends"]}
    assert found["mock"]["mock"]
    assert found["mock"]["available"]
    assert "llama-cpp" in found
    assert "MOCK" in workplace.inside("backends").stdout
    models = json.loads(workplace.inside("models", "--json").stdout)["models"]
    assert "smollm2-135m" in {model["model"] for model in models}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--version"], 0, ""),
        (["run", "--voter", "3"], 2, "Did you mean --voters?"),
        (["run", "--voters", "many"], 2, "--voters is 'many': use a whole number from 1 to 1000"),
        (["run", "--voters", "0"], 2, "--voters is 0: use a whole number from 1 to 1000"),
        (["run", "--prompt", "a", "--prompt", "b"], 2, "--prompt is given twice"),
        (["run", "--backend", "nope"], 2, "there is no backend 'nope'"),
        (["run", "--config", "nope.toml"], 2, "nope.toml"),
        (["run", "--config", "wrong.toml"], 2, "wrong.toml: there is no key voter"),
        (["run", "--resume", "latest", "--seed", "1"], 2, "--resume"),
        (["run", "--resume", "nope"], 1, "no runs whose id begins with 'nope'"),
        (["run", "--backend", "mock", "--data", "nope.npz"], 2, "nope.npz"),
        (["run", "--backend", "mock", "--prompt", "nope"], 2, "no prompt template 'nope'"),
        (["run", "--backend", "mock", "--chat-template", "nope"], 2, "no such file"),
        (["import", "nope.json"], 2, "nope.json: there is no such file"),
        (["show", "nope"], 1, "no runs whose id begins with 'nope'"),
        (["show", "latest", "--results", "nowhere"], 1, "nowhere holds no runs"),
        (["list", "--results", "nowhere"], 0, ""),
        (["run", "--results", "wrong.toml/x"], 1, "results folder wrong.toml/x could not be made"),
    ],
)
def test_exit_codes_and_what_is_said(
    workplace: Workplace, arguments: Sequence[str], code: int, said: str
) -> None:
    (workplace.folder / "wrong.toml").write_text("voter = 3\n")
    done = workplace.inside(*arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert code == 0 or done.stdout == ""


def test_a_run_without_any_reply_prints_its_table_and_fails(tmp_path: Path) -> None:
    crash = ("--engine-option", "crash_at=1", "--calibration-queries", "0")
    done = inside(tmp_path, "run", *SMALL, *crash, "--no-baselines", "--quiet")
    assert done.returncode == 1, done.stderr
    assert "4 cells failed" in done.stdout
    assert "note: This is the mock" in done.stdout
    assert done.stderr.startswith("error: mock gave no reply: ")
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_is_no_error(workplace: Workplace) -> None:
    process = subprocess.Popen(
        [*HARNESS, "show", "latest", "--json"],
        cwd=workplace.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(PATIENCE_SECONDS) == 1
