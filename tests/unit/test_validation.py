"""Errors say what to write instead, in the words of who wrote it."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import pytest

from harness.errors import UsageError
from harness.spec import RunSpec
from harness.validation import validated


def refused(table: dict[str, Any], flags: Collection[str] = (), more: Collection[str] = ()) -> Any:
    with pytest.raises(UsageError) as caught:
        validated(RunSpec, table, "b.toml", flags, more)
    return caught.value


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"voters": 0}, "b.toml: voters is 0: use 1 or more"),
        ({"voters": 1001}, "b.toml: voters is 1001: use 1000 or less"),
        ({"attempts": 10**9}, "b.toml: attempts is 1000000000: use 1000 or less"),
        ({"voters": "two"}, "b.toml: voters is 'two': use a whole number"),
        ({"voters": 1.5}, "b.toml: voters is 1.5: use a whole number"),
        ({"feature_fraction": 0}, "b.toml: feature_fraction is 0: use more than 0"),
        ({"seed": 2**32}, f"b.toml: seed is {2**32}: use less than 4.29497e+09"),
        ({"temperature": float("inf")}, "b.toml: temperature is inf: use a number that is finite"),
        ({"bootstrap": "maybe"}, "b.toml: bootstrap is 'maybe': use true or false"),
        ({"decoding": "beam"}, "b.toml: decoding is 'beam': use one of: free, choice or score"),
        ({"model": True}, "b.toml: model is true: use a text"),
        ({"engine": 3}, "b.toml: engine is 3: use a table"),
        (
            {"engine": {"threads": [1]}},
            "b.toml: engine.threads is [1]: use a number, a text, true or false",
        ),
        (
            {"backends": {"mock": {"delay_ms": float("nan")}}},
            "b.toml: backends.mock.delay_ms is nan: use a number, a text, true or false",
        ),
        ({"backend": ["mock", "mock"]}, "a backend is named twice"),
    ],
)
def test_a_wrong_value_is_named_with_what_to_use(table: dict[str, Any], said: str) -> None:
    assert said in str(refused(table))


def test_a_flag_is_named_as_it_was_given() -> None:
    assert str(refused({"max_model_len": 10}, ["max_model_len"])) == (
        "--max-model-len is 10: use 16 or more"
    )


@pytest.mark.parametrize(
    ("key", "near"),
    [("voter", "voters"), ("max-model-len", "max_model_len"), ("thread", "threads")],
)
def test_a_wrong_key_names_the_nearest(key: str, near: str) -> None:
    error = refused({key: 2}, more=["threads"])
    assert str(error) == f"b.toml: there is no key {key}"
    assert error.remedy == f"Did you mean {near}?"


def test_a_key_that_is_near_to_none_names_all() -> None:
    error = refused({"no_such_thing_at_all": 2}, more=["format"])
    assert {"voters", "format"} <= set(re.findall(r"\w+", error.remedy))


def test_everything_that_is_wrong_is_named() -> None:
    said = str(refused({"voters": 0, "decoding": "beam", "colour": 1}))
    assert all(word in said for word in ("voters", "decoding", "colour"))
