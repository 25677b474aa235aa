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
    from harness.config import RunSpec

ENGINE_FLAGS = ("threads", "n_gpu_layers", "flash_attn", "cache_type_k", "cache_type_v")

_OUTPUT_KINDS: Mapping[str, type] = {"results": str, "json": bool, "quiet": bool}


@dataclass(frozen=True, slots=True)
class Output:
    """Where a run is kept and how it is told."""

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
    if run_id is None:
        return _new_run(config, flags, output)
    if config or flags:
        raise UsageError(
            "--resume completes a run as it was asked for; it takes no other spec",
            remedy="Leave out every flag but --results, --json and --quiet.",
        )
    return Order(run_id, _output(output))


def _new_run(config: Path | None, flags: Mapping[str, Any], output: Mapping[str, Any]) -> Order:
    from harness.config import load_spec

    of_file = _output_of_file(config) if config else {}
    spec = load_spec(config, _with_engine_table(flags), beside=_OUTPUT_KINDS)
    return Order(spec, _output({**of_file, **output}))


def _output(values: Mapping[str, Any]) -> Output:
    return Output(**{**values, "results": Path(values.get("results", RESULTS))})


def _output_of_file(config: Path) -> dict[str, Any]:
    from harness.config import read_toml

    values = {key: value for key, value in read_toml(config).items() if key in _OUTPUT_KINDS}
    for key, value in values.items():
        if not isinstance(value, _OUTPUT_KINDS[key]):
            kind = "text" if _OUTPUT_KINDS[key] is str else "true or false"
            raise UsageError(f"{config}: {key} has to be {kind}", remedy="Correct the file.")
    return values


def _with_engine_table(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags as keys of a spec: those of the engine become its table."""
    spec = dict(flags)
    general = parse_options(spec.pop("engine_option", ()))
    named = {key: spec.pop(key) for key in ENGINE_FLAGS if key in spec}
    return {**spec, "engine": {**general, **named}} if general or named else spec


def parse_options(texts: Iterable[str]) -> dict[str, bool | int | float | str]:
    """Options of texts such as `delay_ms=20`. Raises `UsageError`."""
    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise UsageError(
                f"--engine-option {text!r} is no KEY=VALUE", remedy="For example: threads=4."
            )
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
