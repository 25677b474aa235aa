from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.console import Console

from backends.api import SessionInfo
from harness.bench.rows import BenchTest, Row, Sample
from harness.report.bench import bench_answer
from harness.report.formats import as_csv, as_json, as_markdown

INFO = SessionInfo(
    engine="llama.cpp",
    engine_version="llama-cpp-python 0.3.36",
    model="smollm2-135m",
    weights="llama 135M Q4_1 GGUF",
    device="cpu",
    threads=2,
    declared_context=8192,
    allocated_context=4608,
    vocabulary_sha256="0" * 64,
)
COLD = BenchTest(512, 0, 4096, 4)


def row(test: BenchTest, *samples: Sample, info: SessionInfo = INFO, backend: str = "x") -> Row:
    warm_up = Sample(test.wanted_tokens, test.wanted_tokens, 8.0)
    return Row(
        backend,
        backend,
        info,
        "1" * 64,
        test,
        "2026-01-02T03:04:05Z",
        warm_up,
        samples,
        290.5,
        None,
    )


ROWS = [
    row(COLD, Sample(2048, 2048, 1.0), Sample(2048, 2048, 2.0)),
    row(replace(COLD, is_cached=True), Sample(2048, 4, 0.5), Sample(2048, 4, 0.5)),
    row(BenchTest(0, 128, 0, 1), Sample(128, 128, 1.0)),
]


def printed(rows: Sequence[Row], width: int = 80) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(bench_answer(rows).parts)
    return file.getvalue()


def test_json_holds_every_sample_under_llama_benchs_names() -> None:
    first, cached, generated = json.loads(as_json(bench_answer(ROWS)))["rows"]
    assert (first["test"], first["n_prompt"], first["n_gen"]) == ("pp512 @ d4096", 512, 0)
    assert (first["n_depth"], first["batch"], first["n_threads"]) == (4096, 4, 2)
    assert (first["samples_ns"], first["samples_ts"]) == ([10**9, 2 * 10**9], [2048.0, 1024.0])
    assert (first["avg_ns"], first["avg_ts"]) == (1_500_000_000, 1536.0)
    assert first["stddev_ns"] == pytest.approx(10**9 / 2**0.5, abs=1)
    assert first["stddev_ts"] == pytest.approx(1024 / 2**0.5)
    assert (first["warmup_ns"], first["warmup_ts"]) == (8 * 10**9, 256.0)
    assert first["model_sha256"] == "1" * 64
    assert (first["peak_rss_mib"], first["peak_gpu_mib"]) == (290.5, None)
    assert (cached["cached"], cached["evaluated"], cached["avg_ts"]) == (True, 4, 4096.0)
    assert (generated["test"], generated["stddev_ts"]) == ("tg128", 0.0)


def test_csv_holds_the_figures_of_json() -> None:
    read = list(csv.DictReader(io.StringIO(as_csv(bench_answer(ROWS)))))
    expected = json.loads(as_json(bench_answer(ROWS)))["rows"]
    assert [line["test"] for line in read] == ["pp512 @ d4096", "pp512 @ d4096 cached", "tg128"]
    for line, figures in zip(read, expected, strict=True):
        for name, text in line.items():
            value = figures[name]
            assert text == (json.dumps(value) if isinstance(value, bool) else str(value))
        assert not any(name.startswith("samples_") for name in line)


def test_markdown_is_a_table_of_equal_lines() -> None:
    table, *notes = as_markdown(bench_answer(ROWS)).split("\n\n")
    lines = table.splitlines()
    assert {line.count(" | ") for line in lines} == {5}
    assert lines[1] == f"|{' --- |' * 2}{' ---: |' * 4}"
    assert lines[2].endswith("| pp512 @ d4096 | 4 | 2,048 | 1,500 | 1536.00 ± 724.08 |")
    assert "smollm2-135m" in notes[0]
    assert "2 repetitions" in notes[1]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a|b", r"a\|b"),
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("[a](b)`*_", r"\[a\](b)\`\*\_"),
        ("a\tb\x1b[2J", r"a b\[2J"),
    ],
)
def test_markdown_takes_nothing_from_a_model_file_as_its_own(name: str, written: str) -> None:
    rows = [row(COLD, Sample(1, 1, 1.0), info=replace(INFO, weights=name), backend=name)]
    table, engine, *_ = as_markdown(bench_answer(rows)).split("\n\n")
    assert table.splitlines()[2].startswith(f"| {written} |")
    assert f", {written};" in engine


def test_the_table_is_whole_on_80_columns() -> None:
    text = printed(ROWS)
    cells = [" ".join(line.split()) for line in text.splitlines()]
    assert "x pp512 @ d4096 cached 4 4 500 4096.00 ± 0.00" in cells
    assert "x tg128 1 128 1,000 128.00 ± 0.00" in cells
    assert text.count("llama-cpp-python 0.3.36; smollm2-135m, llama 135M Q4_1 GGUF") == 1
    assert "1 to 2 repetitions, after one as a warm-up." in text
    assert "cached: the same prompts again" in text
    assert max(map(len, text.splitlines())) <= 80


def test_what_was_cached_in_no_row_is_not_explained() -> None:
    assert "cached:" not in printed(ROWS[2:])


def test_a_mock_is_marked_wherever_its_figures_are() -> None:
    mock = [row(COLD, Sample(1, 1, 1.0), info=replace(INFO, is_mock=True), backend="mock")]
    assert "mock MOCK" in printed(mock)
    assert "| mock MOCK |" in as_markdown(bench_answer(mock))
    assert json.loads(as_json(bench_answer(mock)))["rows"][0]["mock"] is True
    assert next(csv.DictReader(io.StringIO(as_csv(bench_answer(mock)))))["mock"] == "true"


def test_an_engine_that_evaluated_more_is_told_of() -> None:
    rows = [row(COLD, Sample(2064, 2064, 1.0), backend="blocks")]
    for text in (printed(rows), as_markdown(bench_answer(rows))):
        assert "blocks, pp512 @ d4096: more tokens were evaluated" in " ".join(text.split())
        assert "2,064" in text
    assert "more tokens were evaluated" not in printed(ROWS)
