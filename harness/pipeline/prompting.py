"""Giving one engine all prompts that have no reply yet, and storing what comes back.

A worker that failed costs the cells it had begun: these are stored as failed, and a fresh one goes
on with the rest. One that sends what makes no sense costs the entry all that it has left, as a
fresh one would send the same. So does one whose replies do not depend on the prompts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from harness.contract import Batch, Decoding, Finding, Progress, Prompt, Reply
from harness.engine.engine import Engine
from harness.engine.transport import WorkerFailedError
from harness.errors import EngineError, StoreError
from harness.machine.processors import ProcessorProbe
from harness.pipeline.failures import failure_text
from harness.pipeline.sameness import Sameness
from harness.spec import RunSpec
from harness.store.schema import SessionRow, SessionUse, Status
from harness.store.store import Store
from harness.workload.workload import Workload

MOST_FAILURES = 3  # in a row: a worker is started again twice at most (DECISIONS.md)
_REFUSALS = {
    "overflow": "overflow: the prompt and its reply do not fit in the context",
    "empty": "empty: the prompt holds no token",
}

_AGAIN = ("nonsense", "memory")  # what a fresh worker would do again

_OPEN = (None, "failed")  # the statuses of cells that still need a reply

_Cell: TypeAlias = tuple[int, int]
"""A prompt's index in the workload, and an attempt at it."""


@dataclass(frozen=True, slots=True)
class Overflow:
    """What a prompt and its reply would take with every example, where only some fit."""

    tokens: int
    limit: int
    shown: int
    available: int


@dataclass(frozen=True, slots=True)
class Update:
    """How far a run is: cells of one entry, and the prompt tokens evaluated for them so far.

    `expected_tokens`: how many there are to evaluate in all, 0 until it is known. `stage` says
    what is done where nothing is being prompted, such as "loading". `overflow` is there once,
    before anything is prompted, where not every example fits. `forecast_seconds`: how long loading
    and all prompts are to take by earlier runs, 0 where there are none.
    """

    run_id: str
    entry: str
    total: int
    done: int
    failed: int
    prompt_tokens: int
    expected_tokens: int = 0
    stage: str = ""
    overflow: Overflow | None = None
    forecast_seconds: float = 0.0


Observer: TypeAlias = Callable[[Update], None]


def prompt_entry(
    engine: Engine,
    spec: RunSpec,
    workload: Workload,
    store: Store,
    run_id: str,
    observe: Observer,
    environment: str | None = None,
) -> None:
    """Goes on until every cell of the engine's entry has a reply, has failed or is not needed.

    `environment` is stored with its sessions where it is not the run's. Raises `EngineError` where
    a fresh session cannot be opened, `StoreError` where the engine is not the one that the run was
    begun with.
    """
    prompts = store.prompts(run_id)
    if engine.session.info.capabilities.label_logprobs == "none":  # nothing to calibrate with
        calibration = [prompt.id for prompt in prompts if prompt.role == "calibration"]
        cells = [(prompt_id, n) for prompt_id in calibration for n in range(spec.attempts)]
        store.save_not_needed(engine.name, cells)
    statuses = cell_statuses(store, run_id, engine.name, spec)
    places = {prompt.id: index for index, prompt in enumerate(prompts)}
    needed = [status for status in statuses.values() if status != "not_needed"]
    prompting = _Prompting(
        engine=engine,
        decoding=decoding_of(spec, workload, engine.name),
        workload=workload,
        prompt_ids=[prompt.id for prompt in prompts],
        store=store,
        observe=observe,
        update=Update(run_id, engine.name, len(needed), needed.count("done"), 0, 0),
        environment=environment,
    )
    left = [(places[key], n) for (key, n), status in statuses.items() if status in _OPEN]
    observe(prompting.update)
    failures = 0  # in a row, without a reply in between
    while left:
        # Each time, because a fresh session may find another version or another file.
        _check_same_engine(engine, store.sessions(run_id, engine.name))
        done = prompting.update.done
        left = prompting.call(left)
        failures = 0 if prompting.update.done > done else failures + 1
        if left and failures < MOST_FAILURES:
            engine.restart()
            engine.load()
        elif left:
            reason = f"the engine failed {failures} times in a row: {prompting.failure}"
            prompting.fail(None, dict.fromkeys(left, reason))
            left = []


