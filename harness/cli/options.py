"""Flags that several commands share, and how examples look in a help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from typer.models import OptionInfo

RESULTS = Path("results")

ResultsOption: TypeAlias = Annotated[
    Path, typer.Option("--results", metavar="DIR", help="Folder that stores the runs.")
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")]


def flag(
    panel: str, text: str, default: str, metavar: str | None = None, *names: str
) -> OptionInfo:
    """A flag in a panel of the help text; its `default` is told, not set."""
    option: OptionInfo = typer.Option(
        *names,
        help=f"{text} Default: {default}." if default else text,
        metavar=metavar,
        rich_help_panel=panel,
    )
    return option


def engine_flag(
    text: str, default: str = "", metavar: str | None = None, *names: str
) -> OptionInfo:
    return flag("Engine", text, default, metavar, *names)


BackendOption: TypeAlias = Annotated[
    list[str] | None,
    flag("What is asked", "Engine to ask; repeat it for several.", "llama-cpp"),
]
ModelOption: TypeAlias = Annotated[
    str | None,
    flag(
        "What is asked",
        "A known model, a GGUF file, a folder, a hub name, or a [models] table.",
        "smollm2-135m",
        None,
        "--model",
        "-m",
    ),
]
TimeoutOption: TypeAlias = Annotated[
    float | None, engine_flag("Silence after which an engine is given up.", "300")
]
ThreadsOption: TypeAlias = Annotated[
    int | None, engine_flag("CPU threads.", "", None, "--threads", "-t")
]
GpuLayersOption: TypeAlias = Annotated[int | None, engine_flag("Layers kept on the GPU.")]
FlashAttnOption: TypeAlias = Annotated[
    str | None, engine_flag("Flash attention.", "", "auto|on|off")
]
CacheTypeKOption: TypeAlias = Annotated[str | None, engine_flag("KV cache type of the keys.")]
CacheTypeVOption: TypeAlias = Annotated[str | None, engine_flag("KV cache type of the values.")]
DeviceOption: TypeAlias = Annotated[str | None, engine_flag("Device.", "", "cpu|cuda")]
DtypeOption: TypeAlias = Annotated[
    str | None,
    engine_flag("Number format of weights: auto, float32, bfloat16, float16.", "", "TYPE"),
]
EnforceEagerOption: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--enforce-eager/--no-enforce-eager",
        help="Do not compile the model: starts sooner, runs slower.",
        rich_help_panel="Engine",
    ),
]
TensorParallelOption: TypeAlias = Annotated[
    int | None, engine_flag("GPUs to spread the model over.", "", None, "--tensor-parallel-size")
]
GpuMemoryOption: TypeAlias = Annotated[
    float | None,
    engine_flag("Share of the GPU's memory to take.", "", None, "--gpu-memory-utilization"),
]
EngineOption: TypeAlias = Annotated[
    list[str] | None,
    engine_flag("Any other option of an engine; may be repeated.", "", "KEY=VALUE"),
]
QuietOption: TypeAlias = Annotated[
    bool | None, typer.Option("--quiet/--no-quiet", help="No progress on stderr.")
]


def examples(*commands: str) -> str:
    """An epilog of commands, one a line."""
    return "\n\n".join(["Examples:", *(f"  {command}" for command in commands)])
