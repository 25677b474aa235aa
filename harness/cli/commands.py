"""How commands look in a help text, and when they get their flags.

Help and errors are plain text: Typer would read them as rich's markup, in which `[models.X]` is
nothing, and would cut the names of options on a narrow terminal.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import wraps
from inspect import Signature
from typing import Any, TypedDict

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from harness.errors import UsageError

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Plain(TypedDict):
    add_completion: bool
    pretty_exceptions_enable: bool
    rich_markup_mode: None


PLAIN: _Plain = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}


# click's error of wrong usage: some versions of Typer import click, others have a copy of it.
_Refused: type[Exception] = typer.BadParameter.__bases__[0]


def _check_given_once(parameters: Sequence[Any]) -> None:
    """Raises `UsageError` for an option that takes one value and was given several times, whether
    the same or not: the last would win in silence."""
    for parameter, count in Counter(map(id, parameters)).items():
        option = next(one for one in parameters if id(one) == parameter)
        # `--help` and `--version` are eager: they end the command.
        may_repeat = option.param_type_name != "option" or option.multiple or option.is_eager
        if count > 1 and not may_repeat:
            times = "twice" if count == 2 else f"{count} times"
            names = "/".join([option.opts[0], *option.secondary_opts[:1]])
            raise UsageError(f"{names} is given {times}", remedy="Give it once.")


def _in_our_words(error: Any, context: Any) -> UsageError:
    """An error of the command line as all others are written."""
    parameters = context.command.get_params(context)
    path = context.command_path
    shown = [one for one in parameters if not getattr(one, "hidden", False)]
    by_name = {name: one for one in shown for name in (*one.opts, *one.secondary_opts)}
    kind, name = type(error).__name__, getattr(error, "option_name", "")
    if kind == "NoSuchOption":
        near = get_close_matches(name, [one for one in by_name if one.startswith("-")], n=1)
        return UsageError(
            f"there is no option {name}",
            remedy=f"Did you mean {near[0]}?" if near else f"`{path} --help` lists the options.",
        )
    if kind == "BadOptionUsage":
        needs = "takes no" if getattr(by_name.get(name), "is_flag", False) else "needs a"
        return UsageError(f"{name} {needs} value", remedy=f"`{path} --help` shows how to give it.")
    if kind == "MissingParameter":
        missing = (error.param.metavar or error.param.opts[0]) if error.param else "an argument"
        return UsageError(f"{missing} is missing", remedy=f"`{path} --help` says what it is.")
    if "extra argument" in error.message:
        extra = error.message.partition("(")[2].partition("(")[2].rstrip(")")
        remedy = f"`{path} --help` shows what is taken."
        if "--data" in by_name:
            remedy = f"Data are given as --data {extra.split()[0]}. {remedy}"
        return UsageError(f"there is nothing to do with: {extra}", remedy=remedy)
    # Some versions of Typer have pydantic check a value; its words speak of its own input.
    said = str(error.message).rstrip(".").removeprefix("Value error, ")
    said = re.sub(r"Input should be greater than or equal to (\S+)", r"use \1 or more", said)
    said = re.sub(r"Input should be less than or equal to (\S+)", r"use \1 or less", said)
    said = said.replace("Input should be", "it has to be")
    if kind == "BadParameter" and error.param:
        said = f"{error.param.opts[0]}: {said}"
    return UsageError(said[:1].lower() + said[1:], remedy=f"`{path} --help` shows how to give it.")


class _Strict:
    """A command whose options are given once, and whose errors are ours."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        whole: Any = super()
        command: Any = self
        if not args and command.no_args_is_help:
            return list(whole.parse_args(ctx, args))
        try:
            _, _, parameters = command.make_parser(ctx).parse_args(args=list(args))
            _check_given_once(parameters)
            return list(whole.parse_args(ctx, args))
        except _Refused as error:
            raise _in_our_words(error, ctx) from error


class Command(_Strict, TyperCommand):
    """Its options stand under the headings that they name."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                is_argument = parameter.param_type_name == "argument"
                heading = getattr(parameter, "rich_help_panel", None)
                panel = heading or ("Arguments" if is_argument else "Options")
                # the name alone: Typer puts the type behind that of an argument
                name = record[0].split(" <")[0] if is_argument else record[0]
                panels.setdefault(panel, []).append((name, record[1]))
        for panel, records in panels.items():
            with formatter.section(panel):
                formatter.write_dl(records)


class Commands(_Strict, TyperGroup):
    """Makes the commands of `with_late_flags` when they are called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            near = get_close_matches(args[0], self.commands, n=1)
            raise UsageError(
                f"there is no command {args[0]!r}",
                remedy=f"Did you mean {near[0]}?"
                if near
                else f"`{ctx.command_path} --help` lists the commands.",
            )
        name, command, rest = super().resolve_command(ctx, args)
        make = getattr(getattr(command, "callback", None), "make", None)
        if make is not None and command is not None:
            whole = typer.Typer(**PLAIN, context_settings=SETTINGS)
            whole.command(name, cls=Command, epilog=command.epilog)(make())
            command = typer.main.get_command(whole)
        return name, command, rest


def with_late_flags(
    function: Callable[..., None], flags: Callable[[], Signature]
) -> Callable[..., None]:
    """The function as a command whose flags are made when it is called: they come of the spec and
    of the backends, and to import these takes longer than `harness --help` may."""
    bare = _with_flags(function, Signature())
    # Typer's own wrapper of a command takes this over, where `Commands` finds it. mypy does not
    # know that a function may have it.
    bare.make = lambda: _with_flags(function, flags())  # type: ignore[attr-defined]
    return bare


def _with_flags(function: Callable[..., None], flags: Signature) -> Callable[..., None]:
    """The function as Typer reads it: with these parameters."""

    @wraps(function)
    def called(**given: Any) -> None:
        function(**given)

    # Typer reads the parameters by `inspect.signature`, which takes this one before the real one.
    # mypy does not know that a function may have it.
    called.__signature__ = flags  # type: ignore[attr-defined]
    return called
