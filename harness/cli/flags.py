"""The flags of `harness run`, `bench` and `baseline`, made of the definitions of what they set.

A definition is written once: on a field of a spec, of `Plan` or of `Output`, or in a backend's
`OPTIONS`. The flag, its help, the key of the TOML file and the reference page (`docs/OPTIONS.md`)
are all made of it here.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from harness.cli.options import JSON_FLAG, PANEL, RUN_HELP
from harness.cli.output import Output
from harness.contract import Option
from harness.engine.options import KnownOption, known_options
from harness.flag import Flag
from harness.spec import CONCURRENCY, ENGINE, BaselineSpec, DataSpec, RunSpec


@dataclass(frozen=True, slots=True)
class Definition:
    """A flag. `kind` is the type of its value, `several` whether it may be repeated.

    `default` is in words, empty where there is nothing to say. `values` are those that a text may
    have. `backends` are those that an option of engines is for. Without `has_flag` it is given by
    `--engine-option` or by its key alone. With `has_negation` a switch has a flag that undoes it.
    `unit` is that of the value, where the default does not show it. `differs`: the backends define
    it differently, and the help says how each does.
    """

    name: str
    kind: type
    help: str
    panel: str
    default: str = ""
    metavar: str = ""
    short: str = ""
    several: bool = False
    values: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    has_flag: bool = True
    is_hidden: bool = False
    has_negation: bool = True
    differs: bool = False
    unit: str = ""

    @property
    def names(self) -> set[str]:
        """What no other flag of the command may be called: its name, its letter, its negation."""
        return {name for name in (self.name, self.short, self.negation) if name}

    @property
    def negation(self) -> str:
        """The name of the flag that undoes a switch: `no_x` of `x`, `x` of `no_x`."""
        if self.kind is not bool or not self.has_negation:
            return ""
        return self.name.removeprefix("no_") if self.name.startswith("no_") else f"no_{self.name}"

    @property
    def flag(self) -> str:
        return _flag(self.name)

    @property
    def negation_flag(self) -> str:
        return _flag(self.negation) if self.negation else ""

    @property
    def value(self) -> str:
        """What stands behind the flag in a help text."""
        return self.metavar or "|".join(self.values) or _METAVARS[self.kind]

    @property
    def text(self) -> str:
        """The help, with the default and the engines."""
        default = f"Default: {self.default}." if self.default else ""
        is_said = self.differs or not self.backends
        engines = "" if is_said else f"For {', '.join(self.backends)}."
        unit = f"In {self.unit}." if self.unit else ""
        return " ".join(filter(None, [self.help, unit, default, engines]))


CONFIG = Definition(
    "config",
    Path,
    "TOML file with the keys that docs/OPTIONS.md lists; a flag wins over its key.",
    PANEL,
    metavar="FILE",
)
NAME = Definition(
    "name",
    str,
    "Call the run so, to use the name wherever a run's id is wanted.",
    PANEL,
    metavar="NAME",
)
RESUME = Definition("resume", str, f"Complete this run: {RUN_HELP}.", PANEL, metavar="RUN")
JSON = Definition("json", bool, JSON_FLAG.help, PANEL, has_negation=False)
ENGINE_OPTION = Definition(
    "engine_option",
    str,
    "An option of an engine by name, also one without a flag; may be repeated.",
    ENGINE,
    metavar="NAME=VALUE",
    several=True,
)
PLAN = Definition(
    "plan",
    bool,
    "Say what the run would prompt, and what memory and time it would take, and stop.",
    PANEL,
    has_negation=False,
)
LOAD = Definition(
    "load",
    bool,
    "Load each model at each length too, and measure its memory.",
    ENGINE,
    has_negation=False,
)
PROBE = Definition(
    "probe",
    bool,
    "Find the longest prompt that each engine really answers, its memory and its time; with "
    "--max-model-len, up to the longest of these.",
    ENGINE,
    has_negation=False,
)
RENAMED = {"no_json": "--format table"}
"""Flags of earlier versions, and what they are now."""

_OF_BENCH = ("backend", "model", "timeout_seconds", "force")
REPEATED = ("data", "prompt")
LISTED = ("reducer", "feature_fraction", "encoding", "max_model_len")
"""Flags of `harness run` of which `harness fit` takes several: repeated, or listed by commas."""
LISTED_NUMBERS = ("feature_fraction", "max_model_len")
_CURVED = {
    "shots": "Several with commas between them, such as 1,2,4,8,max (as many as fit), are points "
    "of a curve.",
    "max_model_len": "Several with commas between them are points of a curve.",
    CONCURRENCY: "Several with commas between them, such as 1,4,16, are points of a load curve.",
}
"""What the help of `harness run` says of flags that take a list."""
_WHAT_IS_CLASSIFIED = "What is classified"
_FIRST = ("backend", "model")


def flags_of_run() -> list[Definition]:
    """All flags of `harness run`, those of its spec first."""
    own = [*definitions(RunSpec), NAME, CONFIG, RESUME, PLAN, *definitions(Output), JSON]
    return list(map(_of_run, _with_engines(own)))


def _of_run(one: Definition) -> Definition:
    """With what a list of numbers does: the file has one, as its keys are those of one run."""
    if one.name not in _CURVED:
        return one
    return replace(one, help=f"{one.help} {_CURVED[one.name]}")


def flags_of_bench() -> list[Definition]:
    """All flags of `harness bench`: of a spec, those that concern engines."""
    from harness.bench.rows import Plan

    spec = [one for one in definitions(RunSpec) if one.name in _OF_BENCH]
    own = [*spec, *definitions(Plan), CONFIG, *definitions(Output), JSON]
    return _with_engines(own)


def flags_of_fit() -> list[Definition]:
    """Those of `harness run` but for what only a run that prompts has."""
    spec = [_of_fit(one) for one in definitions(RunSpec) if one.name != "prompts_from"]
    return _with_engines([*spec, LOAD, PROBE, CONFIG, *definitions(Output), JSON])


def _of_fit(one: Definition) -> Definition:
    if one.name in REPEATED:
        return replace(one, several=True, help=f"{one.help} Repeat it for several.")
    if one.name not in LISTED:
        return one
    default = (
        "from 512, doubled, to the model's own" if one.name == "max_model_len" else one.default
    )
    return replace(
        one, several=True, help=f"{one.help} Several with commas between them.", default=default
    )


def flags_of_baseline() -> list[Definition]:
    """All flags of `harness baseline`, those of its data first."""
    data = [
        replace(one, panel=_WHAT_IS_CLASSIFIED)
        for one in definitions(BaselineSpec)
        if one.name in DataSpec.model_fields
    ]
    return [*data, *own_flags_of_baseline(), NAME, *definitions(Output), JSON]


def own_flags_of_baseline() -> list[Definition]:
    """Those that `harness run` does not have."""
    of_data = DataSpec.model_fields
    return [one for one in definitions(BaselineSpec) if one.name not in of_data]


def _with_engines(own: Sequence[Definition]) -> list[Definition]:
    """An option of an engine whose name or letter is taken already goes without."""
    # Hidden but read, so that the error names the new flag.
    renamed = [
        Definition(name, bool, "", PANEL, is_hidden=True, has_negation=False) for name in RENAMED
    ]
    flags = [*own, ENGINE_OPTION, *renamed]
    taken = {"help", "h", *(name for one in flags for name in one.names)}
    for one in engine_definitions():
        if one.has_flag and taken.isdisjoint(names := {*one.names} - {one.short}):
            letter = "" if one.short in taken else one.short
            flags.append(replace(one, short=letter))
            taken |= {*names, letter}
    return flags


def definitions(model: type[Any]) -> list[Definition]:
    """Those of the fields of a record that have a `Flag`. The record can be made of defaults."""
    hints = get_type_hints(model, include_extras=True)
    defaults = model()
    found = []
    # Fields of a base come first otherwise, and who asks for help looks for the engine first.
    for name, hint in sorted(hints.items(), key=lambda one: one[0] not in _FIRST):
        flags = [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Flag)]
        if flags:
            found.append(_of_field(name, hint.__origin__, flags[0], getattr(defaults, name)))
    return found


def _of_field(name: str, hint: Any, flag: Flag, default: object) -> Definition:
    # Of `X | None` the X, which stands first.
    kind = next((one for one in get_args(hint) if type(None) in get_args(hint)), hint)
    several = get_origin(kind) is tuple
    if several:
        kind = get_args(kind)[0]
    values = get_args(kind) if get_origin(kind) is Literal else ()
    if isinstance(kind, type) and issubclass(kind, str):
        # The members of an enum of texts, such as `Format`. mypy does not see that a class which is
        # an enum can be iterated.
        values = tuple(kind) if kind is not str else values  # type: ignore[arg-type]
    return Definition(
        name=name,
        kind=kind if kind in (bool, int, float, Path) else str,
        help=flag.help,
        panel=flag.panel,
        default=in_words(default, flag.unit, flag.default_text),
        unit=_unit_apart(default, flag.unit),
        metavar=flag.metavar,
        short=flag.short,
        several=several,
        values=tuple(map(str, values)),
    )


def engine_definitions() -> list[Definition]:
    """Those of the options of all backends, each once."""
    return list(map(_of_option, known_options()))


def of_options(options: Iterable[Option[Any]]) -> list[Definition]:
    """Those of options of one backend alone, which the help need not name."""
    known = (KnownOption(one.name, {"": one}) for one in options)
    return [replace(_of_option(one), backends=()) for one in known]


def _of_option(known: KnownOption) -> Definition:
    """Where backends define an option differently, the help says how each does."""
    any_of_them = known.any
    groups: dict[tuple[str, str, str], list[str]] = {}
    for backend, option in known.by_backend.items():
        unit = _unit_apart(option.default, option.unit)
        groups.setdefault((option.help, _default_of(option), unit), []).append(backend)
    help_, default, unit = next(iter(groups))
    if len(groups) > 1:
        said = (
            f"{', '.join(who)}: {Definition(known.name, str, text, ENGINE, d, unit=u).text}"
            for (text, d, u), who in groups.items()
        )
        help_, default, unit = " ".join(said), "", ""  # that names the backends, too
    return Definition(
        name=known.name,
        kind=str if known.is_mixed or any_of_them.kind is list else any_of_them.kind,
        several=not known.is_mixed and any_of_them.kind is list,
        help=help_,
        panel=ENGINE,
        default=default,
        unit=unit,
        short=any_of_them.short,
        values=() if known.is_mixed else any_of_them.choices,
        backends=tuple(known.by_backend),
        differs=len(groups) > 1,
        has_flag=any(one.has_flag for one in known.by_backend.values()),
    )


def _default_of(option: Option[Any]) -> str:
    return in_words(option.default, option.unit, option.default_text)


def in_words(default: object, unit: str = "", text: str = "") -> str:
    """A default as a reader of a help text wants it, with its unit."""
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    if default is None:
        return text
    number = f"{default:g}" if isinstance(default, float) else str(default)
    return f"{number} {unit}".strip()


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _unit_apart(default: object, unit: str) -> str:
    """The unit where the default has no number to show it with."""
    return unit if default is None else ""


def signature(flags: Iterable[Definition]) -> inspect.Signature:
    """The signature of a command with these flags, as Typer reads it. All are `None` by default:
    which were given is known, and what was not is the record's own business."""
    return inspect.Signature([_parameter(one) for one in flags])


def _parameter(one: Definition) -> inspect.Parameter:
    names = [one.flag, *([f"-{one.short}"] if one.short else [])]
    # With its negation: a flag has to be able to undo a key of the TOML file.
    if one.negation:
        names = [f"{one.flag}/{one.negation_flag}"]
    option = typer.Option(
        *names,
        help=one.text,
        metavar=one.value,
        rich_help_panel=one.panel,
        hidden=one.is_hidden,
        parser=number if one.kind in (int, float) and not one.several else None,
    )
    # A list of numbers is read by us: `512,1024` is two of them. A path is taken as it was written.
    kind: Any = list[str] if one.several else str if one.kind is Path else one.kind
    return inspect.Parameter(
        one.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | NoneType, option],
    )


def number(text: str) -> int | float | str:
    """The number, or the text that is none: what is wrong with it is said by its definition, which
    knows the bounds."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


_METAVARS: dict[type, str] = {bool: "", int: "N", float: "X", str: "TEXT", Path: "PATH"}