def cell_statuses(
    store: Store, run_id: str, entry: str, spec: RunSpec
) -> dict[tuple[int, int], Status | None]:
    """What became of each cell of an entry, by prompt id and attempt; `None` where nothing did."""
    every = [(prompt.id, n) for prompt in store.prompts(run_id) for n in range(spec.attempts)]
    stored = {(cell.prompt_id, cell.attempt): cell.status for cell in store.cells(run_id, entry)}
    return {key: stored.get(key) for key in every}


def has_open_cells(store: Store, run_id: str, entry: str, spec: RunSpec) -> bool:
    """Whether a cell of the entry has no reply and needs one."""
    return any(status in _OPEN for status in cell_statuses(store, run_id, entry, spec).values())


def fail_open_cells(
    store: Store, run_id: str, entry: str, spec: RunSpec, error: EngineError, observe: Observer
) -> None:
    """Stores why an entry that cannot go on has no more replies, for each cell without a reply."""
    statuses = cell_statuses(store, run_id, entry, spec)
    # One that failed in a session has a reason that says more.
    explained = {
        (cell.prompt_id, cell.attempt)
        for cell in store.cells(run_id, entry)
        if cell.session_id is not None
    }
    open_cells = [key for key, status in statuses.items() if status in _OPEN]
    reason = failure_text(str(error), error.remedy)
    store.save_failures(entry, {key: reason for key in open_cells if key not in explained})
    done = list(statuses.values()).count("done")
    observe(Update(run_id, entry, len(statuses), done, len(open_cells), 0))


def _check_same_engine(engine: Engine, earlier: Sequence[SessionRow]) -> None:
    """Replies of two models, or of two versions of an engine, must not stand in one run."""
    if not earlier:
        return
    first, info = earlier[0], engine.session.info
    pairs = {
        "model file": (first.model_sha256, engine.model_sha256),
        "vocabulary": (first.info.vocabulary_sha256, info.vocabulary_sha256),
        "weights": (first.info.weights, info.weights),
        "engine": (first.info.engine_version, info.engine_version),
        "device": (first.info.device, info.device),
    }
    if differing := [name for name, (before, now) in pairs.items() if before != now]:
        raise StoreError(
            f"{engine.name}: this run was begun with another {' and '.join(differing)}",
            remedy="Bring back what it was begun with, or begin a new run.",
        )


def _reason(reply: Reply) -> str | None:
    """Why it is no answer; `None` where it is one."""
    return reply.text if reply.finish == "failed" else _REFUSALS.get(reply.finish)


def decoding_of(spec: RunSpec, workload: Workload, entry: str) -> Decoding:
    return Decoding(
        mode=spec.decoding,
        labels=workload.packed.labels[workload.vocabularies[entry]],
        max_tokens=spec.max_tokens or workload.packed.reserve,
        stop=workload.packed.stop,
        temperature=spec.temperature,
        seed=spec.seed,
    )


@dataclass(frozen=True, slots=True)
class _Answered:
    """A batch, the cells of its prompts, and how far the session was then."""

    batch: Batch
    cells: Mapping[int, _Cell]
    wall_seconds: float


