"""Sums of what examples add say what packing finds, whatever the tokenizer makes of a text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backends import mock
from backends.api import ModelRef
from harness.errors import UsageError
from harness.fit.gauge import VoterFit
from harness.fit.scale import Scale
from harness.spec import RunSpec
from harness.workload.dataset import Dataset, make_dataset
from harness.workload.packing import Packed, Ruler, Tokenize, pack
from harness.workload.prompt import Writer, load_template, make_writer
from harness.workload.voters import Voter, draw_voters

BYTES = mock.open_session(ModelRef("mock", "mock", ""), {"max_model_len": 1}).tokenize


def words(texts: Sequence[str]) -> list[list[int]]:
    """A token for each word or space."""
    return [[hash(word) for word in text.replace(" ", "\0 \0").split("\0")] for text in texts]


_JOINED = re.compile(r"a\nx: [0-4]|\d \d|a\n|.", re.DOTALL)


def joined(texts: Sequence[str]) -> list[list[int]]:
    """Breaks the rule: what an example adds depends on those around it."""
    return [list(map(hash, _JOINED.findall(text))) for text in texts]


TOKENIZERS = {"bytes": BYTES, "words": words, "joined": joined}


def vectors(rows: int, width: int) -> Dataset:
    rng = np.random.default_rng(rows)
    y = np.arange(rows) % 2
    X = (rng.normal(size=(rows, width)) * 10 ** rng.integers(0, 3, width)).astype(np.float32)
    return make_dataset("made", ("a", "b"), (X, y), (X[:8] + 1, y[:8]))


def texts(rows: int) -> Dataset:
    """Some are longer than all the others together."""
    rng = np.random.default_rng(rows)
    lengths = np.where(rng.random(rows) < 0.1, 400, rng.integers(1, 40, rows))
    X = np.array(["x " * length for length in lengths], dtype=np.object_)
    y = np.arange(rows) % 2
    return make_dataset("made", ("a", "b"), (X, y), (X[:8], y[:8]))


def drawn(data: Dataset, **changes: Any) -> tuple[Sequence[Voter], Writer]:
    plain: dict[str, Any] = {"voters": 2, "queries": 6, "calibration_queries": 4, "reducer": "none"}
    spec = RunSpec(**(plain | changes))
    name = "compact" if data.kind == "vectors" else "text"
    return draw_voters(data, spec), make_writer(
        name, load_template(name), data.classes, None, data.kind
    )


def scaled(
    voters: Sequence[Voter], writer: Writer, tokenize: Tokenize, limit: int, shots: int | None
) -> list[VoterFit]:
    scale = Scale(voters, writer, tokenize, max_tokens=8, shots=shots, seed=0)
    return [scale.fit(index, limit) for index in range(len(voters))]


def packed(
    voters: Sequence[Voter], writer: Writer, tokenize: Tokenize, limit: int, shots: int | None
) -> Packed:
    return pack(voters, writer, {"one": tokenize}, limit=limit, max_tokens=8, shots=shots, seed=0)


def compare(
    voters: Sequence[Voter], writer: Writer, tokenize: Tokenize, limit: int, shots: int | None
) -> None:
    found = scaled(voters, writer, tokenize, limit, shots)
    try:
        run = packed(voters, writer, tokenize, limit, shots)
    except UsageError:  # a run shows one example at least, and all of --shots
        assert any(one.examples == 0 or one.examples < one.wanted for one in found)
        return
    for voter, one in enumerate(found):
        ruler = Ruler(writer, (tokenize,), limit - run.reserve, None)
        decide = ruler.fitting([*voters[voter].queries, *voters[voter].calibration])
        if not decide:  # the run's every prompt is too long, whatever it shows
            assert one.examples == 0
            assert one.all_tokens > limit - run.reserve
            continue
        assert one.examples == len(run.shown[voter])
        texts = writer.prompts(writer.body(run.shown[voter]), decide)
        ids = run.token_ids["one"]
        there = {one.text: len(own) for one, own in zip(run.prompts, ids, strict=True)}
        assert one.prompt_tokens == max((there[text] for text in texts), default=one.prompt_tokens)
        if one.examples == one.wanted:
            assert one.all_tokens <= limit - run.reserve


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@given(
    rows=st.integers(40, 160),
    width=st.integers(1, 5),
    encoding=st.sampled_from(["int:100", "int:10:quantile", "decimal:3"]),
    limit=st.integers(30, 3000),
    shots=st.sampled_from([None, 0, 1, 5, 1000]),
)
def test_vectors_fit_as_a_run_packs_them(
    tokenizer: str, rows: int, width: int, encoding: str, limit: int, shots: int | None
) -> None:
    voters, writer = drawn(vectors(rows, width), encoding=encoding, bootstrap=False)
    compare(voters, writer, TOKENIZERS[tokenizer], limit, shots)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@given(
    rows=st.integers(40, 160),
    limit=st.integers(60, 3000),
    shots=st.sampled_from([None, 0, 1, 5]),
)
@example(rows=56, limit=60, shots=0).via("no query takes less than half of the room")
@example(rows=56, limit=60, shots=5).via("the same, with examples")
def test_texts_fit_as_a_run_packs_them(
    tokenizer: str, rows: int, limit: int, shots: int | None
) -> None:
    voters, writer = drawn(texts(rows))
    compare(voters, writer, TOKENIZERS[tokenizer], limit, shots)


@given(rows=st.integers(40, 160), width=st.integers(1, 5), limit=st.integers(100, 900))
def test_tokens_of_all_examples_are_those_of_the_prompt_that_holds_them(
    rows: int, width: int, limit: int
) -> None:
    voters, writer = drawn(vectors(rows, width), bootstrap=False)
    for voter, one in zip(voters, scaled(voters, writer, BYTES, limit, None), strict=True):
        body = writer.body(voter.examples)
        items = [*voter.queries, *voter.calibration]
        assert one.all_tokens == max(map(len, BYTES(writer.prompts(body, items))))


def test_most_examples_are_never_written() -> None:
    """20,000 examples are counted by their words, and by a few as they stand in a text."""
    seen: list[int] = []

    def counting(some: Sequence[str]) -> list[list[int]]:
        seen.extend(map(len, some))
        return BYTES(some)

    voters, writer = drawn(vectors(20_000, 5), voters=1, bootstrap=False)
    [one] = scaled(voters, writer, counting, 1000, None)
    assert one.all_tokens > 250_000
    assert sum(seen) < 100_000
