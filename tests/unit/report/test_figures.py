from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.report.figures import FIGURES, controls_by_name, figures_of
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

if TYPE_CHECKING:
    from tests.unit.report.conftest import Sample


def told(run: RunSummary) -> dict[str, str]:
    return {" ".join(figure.title): " ".join(figure.cell(run)) for figure in FIGURES}


def test_each_figure_says_its_value(sample: Sample) -> None:
    assert told(sample.run()) == {
        "engine and weights": "llama-cpp-python 0.3.36 llama 256M Q4_1 GGUF",
        "prompt tokens": "own",
        "shown examples (fill)": "36 to 37 (99.6 %)",
        "prefill tok/s": "1,234",
        "decode tok/s": "88.1",
        "ms to first token (p95)": "702 (911)",
        "tokens computed / unique": "4,444 / 4,000 = 1.11",
        "peak memory MiB": "236",
        "parsed (strict)": "87.5 % (75 %)",
        "accuracy one voter": "0.61 (0.51 to 0.71)",
        "accuracy voted": "0.63 (0.53 to 0.73) soft",
        "best control (no LLM)": "0.80 random forest, all features",
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
    assert figures.pop("accuracy voted") == f"{NOTHING} soft"
    dashes = [title for title, text in figures.items() if text == NOTHING]
    assert dashes == [
        "prefill tok/s",
        "decode tok/s",
        "ms to first token (p95)",
        "tokens computed / unique",
        "peak memory MiB",
        "parsed (strict)",
        "accuracy one voter",
    ]


def test_an_engine_that_shares_blocks_is_held_against_their_floor_too(sample: Sample) -> None:
    update = {"least_tokens": 4400, "shared_block_tokens": 32}
    run = sample.run(speed=sample.run().speed.model_copy(update=update))
    expected = "4,444 / 4,000 = 1.11 (blocks of 32: 1.01)"
    assert told(run)["tokens computed / unique"] == expected


def tokens(by: str, same: bool = True, where: TokenDifference | None = None) -> PromptTokens:
    return PromptTokens(same_as_first=same, tokenized_by=by, own_difference=where)


WHERE = TokenDifference(
    voter=0, role="query", position=3, token=17, asked=[Token(id=5, text="a")], own=[]
)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
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
    sample: Sample, asked: PromptTokens, expected: str
) -> None:
    assert told(sample.run(backend="hf", tokens=asked))["prompt tokens"] == expected


def test_tokens_are_told_only_where_there_is_something_to_tell(sample: Sample) -> None:
    first, like = sample.run(), sample.run(backend="hf")
    alone = figures_of([first, first])
    assert ("prompt", "tokens") not in [figure.title for figure in alone]
    assert [*alone, FIGURES[1]] == sorted(
        figures_of([first, like]), key=lambda figure: figure.title == ("prompt", "tokens")
    )


def test_memory_of_a_gpu_is_told(sample: Sample) -> None:
    run = sample.run(memory=Memory(peak_rss_mib=236.4, peak_gpu_mib=2048.0))
    assert told(run)["peak memory MiB"] == "236 GPU 2,048"


@pytest.mark.parametrize("name", ["majority", "soft", "calibrated"])
def test_headline_is_the_vote_of_that_name(sample: Sample, name: str) -> None:
    run = sample.run(accuracy=sample.accuracy(headline=name))
    assert headline(run) == getattr(run.accuracy, name)


def test_controls_that_were_not_made_are_left_out(sample: Sample) -> None:
    controls = sample.run().controls.model_copy(update={"same_numbers_logistic": None})
    assert len(controls_by_name(controls)) == 3


def test_only_the_caveat_makes_a_mock(sample: Sample) -> None:
    assert is_mock(sample.mock(backend="innocent"))
    assert not is_mock(sample.run(backend="mock"))
