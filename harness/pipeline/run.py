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

The runs of a group go the same way together, so that each engine is loaded once for all of them
that want the same of it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, groupby
from pathlib import Path
from typing import cast, get_args

import numpy as np

from harness.baselines.kind import Shown
from harness.baselines.registry import kinds_in_runs
from harness.baselines.run import run_baselines
from harness.contract import SessionInfo, TokenizerInfo
from harness.engine.engine import Engine, EnginePlan, EngineTokenizer, plan_engine
from harness.engine.options import check_options
from harness.errors import EngineError, StoreError, UsageError
from harness.fit.memory import check_memory, free_now
from harness.machine.environment import describe_environment
from harness.pipeline.pace import expected_seconds
from harness.pipeline.prompting import (
    Observer,
    Overflow,
    Update,
    cell_statuses,
    fail_open_cells,
    has_open_cells,
    prompt_entry,
)
from harness.pipeline.prompts import (
    check_unchanged,
    facts_of,
    merged_facts,
    save_prompts,
    stored_packing,
)
from harness.pipeline.replay import Source, check_replay, find_source
from harness.pipeline.summarise import summarise
from harness.spec import CONCURRENCY, RunSpec, entries_of, safe_name
from harness.store.file import disk_is_full
from harness.store.lock import prompting
from harness.store.names import LATEST, check_name, check_unused
from harness.store.runs import StoredRun, resume_command
from harness.store.schema import EntryRow
from harness.store.store import Store
from harness.summary import Baseline, CaveatKind, RunSummary, Summary
from harness.workload.chat import ChatTemplate, read_chat_template
from harness.workload.dataset import Kind
from harness.workload.tokens import Tokenizer
from harness.workload.workload import Draft, Workload, contents, draw, write

_OWN_TOKENIZER = "Give the backend the model's own tokenizer, in files that belong together."


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

    Each engine is loaded once, for the longest context of all, and is made cold before each run;
    once for each concurrency, where that differs. Raises `HarnessError`; a `UsageError` where the
    specs do not have the same entries.
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
        earlier = [StoredRun(store, row) for row in store.runs()]
        # Before anything is loaded. The store looks once more when the run begins.
        if name is not None:
            check_unused(name, store.runs())
        if group is not None:
            check_unused(group, [row for row in store.runs() if row.group != group])
        settled = [settle(given, store) for given in specs]
        _check_same_entries([spec for spec, _ in settled])
        # By what engines are wanted to do: those of one spec are those of all that want the same.
        planned: dict[object, Planned] = {}
        members = []
        for given, (spec, source) in zip(specs, settled, strict=True):
            how = spec.engine.get(CONCURRENCY)
            if how not in planned:
                planned[how] = plan(spec, results)
            prepared = prepare(spec, planned[how], source, given_fields=given.model_fields_set)
            members.append(_Member(spec, planned[how].plans, *prepared))
            members[-1].wall_seconds, mark = time.perf_counter() - mark, time.perf_counter()
        with ExitStack() as locks:
            for member in members:  # only now: what cannot be packed leaves no run
                member.run_id = begin(store, member.spec, member.workload, group, locks, name)
                observe(_packed(member))
            # Of one list, so that each earlier run is read once, however many members there are.
            forecasts = {
                one.run_id: expected_seconds(earlier, one.plans, one.spec, one.workload)
                for one in members
            }

            def with_forecast(update: Update) -> None:
                seconds = forecasts[update.run_id].get(update.entry, 0.0)
                observe(replace(update, forecast_seconds=seconds))

            return _complete(store, members, with_forecast)


def _packed(member: _Member) -> Update:
    """What is known once the prompts are packed. Of the overflow every run has a note; it is said
    before that where the prompts are those of a preset, which may be made for a longer window."""
    packed, overflow = member.workload.packed, None
    if packed.all_tokens is not None and member.spec.preset is not None:
        shown, available = len(packed.shown[0]), len(member.workload.voters[0].examples)
        overflow = Overflow(packed.all_tokens, packed.limit, shown, available)
    return Update(member.run_id, "prompts", 0, 0, 0, 0, stage="packed", overflow=overflow)


