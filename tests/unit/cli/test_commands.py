"""Every command: what is given twice, and what is wrong, is said in our words."""

from __future__ import annotations

from typing import Any

import pytest
import typer.main

from harness.cli.app import app
from harness.cli.options import Format
from harness.errors import UsageError

ROOT: Any = typer.main.get_command(app)
COMMANDS = list(ROOT.commands)
REPEATED = {"--backend", "--model", "--engine-option"}
"""Of `harness run`; those of `bench` and arguments may be repeated too."""


def command(name: str) -> Any:
    with ROOT.make_context("harness", [name]) as context:
        return ROOT.resolve_command(context, [name])[1]


def options(of: Any) -> list[Any]:
    return [one for one in of.params if one.param_type_name == "option" and not one.is_eager]


def refused(name: str, *given: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        command(name).make_context(name, list(given))
    return caught.value


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_that_takes_one_value_is_given_once(name: str) -> None:
    found = command(name)
    for option in options(found):
        if option.multiple:
            continue
        value = [] if option.is_flag else ["1"]
        for again in (*option.opts, *option.secondary_opts):
            with pytest.raises(UsageError, match=f"^{option.opts[0]}.* is given twice$"):
                found.make_context(name, [option.opts[0], *value, again, *value])


def test_what_may_be_repeated_stays() -> None:
    assert {one.opts[0] for one in options(command("run")) if one.multiple} == REPEATED
    with command("run").make_context("run", ["-m", "a", "--model", "b"]) as context:
        assert context.params["model"] == ["a", "b"]


def test_more_than_twice_is_counted() -> None:
    assert str(refused("list", "--json", "--json", "--json")) == "--json is given 3 times"


@pytest.mark.parametrize(
    ("given", "said", "remedy"),
    [
        (["run", "--voter", "3"], "there is no option --voter", "Did you mean --voters?"),
        (["run", "--zzz"], "there is no option --zzz", "`run --help` lists the options."),
        (["run", "--voters"], "--voters needs a value", "`run --help` shows how to give it."),
        (["run", "--json=3"], "--json takes no value", "`run --help` shows how to give it."),
        (["run", "a", "b"], "there is nothing to do with: a b", "Data are given as --data a."),
        (["list", "a"], "there is nothing to do with: a", "`list --help` shows"),
        (["show"], "RUN is missing", "`show --help` says what it is."),
        (["show", "a", "--only", "x"], "--only: 'x' is not one of 'wrong', 'unparsed'", "`show"),
        (["show", "a", "--limit", "0"], "--limit: ", "`show --help` shows how to give it."),
        (["show", "a", "--format", "xml"], "--format is 'xml': use one of: table, json", ""),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(given: list[str], said: str, remedy: str) -> None:
    error = refused(*given)
    assert str(error).startswith(said)
    assert error.remedy.startswith(remedy)
    assert "Input" not in str(error)  # pydantic's word


def test_a_command_that_there_is_not_names_the_nearest() -> None:
    with (
        ROOT.make_context("harness", ["shw"]) as context,
        pytest.raises(UsageError, match="no command 'shw'") as caught,
    ):
        ROOT.resolve_command(context, ["shw"])
    assert caught.value.remedy == "Did you mean show?"


def test_a_number_that_is_none_goes_to_who_knows_its_bounds() -> None:
    with command("run").make_context("run", ["--voters", "x", "--queries", "3"]) as context:
        assert (context.params["voters"], context.params["queries"]) == ("x", 3)


def test_formats_are_read_by_every_command() -> None:
    with command("list").make_context("list", ["--format", "md"]) as context:
        assert context.params["format_"] is Format.MD
