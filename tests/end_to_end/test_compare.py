"""`harness compare` as its users meet it, over runs of the mock in which a change is planted."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.comparison.metrics import METRICS
from harness.comparison.records import Compared
from harness.metrics import Difference, Outcome
from harness.pipeline.run import run
from harness.spec import RunSpec
from harness.store.store import Store
from tests.end_to_end.inside import inside
from tests.unit.imports.conftest import LLAMA_BENCH

QUERIES = 120
SPEEDS = {"prefill_tokens_per_second", "decode_tokens_per_second"}


@dataclass(frozen=True, slots=True)
class Runs:
    """A folder to work in, and the ids of its runs: two alike, one that is slower and makes
    errors, one of another seed and fewer queries."""

    folder: Path
    plain: str
    again: str
    worse: str
    other: str

    def compare(self, *arguments: str, columns: str = "80") -> subprocess.CompletedProcess[str]:
        return compare(self.folder, *arguments, columns=columns)

    def compared(self, *names: str) -> Compared:
        done = self.compare(*names, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        answer = json.loads(done.stdout)
        assert answer.pop("schema_version") == 1
        return Compared.model_validate(answer)


@cache
def compare(folder: Path, *arguments: str, columns: str) -> subprocess.CompletedProcess[str]:
    return inside(folder, "compare", *arguments, COLUMNS=columns)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, small_data: str) -> Runs:
    folder = tmp_path_factory.mktemp("work")

    def made(noise_seed: int, tokens_per_second: float = 40, errors: float = 0, **more: Any) -> str:
        told = {"tokens_per_second": tokens_per_second, "jitter": 0.02, "errors": errors}
        spec = {
            "backend": ("mock",),
            "data": small_data,
            "voters": 3,
            "queries": QUERIES,
            "calibration_queries": 4,
            "max_model_len": 500,
            "reducer": "plsda:1",
            "max_tokens": 4,
            "baselines": False,
            "engine": {"threshold": 50, "noise_seed": noise_seed, **told},
        }
        return run(RunSpec(**(spec | more)), folder / "results").run_id

    return Runs(
        folder,
        plain=made(0),
        again=made(1),
        worse=made(2, tokens_per_second=30, errors=0.8),
        other=made(3, queries=20, seed=5),
    )


def by_metric(found: Compared, place: int = 0) -> dict[str, Difference]:
    return {one.metric: one for one in found.against_first[place].differences}


def test_runs_that_differ_in_nothing_are_not_told_apart(runs: Runs) -> None:
    found = runs.compared(runs.plain, runs.again)
    [one] = found.against_first
    assert (one.same_text, one.same_tokens, one.conditions, one.flips) == (True, True, [], [])
    assert [field.field for field in one.spec] == ["engine"]
    of_a_session = {"peak_rss_mib", "load_seconds"}
    for difference in one.differences:
        known = {**dict.fromkeys(of_a_session, Outcome.TOO_FEW), "examples_per_voter": Outcome.SAME}
        expected = known.get(difference.metric, Outcome.NO_SIGNIFICANT_DIFFERENCE)
        assert difference.outcome is expected
    accuracy = by_metric(found)["accuracy"]
    assert (accuracy.change, accuracy.p_value, accuracy.samples) == (0, 1, (QUERIES, QUERIES))


def test_planted_changes_are_called_in_their_direction(runs: Runs) -> None:
    there, back = runs.compared(runs.plain, runs.worse), runs.compared(runs.worse, runs.plain)
    for metric in ("accuracy", *SPEEDS):
        assert by_metric(there)[metric].outcome is Outcome.WORSE
        assert by_metric(back)[metric].outcome is Outcome.BETTER
    assert by_metric(there)["parse_rate"].outcome is Outcome.NO_SIGNIFICANT_DIFFERENCE
    for metric in SPEEDS:
        interval = by_metric(there)[metric].interval
        assert interval is not None
        assert interval.low <= 0.75 <= interval.high


def test_several_are_each_compared_with_the_first(runs: Runs) -> None:
    found = runs.compared(runs.plain, runs.again, "latest:mock", runs.worse)
    assert [one.other.run_id for one in found.against_first] == [
        runs.again,
        runs.other,
        runs.worse,
    ]
    assert len(found.agreements) == 6
    for one in found.against_first[2].differences:
        if METRICS[one.metric].samples is None:
            continue
        assert one.p_value is not None
        assert one.p_adjusted is not None
        assert one.p_adjusted >= one.p_value
    assert found.same_accuracy_p is None or 0 <= found.same_accuracy_p <= 1


@pytest.mark.parametrize("columns", ["80", "140"])
def test_the_table_fits_the_terminal_and_has_everything(runs: Runs, columns: str) -> None:
    done = runs.compare(runs.plain, runs.worse, "--flips", columns=columns)
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= int(columns)
    text = " ".join(done.stdout.split())
    assert f"mock {runs.plain}: accuracy " in text.split("WARNING")[0]
    assert "MOCK" in text
    assert f"mock {runs.worse}: given the same prompts as mock {runs.plain}." in text
    assert f"WARNING: mock {runs.plain} and mock {runs.worse}: specs differ in engine" in text
    for title in ("accuracy", "parse rate", "prefill tok/s", "decode tok/s", "do they agree?"):
        assert title in text
    assert "\x1b" not in done.stdout


def test_flips_are_listed_on_request(runs: Runs) -> None:
    flips = runs.compared(runs.plain, runs.worse).against_first[0].flips
    gained = sum(flip.other == flip.truth for flip in flips)
    lost = len(flips) - gained
    said = f"mock {runs.worse}: {gained} queries became right, {lost} wrong."
    assert lost > gained
    assert said in runs.compare(runs.plain, runs.worse, "--flips").stdout
    assert said not in runs.compare(runs.plain, runs.worse).stdout


def test_other_prompts_are_compared_with_a_loud_line(runs: Runs) -> None:
    text = " ".join(runs.compare(runs.plain, runs.other).stdout.split())
    who = f"WARNING: mock {runs.plain} and mock {runs.other}:"
    assert f"{who} given other prompts (first at voter 0, query 0: another text)." in text
    assert f"{who} specs differ in seed 0 / 5, queries {QUERIES} / 20, engine" in text
    found = by_metric(runs.compared(runs.plain, runs.other))["accuracy"]
    assert found.paired
    assert found.samples[0] < 20


def test_csv_and_markdown_hold_the_differences(runs: Runs) -> None:
    found = runs.compared(runs.plain, runs.worse).against_first[0].differences
    written = runs.compare(runs.plain, runs.worse, "--format", "csv")
    lines = list(csv.DictReader(io.StringIO(written.stdout)))
    assert [line["metric"] for line in lines] == [one.metric for one in found]
    assert [float(line["change"]) for line in lines] == [one.change for one in found]
    assert {line["other_run"] for line in lines} == {runs.worse}
    parts = runs.compare(runs.plain, runs.worse, "--format", "md").stdout.split("\n\n")
    [table] = [part for part in parts if "other is" in part]
    assert len(table.splitlines()) == 2 + 1 + len(found)
    assert {line.count("|") for line in table.splitlines()} == {7}


def test_a_result_of_another_tool_stands_in_a_comparison(runs: Runs) -> None:
    samples = [41.0, 40.5, 40.0, 40.7, 39.9, 40.2]
    row = {**LLAMA_BENCH, "samples_ts": samples, "avg_ts": 40.4}
    (runs.folder / "lb.json").write_text(json.dumps([row]))
    assert inside(runs.folder, "import", "lb.json").returncode == 0
    with Store(runs.folder / "results") as store:
        [stored] = store.imports()
    found = runs.compared(runs.plain, stored.import_id)
    assert [one["import_id"] for one in found.imports] == [stored.import_id]
    assert found.against_first[0].elsewhere
    assert list(by_metric(found)) == ["prefill_tokens_per_second"]
    [difference] = by_metric(found).values()
    assert difference.outcome is Outcome.NO_SIGNIFICANT_DIFFERENCE
    done = runs.compare(stored.import_id, runs.plain)
    assert max(map(len, done.stdout.splitlines())) <= 80
    text = " ".join(done.stdout.split())
    assert "not measured alike: tool llama-bench " in text
    assert ", test pp64 / " in text


def test_what_cannot_be_compared_says_why_and_prints_nothing_else(runs: Runs) -> None:
    for arguments, code, said in (
        ([runs.plain, f"{runs.plain}:mock"], 2, "two runs or more"),
        ([runs.plain, f"{runs.again}:vllm"], 1, "has no entry or baseline 'vllm'"),
    ):
        done = runs.compare(*arguments)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith("error: ")
        assert said in done.stderr