def resume(
    run_id: str,
    results: Path,
    observe: Observer = lambda _: None,
    of_machine: Mapping[str, object] | None = None,
) -> Summary:
    """Completes a run that was ended: gives what has no reply yet once more, with these values of
    `harness.spec.OF_MACHINE` in place of the run's.

    A run that is complete stays as it is. Raises `HarnessError`.
    """
    began = time.perf_counter()
    with Store(results) as store, prompting(results, store.run(run_id).run_id):
        # Read again under the lock: until then, another process may have completed it.
        stored = StoredRun(store, store.run(run_id))
        stored.check_prompted()
        spec = stored.given_spec.model_copy(update=of_machine)
        is_open = (has_open_cells(store, stored.run_id, name, spec) for name in stored.entries)
        if stored.is_finished and not any(is_open):
            return stored.summary
        planned = plan(spec, results)
        workload, failures = prepare(spec, planned, _source(store, spec), stored)
        check_unchanged(stored, workload)
        facts = merged_facts(stored.facts, workload)
        if facts != stored.facts:
            # Ended before they were stored, stored before facts were, or an entry that could not be
            # packed for then can be now.
            save_prompts(store, stored.run_id, workload, facts.model_dump_json())
        begun_in = _other_environment(stored)
        member = _Member(spec, planned.plans, workload, failures, stored.run_id, begun_in)
        member.wall_seconds = time.perf_counter() - began
        [summary] = _complete(store, [member], observe)
        return summary


def settle(spec: RunSpec, store: Store) -> tuple[RunSpec, Source | None]:
    """The spec of a new run with what it takes from the run whose prompts it uses again, and that
    run. Raises `UsageError` for what cannot be begun."""
    source = _source(store, spec)
    settled = spec if source is None else source.replayed(spec)
    _check_names(settled)
    return settled, source


def _check_names(spec: RunSpec) -> None:
    """Raises `UsageError` for an entry that is called like a baseline of the run: RUN:NAME would
    be either."""
    taken = {kind.name for data in get_args(Kind) for kind in kinds_in_runs(data)}
    for entry in entries_of(spec):
        if spec.baselines and entry.name in taken:
            raise UsageError(
                f"an entry cannot be called {entry.name}: a baseline of the run has that name",
                remedy=f"Call it {entry.name}-1, for example, in [entries]; or give "
                "--no-baselines.",
            )


def _source(store: Store, spec: RunSpec) -> Source | None:
    """The run whose prompts are used again, if any."""
    return None if spec.prompts_from is None else find_source(store, spec.prompts_from)


@dataclass(frozen=True, slots=True)
class Planned:
    """How entries will be opened; of those that cannot be, why, by name."""

    plans: Sequence[EnginePlan]
    failures: Mapping[str, EngineError]


def plan(spec: RunSpec, results: Path) -> Planned:
    """How each entry of the spec will be opened.

    Raises `UsageError` for what is plainly wrong, and `EngineError` where no entry can be opened.
    """
    check_options(spec)
    plans: list[EnginePlan] = []
    failures: dict[str, EngineError] = {}
    for entry in entries_of(spec):
        try:
            plans.append(plan_engine(entry, spec, results / "logs"))
        except EngineError as error:
            failures[entry.name] = error
    if not plans:
        raise next(iter(failures.values()))
    return Planned(plans, failures)


class _TokenizerError(Exception):
    """An entry's tokenizer failed; the `EngineError` that says why is the cause."""

    def __init__(self, entry: str) -> None:
        super().__init__(entry)
        self.entry = entry


def prepare(
    spec: RunSpec,
    planned: Planned,
    source: Source | None,
    stored: StoredRun | None = None,
    given_fields: Collection[str] = (),
) -> tuple[Workload, Mapping[str, EngineError]]:
    """The workload, packed with the tokenizers of all entries, or as it was in its source or in the
    stored run; and of entries that it is not for, why, by name.

    `given_fields` are those of the spec that the user gave, as `harness.workload.workload.draw`
    wants them.
    The tokenizers load while the data is read, each in a process of its own, and have ended when
    this returns. Raises `EngineError` where not one of them can be used.
    """
    failures = dict(planned.failures)
    given = _given_template(spec, source, stored)
    free = free_now(spec.memory_limit)  # before our tokenizers take some of it
    with ExitStack() as stack:
        opened: dict[str, EngineTokenizer] = {}
        for one in _known_first(planned.plans, stored):
            with _failing_alone(one.entry.name, failures):
                opened[one.entry.name] = stack.enter_context(closing(one.open_tokenizer()))
        draft = draw(spec, given_fields)
        for name, session in opened.items():
            with _failing_alone(name, failures):
                _ = session.info
        while True:
            able = {name: one for name, one in opened.items() if name not in failures}
            if not able:
                raise _none_able(failures)
            try:
                workload = _write(spec, draft, able, source, stored, given)
                break
            except _TokenizerError as failed:
                failures[failed.entry] = cast("EngineError", failed.__cause__)
        for name, session in able.items() if not spec.force else ():
            with _failing_alone(name, failures):
                check_memory(session.predict_memory, workload.packed.limit, free)
        if failures.keys() >= opened.keys():
            raise _none_able(failures)
    if source:
        check_replay(source, workload)
    return workload, failures


