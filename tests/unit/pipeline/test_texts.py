"""Runs over texts, on the mock: the same steps as over vectors, from a file to the summary."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.engine.session import TokenizerSession
from harness.errors import EngineError, UsageError
from harness.pipeline.run import resume, run
from harness.pipeline.summarise import recompute
from harness.spec import RunSpec
from harness.summary import CaveatKind, Summary

CLASSES = ("sport", "sport news", "sports", "0")


def write(folder: Path, texts: Sequence[str] = (), classes: Sequence[str] = CLASSES) -> Path:
    """20 short texts of each class and these, without a split."""
    path = folder / "data.csv"
    rows = [(f"Text {at} of {name}", name) for name in classes for at in range(20)]
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows, *((t, classes[0]) for t in texts)])
    return path


def carry_out(path: Path, results: Path, **changes: Any) -> Summary:
    given = {"voters": 2, "queries": 8, "max_model_len": 600, "decoding": "score", **changes}
    return run(RunSpec(data=str(path), **{"backend": ("mock",), **given}), results)


def test_texts_go_all_the_way(tmp_path: Path) -> None:
    """Classes whose names begin other names have labels of their own in each decoding."""
    path = write(tmp_path)
    for decoding in ("score", "choice", "free"):
        summary = carry_out(path, tmp_path / "results", decoding=decoding)
        [entry] = summary.runs
        assert summary.data is not None
        assert (summary.data.kind, summary.data.train, summary.data.test) == ("text", 56, 24)
        assert entry.cells.done == 2 * (8 + 12)
        assert entry.accuracy.classes == sorted(CLASSES)
        assert [one.name for one in summary.baselines][-1] == "the most frequent class"
        assert len(summary.baselines) == 4
        if decoding == "choice":
            assert entry.parse.strict is not None
            assert entry.parse.strict.value == 1
    stored = harness.open_results(tmp_path / "results").run("latest")
    assert stored.spec.prompt == "text"
    assert recompute(stored) == stored.summary
    assert stored.texts is not None
    assert stored.texts[0].endswith("\nOverall:")


def test_a_run_of_texts_is_completed_and_given_again(tmp_path: Path) -> None:
    path, results = write(tmp_path, ["long " * 200] * 5), tmp_path / "results"
    first = carry_out(path, results)
    assert resume(first.run_id, results) == first
    spec = RunSpec(backend=("mock",), prompts_from=first.run_id)
    again = run(spec, results)
    assert again.runs[0].prompts == first.runs[0].prompts
    # What the defaults came to changes nothing.
    columns: dict[str, Any] = {"text_column": "text", "label_column": "label", "test_share": 0.3}
    named = run(RunSpec(**{**spec.model_dump(exclude_unset=True), **columns}), results)
    assert named.runs[0].prompts == first.runs[0].prompts
    path.write_text(path.read_text().replace("Text 3", "Text x"))
    with pytest.raises(harness.errors.StoreError, match="cannot be made again"):
        run(spec, results)


def test_another_column_of_labels_than_that_of_the_prompts_is_refused(tmp_path: Path) -> None:
    path, results = write(tmp_path), tmp_path / "results"
    path.write_text(path.read_text().replace("text,label", "text,kind", 1))
    first = carry_out(path, results, text_column="text", label_column="kind")
    with pytest.raises(UsageError, match="label-column"):
        run(RunSpec(backend=("mock",), prompts_from=first.run_id, label_column="label"), results)


def test_a_query_that_does_not_fit_costs_itself_only(tmp_path: Path) -> None:
    path = write(tmp_path, [f"{n} " + "long " * 200 for n in range(8)], CLASSES[:2])
    summary = carry_out(path, tmp_path / "results", queries=100)
    [entry] = summary.runs
    kinds = {one.kind: one.figures for one in entry.caveats}
    long_ones = kinds[CaveatKind.TEXTS_TOO_LONG]["queries"]
    assert isinstance(long_ones, int)
    assert 0 < long_ones < 8
    assert entry.cells.failed == 2 * long_ones
    assert min(entry.context_fit.examples_per_voter) > 4
    assert entry.context_fit.fill_ratio is not None
    assert entry.context_fit.fill_ratio <= 1


def test_a_tokenizer_that_fails_costs_its_entry_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = TokenizerSession.tokenize

    def tokenize(self: TokenizerSession, texts: Sequence[str]) -> list[list[int]]:
        if self._transport.name == "one":
            raise EngineError("it is damaged")
        return honest(self, texts)

    monkeypatch.setattr(TokenizerSession, "tokenize", tokenize)
    entries = {"one": {"backend": "mock"}, "two": {"backend": "mock"}}
    one, two = carry_out(write(tmp_path), tmp_path / "results", backend=(), entries=entries).runs
    assert one.cells.done == 0
    assert two.cells.done == 2 * (8 + 12)


def test_what_is_for_vectors_is_refused_for_texts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--reducer, --encoding: this is for vectors"):
        carry_out(write(tmp_path), tmp_path / "results", reducer="plsda:4", encoding="int:100")
    with pytest.raises(UsageError, match=r"--preset ece209 \(--reducer, .*\): this is for vectors"):
        carry_out(write(tmp_path), tmp_path / "results", preset="ece209")
    with pytest.raises(UsageError, match=r"compact writes \$numbers, and the data are texts"):
        carry_out(write(tmp_path), tmp_path / "results", prompt="compact")


def test_the_api_takes_texts(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(
        "\n".join(
            json.dumps({"body": f"Text {at}", "title": "x", "label": at % 2}) for at in range(40)
        )
    )
    summary = harness.benchmark(
        results=tmp_path / "results", backend="mock", data=str(path), text_column="body", queries=4
    )
    assert summary.data is not None
    assert summary.data.unused_columns == ["title"]
    assert summary.runs[0].label_words == ["0", "1"]
