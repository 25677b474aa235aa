from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import worker
from backends.api import Event, Progress, Started

SIGNS = st.builds(Progress, st.integers(0, 9))
EVENTS = st.lists(st.one_of(SIGNS, st.builds(Started, st.tuples(st.integers(0, 9)))))


@given(EVENTS)
def test_thinning_loses_no_token_and_changes_nothing_else(events: list[Event]) -> None:
    left = list(worker._thinned(iter(events)))
    assert [e for e in left if isinstance(e, Started)] == [
        e for e in events if isinstance(e, Started)
    ]
    assert tokens_before_each_start(left) == tokens_before_each_start(events)


def test_of_many_signs_in_no_time_one_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "SECONDS_BETWEEN_SIGNS", 1e9)
    events: list[Event] = [Progress(1)] * 1000
    assert list(worker._thinned(iter([*events, Started((0,))]))) == [Progress(1000), Started((0,))]


def tokens_before_each_start(events: list[Event]) -> list[int]:
    """The tokens told by the time of each other event; those behind the last may still be due."""
    told, at_starts = 0, []
    for event in events:
        if isinstance(event, Progress):
            told += event.prompt_tokens
        else:
            at_starts.append(told)
    return at_starts
