"""`harness fit` as its users meet it, and compared with what a run packs with real tokenizers."""

from __future__ import annotations

import csv
import io
import json
import re
from contextlib import closing
from pathlib import Path

import jsonschema
import pytest

from harness.cli.backends import check
from harness.engine.registry import find_backend
from harness.errors import EngineError
from harness.fit.fit import Order, fit
from harness.fit.memory import total_bytes
from harness.machine.memory import MIB
from harness.pipeline.run import plan, prepare
from harness.report.schema import schema_of
from harness.spec import RunSpec
from tests.end_to_end.inside import inside

MOCK = ("fit", "--backend", "mock", "--voters", "2", "--queries", "8", "--quiet")


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "reviews.csv"
    lines = [f"{'train' if i < 80 else 'test'},{'ab'[i % 2]},text number {i}" for i in range(100)]
    path.write_text("\n".join(["split,label,text", *lines]) + "\n")
    return path


@pytest.mark.parametrize("backend", ["llama-cpp", "hf"])
def test_a_real_tokenizer_counts_what_a_run_packs(
    backend: str, tmp_path: Path, small_data: str
) -> None:
    if not check(find_backend(backend)).available:
        pytest.skip(f"{backend} is not installed")
    spec = RunSpec(
        backend=(backend,),
        data=small_data,
        voters=2,
        queries=6,
        reducer="none",
        encoding="decimal:2",
        max_model_len=1024,
        bootstrap=False,
    )
    [row] = fit(_order(spec), tmp_path / "logs").rows
    packed = prepare(spec, plan(spec, tmp_path), None)[0].packed
    [ids] = packed.token_ids.values()
    assert row.examples_per_voter == list(map(len, packed.shown))
    assert row.prompt_tokens == max(map(len, ids))
    assert row.tokens_per_example == pytest.approx(packed.tokens_per_example, rel=0.01)
    assert (row.fits, row.reserve, row.declared_context) == (False, packed.reserve, 8192)
    assert row.tokens_needed == packed.all_tokens


def _order(spec: RunSpec) -> Order:
    return Order(
        spec=spec,
        data=[spec.data],
        prompts=[spec.prompt],
        reducers=[spec.reducer],
        feature_fractions=[spec.feature_fraction],
        encodings=[spec.encoding],
        lengths=[spec.max_model_len],
    )


