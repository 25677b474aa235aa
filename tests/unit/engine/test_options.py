"""The values of options, as texts give them, and what is known of all backends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import mock
from backends.api import Option
from harness.engine import registry
from harness.engine.options import check_options, known_options, parse_options, parse_value
from harness.errors import EngineError, UsageError
from harness.spec import RunSpec, concurrency_of


def test_an_option_of_several_backends_is_known_once() -> None:
    every = {one.name: one for one in known_options()}
    assert list(every["threads"].by_backend) == ["hf", "llama-cpp", "server", "vllm"]
    assert list(every["script"].by_backend) == ["mock"]


@pytest.mark.parametrize("options", [{"old": "a line of help"}, None, [3]])
def test_a_backend_of_an_earlier_contract_is_named_and_costs_no_other_its_flags(
    monkeypatch: pytest.MonkeyPatch, options: object
) -> None:
    monkeypatch.setattr(mock, "OPTIONS", options)
    assert "threads" in {one.name for one in known_options()}
    with pytest.raises(EngineError, match="backend mock "):
        registry.find_backend("mock").load()


def test_options_are_in_the_order_in_which_backends_define_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mock, "OPTIONS", (Option("z", str, "Z."), Option("a", str, "A.")))
    names = [one.name for one in known_options() if "mock" in one.by_backend]
    assert names == ["z", "a"]


@pytest.mark.parametrize("text", ["threads", "=4", ""])
def test_an_option_needs_key_and_value(text: str) -> None:
    with pytest.raises(UsageError, match="NAME=VALUE"):
        parse_options([text], "--engine-option")


def test_an_option_is_given_once_and_a_value_may_hold_the_sign() -> None:
    assert parse_options(["a=1", "b=x=y"], "here") == {"a": 1, "b": "x=y"}
    with pytest.raises(UsageError, match="here a is given twice"):
        parse_options(["a=1", "b=x=y", "a=2"], "here")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("4", 4),
        ("0.5", 0.5),
        ("1e3", 1000.0),
        ('"4"', "4"),
        ("q8_0", "q8_0"),
        ("", ""),
        ("FAKE|REAL", "FAKE|REAL"),
        ("[1]", "[1]"),
        ('["a", "4"]', ["a", "4"]),
        ('["a", 4]', '["a", 4]'),
        ("2026-01-02", "2026-01-02"),
        pytest.param("9" * 5000, "9" * 5000, id="more digits than Python reads"),
        pytest.param("0x" + "9" * 5000, "0x" + "9" * 5000, id="more digits than it writes"),
        pytest.param("[" * 5000 + "]" * 5000, "[" * 5000 + "]" * 5000, id="deep"),
        ("1\nother = 2", "1\nother = 2"),
        ("1\nvalue = 2", "1\nvalue = 2"),
    ],
)
def test_values(text: str, value: object) -> None:
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


@given(st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.booleans())
def test_numbers_go_there_and_back(value: float) -> None:
    text = str(value).lower()
    assert parse_value(text) == value


@given(st.text())
def test_any_text_is_some_value(text: str) -> None:
    assert isinstance(parse_value(text), bool | int | float | str | list)


@pytest.mark.parametrize(
    ("backends", "named", "remedy"),
    [
        (("hf",), "hf: no option concurrency", "Leave --concurrency out."),
        (("llama-cpp", "mock", "hf"), "llama-cpp, hf: no option", "or give it to mock"),
    ],
)
def test_concurrency_is_refused_where_an_entry_cannot_have_it(
    backends: tuple[str, ...], named: str, remedy: str
) -> None:
    with pytest.raises(UsageError, match=named) as raised:
        check_options(RunSpec(backend=backends, engine={"concurrency": 4}))
    assert remedy in raised.value.remedy


def test_concurrency_of_one_entry_is_its_own() -> None:
    spec = RunSpec(backend=("hf", "mock"), backends={"mock": {"concurrency": 4}})
    check_options(spec)
    assert [concurrency_of(spec, name) for name in ("hf", "mock")] == [None, 4]