def _known_first(plans: Sequence[EnginePlan], stored: StoredRun | None) -> Sequence[EnginePlan]:
    """With the entries that a stored run has tokens of before the others: the first of a vocabulary
    makes the tokens of all that have it."""
    if stored is None:
        return plans
    return sorted(plans, key=lambda one: stored.entry(one.entry.name).vocabulary is None)


def _none_able(failures: Mapping[str, EngineError]) -> EngineError:
    return EngineError(
        "; ".join(f"{name}: {error}" for name, error in failures.items()),
        remedy=" ".join(dict.fromkeys(error.remedy for error in failures.values())),
    )


@contextmanager
def _failing_alone(entry: str, failures: dict[str, EngineError]) -> Iterator[None]:
    try:
        yield
    except EngineError as error:
        failures[entry] = error


def _write(
    spec: RunSpec,
    draft: Draft,
    opened: Mapping[str, EngineTokenizer],
    source: Source | None,
    stored: StoredRun | None,
    given: str | None,
) -> Workload:
    """Writes and packs the prompts with these tokenizers. Raises `_TokenizerError`."""
    infos = {name: session.info for name, session in opened.items()}
    models = {entry.name: entry.model for entry in entries_of(spec)}
    file = spec.chat_template
    chats = {name: _chat(info, models[name], given, file) for name, info in infos.items()}
    limit = min(spec.max_model_len, *(info.declared_context for info in infos.values()))
    earlier = None
    if stored and stored.facts:
        # Another entry may be able to run now than then: what was packed stays as it is.
        earlier, limit = stored_packing(stored), stored.facts.limit
    if source:  # its prompts are written as they were, whatever template a model has now
        chats = dict.fromkeys(chats, _chat(source.info, source.info.model, given, file))
        earlier = source.earlier
    tokenizers = {name: _tokenizer(name, session) for name, session in opened.items()}
    written = write(draft, spec, tokenizers, chats, limit, earlier)
    return replace(written, chat_template=given)


def _chat(
    info: TokenizerInfo | SessionInfo, model: str, given: str | None, file: str | None
) -> ChatTemplate | None:
    """Of the text `given` in the file of --chat-template, else the model's own."""
    text, where = (info.chat_template, "") if given is None else (given, file or "")
    return ChatTemplate.of_model(text, info.bos_text, info.eos_text, model, where)


def _given_template(spec: RunSpec, source: Source | None, stored: StoredRun | None) -> str | None:
    """The text of --chat-template, as its file had it when the run, or its source, was begun."""
    begun = source.run if source else stored
    given = begun.chat_template if begun else None
    if given is None and spec.chat_template is not None:
        return read_chat_template(spec.chat_template)
    return given


def _tokenizer(entry: str, session: EngineTokenizer) -> Tokenizer:
    def encode(texts: Sequence[str]) -> Sequence[Sequence[int]]:
        try:
            return session.tokenize(texts)
        except EngineError as error:
            raise _TokenizerError(entry) from error

    def spell(token_ids: Sequence[int]) -> Sequence[str]:
        try:
            return session.token_texts(token_ids)
        except EngineError as error:
            raise _TokenizerError(entry) from error

    return Tokenizer(
        vocabulary=session.info.vocabulary_sha256,
        bos_id=session.info.bos_id,
        encode=encode,
        spell=spell,
    )


