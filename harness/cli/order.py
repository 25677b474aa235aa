"""From the flags and the TOML file of `harness run` to what shall be done."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.options import RESULTS
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.spec import RunSpec

ENGINE_FLAGS = (
    "threads",
    "device",
    "dtype",
    "n_gpu_layers",
    "flash_attn",
    "cache_type_k",
    "cache_type_v",
    "enforce_eager",
    "tensor_parallel_size",
    "gpu_memory_utilization",
)

_ANY_OPTION = "engine_option"
_OUTPUT_KINDS: Mapping[str, type] = {"results": str, "json": bool, "quiet": bool}
_BESIDE = frozenset({*_OUTPUT_KINDS, *ENGINE_FLAGS, _ANY_OPTION})
"""The flags that are no fields of a spec, but may stand in the file too."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where a run is stored and how it is reported."""

    results: Path = RESULTS
    json: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """A new run of a spec, or an old one to complete."""

    what: RunSpec | str
    output: Output


def read_order(given: Mapping[str, Any]) -> Order:
    """What the given flags ask for, by parameter name; they win over the file's keys.

    Raises `UsageError`.
    """
    flags = dict(given)
    config: Path | None = flags.pop("config", None)
    run_id: str | None = flags.pop("resume", None)
    output = {key: flags.pop(key) for key in _OUTPUT_KINDS if key in flags}
    if _ANY_OPTION in flags:
        flags[_ANY_OPTION] = parse_options(flags[_ANY_OPTION])
    if run_id is None:
        return _new_run(config, flags, output)
    if config or flags:
        raise UsageError(
            "--resume completes a run as it was asked for; it takes no other spec",
            remedy="Leave out every flag but --results, --json and --quiet.",
        )
    return Order(run_id, _output(output))


def _new_run(config: Path | None, flags: Mapping[str, Any], output: Mapping[str, Any]) -> Order:
    from harness.spec import load_spec

    beside = _beside_spec(config) if config else {}
    of_file = {key: beside.pop(key) for key in _OUTPUT_KINDS if key in beside}
    engine = {**_engine_table(beside), **_engine_table(flags)}
    asked = {key: value for key, value in flags.items() if key not in _BESIDE}
    spec = load_spec(config, {**asked, "engine": engine} if engine else asked, beside=_BESIDE)
    return Order(spec, _output({**of_file, **output}))


def _output(values: Mapping[str, Any]) -> Output:
    return Output(**{**values, "results": Path(values.get("results", RESULTS))})


def _beside_spec(config: Path) -> dict[str, Any]:
    """The keys of a file that are flags, but no fields of a spec. Raises `UsageError`."""
    from harness.spec import read_toml

    values = {key: value for key, value in read_toml(config).items() if key in _BESIDE}
    for key, kind in _OUTPUT_KINDS.items():
        if not isinstance(values.get(key, kind()), kind):
            wanted = "text" if kind is str else "true or false"
            raise UsageError(f"{config}: {key} has to be {wanted}", remedy="Correct the file.")
    if _ANY_OPTION in values:
        values[_ANY_OPTION] = _options_of_file(config, values[_ANY_OPTION])
    return values


def _options_of_file(config: Path, value: object) -> dict[str, Any]:
    """`engine_option` of a file: a table, or a list of what the flag takes."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return parse_options(value, where=f"{config}: {_ANY_OPTION}")
    raise UsageError(
        f"{config}: {_ANY_OPTION} has to be a table, or a list of KEY=VALUE",
        remedy="Correct the file.",
    )


def _engine_table(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an engine; one that has a name of its own wins over the general ones."""
    named = {key: options[key] for key in ENGINE_FLAGS if key in options}
    return {**options.get(_ANY_OPTION, {}), **named}


def parse_options(
    texts: Iterable[str], where: str = "--engine-option"
) -> dict[str, bool | int | float | str]:
    """Options of texts such as `delay_ms=20`. Raises `UsageError`."""
    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise UsageError(f"{where} {text!r} is no KEY=VALUE", remedy="For example: threads=4.")
        options[key] = parse_scalar(value)
    return options


def parse_scalar(text: str) -> bool | int | float | str:
    """A TOML boolean, number or quoted text; anything else is text as it stands."""
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    value = table.pop("value")
    return value if isinstance(value, bool | int | float | str) and not table else text
