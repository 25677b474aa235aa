"""Asking one engine all prompts that have no reply yet, and keeping what comes back.

A lost engine costs the cells it had begun: these are kept as failed, and a fresh one goes on with
the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from backends.api import Batch, Decoding, Progress, Reply
from harness.engine.engine import Engine
from harness.engine.session import WorkerLostError
from harness.errors import StoreError
from harness.spec import RunSpec
from harness.store.schema import SessionRow, SessionUse
from harness.store.store import Store
from harness.workload.packing import Packed

MOST_LOSSES = 3
_REFUSALS = {
    "overflow": "overflow: the prompt and its reply do not fit in the context",
    "empty": "empty: the prompt holds no token",
}


@dataclass(frozen=True, slots=True)
class Update:
    """How far a run is: cells of one backend, and the prompt tokens evaluated for them so far."""

    run_id: str
    backend: str
    total: int
    done: int
    failed: int
    prompt_tokens: int


Observer: TypeAlias = Callable[[Update], None]


def ask(
    engine: Engine, spec: RunSpec, packed: Packed, store: Store, run_id: str, observe: Observer
) -> None:
    """Asks until every prompt is answered or has failed."""
    prompt_ids = [prompt.id for prompt in store.prompts(run_id)]
    answered = {
        cell.prompt_id for cell in store.cells(run_id, engine.name) if cell.status == "done"
    }
    asking = _Asking(
        engine=engine,
        decoding=_decoding(spec, packed, engine.name),
        prompts=packed.token_ids[engine.name],
        prompt_ids=prompt_ids,
        store=store,
        observe=observe,
        update=Update(run_id, engine.name, len(prompt_ids), len(answered), 0, 0),
    )
    left = [index for index, key in enumerate(prompt_ids) if key not in answered]
    observe(asking.update)
    losses = 0  # in a row, without a reply in between
    while left:
        _check_same_engine(engine, store.sessions(run_id, engine.name))
        done = asking.update.done
        left = asking.ask(left)
        losses = 0 if asking.update.done > done else losses + 1
        if left and losses < MOST_LOSSES:
            engine.restart()
        elif left:
            asking.give_up(left, f"the engine was lost {losses} times in a row")
            left = []


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


def _decoding(spec: RunSpec, packed: Packed, backend: str) -> Decoding:
    return Decoding(
        mode=spec.decoding,
        labels=packed.labels[backend],
        max_tokens=spec.max_tokens,
        stop=packed.stop,
        temperature=spec.temperature,
        seed=spec.seed,
    )


@dataclass(slots=True)
class _Asking:
    """One engine being asked; `update` says how far it is."""

    engine: Engine
    decoding: Decoding
    prompts: Sequence[Sequence[int]]
    prompt_ids: Sequence[int]
    store: Store
    observe: Observer
    update: Update

    def ask(self, left: Sequence[int]) -> list[int]:
        """Asks these prompts in one session; returns those that a lost engine left over."""
        session = self.engine.session
        began = time.perf_counter() - session.load_seconds
        session_id = self.store.open_session(
            self.update.run_id,
            self.engine.name,
            session.info,
            session.load_seconds,
            self.engine.model_sha256,
        )
        unanswered = dict(enumerate(left))
        reason = "the engine gave no reply to it"
        try:
            for event in session.generate([self.prompts[i] for i in left], self.decoding):
                if isinstance(event, Batch):
                    replies = [replace(r, prompt=unanswered.pop(r.prompt)) for r in event.replies]
                    batch = replace(event, replies=tuple(replies))
                    self._keep(session_id, batch, time.perf_counter() - began)
                elif isinstance(event, Progress):
                    self._tell(prompt_tokens=event.prompt_tokens)
            costs = tuple(unanswered)
        except WorkerLostError as lost:
            # A worker that dies before it has begun anything would do so for ever.
            moved = lost.open_prompts or len(unanswered) < len(left)
            costs, reason = lost.open_prompts if moved else tuple(unanswered), lost.reason
        self.store.close_session(session_id, self._use(time.perf_counter() - began))
        if costs:
            self._fail(session_id, [unanswered.pop(i) for i in costs], reason)
        return list(unanswered.values())

    def give_up(self, left: Sequence[int], reason: str) -> None:
        self._fail(None, left, reason)

    def _keep(self, session_id: int, batch: Batch, wall_seconds: float) -> None:
        refused = [reply for reply in batch.replies if reply.finish in _REFUSALS]
        for finish in {reply.finish for reply in refused}:
            indices = [reply.prompt for reply in refused if reply.finish == finish]
            self._fail(session_id, indices, _REFUSALS[finish])
        answers: tuple[Reply, ...] = tuple(r for r in batch.replies if r.finish not in _REFUSALS)
        if answers:
            self.store.save_batch(
                session_id,
                replace(batch, replies=answers),
                {reply.prompt: self.prompt_ids[reply.prompt] for reply in answers},
                self._use(wall_seconds),
            )
            self._tell(done=len(answers))

    def _use(self, wall_seconds: float) -> SessionUse:
        peak = self.engine.session.peak
        return SessionUse(wall_seconds, peak.rss_mib, peak.gpu_mib)

    def _fail(self, session_id: int | None, indices: Sequence[int], reason: str) -> None:
        failures = {self.prompt_ids[index]: reason for index in indices}
        self.store.save_failures(self.engine.name, failures, session_id)
        self._tell(failed=len(indices))

    def _tell(self, done: int = 0, failed: int = 0, prompt_tokens: int = 0) -> None:
        self.update = replace(
            self.update,
            done=self.update.done + done,
            failed=self.update.failed + failed,
            prompt_tokens=self.update.prompt_tokens + prompt_tokens,
        )
        self.observe(self.update)
