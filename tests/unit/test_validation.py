"""Errors say what to write instead, in the words of who wrote it."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel

from harness.cli.output import Output
from harness.errors import UsageError
from harness.spec import RunSpec
from harness.validation import allowed, validated
from harness.workload.prompt import Template


def refused(
    table: dict[str, Any],
    flags: Collection[str] = (),
    more: Collection[str] = (),
    model: type[BaseModel] = RunSpec,
) -> UsageError:
    with pytest.raises(UsageError) as caught:
        validated(model, table, "b.toml", flags, more, strict=model is RunSpec)
    return caught.value


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"voters": 0}, "b.toml: voters is 0: use a whole number from 1 to 1000"),
        ({"voters": "2"}, "b.toml: voters is '2': use a whole number from 1 to 1000"),
        ({"voters": True}, "b.toml: voters is true: use a whole number from 1 to 1000"),
        ({"queries": 0}, "b.toml: queries is 0: use a whole number of 1 or more"),
        ({"feature_fraction": 0}, "feature_fraction is 0: use a number above 0, at most 1"),
        ({"test_share": 2}, "test_share is 2: use a number above 0, below 1"),
        ({"seed": 2**32}, f"seed is {2**32}: use a whole number from 0 to {2**32 - 1}"),
        ({"temperature": float("inf")}, "b.toml: temperature is inf: use a number of 0 or more"),
        ({"timeout_seconds": 0}, "b.toml: timeout_seconds is 0: use a number above 0"),
        ({"bootstrap": 1}, "b.toml: bootstrap is 1: use true or false"),
        ({"decoding": "beam"}, "b.toml: decoding is 'beam': use one of: free, choice, score"),
        ({"data": date(2026, 1, 1)}, "b.toml: data is 2026-01-01: use text"),
        ({"data": ["x"]}, "b.toml: data is a list: use text"),
        ({"model": True}, "b.toml: model is true: use text, or a list of texts"),
        ({"model": ["a", 3]}, "b.toml: model is 3: use text, or a list of texts"),
        ({"model": []}, "b.toml: model: name at least one model"),
        ({"attempts": 10**9}, "b.toml: attempts is 1000000000: use a whole number from 1 to 1000"),
        ({"engine": 3}, "b.toml: engine is 3: use a table"),
        (
            {"engine": {"threads": [1]}},
            "b.toml: engine.threads is a list: use a number, text, a list of texts, true or false",
        ),
        (
            {"backends": {"mock": {"delay_ms": float("nan")}}},
            "b.toml: backends.mock.delay_ms is nan: use a number, text, a list of texts, true or "
            "false",
        ),
        ({"backends": {"mock": 3}}, "b.toml: backends.mock is 3: use a table"),
        ({"models": {"mine": {"gguf": 3}}}, "b.toml: models.mine.gguf is 3: use text"),
        (
            {"entries": {"a": {"model": ["x"]}}},
            "b.toml: [entries.a] has to name its backend, and its model, as text; it has model",
        ),
        ({"backend": ["mock", "mock"]}, "b.toml: backend: mock is named twice"),
    ],
)
def test_a_wrong_value_is_named_with_what_to_use(table: dict[str, Any], said: str) -> None:
    assert str(refused(table)).endswith(said)


WRONG = [-1e400, 10**30, -7, 1.5, True, "?", "", [], [[]], {}, {"a": {"b": []}}, date(2026, 1, 1)]
PYDANTIC = re.compile(r"Input|valid |validation|pydantic|parse|dictionary|integer|string|NoneType")


@pytest.mark.parametrize("model", [RunSpec, Output, Template])
def test_each_field_refuses_in_one_sentence_that_says_what_to_use(model: type[BaseModel]) -> None:
    base = {} if model is not Template else SMALLEST
    for name, field in model.model_fields.items():
        for value in WRONG:
            try:
                validated(model, {**base, name: value}, "b.toml", strict=model is RunSpec)
            except UsageError as error:
                said = str(error)
                assert said.startswith("b.toml: "), said
                assert not PYDANTIC.search(said.removeprefix(f"b.toml: {name}")), said
                assert len(said) < 160
                assert "\n" not in said
                assert allowed(field)


SMALLEST = {
    **{"version": 1, "kind": "chat", "separator": " ", "head": "", "example": "$numbers $label"},
    **{"query": "$numbers", "answer": "$label", "stop": [], "labels": {}},
}


def test_a_missing_key_is_named() -> None:
    table = {key: value for key, value in SMALLEST.items() if key != "head"}
    assert str(refused(table, model=Template)) == "b.toml: head is missing"


def test_a_flag_is_named_as_it_was_given() -> None:
    assert str(refused({"max_model_len": 10}, ["max_model_len"])) == (
        "--max-model-len is 10: use a whole number from 16 to 2147483647"
    )


@pytest.mark.parametrize(
    ("table", "said", "remedy"),
    [
        ({"voter": 2}, "there is no key voter", "Did you mean voters?"),
        ({"max-model-len": 2}, "there is no key max-model-len", "Did you mean max_model_len?"),
        ({"thread": 2}, "there is no key thread", "Did you mean threads?"),
        ({"engines": {"batch": 2}}, "there is no table [engines]", "Did you mean [engine]?"),
        (
            {"model": {"mine": {"gguf": "x"}}},
            "model is a table: use text, or a list of texts",
            "Did you mean [models]?",
        ),
    ],
)
def test_a_wrong_key_or_table_names_the_nearest(
    table: dict[str, Any], said: str, remedy: str
) -> None:
    error = refused(table, more=["threads"])
    assert (str(error), error.remedy) == (f"b.toml: {said}", remedy)


def test_a_key_that_is_near_to_none_says_where_all_are() -> None:
    assert refused({"no_such_thing_at_all": 2}).remedy == (
        "`harness run --help` says what each takes."
    )


def test_everything_that_is_wrong_is_named() -> None:
    said = str(refused({"voters": 0, "decoding": "beam", "colour": 1}))
    assert all(word in said for word in ("voters", "decoding", "colour"))
