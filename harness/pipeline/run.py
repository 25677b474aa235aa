"""The pipeline, whole.

    workload                           engine                        scoring         stored, shown
    dataset -> reducer -> encoding
        -> template -> packing ------> session (own process) ------> parse -> vote -> store -> table
             (voters, queries)         prompt token ids, replies      -> metrics
                                                                      -> statistics

First the prompts are drawn and packed, with tokenizers that need no weights. Then one engine after
the other is loaded, timed and ended: never do two hold their weights, and nothing of ours computes
beside them. Baselines come last. Each batch of replies is stored as it comes: a run that was ended,
however, is completed by `resume`, and every summary is made from what is stored.

The runs of a group go the same way together, so that each engine is loaded once for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import cast

import numpy as np

from harness.baselines.kind import ShownNumbers
from harness.baselines.run import run_baselines
from harness.contract import SessionInfo, TokenizerInfo
from harness.engine.engine import Engine, EnginePlan, plan_engine
from harness.engine.options import check_options
from harness.engine.session import TokenizerSession
from harness.errors import EngineError, StoreError, UsageError
from harness.machine.environment import describe_environment
from harness.pipeline.prompting import (
    Observer,
    Update,
    cell_statuses,
    fail_open_cells,
    has_open_cells,
    prompt_entry,
)
from harness.pipeline.prompts import check_unchanged, facts_of, save_prompts
from harness.pipeline.replay import Source, check_replay, find_source
from harness.pipeline.summarise import summarise
from harness.spec import RunSpec, entries_of, replay_spec, safe_name
from harness.store.file import disk_is_full
from harness.store.lock import prompting
from harness.store.names import LATEST, check_name, check_unused
from harness.store.runs import StoredRun, resume_command
from harness.store.schema import EntryRow
from harness.store.store import Store
from harness.summary import Baseline, CaveatKind, RunSummary, Summary
from harness.workload.chat import ChatTemplate, read_chat_template
from harness.workload.tokens import Tokenizer
from harness.workload.workload import Workload, draw, numbers, write


def run(
    spec: RunSpec,
    results: Path,
    observe: Observer = lambda _: None,
    name: str | None = None,
) -> Summary:
    """Gives every entry of the spec the same prompts. The run can be called by its `name`
    afterwards. Raises `HarnessError`."""
    if name is not None:
        check_name(name)
    [summary] = _run([spec], results, observe, name=name)
    return summary


def run_group(
    group: str | None, specs: Sequence[RunSpec], results: Path, observe: Observer = lambda _: None
) -> list[Summary]:
    """Runs of the same entries under one name, such as the points of a curve.

    Each engine is loaded once, for the longest context of all, and is made cold before each run.
    Raises `HarnessError`; a `UsageError` where the specs do not have the same entries.
    """
    if not specs:
        return []
    if group is not None and (group != safe_name(group) or group == LATEST):
        raise UsageError(
            f"a group cannot be called {group!r}", remedy=f"Call it {safe_name(group)}-1, say."
        )
    return _run(specs, results, observe, group=group)


def _run(
    specs: Sequence[RunSpec],
    results: Path,
    observe: Observer,
    group: str | None = None,
    name: str | None = None,
) -> list[Summary]:
    mark = time.perf_counter()
    with Store(results) as store:
        # Before anything is loaded. The store looks once more when the run begins.
        if name is not None:
            check_unused(name, store.runs())
        if group is not None:
            check_unused(group, [row for row in store.runs() if row.group != group])
        settled = [settle(given, store) for given in specs]
        _check_same_entries([spec for spec, _ in settled])
        # Those of one spec are those of all, because the entries are the same.
        plans = plan(settled[0][0], results)
        members = []
        for spec, source in settled:
            members.append(_Member(spec, prepare(spec, plans, source)))
            members[-1].wall_seconds, mark = time.perf_counter() - mark, time.perf_counter()
        with ExitStack() as locks:
            for member in members:  # only now: what cannot be packed leaves no run
                member.run_id = begin(
                    store, member.spec, member.workload, plans, group, locks, name
                )
            return _complete(store, members, plans, observe)


def resume(run_id: str, results: Path, observe: Observer = lambda _: None) -> Summary:
    """Completes a run that was ended: gives what has no reply yet once more.

    A run that is complete stays as it is. Raises `HarnessError`.
    """
    began = time.perf_counter()
    with Store(results) as store, prompting(results, store.run(run_id).run_id):
        # Read again under the lock: until then, another process may have completed it.
        stored = StoredRun(store, store.run(run_id))
        stored.check_prompted()
        spec = stored.given_spec
        is_open = (has_open_cells(store, stored.run_id, name, spec) for name in stored.entries)
        if stored.is_finished and not any(is_open):
            return stored.summary
        plans = plan(spec, results)
        workload = prepare(spec, plans, _source(store, spec), stored.chat_template)
        check_unchanged(stored, workload)
        if stored.facts is None:  # ended before they were stored, or stored before facts were
            save_prompts(store, stored.run_id, workload, facts_of(workload).model_dump_json())
        member = _Member(spec, workload, stored.run_id, _other_environment(stored))
        member.wall_seconds = time.perf_counter() - began
        [summary] = _complete(store, [member], plans, observe)
        return summary


def settle(spec: RunSpec, store: Store) -> tuple[RunSpec, Source | None]:
    """The spec with what it takes from the run whose prompts it uses again, and that run."""
    source = _source(store, spec)
    return (replay_spec(spec, source.spec, source.run_id) if source else spec), source


def _source(store: Store, spec: RunSpec) -> Source | None:
    """The run whose prompts are used again, if any."""
    return None if spec.prompts_from is None else find_source(store, spec.prompts_from)


def plan(spec: RunSpec, results: Path) -> list[EnginePlan]:
    """How each entry of the spec will be opened. Raises `HarnessError` where one cannot be."""
    check_options(spec)
    return [plan_engine(entry, spec, results / "logs") for entry in entries_of(spec)]


def prepare(
    spec: RunSpec,
    plans: Sequence[EnginePlan],
    source: Source | None,
    chat_template: str | None = None,
) -> Workload:
    """The workload, packed with the tokenizers of all entries, or as it was in its source.

    The tokenizers load while the data is read, each in a process of its own, and have ended when
    this returns. `chat_template` is the text that the spec's file had when the run was begun.
    """
    given = chat_template if source is None else source.run.chat_template
    if given is None and spec.chat_template is not None:
        given = read_chat_template(spec.chat_template)
    with ExitStack() as stack:
        opened = {
            one.entry.name: stack.enter_context(closing(one.open_tokenizer())) for one in plans
        }
        draft = draw(spec)
        infos = {name: session.info for name, session in opened.items()}
        names = {one.entry.name: one.entry.model for one in plans}

        def chat(info: TokenizerInfo | SessionInfo, model: str) -> ChatTemplate | None:
            text = info.chat_template if given is None else given
            file = "" if given is None else spec.chat_template or ""
            return ChatTemplate.of_model(text, info.bos_text, info.eos_text, model, file)

        chats = {name: chat(infos[name], model) for name, model in names.items()}
        if source:  # its prompts are written as they were, whatever template a model has now
            chats = dict.fromkeys(chats, chat(source.info, source.info.model))
        limit = min(spec.max_model_len, *(info.declared_context for info in infos.values()))
        tokenizers = {name: _tokenizer(session) for name, session in opened.items()}
        written = write(draft, spec, tokenizers, chats, limit, source.earlier if source else None)
    workload = replace(written, chat_template=given)
    if source:
        check_replay(source, workload)
    return workload


def _tokenizer(session: TokenizerSession) -> Tokenizer:
    return Tokenizer(
        vocabulary=session.info.vocabulary_sha256,
        bos_id=session.info.bos_id,
        encode=session.tokenize,
        spell=session.token_texts,
    )


def begin(
    store: Store,
    spec: RunSpec,
    workload: Workload,
    plans: Sequence[EnginePlan],
    group: str | None = None,
    locks: ExitStack | None = None,
    name: str | None = None,
) -> str:
    """Stores what is to be prompted, and where; returns the id of the new run.

    Until `locks` are released, no other process resumes it.
    """
    spec_json, environment_json = as_json(spec), describe_environment().model_dump_json()
    facts_json = facts_of(workload).model_dump_json()
    run_id = store.create_run(
        spec_json,
        environment_json,
        [
            EntryRow(
                name=one.entry.name,
                backend=one.entry.backend,
                model=one.entry.model,
                vocabulary=workload.vocabularies[one.entry.name],
            )
            for one in plans
        ],
        workload.dataset.sha256,
        group,
        name,
    )
    if locks is not None:
        locks.enter_context(prompting(store.path.parent, run_id))
    with _can_be_resumed(store, [run_id]):
        save_prompts(store, run_id, workload, facts_json)
    return run_id


def as_json(spec: RunSpec) -> str:
    """The spec as it is stored. Raises `UsageError` where it could not be read again."""
    try:
        text = spec.model_dump_json()
        # pydantic writes NaN and infinity as null.
        is_same = RunSpec.model_validate_json(text) == spec
    except ValueError as error:
        raise UsageError(
            f"the run cannot be stored: {error}", remedy="Give texts of whole characters."
        ) from error
    if not is_same:
        raise UsageError(
            "the run cannot be stored: a number of its options is infinite, or none at all",
            remedy="Give finite numbers.",
        )
    return text


@dataclass(slots=True)
class _Member:
    """A run that is under way, with the time that it took so far.

    `engine_seconds` of `wall_seconds` an engine was loading or generating. `environment` is that of
    a resume, where it is not the run's.
    """

    spec: RunSpec
    workload: Workload
    run_id: str = ""
    environment: str | None = None
    wall_seconds: float = 0.0
    engine_seconds: float = 0.0


@dataclass(slots=True)
class _Lap:
    """Adds to a member what passed since the lap before, of which the engine was busy in part."""

    mark: float = field(default_factory=time.perf_counter)
    busy: float = 0.0

    def add_to(self, member: _Member, engine: Engine | None) -> None:
        now, busy = time.perf_counter(), engine.busy_seconds if engine else 0.0
        member.wall_seconds += now - self.mark
        member.engine_seconds += busy - self.busy
        self.mark, self.busy = now, busy


def _complete(
    store: Store, members: Sequence[_Member], plans: Sequence[EnginePlan], observe: Observer
) -> list[Summary]:
    """Prompts one engine after the other, then fits the baselines, and sums up."""
    with _can_be_resumed(store, [member.run_id for member in members]):
        for each in plans:
            _prompt_engine(store, members, each, observe)
        summaries = []
        for member in members:
            # As if it had just been alone: the time of the group's other runs is not in it.
            began = time.perf_counter() - member.wall_seconds
            baselines = make_baselines(member.spec, member.workload)
            summaries.append(finish(store, member.run_id, baselines, began, member.engine_seconds))
        return summaries


@contextmanager
def _can_be_resumed(store: Store, run_ids: Sequence[str]) -> Iterator[None]:
    """Names the command that goes on with these runs once a full disk has room again."""
    try:
        yield
    except StoreError as error:
        if not disk_is_full(error):
            raise
        commands = (f"`{resume_command(store.path.parent, run_id)}`" for run_id in run_ids)
        go_on = f"Make room on the disk, then go on with {', '.join(commands)}."
        raise StoreError(str(error), remedy=go_on) from error


def _prompt_engine(
    store: Store, members: Sequence[_Member], plan: EnginePlan, observe: Observer
) -> None:
    """Loads the engine of one entry, gives it the prompts of all members, and ends it.

    Members whose cells are all closed need no engine. One that cannot be loaded, or that is not
    what was packed for, costs its own cells only: they are stored as failed, with the reason.
    """
    name = plan.entry.name
    waiting = [one for one in members if has_open_cells(store, one.run_id, name, one.spec)]
    if not waiting:
        return

    def fail(failed: Sequence[_Member], error: EngineError) -> None:
        for one in failed:
            fail_open_cells(store, one.run_id, name, one.spec, error, observe)

    lap = _Lap()
    observe(_loading(store, waiting[0], name))
    engine: Engine | None = None
    try:
        with ExitStack() as stack:
            longest = max(member.workload.packed.limit for member in waiting)
            engine = stack.enter_context(Engine(plan, longest))
            engine.load()
            for place, member in enumerate(waiting):
                if unlike := _unlike_packed(engine, member):
                    fail([member], unlike)
                    continue
                try:
                    if engine.session.was_prompted:
                        engine.make_cold()
                    prompt_entry(
                        *(engine, member.spec, member.workload, store, member.run_id, observe),
                        environment=member.environment,
                    )
                except EngineError as error:
                    fail(waiting[place:], error)
                    # The engine cannot be started again, so the runs that follow have none either.
                    break
                finally:
                    lap.add_to(member, engine)
    except EngineError as error:  # it could not be loaded
        fail(waiting, error)
    lap.add_to(waiting[-1], engine)  # what ending the engine took


def _loading(store: Store, member: _Member, entry: str) -> Update:
    statuses = list(cell_statuses(store, member.run_id, entry, member.spec).values())
    return Update(member.run_id, entry, len(statuses), statuses.count("done"), 0, 0, loading=True)


def _unlike_packed(engine: Engine, member: _Member) -> EngineError | None:
    """Why the engine is not what the member's prompts were packed for; `None` where it is."""
    info, packed = engine.session.info, member.workload.packed
    vocabulary = member.workload.vocabularies[engine.name]
    if info.vocabulary_sha256 != vocabulary:
        return EngineError(
            f"the engine's vocabulary {info.vocabulary_sha256[:12]} is not the {vocabulary[:12]} "
            "of the tokenizer that its prompts were packed with",
            remedy="Give the backend the model's own tokenizer, in files that belong together.",
        )
    needed = max(map(len, packed.token_ids[vocabulary])) + packed.reserve
    # Prompts of an earlier run were not packed for this engine: those that do not fit overflow.
    if info.allocated_context < needed and member.spec.prompts_from is None:
        return EngineError(
            f"the engine allocated {info.allocated_context} tokens of context, and its prompts "
            f"were packed for {needed}",
            remedy=f"Use --max-model-len {info.allocated_context}, or an option of the engine "
            "that gives it more memory.",
        )
    if member.spec.decoding == "score" and info.capabilities.label_logprobs == "none":
        return EngineError(
            "score decoding compares label log-probabilities, and the engine reports none",
            remedy="Use --decoding free or choice.",
        )
    return None