def begin(
    store: Store,
    spec: RunSpec,
    workload: Workload,
    group: str | None = None,
    locks: ExitStack | None = None,
    name: str | None = None,
) -> str:
    """Stores what is to be prompted, and where; returns the id of the new run.

    Until `locks` are released, no other process resumes it.
    """
    # With the template's name, whatever the default will be.
    spec_json = as_json(spec.model_copy(update={"prompt": workload.prompt}))
    environment_json = describe_environment().model_dump_json()
    facts_json = facts_of(workload).model_dump_json()
    run_id = store.create_run(
        spec_json,
        environment_json,
        [
            EntryRow(
                name=entry.name,
                backend=entry.backend,
                model=entry.model,
                vocabulary=workload.vocabularies.get(entry.name),
            )
            for entry in entries_of(spec)
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

    `plans` say how its engines are opened: members that have the same ones share an opening.
    `failures` says of entries that the workload is not for, why. `engine_seconds` of `wall_seconds`
    an engine was loading or generating. `environment` is that of a resume, where it is not the
    run's.
    """

    spec: RunSpec
    plans: Sequence[EnginePlan]
    workload: Workload
    failures: Mapping[str, EngineError]
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


def _complete(store: Store, members: Sequence[_Member], observe: Observer) -> list[Summary]:
    """Prompts one engine after the other, then fits the baselines, and sums up."""
    with _can_be_resumed(store, [member.run_id for member in members]):
        for member in members:
            for name, error in member.failures.items():
                fail_open_cells(store, member.run_id, name, member.spec, error, observe)
        for _, alike in groupby(members, key=lambda member: id(member.plans)):
            sharing = list(alike)
            for each in sharing[0].plans:
                _prompt_engine(store, sharing, each, observe)
        summaries = []
        # Runs that only want other things of their engines have the same baselines.
        fitted: dict[str, list[Baseline]] = {}
        for member in members:
            # As if it had just been alone: the time of the group's other runs is not in it.
            began = time.perf_counter() - member.wall_seconds
            asked = member.spec.model_copy(update={"engine": {}}).model_dump_json()
            if asked not in fitted:
                if member.spec.baselines:
                    observe(Update(member.run_id, "baselines", 0, 0, 0, 0, stage="fitting"))
                fitted[asked] = make_baselines(member.spec, member.workload)
            baselines = fitted[asked]
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
    waiting = [
        one
        for one in members
        if name not in one.failures and has_open_cells(store, one.run_id, name, one.spec)
    ]
    if not waiting:
        return

    def fail(failed: Sequence[_Member], error: EngineError) -> None:
        for one in failed:
            fail_open_cells(store, one.run_id, name, one.spec, error, observe)

    member = waiting[0]  # the one that waits while the engine loads

    def load(stage: str) -> None:
        observe(_loading(store, member, name, stage))

    lap = _Lap()
    engine: Engine | None = None
    try:
        with ExitStack() as stack:
            longest = max(one.workload.packed.limit for one in waiting)
            engine = stack.enter_context(Engine(plan, longest))
            engine.on_stage = load
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


def _loading(store: Store, member: _Member, entry: str, stage: str) -> Update:
    statuses = list(cell_statuses(store, member.run_id, entry, member.spec).values())
    done = statuses.count("done")
    stage = f"loading ({stage})" if stage else "loading"
    return Update(member.run_id, entry, len(statuses), done, 0, 0, stage=stage)


def _unlike_packed(engine: Engine, member: _Member) -> EngineError | None:
    """Why the engine is not what the member's prompts were packed for; `None` where it is."""
    info, packed = engine.session.info, member.workload.packed
    vocabulary = member.workload.vocabularies[engine.name]
    if info.vocabulary_sha256 != vocabulary:
        return EngineError(
            f"the engine's vocabulary {info.vocabulary_sha256[:12]} is not the {vocabulary[:12]} "
            "of the tokenizer that its prompts were packed with",
            remedy=_OWN_TOKENIZER,
        )
    every = chain(packed.token_ids[vocabulary], packed.labels[vocabulary])
    largest = max(max(ids, default=0) for ids in every)
    if info.vocabulary_size is not None and largest >= info.vocabulary_size:
        return EngineError(
            f"its prompts have the token {largest}, and the engine has {info.vocabulary_size}",
            remedy=_OWN_TOKENIZER,
        )
    # A text that is too long for the limit is an error of its prompt alone.
    needed = min(max(map(len, packed.token_ids[vocabulary])) + packed.reserve, packed.limit)
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
    kind = workload.dataset.kind
    shown = [
        Shown(
            examples=contents(kind, examples),
            labels=np.array([example.label for example in examples], dtype=np.int64),
            queries=contents(kind, voter.queries),
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
    summary = summarise(StoredRun(store, store.run(run_id)), baselines)
    # Without the time of storing the summary, because this figure is part of it.
    wall_seconds = time.perf_counter() - began
    timed = summary.model_copy(
        update={"wall_seconds": wall_seconds, "harness_seconds": wall_seconds - engine_seconds}
    )
    store.finish_run(run_id, timed.model_dump_json(), baselines)
    return timed


def check_answered(summary: Summary, go_on: str = "") -> None:
    """Raises `EngineError`, which says why, where an entry has not one reply.

    `go_on` is the command that prompts again what has no reply.
    """
    silent = [run for run in summary.runs if not run.cells.done]
    if not silent:
        return
    remedies = dict.fromkeys(chain.from_iterable(_failures(run, "remedies") for run in silent))
    raise EngineError(
        "; ".join(map(_why_silent, silent)),
        remedy=" ".join(remedies or ["See the engine's log in the results folder."])
        + (f" Then go on with: {go_on}" if go_on else ""),
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
        limits = spec.timeout_seconds, spec.load_timeout_seconds, spec.memory_limit
        options = {key: value for key, value in spec.engine.items() if key != CONCURRENCY}
        return entries_of(spec), options, spec.models, limits

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
