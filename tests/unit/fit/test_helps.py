"""What is said to help does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.fit.fit import Order, fit
from harness.spec import RunSpec


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """Texts of which a third are ten times as long as the others."""
    path = tmp_path / "texts.csv"
    lines = [
        f"{'train' if i < 90 else 'test'},{'ab'[i % 2]},{'word ' * (40 if i % 3 == 0 else 4)}{i}"
        for i in range(99)
    ]
    path.write_text("\n".join(["split,label,text", *lines]) + "\n")
    spec = RunSpec(backend=("mock",), data=str(path), voters=2, queries=4, shots=12)
    return Order(
        spec=spec,
        data=[spec.data],
        prompts=[None],
        reducers=[spec.reducer],
        feature_fractions=[spec.feature_fraction],
        encodings=[spec.encoding],
        lengths=[360],
    )


def test_the_longer_context_that_is_named_shows_them_all(order: Order, tmp_path: Path) -> None:
    """The longer context also shows texts that are too long for the shorter one."""
    [row] = fit(order, tmp_path).rows
    [longer] = [one for one in row.helps if one.flag == "max_model_len"]
    assert longer.tokens > row.tokens_needed > 360
    assert longer.is_exact
    [again] = fit(replace(order, lengths=[int(longer.value)]), tmp_path).rows
    assert again.fits
    assert again.tokens_needed <= longer.tokens


@pytest.mark.parametrize("length", [300, 340, 389, 440])
def test_a_text_that_takes_more_than_half_of_the_room_wants_a_longer_context(
    order: Order, tmp_path: Path, length: int
) -> None:
    """It is in no prompt, though all would fit."""
    path = tmp_path / "few.csv"
    words = [4, 4, 45, 4, 4, 4]
    texts = [f"train,{'ab'[i % 2]},{' '.join(['word'] * n)} {i}" for i, n in enumerate(words)]
    path.write_text("\n".join(["split,label,text", *texts, "test,a,word", "test,b,word 2"]) + "\n")
    spec = order.spec.model_copy(update={"data": str(path), "voters": 1, "shots": None})
    few = replace(order, spec=spec, data=[str(path)], lengths=[length])
    [row] = fit(few, tmp_path).rows
    assert not row.fits
    [longer] = [one for one in row.helps if one.flag == "max_model_len"]
    [again] = fit(replace(few, lengths=[int(longer.value)]), tmp_path).rows
    assert again.fits
    assert (longer.examples, longer.tokens) == (again.examples_wanted, again.tokens_needed)
    assert int(longer.value) < 2 * length + 200


def test_fewer_examples_are_exact_where_each_voter_shows_as_many(
    order: Order, tmp_path: Path
) -> None:
    spec = order.spec.model_copy(update={"data": "digits", "voters": 6, "shots": None})
    vectors = replace(
        order,
        spec=spec,
        data=["digits"],
        reducers=["top:4"],
        encodings=["decimal:3"],
        lengths=[400, 2000],
    )
    for row in fit(vectors, tmp_path).rows:
        [fewer] = [one for one in row.helps if one.flag == "shots"]
        assert fewer.is_exact == (len(set(row.examples_per_voter)) == 1)
        assert fewer.is_exact == (row.max_model_len == 400)


def test_where_the_model_cannot_hold_all_its_own_context_is_named_if_more_fit(
    order: Order, tmp_path: Path
) -> None:
    spec = order.spec.model_copy(
        update={"data": "digits", "voters": 3, "shots": None, "engine": {"declared": 2000}}
    )
    given = replace(order, spec=spec, data=["digits"], encodings=["int:100"], lengths=[20, 2000])
    short, whole = fit(given, tmp_path).rows
    [longer] = [one for one in short.helps if one.flag == "max_model_len"]
    assert (longer.value, longer.is_exact) == ("2000", True)
    assert short.examples_that_fit < longer.examples == whole.examples_that_fit
    assert longer.tokens == whole.tokens_needed > 2000
    assert [one for one in whole.helps if one.flag == "max_model_len"] == []


def test_where_a_query_alone_does_not_fit_an_encoding_helps_only_if_it_then_does(
    order: Order, tmp_path: Path
) -> None:
    spec = order.spec.model_copy(update={"data": "digits", "shots": 0})
    numbers = replace(
        order, spec=spec, data=["digits"], reducers=["top:4"], encodings=["decimal:3"]
    )
    short, enough = fit(replace(numbers, lengths=[32, 200]), tmp_path).rows
    assert (short.fits, short.examples_wanted, enough.fits) == (False, 0, True)
    assert short.tokens_needed > 32
    assert all(one.tokens <= 32 or one.flag == "max_model_len" for one in short.helps)