def make_baselines(spec: RunSpec, workload: Workload) -> list[Baseline]:
    """What classifiers without a language model make of the same queries: the same for every
    entry and round. None where the spec leaves them out."""
    if not spec.baselines:
        return []
    shown = [
        ShownNumbers(
            examples=numbers(examples),
            labels=np.array([example.label for example in examples], dtype=np.int64),
            queries=numbers(voter.queries),
        )
        for voter, examples in zip(workload.voters, workload.packed.shown, strict=True)
        if examples
    ]
    return run_baselines(workload.dataset, workload.query_rows, shown, spec.seed)


def finish(
    store: Store, run_id: str, baselines: Sequence[Baseline], began: float, engine_seconds: float
) -> Summary:
    """Sums up what is stored, and stores the summary with the baselines.

    The run began at `began` by `time.perf_counter`, and engines were at work for `engine_seconds`
    of the time since.
    """
    store.save_baselines(run_id, baselines)
    summary = summarise(StoredRun(store, store.run(run_id)), baselines)
    # Without the time of storing the summary, because this figure is part of it.
    wall_seconds = time.perf_counter() - began
    timed = summary.model_copy(
        update={"wall_seconds": wall_seconds, "harness_seconds": wall_seconds - engine_seconds}
    )
    store.finish_run(run_id, timed.model_dump_json())
    return timed


