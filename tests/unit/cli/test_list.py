from __future__ import annotations

from harness.cli.list import as_cells, as_json, read_entry
from harness.config import RunSpec
from harness.store.schema import RunRow

SPEC = RunSpec(backend=("mock", "llama-cpp"), voters=2, queries=8, decoding="score")
CREATED = "2026-01-02T03:04:05+00:00"


def test_unfinished_run_is_listed_with_what_it_asked() -> None:
    entry = read_entry(RunRow("a", CREATED, SPEC.model_dump_json(), "{}", None))
    assert as_json(entry) == {
        "run_id": "a",
        "created": CREATED,
        "state": "unfinished",
        "backends": ["mock", "llama-cpp"],
        "model": "smollm2-135m",
        "data": "digits",
        "voters": 2,
        "queries": 8,
        "decoding": "score",
        "accuracy": {},
    }
    run, model, size, votes = as_cells(entry)
    assert run.startswith("a\n2026-01-0")
    assert model == "smollm2-135m\ndigits, score"
    assert size == "2 x\n8"
    assert votes == "mock, llama-cpp: unfinished"


def test_unreadable_run_does_not_hide_the_others() -> None:
    entry = read_entry(RunRow("a", CREATED, '{"colour": "red"}', "{}", "{}"))
    listed = as_json(entry)
    assert (listed["state"], listed["backends"], listed["model"]) == ("unreadable", [], None)
    assert as_cells(entry)[1:] == ["", "", "unreadable"]
