"""An option is defined once: flag, help, key and reference page come from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from backends import mock
from backends.api import Option
from harness.cli import reference
from harness.cli.flags import (
    Definition,
    definitions,
    engine_definitions,
    flags_of_bench,
    flags_of_fit,
    flags_of_run,
    in_words,
    signature,
)
from harness.cli.order import read_order
from harness.cli.output import Output
from harness.flag import Flag
from harness.spec import RunSpec

COMMITTED = Path(__file__).parents[3] / "docs" / "OPTIONS.md"
TABLES = {"engine", "backends", "entries", "models"}
COLOUR = Option("colour", str, "Colour of it.", "red", unit="paint", choices=("red", "blue"))


@pytest.fixture
def colour(monkeypatch: pytest.MonkeyPatch) -> Option[str]:
    """An option that is defined in one place more than those there are."""
    monkeypatch.setattr(mock, "OPTIONS", (*mock.OPTIONS, COLOUR))
    return COLOUR


def by_name(every: list[Definition]) -> dict[str, Definition]:
    return {one.name: one for one in every}


def test_every_field_of_a_spec_is_a_flag_or_a_table() -> None:
    assert {one.name for one in definitions(RunSpec)} == set(RunSpec.model_fields) - TABLES
    assert {one.name for one in definitions(Output)} == set(Output.model_fields)


def test_no_flag_is_there_twice() -> None:
    for every in (flags_of_run(), flags_of_bench(), flags_of_fit()):
        assert len(by_name(every)) == len(every)
        shorts = [one.short for one in every if one.short]
        assert len(set(shorts)) == len(shorts)


def test_every_visible_flag_has_a_help_that_is_a_sentence() -> None:
    for one in flags_of_run() + flags_of_bench() + flags_of_fit():
        assert one.is_hidden or one.text.endswith(".")


def test_help_has_the_default_of_the_field() -> None:
    found = by_name(definitions(RunSpec))
    assert found["voters"].text.endswith(f"Default: {RunSpec().voters}.")
    assert found["max_model_len"].text.endswith(f"Default: {RunSpec().max_model_len} tokens.")
    assert found["bootstrap"].text.endswith("Default: on.")
    assert found["shots"].text.endswith("Default: as many as fit.")
    assert found["decoding"].value == "|".join(get_args(_hint("decoding")))


def _hint(name: str) -> Any:
    return get_type_hints(RunSpec)[name]


def test_an_option_of_an_engine_is_in_flag_help_key_and_page(
    colour: Option[str], tmp_path: Path
) -> None:
    for every in (flags_of_run(), flags_of_bench(), flags_of_fit()):
        one = by_name(every)["colour"]
        assert one.text == "Colour of it. Default: red paint. For mock."
        assert one.value == "red|blue"
        assert "colour" in signature(every).parameters
    config = tmp_path / "bench.toml"
    config.write_text('backend = "mock"\ncolour = "blue"\n')
    for given in ({"config": config}, {"backend": ["mock"], "colour": "blue"}):
        order = read_order(given)
        assert isinstance(order.what, RunSpec)
        assert order.what.engine == {"colour": "blue"}
    page = reference.reference(engine_definitions())
    assert "| colour | mock | --colour red\\|blue | red paint | Colour of it. |" in page


def with_options(monkeypatch: pytest.MonkeyPatch, *more: Option[Any]) -> None:
    monkeypatch.setattr(mock, "OPTIONS", (*mock.OPTIONS, *more))


@pytest.mark.parametrize("name", ["voters", "help", "no_bootstrap", "json"])
def test_an_option_whose_name_is_taken_goes_without_a_flag(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with_options(monkeypatch, Option(name, int, "Another."))
    assert name not in by_name([one for one in flags_of_run() if one.backends])
    assert name in by_name(engine_definitions())


def test_an_option_whose_letter_is_taken_goes_without_the_letter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_options(
        monkeypatch, *(Option(f"one_{letter}", int, "One.", short=letter) for letter in "mthz")
    )
    found = by_name(flags_of_run())
    assert [found[f"one_{letter}"].short for letter in "mthz"] == ["", "", "", "z"]


def test_a_unit_is_said_where_no_default_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with_options(
        monkeypatch,
        Option("one", int, "One.", unit="MiB"),
        Option("two", int, "Two.", unit="MiB", default_text="what is free"),
        Option("three", int, "Three.", 3, unit="MiB"),
    )
    found = by_name(engine_definitions())
    assert found["one"].text == "One. In MiB. For mock."
    assert found["two"].text == "Two. In MiB. Default: what is free. For mock."
    assert found["three"].text == "Three. Default: 3 MiB. For mock."


def test_an_option_of_several_texts_is_a_flag_that_is_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_options(monkeypatch, Option("urls", list, "Addresses."))
    one = by_name(flags_of_run())["urls"]
    assert (one.several, one.value) == (True, "TEXT")
    config = tmp_path / "run.toml"
    config.write_text('backend = "mock"\nurls = ["a", "b"]\n')
    for given in ({"config": config}, {"backend": ["mock"], "urls": ["a", "b"]}):
        order = read_order(given)
        assert isinstance(order.what, RunSpec)
        assert order.what.engine == {"urls": ["a", "b"]}


def test_backends_that_define_an_option_differently_are_both_in_the_help() -> None:
    text = by_name(engine_definitions())["dtype"].text
    assert text.startswith("hf: ")
    assert " vllm: " in text


def test_the_reference_page_is_the_one_of_the_definitions() -> None:
    remedy = "run: python -m harness.cli.reference > docs/OPTIONS.md"
    assert COMMITTED.read_text(encoding="utf-8") == reference.reference(engine_definitions()), (
        remedy
    )


@pytest.mark.parametrize(
    ("default", "unit", "text", "said"),
    [
        (True, "", "", "on"),
        (False, "", "", "off"),
        (300.0, "seconds", "", "300 seconds"),
        ((512, 1024), "tokens", "", "512,1024 tokens"),
        (None, "", "", ""),
        (None, "GiB", "what is free", "what is free"),
        (Path("results"), "", "", "results"),
    ],
)
def test_defaults_in_words(default: object, unit: str, text: str, said: str) -> None:
    assert in_words(default, unit, text) == said


def test_a_flag_says_what_its_field_does_not() -> None:
    assert set(Flag.__slots__).isdisjoint({"name", "default", "kind"})


@pytest.mark.parametrize(
    ("name", "declared"),
    [("bootstrap", "--bootstrap/--no-bootstrap"), ("no_mmap", "--no-mmap/--mmap")],
)
def test_a_switch_has_a_flag_that_undoes_it(name: str, declared: str) -> None:
    one = by_name(flags_of_run())[name]
    [parameter] = signature([one]).parameters.values()
    # Typer takes the first name for a default until it reads the signature.
    assert parameter.annotation.__metadata__[0].default == declared
    assert one.names == set(declared.replace("--", "").replace("-", "_").split("/"))
