"""How commands look in a help text, and when they get their flags.

Help and errors are plain text: Typer would read them as rich's markup, in which `[models.X]` is
nothing, and would cut the names of options on a narrow terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Signature
from typing import Any, TypedDict

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

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


class Command(TyperCommand):
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


class Commands(TyperGroup):
    """Makes the commands of `with_late_flags` when they are called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
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
    # Typer's own wrapper of a command takes this over, where `Commands` finds it.
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
