from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.comparison.metrics import METRICS
from harness.metrics import Metric
from harness.record import Estimate
from harness.report.figures import Row, figures_of, title_of
from harness.report.text import NOTHING
from harness.summary import (
    Memory,
    Parse,
    PromptTokens,
    RunSummary,
    Token,
    TokenDifference,
    headline,
    is_mock,
)
from tests.unit.comparison.made import INFO
from tests.unit.report.conftest import AGAINST, BASELINES, estimate

if TYPE_CHECKING:
    from tests.unit.report.conftest import Sample


OTHER = PromptTokens(same_as_first=True, tokenized_by="another", own_difference=None)


def told(run: RunSummary) -> dict[str, str]:
    """All figures, also those that are left out where they say nothing."""
    row = Row(run, BASELINES)
    figures = figures_of([row, Row(run.model_copy(update={"tokens": OTHER}), BASELINES)])
    return {" ".join(figure.title): " ".join(figure.cell(row)) for figure in figures}


def test_each_figure_says_its_value(sample: Sample) -> None:
    assert told(sample.run()) == {
        "engine and weights": "llama-cpp-python 0.3.36 llama 135M Q4_1 GGUF",
        "prompt tokens": "own",
        "shown examples (fill)": "36 to 37 (99.6 %)",
        "prefill tok/s": "1,234",
        "decode tok/s": "88.1",
        "ms to first token (p95)": "702 (911)",
        "prefill tokens / minimum": "4,444 / 4,000 = 1.11",
        "peak memory MiB": "236",
        "parsed (strict)": "100 % (75 %)",
        "accuracy one voter": "0.61 (0.51 to 0.71)",
        "accuracy voted": "0.63 (0.53 to 0.73) soft",
        "best baseline (no LLM)": "0.80 random forest, all features (p = 0.062)",
    }


def test_what_does_not_apply_is_a_dash(sample: Sample) -> None:
    speed = sample.run().speed.model_copy(
        update={
            "prefill_tokens_per_second": None,
            "decode_tokens_per_second": None,
            "time_to_first_token_ms": None,
            "computed_tokens": None,
            "unique_tokens": None,
        }
    )
    run = sample.run(
        speed=speed,
        memory=Memory(peak_rss_mib=None, peak_gpu_mib=None),
        parse=Parse(replies=None, strict=None, lenient=None, reasons=None),
        accuracy=sample.accuracy(single=None, soft=None),
    )
    figures = told(run)
    dashes = [title for title, text in figures.items() if text == NOTHING]
    assert dashes == [
        "prefill tok/s",
        "decode tok/s",
        "ms to first token (p95)",
        "prefill tokens / minimum",
        "peak memory MiB",
        "parsed (strict)",
        "accuracy one voter",
        "accuracy voted",
    ]


def parsed(share: float) -> Parse:
    return Parse(replies=16, strict=estimate(share), lenient=estimate(share), reasons={})


def test_an_accuracy_says_in_its_cell_that_not_all_replies_were_read(sample: Sample) -> None:
    figures = told(sample.run(parse=parsed(0.875)))
    assert figures["accuracy voted"] == "0.63 (0.53 to 0.73) soft (87.5 % parsed)"
    assert figures["accuracy one voter"] == "0.61 (0.51 to 0.71) (87.5 % parsed)"


def test_without_a_reply_that_was_read_there_is_no_accuracy(sample: Sample) -> None:
    """What the label log-probabilities say then is no answer of the model."""
    run = sample.run(parse=parsed(0.0))
    figures = told(run)
    assert headline(run) is None
    assert figures["accuracy voted"] == f"{NOTHING} (0 % parsed)"
    assert figures["best baseline (no LLM)"] == "0.80 random forest, all features"
    assert METRICS["accuracy"].figure(run) is None


def test_the_device_is_named_where_it_is_known(sample: Sample) -> None:
    [figure] = [one for one in figures_of([Row(sample.run(), info=INFO)]) if one.name == "device"]
    assert figure.cell(Row(sample.run(), info=INFO)) == ("cpu,", "2 threads")
    assert "device" not in titles(Row(sample.run()))


def test_queries_are_counted_where_rows_differ_in_them(sample: Sample) -> None:
    first = Row(sample.run())
    fewer = Row(sample.run(accuracy=sample.accuracy(answered=5)))
    assert "queries answered" not in titles(first, first)
    assert "queries answered" in titles(first, fewer)


def test_an_engine_that_shares_blocks_is_held_against_their_floor_too(sample: Sample) -> None:
    update = {"least_tokens": 4400, "shared_block_tokens": 32}
    run = sample.run(speed=sample.run().speed.model_copy(update=update))
    expected = "4,444 / 4,000 = 1.11 (blocks of 32: 1.01)"
    assert told(run)["prefill tokens / minimum"] == expected


