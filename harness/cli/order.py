"""From flags, and the TOML file of `harness run`, to what shall be done."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.cli.console import refuse_format_as_file
from harness.cli.flags import ENGINE_OPTION, JSON, NAME, RENAMED
from harness.cli.options import Format
from harness.cli.output import Output
from harness.engine.options import known_options, parse_options, parse_scalar
from harness.errors import UsageError
from harness.spec import OF_MACHINE, BaselineSpec, RunSpec, merge_spec, read_toml
from harness.validation import validated

_ANY_OPTION = ENGINE_OPTION.name
_RENAMED_KEYS = {JSON.name: 'format = "json"', _ANY_OPTION: "the table [engine]"}
"""Keys of earlier versions, and what they are now."""


@dataclass(frozen=True, slots=True)
class Order:
    """A new run of a spec, with a name if it is given one, or an old one to complete, with other
    values of what is `of_machine`."""

    what: RunSpec | str
    output: Output
    name: str | None = None
    of_machine: Mapping[str, Any] = field(default_factory=dict)


def read_order(given: Mapping[str, Any]) -> Order:
    """What the given flags mean, by parameter name; they win over the file's keys.

    Raises `UsageError`.
    """
    flags = _renamed_refused(given)
    config: str | None = flags.pop("config", None)
    run_id: str | None = flags.pop("resume", None)
    if _ANY_OPTION in flags:
        flags[_ANY_OPTION] = parse_options(flags[_ANY_OPTION], ENGINE_OPTION.flag)
    output = {key: flags.pop(key) for key in Output.model_fields if key in flags}
    if run_id is None:
        name: str | None = flags.pop(NAME.name, None)
        order = _new_run(Path(config) if config else None, flags, output)
        return replace(order, name=name)
    of_machine = {key: flags.pop(key) for key in OF_MACHINE if key in flags}
    if config or flags:
        names = [key.replace("_", "-") for key in (*OF_MACHINE, *Output.model_fields)]
        allowed = ", ".join(f"--{name}" for name in names)
        raise UsageError(
            "--resume completes a run as it was begun; it takes no other spec",
            remedy=f"Leave out every flag but {allowed}.",
        )
    spec = merge_spec({}, of_machine, "the flags")
    given = {key: getattr(spec, key) for key in of_machine}
    return Order(run_id, _output(output, {}, ""), of_machine=given)


@dataclass(frozen=True, slots=True)
class BaselineOrder:
    """What is to be fitted, and what the run is called, if anything."""

    spec: BaselineSpec
    output: Output
    name: str | None


def read_baseline_order(names: Sequence[str], given: Mapping[str, Any]) -> BaselineOrder:
    """What the names and flags of `harness baseline` mean. Raises `UsageError`."""
    flags = _renamed_refused(given)
    output = {key: flags.pop(key) for key in Output.model_fields if key in flags}
    name: str | None = flags.pop(NAME.name, None)
    table = {**flags, "baseline": tuple(names)}
    remedy = "`harness baseline --help` says what each takes."
    spec = validated(BaselineSpec, table, "the flags", flags, remedy=remedy, strict=True)
    return BaselineOrder(spec, _output(output, {}, ""), name)


def _renamed_refused(given: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given, `--json` among them as the format that it is."""
    flags = {key: value for key, value in given.items() if value not in (None, [], ())}
    for name in RENAMED.keys() & flags.keys():
        raise UsageError(f"--{name.replace('_', '-')} is {RENAMED[name]} now", remedy="Use that.")
    if flags.pop(JSON.name, False) and flags.setdefault("format", Format.JSON) != Format.JSON:
        raise UsageError("--json and --format differ", remedy="Give one of them.")
    return flags


def _new_run(config: Path | None, flags: Mapping[str, Any], output: Mapping[str, Any]) -> Order:
    """A file's keys are those of a spec, of the output, or options of engines."""
    where = str(config) if config else "the flags"
    file = read_toml(config) if config else {}
    for key in _RENAMED_KEYS.keys() & file.keys():
        raise UsageError(
            f"{where}: {key} is {_RENAMED_KEYS[key]} now", remedy="Change it in the file."
        )
    of_file = {key: file.pop(key) for key in Output.model_fields if key in file}
    options = {one.name: one for one in known_options() if one.name not in RunSpec.model_fields}
    names = list(options)
    engine_of_file, of_spec = _split(file, names)
    if twice := sorted(flags.keys() & flags.get(_ANY_OPTION, {}).keys() & options.keys()):
        flag = twice[0].replace("_", "-")
        raise UsageError(
            f"{twice[0]} is given twice: by --{flag} and by {ENGINE_OPTION.flag}",
            remedy="Give it once.",
        )
    engine, of_flags = _split(flags, names)
    for name in engine.keys() & options.keys():
        # Backends disagree on its type, so its flag gives text.
        if options[name].is_mixed and isinstance(engine[name], str):
            engine[name] = parse_scalar(engine[name])
    if engine_of_file:
        of_spec["engine"] = {**_table(of_spec.get("engine")), **engine_of_file}
    if engine:
        of_flags["engine"] = engine
        for tables in ("backends", "entries"):  # a flag wins over these, too
            if tables in of_spec:
                of_spec[tables] = _without(_table(of_spec[tables]), engine.keys())
    spec = merge_spec(of_spec, of_flags, where, [*names, *Output.model_fields])
    if (
        "model" in flags
        and not spec.backend
        and all("model" in one for one in spec.entries.values())
    ):
        raise UsageError(
            "--model is used by no entry: each names its own in the file",
            remedy="Leave it out, or take `model` out of the [entries] that shall have it.",
        )
    return Order(spec, _output(output, of_file, where))


def _split(table: Mapping[str, Any], names: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of engines, and all else."""
    named = {name: table[name] for name in names if name in table}
    rest = {key: value for key, value in table.items() if key not in {*named, _ANY_OPTION}}
    return {**table.get(_ANY_OPTION, {}), **named}, rest


def _without(tables: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The tables without these keys in each."""
    return {
        name: {key: one for key, one in table.items() if key not in names}
        if isinstance(table, dict)
        else table
        for name, table in tables.items()
    }


def _table(value: object) -> dict[str, Any]:
    """A table as it is, nothing for anything else: that is refused with the rest of the spec."""
    return value if isinstance(value, dict) else {}


def _output(flags: Mapping[str, Any], file: Mapping[str, Any], where: str) -> Output:
    refuse_format_as_file(flags.get("output"))
    if (name := file.get("output")) in list(Format):
        raise UsageError(
            f"{where}: output is {name!r}, and names a file now", remedy=f'Write format = "{name}".'
        )
    return validated(Output, {**file, **flags}, where, flags)