@dataclass(slots=True)
class _Prompting:
    """One engine that is given prompts; `update` says how far it is, `failure` why its last session
    failed. `held` are batches that are stored once they are known to depend on the prompts."""

    engine: Engine
    decoding: Decoding
    workload: Workload
    prompt_ids: Sequence[int]
    store: Store
    observe: Observer
    update: Update
    environment: str | None
    failure: str = ""
    processors: ProcessorProbe = field(default_factory=ProcessorProbe)
    sameness: Sameness = field(default_factory=Sameness)
    held: list[_Answered] = field(default_factory=list)

    def call(self, left: Sequence[_Cell]) -> list[_Cell]:
        """Gives these cells to one session; returns those that a failed worker left over."""
        session = self.engine.session
        info = session.info
        # One that was prompted before, for an earlier run of a group, is not loaded for this one.
        load_seconds = None if session.was_prompted else session.load_seconds
        began = time.perf_counter() - (load_seconds or 0.0)
        self.processors = ProcessorProbe()
        session_id = self.store.open_session(
            self.update.run_id,
            self.engine.name,
            info,
            load_seconds,
            self.engine.model_sha256,
            self.environment,
        )
        packed = self.workload.packed
        token_ids = packed.token_ids[self.workload.vocabularies[self.engine.name]]
        prompts = [
            Prompt(token_ids[index], packed.prompts[index].text, attempt) for index, attempt in left
        ]
        open_cells = dict(enumerate(left))
        reason = "the engine gave no reply to it"
        evaluated_before = self.update.prompt_tokens
        try:
            for event in (one.event for one in session.generate(prompts, self.decoding)):
                expected = evaluated_before + session.expected_tokens
                if expected != self.update.expected_tokens:  # the first event
                    self.update = replace(self.update, expected_tokens=expected)
                    self.observe(self.update)
                if isinstance(event, Batch):
                    cells = {reply.prompt: open_cells.pop(reply.prompt) for reply in event.replies}
                    self.held.append(_Answered(event, cells, time.perf_counter() - began))
                    for reply in event.replies:
                        self.sameness.see(prompts[reply.prompt].token_ids, reply)
                    if info.is_mock or self.sameness.is_excluded:
                        self._store_held(session_id)
                    elif self.sameness.is_certain:
                        # Whoever leaves `generate` early ends the worker.
                        break
                elif isinstance(event, Finding):
                    self.store.save_finding(session_id, event)
                elif isinstance(event, Progress):
                    self._report(prompt_tokens=event.prompt_tokens)
            # The call has ended, so what is open now gets no reply.
            costs = tuple(open_cells)
        except WorkerFailedError as failure:
            # What an engine reports before it has begun anything, it would report again.
            moved = failure.open_prompts or len(open_cells) < len(left)
            is_final = failure.kind in _AGAIN or (failure.kind == "reported" and not moved)
            costs = tuple(open_cells) if is_final else failure.open_prompts
            reason = self.failure = failure_text(failure.reason, failure.remedy)
        if self.held and (same := self.sameness.reason):
            costs, reason = tuple(open_cells), same
            self._fail_held(session_id, same)
        self._store_held(session_id)
        self.store.close_session(session_id, self._use(time.perf_counter() - began, is_last=True))
        if costs:
            self.fail(session_id, {open_cells.pop(index): reason for index in costs})
        return list(open_cells.values())

    def fail(self, session_id: int | None, failures: Mapping[_Cell, str]) -> None:
        """Stores why these cells have no reply."""
        reasons = {self._key(cell): reason for cell, reason in failures.items()}
        self.store.save_failures(self.engine.name, reasons, session_id)
        self._report(failed=len(failures))

    def _store_held(self, session_id: int) -> None:
        for one in self.held:
            self._store(session_id, one)
        self.held.clear()

    def _fail_held(self, session_id: int, same: str) -> None:
        """A prompt that was refused keeps the reason of its own."""
        held = [
            (one.cells[reply.prompt], reply) for one in self.held for reply in one.batch.replies
        ]
        self.held.clear()
        self.fail(session_id, {cell: _reason(reply) or same for cell, reply in held})

    def _store(self, session_id: int, answered: _Answered) -> None:
        batch, cells = answered.batch, answered.cells
        reasons = {reply.prompt: _reason(reply) for reply in batch.replies}
        failures = {cells[prompt]: reason for prompt, reason in reasons.items() if reason}
        if failures:
            self.fail(session_id, failures)
        answers = tuple(reply for reply in batch.replies if not reasons[reply.prompt])
        if answers:
            self.store.save_batch(
                session_id,
                replace(batch, replies=answers),
                {reply.prompt: self._key(cells[reply.prompt]) for reply in answers},
                self._use(answered.wall_seconds),
            )
            self._report(done=len(answers))

    def _key(self, cell: _Cell) -> tuple[int, int]:
        index, attempt = cell
        return self.prompt_ids[index], attempt

    def _use(self, wall_seconds: float, is_last: bool = False) -> SessionUse:
        peak, use = self.engine.session.peak, self.processors.use(is_last)
        return SessionUse(
            wall_seconds, peak.rss_mib, peak.gpu_mib, use.others_seconds, use.all_seconds
        )

    def _report(self, done: int = 0, failed: int = 0, prompt_tokens: int = 0) -> None:
        self.update = replace(
            self.update,
            done=self.update.done + done,
            failed=self.update.failed + failed,
            prompt_tokens=self.update.prompt_tokens + prompt_tokens,
        )
        self.observe(self.update)