def tokens(by: str, same: bool = True, where: TokenDifference | None = None) -> PromptTokens:
    return PromptTokens(same_as_first=same, tokenized_by=by, own_difference=where)


WHERE = TokenDifference(
    voter=0, role="query", position=3, token=17, given=[Token(id=5, text="a")], own=[]
)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, NOTHING),  # its tokenizer could not be opened
        (tokens("hf"), "own"),
        (tokens("llama-cpp"), "same as llama-cpp"),
        (tokens("hf", same=False), "own vocabulary, same text"),
        (tokens("vllm", same=False), "same as vllm"),
        (
            tokens("llama-cpp", where=WHERE),
            "same as llama-cpp; own differ at voter 0 query 3 token 17",
        ),
    ],
)
def test_tokens_are_told_by_whose_they_are(
    sample: Sample, asked: PromptTokens | None, expected: str
) -> None:
    assert told(sample.run(backend="hf", tokens=asked))["prompt tokens"] == expected


def titles(*rows: Row) -> list[str]:
    return [" ".join(figure.title) for figure in figures_of(rows)]


def test_tokens_are_told_only_where_there_is_something_to_tell(sample: Sample) -> None:
    first, like = Row(sample.run(), BASELINES), Row(sample.run(backend="hf"), BASELINES)
    alone = titles(first, first)
    assert "prompt tokens" not in alone
    assert [title for title in titles(first, like) if title != "prompt tokens"] == alone
    assert "prompt tokens" in titles(first, like)


def test_the_backend_stands_with_the_engine_where_the_entry_has_another_name(
    sample: Sample,
) -> None:
    run = sample.run(entry="fast", tokens=tokens("fast"))
    assert told(run)["engine and weights"].startswith("llama-cpp llama-cpp-python 0.3.36 ")


def test_an_engine_that_was_never_opened_is_a_dash(sample: Sample) -> None:
    run = sample.run(engine_version=None, weights=None)
    assert told(run)["engine and weights"] == NOTHING
    named = sample.run(entry="fast", engine_version=None, weights=None)
    assert told(named)["engine and weights"] == f"llama-cpp {NOTHING}"


def metric(**changes: Any) -> Metric:
    plain: dict[str, Any] = {
        "name": "load_minutes",
        "title": "minutes to load",
        "unit": "min",
        "more_is_better": False,
        "kind": "per_session",
        "value": lambda run: run.speed.load_seconds / 60,
    }
    return Metric(**(plain | changes))


def share_of(run: RunSummary) -> Estimate:
    return estimate(0.5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "0.01"),
        ({"kind": "share", "value": share_of}, "0.50 (0.40 to 0.60)"),
        ({"kind": "share", "value": lambda run: 0.5}, "0.50"),
        ({"value": lambda run: None}, NOTHING),
    ],
)
def test_a_metric_that_is_added_is_in_the_table(
    sample: Sample, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], expected: str
) -> None:
    monkeypatch.setitem(METRICS, "load_minutes", metric(**changes))
    assert told(sample.run())["minutes to load"] == expected
    assert title_of("load_minutes") == "minutes to load"
    assert titles(Row(sample.run(), BASELINES))[-2:] == [
        "minutes to load",
        "best baseline (no LLM)",
    ]


def test_a_metric_that_is_not_for_the_table_is_not_in_it(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METRICS, "load_minutes", metric(in_table=False))
    assert "minutes to load" not in told(sample.run())


def test_figures_have_the_titles_of_the_table() -> None:
    assert title_of("parse_rate") == "parsed (strict)"
    assert title_of("decode_tokens_per_second") == "decode tok/s"
    assert title_of("some_other_figure") == "some other figure"


def test_memory_of_a_gpu_is_told(sample: Sample) -> None:
    run = sample.run(memory=Memory(peak_rss_mib=236.4, peak_gpu_mib=2048.0))
    assert told(run)["peak memory MiB"] == "236 GPU 2,048"


@pytest.mark.parametrize("name", ["majority", "soft", "calibrated"])
def test_headline_is_the_vote_of_that_name(sample: Sample, name: str) -> None:
    run = sample.run(accuracy=sample.accuracy(headline=name))
    assert headline(run) == getattr(run.accuracy, name)


def test_without_baselines_there_is_no_best_one(sample: Sample) -> None:
    assert titles(Row(sample.run()))[-1] == "accuracy voted"
    assert titles(Row(sample.run()), Row(sample.run(), BASELINES))[-1] == "best baseline (no LLM)"


def test_a_best_baseline_that_was_not_tested_has_no_p(sample: Sample) -> None:
    run = sample.run(against_baselines=AGAINST[:1])
    assert told(run)["best baseline (no LLM)"] == "0.80 random forest, all features"


def test_only_the_caveat_makes_a_mock(sample: Sample) -> None:
    assert is_mock(sample.mock(backend="innocent"))
    assert not is_mock(sample.run(backend="mock"))
