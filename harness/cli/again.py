"""The command that repeats a run: one line of flags, or a TOML file where flags cannot say it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from harness.cli.flags import ENGINE_OPTION, Definition, definitions, flags_of_run
from harness.cli.options import RESULTS
from harness.engine.options import parse_value
from harness.spec import BaselineSpec, RunSpec

_TABLES = ("backends", "entries", "models")
"""What only a file can give."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def needs_file(spec: RunSpec) -> bool:
    """Whether no line of flags gives this spec: tables have none, and a character that does not
    print is no part of a line."""
    values = [*spec.model_dump().values(), *spec.engine.values()]
    parts = chain.from_iterable(one if isinstance(one, tuple | list) else [one] for one in values)
    has_control = any(isinstance(one, str) and not one.isprintable() for one in parts)
    return has_control or any(getattr(spec, table) for table in _TABLES)


def command(spec: RunSpec, results: Path, config: Path | None = None) -> str:
    """The line for a shell, with the flags that differ from their defaults; with `config`, which
    holds `toml(spec)`, that file alone."""
    words = ["harness", "run"]
    if config is not None:
        words += ["--config", str(config)]
    else:
        default = _unset(spec)
        for one in definitions(RunSpec):
            # The name of the preset stands for its values, and is said itself.
            unsaid = None if one.name == "preset" else getattr(default, one.name)
            words += _words(one, getattr(spec, one.name), unsaid)
        flags = {one.name: one for one in flags_of_run() if one.backends}
        for name, value in spec.engine.items():
            # A text that looks like a number has to be quoted, and no flag takes that.
            looks_otherwise = isinstance(value, str) and parse_value(value) != value
            if name in flags and not looks_otherwise:
                words += _words(flags[name], value)
            else:
                is_bare = isinstance(value, str) and not looks_otherwise
                words += [ENGINE_OPTION.flag, f"{name}={value if is_bare else _value(value)}"]
    if results != RESULTS:
        words += ["--results", str(results)]
    return shlex.join(words)


def baseline_command(spec: BaselineSpec, results: Path) -> str:
    """The line for a shell that fits these baselines again."""
    words = ["harness", "baseline", *spec.baseline]
    for one in definitions(BaselineSpec):
        words += _words(one, getattr(spec, one.name), getattr(BaselineSpec(), one.name))
    if results != RESULTS:
        words += ["--results", str(results)]
    return shlex.join(words)


def toml(spec: RunSpec) -> str:
    """The spec as the file that `--config` reads."""
    default, flat, tables = _unset(spec), list[str](), list[str]()
    for name in RunSpec.model_fields:
        value = getattr(spec, name)
        # Beside named entries, no backend at all would be meant where none stands.
        is_default = value == getattr(default, name) and name != "preset"
        if name == "backend" and spec.entries:
            is_default = False
        if isinstance(value, dict):
            tables += _table(name, value)
        elif not is_default and value not in (None, ()):
            flat.append(f"{name} = {_value(value)}")
    return "\n".join([*flat, *tables]) + "\n"


def _unset(spec: RunSpec) -> RunSpec:
    """What the fields are where none but the preset is given."""
    return RunSpec(preset=spec.preset)


def _words(one: Definition, value: Any, default: Any = None) -> Iterator[str]:
    if value is None or value == default:
        return
    if one.kind is bool:
        yield one.flag if value else one.negation_flag
        return
    for each in value if one.several else [value]:
        yield one.flag
        yield _scalar(each)


def _scalar(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _table(name: str, value: Mapping[str, Any]) -> Iterator[str]:
    """A table, and below it those that are its values."""
    parts = {key: one for key, one in value.items() if isinstance(one, dict)}
    own = {key: one for key, one in value.items() if key not in parts}
    if own or (not parts and "." in name):
        yield f"\n[{name}]"
        yield from (f"{_key(key)} = {_value(one)}" for key, one in own.items())
    for key, part in parts.items():
        yield from _table(f"{name}.{_key(key)}", part)


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _text(name)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    return _scalar(value)


def _text(text: str) -> str:
    # TOML's basic strings are JSON's, but for DEL, which TOML wants as an escape.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