def check_answered(summary: Summary) -> None:
    """Raises `EngineError`, which says why, where an entry has not one reply."""
    silent = [run for run in summary.runs if not run.cells.done]
    if not silent:
        return
    remedies = dict.fromkeys(chain.from_iterable(_failures(run, "remedies") for run in silent))
    raise EngineError(
        "; ".join(map(_why_silent, silent)),
        remedy=" ".join(remedies)
        or "See the engine's log in the results folder; --resume prompts them again.",
    )


def _why_silent(run: RunSummary) -> str:
    # Without a version it was in no session: it was not loaded, or is not what was packed for.
    what = "cannot be prompted" if run.engine_version is None else "gave no reply"
    return f"{run.entry} {what}: {'; '.join(_failures(run, 'reasons'))}"


def _failures(run: RunSummary, figure: str) -> Sequence[str]:
    found = (one.figures for one in run.caveats if one.kind is CaveatKind.CELLS_FAILED)
    return [text for figures in found for text in cast("list[str]", figures.get(figure, []))]


def _check_same_entries(specs: Sequence[RunSpec]) -> None:
    """Raises `UsageError` where one of the specs would open another engine than the first."""

    def engines(spec: RunSpec) -> object:
        return entries_of(spec), spec.engine, spec.models, spec.timeout_seconds

    if any(engines(one) != engines(specs[0]) for one in specs):
        raise UsageError(
            "the runs of a group do not have the same entries",
            remedy="Give all of them the same backends, models and options.",
        )


def _other_environment(stored: StoredRun) -> str | None:
    """The environment of now as JSON, `None` where it is that of the run's beginning."""
    now, then = describe_environment(), stored.environment
    same = now.model_copy(update={"created": then.created}) == then
    return None if same else now.model_dump_json()
