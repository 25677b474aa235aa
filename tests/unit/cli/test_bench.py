from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import harness.bench.timing
from harness.bench.rows import Row
from harness.cli.bench import bench, parse_numbers
from harness.errors import EndedBySignal, EngineError, UsageError
from tests.unit.report.test_bench import ROWS


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [(["512"], (512,)), (["0, 16", "8"], (0, 16, 8)), (["4,4"], (4, 4))],
)
def test_numbers_come_by_commas_and_by_repeating(texts: list[str], numbers: tuple[int]) -> None:
    assert parse_numbers(texts, "--depth", minimum=0) == numbers


@pytest.mark.parametrize("text", ["", "1,", "x", "-1", "1.5", "0", "²"])
def test_a_wrong_number_names_its_flag(text: str) -> None:
    with pytest.raises(UsageError, match=r"--batch .* is no list of numbers of 1 or more"):
        parse_numbers([text], "--batch", minimum=1)


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (EndedBySignal(130), "Interrupted. Rows that were finished: 1.\n"),
        (EngineError("failed"), ""),
    ],
)
def test_however_it_ends_what_is_finished_is_printed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ending: BaseException,
    said: str,
) -> None:
    def ended(*_: object) -> Iterator[Row]:
        yield ROWS[0]
        raise ending

    monkeypatch.setattr(harness.bench.timing, "bench", ended)
    with pytest.raises(type(ending)):
        bench(json=True)
    out, err = capsys.readouterr()
    assert [row["test"] for row in json.loads(out)["rows"]] == [ROWS[0].test.name]
    assert err == said
