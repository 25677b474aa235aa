from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from harness.stats.holm import holm

# Few, as statsmodels takes long. Of few values, so that some are equal.
p_values = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.5, 1.0])), min_size=1)


@settings(max_examples=20)
@given(p_values)
def test_it_is_statsmodels(given_values: list[float]) -> None:
    _, expected, *_ = multipletests(given_values, method="holm")
    assert holm(given_values) == pytest.approx(expected, rel=1e-12, abs=0)


def test_the_smallest_is_multiplied_by_all_and_none_falls_behind_the_one_before() -> None:
    assert holm([0.04, 0.01, 0.03, 0.5]) == [0.09, 0.04, 0.09, 0.5]
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
