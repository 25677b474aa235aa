"""All commands together, and the one map from how things end to exit codes.

0    done                       130  ended by Ctrl-C
1    a `HarnessError`; Windows  143  ended by SIGTERM
2    wrong usage                129  ended by SIGHUP: its terminal was closed
3    anything else: a bug
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import Signature
from io import TextIOWrapper
from types import FrameType
from typing import Annotated, NoReturn

import typer

from harness.cli.backends import backends
from harness.cli.baseline import baseline, flags_of_command
from harness.cli.bench import bench
from harness.cli.commands import PLAIN, SETTINGS, Command, Commands, with_late_flags
from harness.cli.compare import compare
from harness.cli.console import tell, tell_error
from harness.cli.delete import delete
from harness.cli.embed import embed, flags
from harness.cli.export import export
from harness.cli.fit import fit
from harness.cli.history import history
from harness.cli.import_ import import_files
from harness.cli.list import list_runs
from harness.cli.models import models
from harness.cli.options import examples
from harness.cli.run import run
from harness.cli.show import show
from harness.errors import EndedBySignal, HarnessError, StoreError, ended_in
from harness.machine.homes import without_home
from harness.machine.platforms import check_platform

BUG = 3
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    context_settings=SETTINGS,
    epilog=examples("harness run", "harness run --backend mock --voters 2 --queries 8"),
    **PLAIN,
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
        # Eager: answered before Typer finds that there is no command.
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Which engine on your machine serves your long many-shot prompts best?

    It measures context fit, speed, parse success and voted accuracy of each engine.
    """
    del version


def _flags_of_run() -> Signature:
    from harness.cli.flags import flags_of_run, signature

    return signature(flags_of_run())


def _flags_of_bench() -> Signature:
    from harness.cli.flags import flags_of_bench, signature

    return signature(flags_of_bench())


def _flags_of_fit() -> Signature:
    from harness.cli.flags import flags_of_fit, signature

    return signature(flags_of_fit())


def _add(name: str, function: Callable[..., None], *commands: str) -> None:
    app.command(name, cls=Command, epilog=examples(*commands))(function)


_add(
    "run",
    with_late_flags(run, _flags_of_run),
    "harness run",
    "harness run --backend llama-cpp --backend mock --voters 7 --decoding score",
    "harness run --config bench.toml --queries 200 --json -o answer.json",
    "harness run --prompts-from latest --backend hf",
    "harness run --shots 1,2,4,8,16,32,max --queries 600",
    "harness run --plan --max-model-len 4096",
    "harness run --resume latest",
)
_add("list", list_runs, "harness list", "harness list --json")
_add(
    "show",
    show,
    "harness show latest",
    "harness show 20260101-120000-7f3a --json",
    "harness show latest --recompute",
    "harness show latest --replies --only wrong",
    "harness show latest:llama-cpp --prompt 0:3",
    "harness show latest --command",
)
_add(
    "compare",
    compare,
    "harness compare latest",
    "harness compare 20260101-120000-7f3a latest --flips",
    "harness compare latest:llama-cpp latest:vllm --format md",
)
_add(
    "bench",
    with_late_flags(bench, _flags_of_bench),
    "harness bench --backend llama-cpp --backend hf --threads 8",
    "harness bench -p 512,2048 -n 0 -d 0,4096 -b 1,4,16",
    "harness bench -m model.gguf -r 10 --json -o bench.json",
)
_add(
    "fit",
    with_late_flags(fit, _flags_of_fit),
    "harness fit",
    "harness fit -m smollm2-135m -m gemma3-270m --max-model-len 2048,8192",
    "harness fit --data embeddings.npz --reducer top:10,top:20 --encoding int:100,decimal:10",
    "harness fit --data reviews.csv --prompt text --prompt text-chat --shots 50",
    "harness fit --max-model-len 8192 --json -o fit.json",
    "harness fit --probe --backend llama-cpp --backend hf --memory-limit 1GiB",
)
_add(
    "baseline",
    with_late_flags(baseline, flags_of_command),
    "harness baseline random-forest logistic",
    "harness baseline probe knn --data cifake.parquet --name sklearn",
    "harness baseline tfidf-words --data reviews.csv --text-column review",
    "harness compare latest:llama-cpp latest:random-forest",
)
_add(
    "embed",
    with_late_flags(embed, flags),
    "harness embed cifake/images -o cifake.parquet",
    "harness embed images -o embeddings.npz --model facebook/dinov2-small --layer 4,8,last",
    "harness run --data cifake.parquet",
)
_add(
    "import",
    import_files,
    "harness import llama-bench.json",
    "harness import serve.json --name 'vllm on the server'",
    "harness import lm-eval/*/results_*.json --json",
    "harness import run.zip",
)
_add(
    "history",
    history,
    "harness history",
    "harness history --metric accuracy --backend llama-cpp",
    "harness history --metric time_to_first_token_ms --format csv -o history.csv",
)
_add(
    "export",
    export,
    "harness export latest -o replies.parquet",
    "harness export latest --format jsonl",
    "harness export my-run -o run.zip",
)
_add("delete", delete, "harness delete 20260101-120000-7f3a", "harness delete my-curve --yes")
app.add_typer(
    backends,
    name="backends",
    epilog=examples("harness backends", "harness backends --json", "harness backends install vllm"),
)
_add("models", models, "harness models", "harness models --found", "harness models --clean")


def main() -> None:
    """The entry point of `harness` and of `python -m harness`."""
    for stream in (sys.stdout, sys.stderr):
        # A test or a library may have put something else in their place.
        if isinstance(stream, TextIOWrapper):
            # a character that the terminal's encoding lacks is no reason to fail
            stream.reconfigure(errors="replace")
    try:
        check_platform()
    except HarnessError as error:  # before the signals: Windows does not have all of them
        tell_error(error)
        sys.exit(error.exit_code)
    with _ended_by_signals():
        try:
            try:
                app()
            finally:
                sys.stdout.flush()  # here, where an error of it can still be named
        except BrokenPipeError:  # the reader has left
            _drop_stdout()
            sys.exit(1)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                _report_bug()
            _drop_stdout()
            tell_error(StoreError(f"{error.strerror}", remedy="Free some space and try again."))
            sys.exit(1)
        except HarnessError as error:
            tell_error(error)
            sys.exit(error.exit_code)
        except EndedBySignal as signalled:
            sys.exit(signalled.code)
        except Exception as error:  # noqa: BLE001 - the user has to hear that it is our fault
            if (ended := ended_in(error)) is not None:
                sys.exit(ended.code)
            _report_bug()


def _report_bug() -> NoReturn:
    sys.stderr.write(without_home(traceback.format_exc()))
    tell("error: this is a bug in the harness. Please report it with the lines above.")
    sys.exit(BUG)


def _drop_stdout() -> None:
    """What is left in its buffer cannot be written; Python would try once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP end the program in order, workers included. Ignored ones stay
    ignored, as nohup wants it."""
    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in ending}
    for number, handler in before.items():
        # `nohup`, or a script that starts us in the background, has them ignored.
        if handler is not signal.SIG_IGN:
            signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise EndedBySignal(128 + number)
