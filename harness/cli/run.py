"""`harness run`: prompt, store, report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.cli.console import checked, fail_if_unreadable, give, remarks, tell
from harness.cli.show import answer_of
from harness.errors import EndedBySignal, EngineError, StoreError, UsageError

if TYPE_CHECKING:
    from harness.cli.order import Order
    from harness.report.formats import Answer
    from harness.report.progress import Watch
    from harness.spec import RunSpec
    from harness.store.store import Store
    from harness.summary import Summary

_Done = TypeVar("_Done")


def run(**given: Any) -> None:
    """Give every engine the same prompts, and print their figures side by side.

    Every reply is stored as it comes, so a run that ended early can be completed with --resume.
    """
    from harness.cli.flags import PLAN
    from harness.cli.order import read_order
    from harness.cli.points import points_of, take_lists
    from harness.pipeline.run import check_answered
    from harness.spec import CONCURRENCY
    from harness.store.runs import resume_command

    flags, lists = take_lists(given)
    is_plan = flags.pop(PLAN.name, None)
    order = read_order(flags)
    if is_plan:
        _plan(order, lists)
        return
    if lists and not isinstance(order.what, str):
        points = points_of(order.what, lists)
        if len(points) > 1:
            _run_curve(order, points, "load" if CONCURRENCY in lists else "curve")
            return
        order = replace(order, what=points[0])
    wanted = checked(order.output.target)
    spec = _spec_of(order)
    summary = _carry_out(order)
    answer, errors = _answer(order, spec, summary)
    give(answer, wanted)
    # After the answer is printed: a run without a reply has caveats to show, and exits with 1.
    check_answered(summary, resume_command(order.output.results, summary.run_id))
    fail_if_unreadable(errors)


def _run_curve(order: Order, points: Sequence[RunSpec], kind: str) -> None:
    """Runs the points as one group, which is called after its kind, and shows the curve."""
    from harness.cli.show import group_of
    from harness.pipeline.run import check_answered, run_group
    from harness.store.runs import Results, resume_command

    wanted, results = checked(order.output.target), order.output.results
    with _new_group(order, kind) as group:
        summaries = _watched(order, lambda watch: run_group(group, points, results, watch))
    with Results(results) as stored:
        answer, errors = group_of(group, stored.group(group))
    if answer:
        give(answer, wanted)
    for summary in summaries:
        check_answered(summary, resume_command(results, summary.run_id))
    fail_if_unreadable(errors)


def _plan(order: Order, lists: Mapping[str, Sequence[Any]]) -> None:
    """What the run, or each point of the curve, would take."""
    from harness.cli.points import points_of
    from harness.pipeline.plan import plan_run
    from harness.report.plan import plan_answer
    from harness.report.progress import FitWatch, outlet_of

    if isinstance(order.what, str):
        raise UsageError(
            "--plan is for a run that is to be begun, and --resume for one that was",
            remedy="Give one of them.",
        )
    wanted = checked(order.output.target)
    specs = points_of(order.what, lists) or [order.what]
    with FitWatch(outlet_of(remarks(), not order.output.quiet, moves=False)) as watch:
        plans = [plan_run(spec, order.output.results, watch) for spec in specs]
    give(plan_answer(plans), wanted)
    failed = [one for found in plans for one in found.entries if one.failure is not None]
    if failed:
        raise EngineError(
            "; ".join(f"{one.entry}: {one.failure}" for one in failed),
            remedy="; ".join(dict.fromkeys(one.remedy for one in failed if one.remedy)),
        )


@contextmanager
def _new_group(order: Order, kind: str) -> Iterator[str]:
    """The name that was given, else one that is not used yet; no other curve takes it meanwhile.
    Raises `UsageError` for one that is used: the runs would be points of another curve."""
    from itertools import count

    from harness.store.names import check_name
    from harness.store.store import Store

    with Store(order.output.results) as store, ExitStack() as held:
        if order.name is not None:
            check_name(order.name)
            held.enter_context(_held(order.name, store))
            yield order.name
            return
        for n in count(1):
            with suppress(UsageError):
                held.enter_context(_held(name := f"{kind}-{n}", store))
                break
        yield name


@contextmanager
def _held(name: str, store: Store) -> Iterator[None]:
    """Raises `UsageError` for a name that is used, or that another process holds."""
    from harness.store.lock import InUseError, prompting
    from harness.store.names import check_unused

    with ExitStack() as lock:
        try:
            lock.enter_context(prompting(store.path.parent, name))
        except InUseError as error:
            raise UsageError(
                f"the name {name!r} is used already", remedy="Give another one."
            ) from error
        # Behind the lock: what another process had held until now is used.
        check_unused(name, store.runs())
        yield


def _spec_of(order: Order) -> RunSpec:
    """What the answer names. It is known before the run: afterwards its store may be gone."""
    from harness.machine.homes import without_homes
    from harness.pipeline.run import settle
    from harness.spec import RunSpec
    from harness.store.runs import Results
    from harness.store.store import Store

    spec, results = order.what, order.output.results
    if isinstance(spec, str):
        with Results(results) as stored:
            return stored.run(spec).spec
    if spec.prompts_from is not None:
        with Store(results) as store:
            spec, _ = settle(spec, store)
    return RunSpec.model_validate(without_homes(spec.model_dump(exclude_unset=True)))


def _answer(order: Order, spec: RunSpec, summary: Summary) -> tuple[Answer, list[StoreError]]:
    """Where the store was moved or damaged meanwhile: what is in memory, and why it is no more."""
    from harness.report.answer import run_answer
    from harness.store.runs import Results

    try:
        with Results(order.output.results) as stored:
            run = stored.run(summary.run_id)
            return answer_of(run, summary, order.output.format), []
    except StoreError as error:
        return run_answer(spec, summary), [error]


def _carry_out(order: Order) -> Summary:
    return _watched(order, partial(_run, order))


def _watched(order: Order, work: Callable[[Watch], _Done]) -> _Done:
    """Runs, with progress; says how to go on when a signal ends it."""
    from harness.report.progress import Watch, outlet_of

    watch = Watch(outlet_of(remarks(), shown=not order.output.quiet))
    try:
        with watch:
            return work(watch)
    # From the handler of Ctrl-C and SIGTERM (`harness.cli.app`).
    except EndedBySignal:
        _say_interrupted(watch.run_id, order.output.results)
        raise


def _run(order: Order, watch: Watch) -> Summary:
    from harness.pipeline.run import resume, run

    results = order.output.results
    if isinstance(order.what, str):
        summary = resume(order.what, results, watch, order.of_machine)
        if watch.run_id is None:  # there was no update
            tell(f"Run {summary.run_id} is complete: nothing was left to prompt.")
        return summary
    return run(order.what, results, watch, order.name)


def _say_interrupted(run_id: str | None, results: Path) -> None:
    if run_id is None:
        tell("Interrupted before anything was prompted.")
        return
    from harness.store.runs import results_flag, resume_command

    begun = _begun_with(run_id, results)
    tell(
        f"Interrupted. {_stored(run_id, results)}",
        "See it with:",
        f"  harness show {run_id}{results_flag(results)}",
        "Go on with:",
        *(f"  {resume_command(results, one)}" for one in begun),
    )


def _begun_with(run_id: str, results: Path) -> list[str]:
    """The runs of its group that are not finished, such as the points of a curve; itself alone."""
    from harness.store.runs import Results

    try:
        with Results(results) as stored:
            group = stored.run(run_id).group
            runs = stored.group(group) if group else []
            return [one.run_id for one in runs if not one.is_finished] or [run_id]
    except StoreError:
        return [run_id]


def _stored(run_id: str, results: Path) -> str:
    """How many replies each entry has."""
    from harness.store.runs import Results

    try:
        with Results(results) as stored:
            run = stored.run(run_id)
            wanted = len(run.prompts) * run.spec.attempts
            counts = [
                f"{name} {sum(cell.status == 'done' for cell in entry.cells):,} of {wanted:,}"
                for name, entry in run.entries.items()
            ]
    except StoreError:  # it says so where it is looked for
        return "Everything that was finished is stored."
    return f"Replies that are stored: {', '.join(counts)}." if wanted else "No reply is stored yet."
