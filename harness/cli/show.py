"""`harness show`: a stored run, a group of runs, or an import, shown again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from harness.cli.console import fail_if_unreadable, give, target, tell, why_unreadable, write
from harness.cli.options import (
    RESULTS,
    RUN_HELP,
    Format,
    FormatOption,
    JsonOption,
    OutputOption,
    ResultsOption,
)
from harness.errors import StoreError, UsageError
from harness.scoring.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.cli.console import Target
    from harness.report.formats import Answer
    from harness.store.runs import Results, StoredRun
    from harness.summary import Summary

MOST_SHOWN = 20  # replies in a table where no limit is given

RunArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help=f"It is {RUN_HELP}, the name of a group, or the id of an import.",
    ),
]


def show(
    run: RunArgument,
    recompute: Annotated[
        bool,
        typer.Option("--recompute", help="Compute the summary again from what is stored."),
    ] = False,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            metavar="VOTER:QUERY",
            help="Print a prompt as the model received it. Both count from 0; 0:c3 is "
            "calibration prompt 3 of voter 0, 0:s3 query 3 behind shuffled labels.",
        ),
    ] = None,
    replies: Annotated[
        bool,
        typer.Option("--replies", help="List the replies, wrong and unparsed ones first."),
    ] = False,
    only: Annotated[
        Verdict | None, typer.Option("--only", help="With --replies: those of this verdict.")
    ] = None,
    voter: Annotated[
        int | None, typer.Option(metavar="N", help="With --replies: those of this voter.")
    ] = None,
    query: Annotated[
        int | None, typer.Option(metavar="N", help="With --replies: those to this query.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help=f"With --replies: how many. Default: {MOST_SHOWN} in a table, else all.",
        ),
    ] = None,
    command: Annotated[
        bool,
        typer.Option(
            "--command",
            help="Print the line that repeats the run, or the TOML file where flags cannot say it.",
        ),
    ] = False,
    results: ResultsOption = RESULTS,
    format_: FormatOption = None,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Show a stored run, a group of runs, or an import; a run's prompts and replies.

    RUN:ENTRY is one entry, for --prompt and --replies. --recompute needs neither model nor data,
    and stores nothing.
    """
    from harness.imports.records import PREFIX
    from harness.store.runs import Results

    wanted = target(format_, json, output)
    look = _Look(prompt, replies, only, voter, query, limit)
    modes = {"--recompute": recompute, "--command": command, **look.modes}
    chosen = [flag for flag, is_given in modes.items() if is_given]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} differ", remedy="Give one of them.")
    with Results(results) as stored:
        is_import = run.startswith(PREFIX)
        is_group = not is_import and stored.is_group(run)
        if chosen and (is_import or is_group):
            raise UsageError(f"{chosen[0]} takes one run", remedy="`harness list` shows them.")
        if is_import:
            from harness.report.imports import import_answer

            give(import_answer(stored.imported(run)), wanted)
        elif is_group:
            _show_group(run, stored.group(run), wanted)
        elif look.modes:
            give(look.answer(stored, run, wanted.format), wanted)
        elif command:
            _show_command(stored.run(run), results, wanted)
        elif recompute:
            from harness.pipeline.summarise import recompute as compute

            found = stored.run(run)
            give(answer_of(found, compute(found), wanted.format), wanted)
        else:
            from harness.report.stored import summary_of

            found = stored.run(run)
            give(answer_of(found, summary_of(found), wanted.format), wanted)


@dataclass(frozen=True, slots=True)
class _Look:
    """What of prompts and replies is to be shown."""

    prompt: str | None
    replies: bool
    only: Verdict | None
    voter: int | None
    query: int | None
    limit: int | None

    @property
    def modes(self) -> dict[str, bool]:
        """Those that were given. Raises `UsageError` for a filter without replies to filter."""
        for flag in ("only", "voter", "query", "limit"):
            if getattr(self, flag) is not None and not self.replies:
                raise UsageError(f"--{flag} filters replies", remedy="Give --replies too.")
        given = {"--prompt": self.prompt is not None, "--replies": self.replies}
        return {flag: is_given for flag, is_given in given.items() if is_given}

    def answer(self, stored: Results, name: str, format_: Format) -> Answer:
        from harness.report.replies import Wanted, prompt_answer, replies_answer

        [first, *more] = stored.entries(name)
        run = first.run
        if self.prompt is not None:
            return prompt_answer(first, self.prompt)
        is_one = not more and len(run.entries) > 1
        is_read = format_ in (Format.TABLE, Format.MD)
        limit = self.limit or (MOST_SHOWN if is_read else None)
        wanted = Wanted(first.name if is_one else None, self.only, self.voter, self.query)
        return replies_answer(run, wanted, limit)


def _show_command(run: StoredRun, results: Path, wanted: Target) -> None:
    """On stdout is the line, or the file that it needs and does not have yet."""
    from harness.cli.again import baseline_command, command, needs_file, toml
    from harness.spec import BaselineSpec

    if wanted.format is not Format.TABLE:
        raise UsageError("--command prints a line", remedy="Leave out --format and --json.")
    if isinstance(run.given, BaselineSpec):
        write(baseline_command(run.given, results) + "\n", wanted.file)
        return
    spec = run.given_spec
    if not needs_file(spec):
        write(command(spec, results) + "\n", wanted.file)
    elif wanted.file is not None:
        write(toml(spec), wanted.file)
        typer.echo(command(spec, results, wanted.file))
    else:
        typer.echo(toml(spec), nl=False)
        tell(
            "Flags cannot say all of it. Save this as run.toml (-o run.toml does), then:",
            f"  {command(spec, results, Path('run.toml'))}",
        )


def answer_of(run: StoredRun, summary: Summary, format_: Format) -> Answer:
    """The answer, as the format has a place for it."""
    from harness.report.stored import stored_answer

    is_read = format_ in (Format.TABLE, Format.MD)
    return stored_answer(run, summary, is_read=is_read, is_compared=format_ is not Format.CSV)


def _show_group(name: str, runs: Sequence[StoredRun], wanted: Target) -> None:
    """One run that cannot be read must not hide the others."""
    answer, errors = group_of(name, runs)
    if answer:
        give(answer, wanted)
    fail_if_unreadable(errors)


def group_of(name: str, runs: Sequence[StoredRun]) -> tuple[Answer | None, list[StoreError]]:
    """The answer of those runs that can be read, if any, and what is wrong with the others."""
    from harness.comparison.curve import curve_of
    from harness.comparison.load import load_curve_of
    from harness.report.group import Point, group_answer

    unreadable = {run.run_id: error for run in runs if (error := why_unreadable(run))}
    points = [
        Point(
            *(run.run_id, run.spec, run.environment),
            run.summary if run.is_finished else None,
            tuple(run.entries),
        )
        for run in runs
        if run.run_id not in unreadable
    ]
    readable = [run for run in runs if run.run_id not in unreadable]
    if not points:
        return None, list(unreadable.values())
    answer = group_answer(name, points, curve_of(readable), load_curve_of(readable))
    return answer, list(unreadable.values())
