"""All commands together, and the one map from how things end to exit codes.

0    done                       130  ended by Ctrl-C
1    a `HarnessError`           143  ended by SIGTERM
2    wrong usage                129  ended by SIGHUP: its terminal was closed
3    anything else: a bug
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from types import FrameType
from typing import Annotated, NoReturn

import typer

from harness.cli.backends import backends
from harness.cli.bench import bench
from harness.cli.compare import compare
from harness.cli.console import tell, tell_error
from harness.cli.history import history
from harness.cli.import_ import import_files
from harness.cli.list import list_runs
from harness.cli.models import models
from harness.cli.options import examples
from harness.cli.run import run
from harness.cli.show import show
from harness.errors import HarnessError

BUG = 3

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("harness run", "harness run --backend mock --voters 2 --queries 8"),
)


def _version(wanted: bool) -> None:
    if wanted:
        from harness import __version__

        typer.echo(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def harness(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Which engine on your machine serves your long many-shot prompts best?

    One row an engine: context fit, speed, parse success and voted accuracy.
    """
    del version


app.command(
    epilog=examples(
        "harness run",
        "harness run --backend llama-cpp --backend mock --voters 7 --decoding score",
        "harness run --config bench.toml --queries 200 --json > answer.json",
        "harness run --prompts-from latest --backend hf",
        "harness run --resume latest",
    )
)(run)
app.command("list", epilog=examples("harness list", "harness list --json"))(list_runs)
app.command(
    epilog=examples(
        "harness show latest",
        "harness show 20260101-120000-7f3a --json",
        "harness show latest --recompute",
    )
)(show)
app.command(
    epilog=examples(
        "harness compare latest",
        "harness compare 20260101-120000-7f3a latest --flips",
        "harness compare latest:llama-cpp latest:vllm -o md",
    )
)(compare)
app.command(
    epilog=examples(
        "harness bench --backend llama-cpp --backend hf --threads 8",
        "harness bench -p 512,2048 -n 0 -d 0,4096 -b 1,4,16",
        "harness bench -m model.gguf -r 10 -o json > bench.json",
    )
)(bench)
app.command(
    "import",
    epilog=examples(
        "harness import llama-bench.json",
        "harness import serve.json --name 'vllm on the server'",
        "harness import lm-eval/*/results_*.json --json",
    ),
)(import_files)
app.command(
    epilog=examples(
        "harness history",
        "harness history --metric accuracy --backend llama-cpp",
        "harness history --metric time_to_first_token_ms --json > history.json",
    )
)(history)
app.add_typer(
    backends,
    name="backends",
    epilog=examples("harness backends", "harness backends --json", "harness backends install vllm"),
)
app.command(epilog=examples("harness models"))(models)


def main() -> None:
    """The entry point of `harness` and of `python -m harness`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # a character that the terminal's encoding lacks is no reason to fail
            stream.reconfigure(errors="replace")
    with _ended_by_signals():
        try:
            app()
        except HarnessError as error:
            tell_error(error)
            sys.exit(error.exit_code)
        except Exception:  # noqa: BLE001 - whatever it is, the user has to hear that it is our fault
            traceback.print_exc()
            tell("error: this is a bug in the harness. Please report it with the lines above.")
            sys.exit(BUG)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP end the program in order, workers included. Ignored ones stay
    ignored, as nohup wants it."""
    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in ending}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
