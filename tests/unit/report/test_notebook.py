"""What a notebook shows, without a notebook."""

from __future__ import annotations

from pathlib import Path

import harness

HOSTILE = "<script>alert(1)</script>&"


def test_a_run_and_a_comparison_show_their_tables(tmp_path: Path, small_data: str) -> None:
    run = harness.benchmark(
        tmp_path,
        data=small_data,
        voters=1,
        queries=10,
        calibration_queries=0,
        max_model_len=300,
        model=HOSTILE,
        entries={name: {"backend": "mock"} for name in ("one", "two")},
    )
    compared = harness.compare(f"{run.run_id}:one", f"{run.run_id}:two", results=tmp_path)
    for shown, words in ((run, "accuracy voted"), (compared, "other is")):
        bundle = shown._repr_mimebundle_(include=None, exclude=None)
        assert set(bundle) == {"text/html", "text/plain"}
        assert words in bundle["text/plain"]
        assert words in bundle["text/html"]
        assert bundle["text/html"].startswith("<pre")
        assert "<script>" not in bundle["text/html"]
    assert HOSTILE in run._repr_mimebundle_()["text/plain"]
    again = harness.compare(f"{run.run_id}:one", f"{run.run_id}:two", results=tmp_path)
    assert again == compared
