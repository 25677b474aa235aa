"""From the flags and the TOML file of `harness run` to what shall be done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cli.flags import ENGINE_OPTION, JSON, RENAMED, engine_definitions
from harness.cli.options import Format
from harness.cli.output import Output
from harness.engine.options import parse_options
from harness.errors import UsageError
from harness.spec import RunSpec, merge_spec, read_toml, validated

_ANY_OPTION = ENGINE_OPTION.name
_RENAMED_KEYS = {JSON.name: 'format = "json"'}
"""Keys of earlier versions, and what they are now."""


@dataclass(frozen=True, slots=True)
class Order:
    """A new run of a spec, or an old one to complete."""

    what: RunSpec | str
    output: Output


def read_order(given: Mapping[str, Any]) -> Order:
    """What the given flags ask for, by parameter name; they win over the file's keys.

    Raises `UsageError`.
    """
    flags = _renamed_refused(given)
    config: Path | None = flags.pop("config", None)
    run_id: str | None = flags.pop("resume", None)
    if _ANY_OPTION in flags:
        flags[_ANY_OPTION] = parse_options(flags[_ANY_OPTION], ENGINE_OPTION.flag)
    output = {key: flags.pop(key) for key in Output.model_fields if key in flags}
    if run_id is None:
        return _new_run(config, flags, output)
    if config or flags:
        output_flags = ", ".join(f"--{key}" for key in Output.model_fields)
        raise UsageError(
            "--resume completes a run as it was begun; it takes no other spec",
            remedy=f"Leave out every flag but {output_flags}.",
        )
    return Order(run_id, _output(output, "the flags"))


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
        raise UsageError(f"{where}: the key {key} is {_RENAMED_KEYS[key]} now", "Use that.")
    of_file = {key: file.pop(key) for key in Output.model_fields if key in file}
    if _ANY_OPTION in file:
        file[_ANY_OPTION] = _options_of_file(where, file[_ANY_OPTION])
    # A third party's option may have the name of a key of the spec, which wins.
    names = {one.name for one in engine_definitions()} - RunSpec.model_fields.keys()
    engine_of_file, of_spec = _split(file, names)
    engine, of_flags = _split(flags, names)
    if engine_of_file:
        of_spec["engine"] = {**_table(of_spec.get("engine")), **engine_of_file}
    if engine:
        of_flags["engine"] = engine
    spec = merge_spec(of_spec, of_flags, where)
    return Order(spec, _output({**of_file, **output}, where))


def _split(table: Mapping[str, Any], names: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of engines, and all else. One by its own name wins over the general ones."""
    named = {name: table[name] for name in names if name in table}
    rest = {key: value for key, value in table.items() if key not in {*named, _ANY_OPTION}}
    return {**table.get(_ANY_OPTION, {}), **named}, rest


def _table(value: object) -> dict[str, Any]:
    """A table as it is, nothing for anything else: that is refused with the rest of the spec."""
    return value if isinstance(value, dict) else {}


def _output(values: Mapping[str, Any], where: str) -> Output:
    return validated(Output, values, where)


def _options_of_file(where: str, value: object) -> dict[str, Any]:
    """`engine_option` of a file: a table, or a list of what the flag takes."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return parse_options(value, f"{where}: {_ANY_OPTION}")
    raise UsageError(
        f"{where}: {_ANY_OPTION} has to be a table, or a list of NAME=VALUE",
        remedy="Correct the file.",
    )
