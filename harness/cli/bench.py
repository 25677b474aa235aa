"""`harness bench`: raw speed, in llama-bench's terms."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.console import answers, tell
from harness.cli.options import (
    BackendOption,
    CacheTypeKOption,
    CacheTypeVOption,
    DeviceOption,
    DtypeOption,
    EnforceEagerOption,
    EngineOption,
    FlashAttnOption,
    GpuLayersOption,
    GpuMemoryOption,
    ModelOption,
    QuietOption,
    TensorParallelOption,
    ThreadsOption,
    TimeoutOption,
    flag,
)
from harness.cli.order import Order, read_order
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.bench.rows import Row
    from harness.bench.timing import Plan


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MD = "md"


def _timed(text: str, default: str, *names: str) -> Any:
    """A list of numbers; `default` is the one of `Plan`, told, not set."""
    return flag("What is timed", text, default, "N,...", *names)


def bench(
    backend: BackendOption = None,
    model: ModelOption = None,
    config: Annotated[
        Path | None,
        flag("What is asked", "TOML file of a run; what concerns engines is read.", "", "FILE"),
    ] = None,
    prompt_tokens: Annotated[
        list[str] | None,
        _timed("Prompt lengths (pp); 0 for none.", "512", "--prompt-tokens", "-p"),
    ] = None,
    generate_tokens: Annotated[
        list[str] | None,
        _timed("Generated lengths (tg); 0 for none.", "128", "--generate-tokens", "-n"),
    ] = None,
    depth: Annotated[
        list[str] | None,
        _timed("Tokens in the KV cache before.", "0", "--depth", "-d"),
    ] = None,
    batch: Annotated[
        list[str] | None,
        _timed("Distinct sequences in one call.", "1", "--batch", "-b"),
    ] = None,
    repetitions: Annotated[
        int, typer.Option("--repetitions", "-r", min=1, help="Of each test, after a warm-up.")
    ] = 5,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="json holds every sample.")
    ] = Format.TABLE,
    timeout_seconds: TimeoutOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    n_gpu_layers: GpuLayersOption = None,
    flash_attn: FlashAttnOption = None,
    cache_type_k: CacheTypeKOption = None,
    cache_type_v: CacheTypeVOption = None,
    enforce_eager: EnforceEagerOption = None,
    tensor_parallel_size: TensorParallelOption = None,
    gpu_memory_utilization: GpuMemoryOption = None,
    engine_option: EngineOption = None,
    quiet: QuietOption = None,
) -> None:
    """Time prompt processing and token generation, as llama-bench does, on any engine.

    Several numbers, by commas or by repeating a flag, give every combination.
    Prompts are timed cold, and once more when they are cached.
    """
    given = {key: value for key, value in locals().items() if value not in (None, [])}
    del given["output"]
    plan = _plan(given)
    rows: list[Row] = []
    try:
        _carry_out(plan, read_order(given), rows)
    except SystemExit:
        tell(f"Interrupted. Rows that were finished: {len(rows)}.")
        raise
    finally:
        if rows:
            _print(rows, output)


def _plan(given: dict[str, Any]) -> Plan:
    """Takes what is to be timed out of the flags that were given. Raises `UsageError`."""
    from harness.bench.timing import Plan

    least = {"prompt_tokens": 0, "generate_tokens": 0, "depth": 0, "batch": 1}
    numbers = {
        key: parse_numbers(given.pop(key), f"--{key.replace('_', '-')}", minimum)
        for key, minimum in least.items()
        if key in given
    }
    return Plan(**numbers, repetitions=given.pop("repetitions"))


def parse_numbers(texts: Iterable[str], name: str, minimum: int) -> tuple[int, ...]:
    """The numbers of texts such as `512,1024`. Raises `UsageError`."""
    parts = [part.strip() for text in texts for part in text.split(",")]
    if not all(part.isdecimal() and int(part) >= minimum for part in parts):
        raise UsageError(
            f"{name} {','.join(texts)!r} is no list of numbers of {minimum} or more",
            remedy="For example: 512,1024.",
        )
    return tuple(map(int, parts))


def _carry_out(plan: Plan, order: Order, rows: list[Row]) -> None:
    """Times, with progress; `rows` holds what is finished, however it ends."""
    from harness.bench.timing import bench
    from harness.cli.progress import BenchWatch

    assert not isinstance(order.what, str)  # a run's id comes of --resume, which is not among these
    with (
        BenchWatch(shown=not order.output.quiet) as watch,
        closing(bench(plan, order.what, order.output.results / "logs", watch)) as timed,
    ):
        for row in timed:
            rows.append(row)


def _print(rows: list[Row], output: Format) -> None:
    from harness.report.bench import as_csv, as_json, as_markdown, as_table

    if output is Format.TABLE:
        answers().print(as_table(rows))
    else:
        write = {Format.JSON: as_json, Format.CSV: as_csv, Format.MD: as_markdown}[output]
        typer.echo(write(rows), nl=False)