def test_json_has_a_row_for_each_combination(tmp_path: Path, small_data: str) -> None:
    done = inside(
        *(tmp_path, *MOCK, "--data", small_data, "--prompt", "compact", "--prompt", "chat"),
        *("--reducer", "none,top:3", "--encoding", "int:10,decimal:4"),
        *("--max-model-len", "512,2000000", "--json"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    jsonschema.validate(answer, json.loads(schema_of("fit")))
    rows = answer["rows"]
    names = ("prompt", "reducer", "encoding", "max_model_len")
    assert [tuple(row[name] for name in names) for row in rows] == [
        (prompt, reducer, encoding, length)
        for prompt in ("compact", "chat")
        for reducer in ("none", "top:3")
        for encoding in ("int:10", "decimal:4")
        for length in (512, 2_000_000)
    ]
    assert {row["fits"] for row in rows[::2]} == {False}
    assert {(row["fits"], row["is_beyond_model"]) for row in rows[1::2]} == {(True, True)}
    assert all(row["shares"]["markup"] > 0.01 for row in rows[8::2])


def test_without_lengths_they_go_from_512_to_the_models_own(
    tmp_path: Path, small_data: str
) -> None:
    done = inside(tmp_path, *MOCK, "--data", small_data, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [int(row["max_model_len"]) for row in rows] == [2**n for n in range(9, 21)]


def test_texts_have_neither_reducer_nor_encoding(tmp_path: Path, reviews: Path) -> None:
    done = inside(tmp_path, *MOCK, "--data", str(reviews), "--max-model-len", "300", "--json")
    [row] = json.loads(done.stdout)["rows"]
    assert (row["reducer"], row["encoding"], row["examples_wanted"]) == (None, None, 60)
    assert [one["flag"] for one in row["helps"]] == ["shots", "max_model_len"]
    assert 0.3 < row["shares"]["content"] < 0.9


@pytest.mark.parametrize("columns", ["80", "140"])
def test_one_line_says_that_it_does_not_fit_and_what_helps(
    tmp_path: Path, small_data: str, columns: str
) -> None:
    done = inside(
        *(tmp_path, *MOCK, "--data", small_data, "--encoding", "decimal:4", "--reducer", "top:4"),
        *("--max-model-len", "600,300", "--no-bootstrap"),  # the longest need not be the last
        *("--engine-option", "memory_gib=100000"),
        COLUMNS=columns,
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = " ".join(done.stdout.split())
    assert "140 examples do not fit in 600: " in said
    assert "content" not in said  # the shares of the longest, in words of the data
    assert re.search(r"labels markup ─+ mock \d", said)
    assert "GiB too little for 600 tokens" in said
    assert "13 fit. What helps: --shots 13, --encoding int:10" in said
    assert max(map(len, done.stdout.splitlines())) <= int(columns)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--max-model-len", "0"], 2, "--max-model-len is 0: use a whole number from 16 to"),
        (["--max-model-len", "512,x"], 2, "--max-model-len is 'x': use a whole number from 16"),
        (["--max-model-len", "512,512"], 2, "--max-model-len is given twice: 512"),
        (["--encoding", "int:100,int:"], 2, "encoding 'int:' is not known"),
        (["--prompt", "none"], 2, "there is no prompt template 'none'"),
        (["--resume", "latest"], 2, "there is no option --resume"),
        (["--backend", "llama-cpp", "-m", "x.gguf"], 2, "there is no file x.gguf"),
        (["--memory-limit", "2X"], 2, "--memory-limit is '2X': use a size, such as 2GiB or 500M"),
        (["--memory-limit", "0"], 2, "--memory-limit is '0': use a size, such as 2GiB or 500M"),
    ],
)
def test_what_is_wrong_is_one_error(
    tmp_path: Path, small_data: str, arguments: list[str], code: int, said: str
) -> None:
    done = inside(tmp_path, "fit", "--backend", "mock", "--data", small_data, "--quiet", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(f"error: {said}")
    assert done.stderr.count("error:") == 1


def test_a_length_with_which_nothing_fits_is_an_answer(tmp_path: Path, small_data: str) -> None:
    done = inside(tmp_path, *MOCK, "--data", small_data, "--max-model-len", "16")
    assert done.returncode == 0
    assert "not one fits" in " ".join(done.stdout.split())


def test_a_model_without_a_tokenizer_costs_its_rows(tmp_path: Path, small_data: str) -> None:
    """Its file is none; the rows of the other model are printed, and the exit code is 1."""
    if not check(find_backend("llama-cpp")).available:
        pytest.skip("llama-cpp is not installed")
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\3\0\0\0" + b"\0" * 40)
    (tmp_path / "two.toml").write_text(
        '[entries.good]\nbackend = "mock"\n'
        '[entries.bad]\nbackend = "llama-cpp"\nmodel = "cut.gguf"\n'
    )
    done = inside(
        *(tmp_path, "fit", "--config", "two.toml", "--data", small_data, "--voters", "1"),
        *("--max-model-len", "512", "--quiet", "--json"),
    )
    assert done.returncode == 1
    assert [row["entry"] for row in json.loads(done.stdout)["rows"]] == ["good"]
    assert done.stderr.startswith("error: bad: ")


def test_a_model_that_takes_more_than_is_free_is_not_loaded(
    tmp_path: Path, small_data: str
) -> None:
    few = ("--backend", "mock", "--data", small_data, "--voters", "1", "--queries", "2")
    small = (*few, "--quiet", "--no-baselines", "--engine-option", "memory_gib=100000")
    done = inside(tmp_path, "run", *small)
    assert (done.returncode, done.stdout) == (1, "")
    assert "would take 100000.0 GiB of memory for 1,024 tokens of context" in done.stderr
    assert "--force" in done.stderr
    assert inside(tmp_path, "run", *small, "--force").returncode == 0


def test_a_run_can_be_completed_with_another_memory_limit_or_by_force(
    tmp_path: Path, small_data: str
) -> None:
    few = ("--backend", "mock", "--data", small_data, "--voters", "1", "--queries", "2")
    small = (*few, "--quiet", "--no-baselines", "--engine-option", "memory_gib=1")
    killed = inside(tmp_path, "run", *small, "--memory-limit", "4MiB", "--force")
    assert killed.returncode == 1
    assert "it was ended for taking more memory than 4 MiB" in killed.stderr
    assert "Raise --memory-limit" in killed.stderr
    refused = inside(
        *(tmp_path, "run", "--resume", "latest", "--quiet", "--memory-limit", "900MiB"),
        "--no-force",
    )
    assert "may be taken" in " ".join(refused.stderr.split())  # it says that it takes a GiB
    again = inside(tmp_path, "run", "--resume", "latest", "--quiet", "--memory-limit", "2GiB")
    assert again.returncode == 0, again.stderr
    other = inside(tmp_path, "run", "--resume", "latest", "--voters", "3")
    assert other.returncode == 2
    assert "every flag but --force, --memory-limit, --results" in " ".join(other.stderr.split())


def test_a_bench_of_one_that_takes_more_than_is_free_times_nothing(tmp_path: Path) -> None:
    bench = ("bench", "--backend", "mock", "-p", "8", "-n", "0", "-r", "1", "--quiet")
    too_large = ("--engine-option", "memory_gib=100000")
    done = inside(tmp_path, *bench, *too_large)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: mock: it would take 100000.0 GiB of memory")
    assert inside(tmp_path, *bench, *too_large, "--force").returncode == 0


def test_a_probe_says_how_much_is_answered(tmp_path: Path, small_data: str) -> None:
    small = ("--engine-option", "declared=2000", "--engine-option", "memory_gib=0.05")
    done = inside(
        *(tmp_path, *MOCK, "--data", small_data, *small, "--engine-option", "longest_prompt=1200"),
        *("--max-model-len", "600,1800", "--probe", "--json"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    jsonschema.validate(answer, json.loads(schema_of("fit")))
    [found] = answer["probes"]
    assert found["answered_tokens"] <= 1201 < found["failed_tokens"]
    assert found["failed_tokens"] - found["answered_tokens"] <= 38
    assert [one["tokens"] for one in found["extrapolated"]] == [2000, 32_768, 131_072]
    assert len(answer["rows"]) == 2


@pytest.mark.parametrize("columns", ["80", "140"])
def test_a_probe_that_nothing_survives_is_an_answer_too(
    tmp_path: Path, small_data: str, columns: str
) -> None:
    done = inside(
        *(tmp_path, *MOCK, "--data", small_data, "--probe", "--max-model-len", "1000"),
        *("--engine-option", "longest_prompt=10"),
        COLUMNS=columns,
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = " ".join(done.stdout.split())
    assert "mock: not even 64 tokens are answered: mock failed at a prompt of 63 tokens" in said
    assert re.search(r"mock 1,048,576 . 0 64 none", said)
    assert max(map(len, done.stdout.splitlines())) <= int(columns)


def test_a_real_engine_is_probed_within_a_limit(tmp_path: Path, small_data: str) -> None:
    if not check(find_backend("llama-cpp")).available:
        pytest.skip("llama-cpp is not installed")
    done = inside(
        *(tmp_path, "fit", "--data", small_data, "--voters", "1", "--queries", "2", "--quiet"),
        *("--probe", "--max-model-len", "64", "--memory-limit", "2GiB", "--json"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    [found] = json.loads(done.stdout)["probes"]
    assert (found["answered_tokens"], found["declared_context"]) == (64, 8192)
    assert found["linear_seconds"]["value"] > 0
    assert len(found["prefills"]) == 7


def test_load_measures_beside_what_was_predicted(tmp_path: Path, small_data: str) -> None:
    done = inside(
        *(tmp_path, *MOCK, "--data", small_data, "--engine-option", "memory_gib=0.05"),
        *("--max-model-len", "512,2000000", "--load"),
        COLUMNS="80",
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = " ".join(done.stdout.split())
    assert "KiB / token weights cache buffers engine sum" in said
    assert "mock 512 0.00 51 0 0 0 51" in said
    assert "The same measured" in said
    assert max(map(len, done.stdout.splitlines())) <= 80


# Not each model in each format: what a format takes is a row's, and tests/unit has all of them.
@pytest.mark.parametrize(("model", "kind"), [("smollm2-135m", "f16"), ("gemma3-270m", "q8_0")])
def test_the_cache_that_llama_cpp_reports_is_the_predicted_one(
    model: str, kind: str, tmp_path: Path
) -> None:
    if not check(find_backend("llama-cpp")).available:
        pytest.skip("llama-cpp is not installed")
    spec = RunSpec(model=(model,), engine={"cache_type_k": kind, "cache_type_v": kind})
    try:
        [entry_plan] = plan(spec, tmp_path).plans
    except EngineError as error:
        pytest.skip(str(error))
    with closing(entry_plan.open_tokenizer()) as opened:
        predicted = opened.predict_memory([300])
    assert predicted is not None
    with closing(entry_plan.open_session(300)) as session:
        said, peak = session.allocated(), session.peak.rss_mib
    assert said.cache_bytes == pytest.approx(predicted[0].cache_bytes, rel=0.05)
    assert said.compute_bytes == pytest.approx(predicted[0].compute_bytes, rel=0.1)
    assert peak is not None
    assert peak * MIB == pytest.approx(total_bytes(predicted[0]), rel=0.15)  # not prompted yet


def test_what_vllm_takes_is_predicted(tmp_path: Path, small_data: str) -> None:
    if not check(find_backend("vllm")).available:
        pytest.skip("vllm is not installed")
    longest = 28 * 32 - 1  # 29 blocks, of which vLLM keeps one; and it wants room for a token more
    done = inside(
        *(tmp_path, "fit", "--data", small_data, "--voters", "1", "--queries", "2", "--quiet"),
        *("--backend", "vllm", "--enforce-eager", "--kv-cache-gib", "0.02", "--load", "--json"),
        *(
            "--max-model-len",
            f"{longest},9000",
        ),  # what is longer than the model's own is not loaded
    )
    assert (done.returncode, done.stderr) == (0, "")
    fitting, too_long = json.loads(done.stdout)["rows"]
    memory, measured = fitting["memory"], fitting["measured"]
    assert measured["cache_bytes"] == pytest.approx(memory["cache_bytes"], rel=0.01)
    assert measured["peak_rss_bytes"] == pytest.approx(memory["total_bytes"], rel=0.15)
    assert (memory["fits"], too_long["memory"]["fits"]) == (True, False)
    assert memory["longest_context"] == memory["cache_tokens"] == longest
