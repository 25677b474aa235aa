"""`harness backends`: which engines are registered, and which can run here; `install` one."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.commands import PLAIN, Command, Commands
from harness.cli.console import answers, give, remarks, target, tell
from harness.cli.options import FormatOption, JsonOption, OutputOption, examples
from harness.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from harness.engine.registry import Registered

CHECK_SECONDS = 120.0
"""Importing a large engine for the first time takes long."""

backends = typer.Typer(cls=Commands, invoke_without_command=True, **PLAIN)


@dataclass(frozen=True, slots=True)
class Checked:
    """A backend in the interpreter that a run would use, `python`.

    `remedy` makes it run if it cannot, for `reason`. One that can has both where its own
    environment was made for other requirements than those of now. `build`, `devices` and `change`
    are as in `backends.api.Availability`.
    """

    name: str
    available: bool
    mock: bool
    version: str
    formats: tuple[str, ...]
    python: str
    reason: str
    remedy: str
    build: str = ""
    devices: tuple[str, ...] = ()
    change: str = ""


@backends.callback()
def list_backends(
    context: typer.Context,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="TOML file of a run: its [backends.NAME] tables name interpreters.",
        ),
    ] = None,
    format_: FormatOption = None,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """List the backends, or install an engine.

    The list says which can run here, what each engine was built for, and which devices it sees.
    Each is checked in the interpreter that a run would use; a large engine takes seconds.
    """
    if context.invoked_subcommand is not None:
        return
    from rich.console import Group

    from harness.engine.registry import registered_backends
    from harness.report.formats import Answer
    from harness.report.table import Listing, simple_table

    wanted = target(format_, json, output)
    registered = registered_backends()
    # On a terminal alone; each check waits for a process of its own.
    with remarks().status(f"Checking {len(registered)} backends"), ThreadPoolExecutor() as pool:
        every = list(pool.map(check, registered, interpreters(config, registered)))
    titles = ("backend", "runs here", "version", "formats", "built for", "sees")
    data = [asdict(one) for one in every]
    records = [
        {**one, "formats": " ".join(one["formats"]), "devices": "; ".join(one["devices"])}
        for one in data
    ]
    parts: list[RenderableType] = [simple_table(titles, map(_cells, every))]
    if advice := [(one.name, advised) for one in every if (advised := _advice(one))]:
        parts += ["", Listing(("backend", "what to do, and why"), advice)]
    give(Answer(Group(*parts), {"backends": data}, records), wanted)


@backends.command(cls=Command, epilog=examples("harness backends install vllm"))
def install(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The engine's backend, as listed; or embedder.")
    ],
) -> None:
    """Install an engine into an environment of its own.

    Runs find it there. It is made in your data folder, with uv if that is installed, else with venv
    and pip.
    """
    from harness.contract import has_nvidia, requirements_of
    from harness.engine.install import install as make
    from harness.engine.interpreters import own_environment
    from harness.engine.registry import find_installable
    from harness.report.text import lines

    registered = find_installable(name)
    wanted = requirements_of(registered.load(), has_nvidia())
    if not wanted.packages:
        answers().print(lines(f"{name} needs no packages: there is nothing to install."))
        return
    folder = own_environment(name).folder

    def checked() -> Checked:
        # That all packages are there does not show that the engine runs.
        tell("Checking that it can run")
        return check(registered)

    def can_run() -> bool:
        found = checked()
        if not found.available:
            tell(f"It cannot run: {found.reason}")
        return found.available

    if make(name, wanted, tell, can_run):
        found = checked()
        if not found.available:
            raise EngineError(
                f"{name} is installed in {folder} and cannot run: {found.reason}",
                remedy="Fix that, and run the same command again: it is made again then.",
            )
        answer = f"{name} {found.version} is installed in {folder}"
    else:
        answer = f"{name} is there already, in {folder}. To have it made again, remove that."
    answers().print(lines(answer), soft_wrap=True)


def interpreters(config: str | None, registered: Sequence[Registered]) -> list[object]:
    """What a config names as `python` of each backend, `None` where it names none."""
    from harness.engine.options import INTERPRETER
    from harness.spec import read_toml

    tables = read_toml(Path(config)).get("backends", {}) if config else {}
    of_each = [tables.get(one.name) if isinstance(tables, dict) else None for one in registered]
    return [table.get(INTERPRETER) if isinstance(table, dict) else None for table in of_each]


def check(registered: Registered, python: object = None) -> Checked:
    """Checks a backend in a worker, in the interpreter that a run would use with this `python` of
    its table; one that cannot be imported cannot run."""
    from harness.contract import has_nvidia, install_environment, requirements_of
    from harness.engine.install import is_current
    from harness.engine.interpreters import find_interpreter, own_environment
    from harness.engine.session import check_backend

    name = registered.name
    formats: tuple[str, ...] = ()
    try:
        backend = registered.load()
        formats = tuple(backend.FORMATS)
        interpreter = find_interpreter(name, python)
    except EngineError as error:
        return Checked(name, False, False, "", formats, str(python or ""), str(error), error.remedy)
    found = check_backend(registered.target, CHECK_SECONDS, Path(os.devnull), interpreter)
    own = own_environment(name)
    wanted = requirements_of(backend, has_nvidia())
    if interpreter == str(own.python) and not is_current(own, wanted):
        outdated = f"the environment {own.folder} was made for other packages, or another Python"
        reason = "; ".join(filter(None, [found.reason, outdated]))
        found = replace(found, reason=reason, remedy=install_environment(name))
    return Checked(
        name=name,
        available=found.available,
        mock=found.is_mock,
        version=found.version,
        formats=formats,
        python=interpreter,
        reason=found.reason,
        remedy=found.remedy,
        build=found.build,
        devices=found.devices,
        change=found.change,
    )


def _cells(one: Checked) -> list[str]:
    verdict = "yes" if one.available else "no"
    return [
        one.name,
        f"{verdict}, a MOCK" if one.mock else verdict,
        one.version,
        ", ".join(one.formats),
        one.build,
        "\n".join(one.devices),
    ]


def _advice(one: Checked) -> str:
    """Lines that can be copied."""
    return "\n".join(filter(None, [one.reason, one.remedy, one.change.replace(": ", ":\n", 1)]))
