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
