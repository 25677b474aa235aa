"""`harness run`: prompt, store, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.models import OptionInfo

from harness.cli.console import tell
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
from harness.cli.show import show_run

if TYPE_CHECKING:
    from harness.cli.progress import Watch
    from harness.summary import Summary


def _ask(text: str, default: str, metavar: str | None = None) -> OptionInfo:
    """A flag that decides what is asked; `default` is the one of `RunSpec`, told, not set."""
    return flag("What is asked", text, default, metavar)


def _vote(text: str, default: str, metavar: str | None = None) -> OptionInfo:
    return flag("Voters and numbers", text, default, metavar)


def _reply(text: str, default: str, metavar: str | None = None) -> OptionInfo:
    return flag("Context and reply", text, default, metavar)


def run(
    backend: BackendOption = None,
    model: ModelOption = None,
    data: Annotated[
        str | None, _ask("A known dataset, or a file of labelled embeddings.", "digits")
    ] = None,
    prompt: Annotated[str | None, _ask("Template of the prompt.", "compact")] = None,
    seed: Annotated[int | None, _ask("Of everything that is drawn.", "0")] = None,
    config: Annotated[
        Path | None,
        _ask("TOML file; its keys are these flags, with _ for -.", "", "FILE"),
    ] = None,
    voters: Annotated[int | None, _vote("Random subsets that vote.", "7")] = None,
    queries: Annotated[
        int | None, _vote("Test examples put to each voter, at most.", "100")
    ] = None,
    calibration_queries: Annotated[
        int | None, _vote("Training examples that each voter is calibrated on, at most.", "20")
    ] = None,
    reducer: Annotated[str | None, _vote("What makes few numbers of many.", "plsda:4")] = None,
    feature_fraction: Annotated[
        float | None, _vote("Share of the features that a voter sees.", "0.5")
    ] = None,
    bootstrap: Annotated[
        bool | None,
        typer.Option(
            "--bootstrap/--no-bootstrap",
            help="Fit the reducer on a bootstrap sample, show other examples. Default: on.",
            rich_help_panel="Voters and numbers",
        ),
    ] = None,
    encoding: Annotated[str | None, _vote("How numbers are written.", "int:100")] = None,
    decoding: Annotated[
        str | None, _reply("How a label is got.", "free", "free|choice|score")
    ] = None,
    max_model_len: Annotated[
        int | None, _reply("Tokens of the longest prompt and its reply.", "1024")
    ] = None,
    shots: Annotated[
        int | None, _reply("Examples a voter shows; too many overflow.", "as many as fit")
    ] = None,
    max_tokens: Annotated[int | None, _reply("Tokens of a reply at most.", "8")] = None,
    temperature: Annotated[float | None, _reply("0 takes the likeliest token.", "0")] = None,
    attempts: Annotated[int | None, _reply("Replies to each prompt.", "1")] = None,
    baselines: Annotated[
        bool | None,
        typer.Option(
            "--baselines/--no-baselines",
            help="Fit classifiers without a language model, to hold the votes against. "
            "Default: on.",
            rich_help_panel="Voters and numbers",
        ),
    ] = None,
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
    prompts_from: Annotated[
        str | None,
        _ask("Give other engines the prompts of this earlier run again.", "none", "RUN"),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help='Complete this run (an id, a beginning, or "latest").'),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder that stores the runs. Default: results."),
    ] = None,
    json: Annotated[
        bool | None, typer.Option("--json/--no-json", help="Print one JSON object, not the table.")
    ] = None,
    quiet: QuietOption = None,
) -> None:
    """Give every engine the same prompts, and print one row for each.

    Every reply is stored as it comes, so a run that is ended can be completed with --resume.
    """
    given = {key: value for key, value in locals().items() if value not in (None, [])}
    order = read_order(given)
    from harness.pipeline.run import check_answered
    from harness.store.runs import Results

    summary = _carry_out(order)
    with Results(order.output.results) as stored:
        show_run(stored.run(summary.run_id), summary, order.output.json)
    check_answered(summary)


def _carry_out(order: Order) -> Summary:
    """Runs, with progress; says how to go on when a signal ends it."""
    from harness.cli.progress import Watch

    watch = Watch(shown=not order.output.quiet)
    try:
        with watch:
            return _run(order, watch)
    except SystemExit:
        _tell_interrupted(watch.run_id, order.output.results)
        raise


def _run(order: Order, watch: Watch) -> Summary:
    from harness.pipeline.run import resume, run

    results = order.output.results
    if isinstance(order.what, str):
        return resume(order.what, results, watch)
    return run(order.what, results, watch)


def _tell_interrupted(run_id: str | None, results: Path) -> None:
    if run_id is None:
        tell("Interrupted before anything was prompted.")
        return
    from harness.store.runs import Results

    with Results(results) as stored:
        command = stored.run(run_id).resume_command
    tell("Interrupted. Everything that was finished is stored; go on with:", f"  {command}")
