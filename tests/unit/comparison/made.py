"""Stored entries made by hand: what a store would give, without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from backends.api import Reply, SessionInfo
from harness.imports.records import Figure, Imported, ImportRow
from harness.machine.environment import Environment
from harness.spec import RunSpec
from harness.store.runs import StoredEntry, StoredRun
from harness.store.schema import (
    RECORDS_VERSION,
    BatchRow,
    CellRow,
    EntryRow,
    PromptRow,
    RunRow,
    SessionRow,
    SessionUse,
    TokensRow,
)
from harness.store.store import Store
from harness.summary import RunSummary, Summary
from tests.unit.report.conftest import RUN

ENVIRONMENT = Environment(
    created="2026-01-01T00:00:00+00:00",
    platform="Linux",
    python="CPython 3.11",
    cpu="EPYC",
    physical_cores=2,
    logical_cores=4,
    usable_cores=4,
    memory_mib=8000,
    gpus=[],
    git_revision="abc",
    packages={"numpy": "2.0"},
)
INFO = SessionInfo(
    engine="llama-cpp",
    engine_version="1",
    model="small",
    weights="Q4",
    device="cpu",
    threads=2,
    declared_context=10,
    allocated_context=10,
    vocabulary_sha256="0" * 64,
)
SESSION = SessionRow(
    id=1,
    run_id="a",
    entry="mock",
    started="",
    info=INFO,
    model_sha256="m",
    load_seconds=1.0,
    environment=None,
    use=SessionUse(),
)
WORDS = ("no", "yes")
VOTERS = 2


@dataclass(frozen=True)
class FakeStore:
    """What a store holds of one run; its entries all have the same."""

    prompts_of: Sequence[PromptRow] = ()
    tokens_of: Sequence[TokensRow] = ()
    cells_of: Sequence[CellRow] = ()
    batches_of: Sequence[BatchRow] = ()
    sessions_of: Sequence[SessionRow] = (SESSION,)
    entries_of: Sequence[EntryRow] = ()

    def prompts(self, _run: str) -> list[PromptRow]:
        return list(self.prompts_of)

    def prompt_tokens(self, _run: str, _vocabulary: str) -> list[TokensRow]:
        return list(self.tokens_of)

    def cells(self, _run: str, _entry: str) -> list[CellRow]:
        return list(self.cells_of)

    def batches(self, _run: str, _entry: str) -> list[BatchRow]:
        return list(self.batches_of)

    def sessions(self, _run: str, _entry: str) -> list[SessionRow]:
        return list(self.sessions_of)

    def entries(self, _run: str) -> list[EntryRow]:
        return list(self.entries_of)


def stored_run(
    spec: RunSpec,
    runs: Sequence[RunSummary],
    store: FakeStore = FakeStore(),
    *,
    run_id: str = "a",
    created: str = "2026-01-01",
    environment: Environment = ENVIRONMENT,
    group: str | None = None,
    data_sha256: str | None = "data",
    records_version: int = RECORDS_VERSION,
) -> StoredRun:
    """A finished run, with an entry for each summary of one."""
    summary = Summary(
        run_id=run_id,
        created=created,
        group=group,
        data_sha256=data_sha256,
        wall_seconds=1.0,
        harness_seconds=1.0,
        runs=list(runs),
        baselines=[],
    )
    row = RunRow(
        run_id=run_id,
        created=created,
        records_version=records_version,
        group=group,
        data_sha256=data_sha256,
        spec=spec.model_dump_json(),
        environment=environment.model_dump_json(),
        facts=None,
        summary=summary.model_dump_json(),
    )
    rows = [EntryRow(run.entry, run.backend, spec.model[0], "v") for run in runs]
    return StoredRun(cast(Store, replace(store, entries_of=rows)), row)


def summary_of(backend: str, **changes: Any) -> RunSummary:
    return RUN.model_copy(update={"entry": backend, "backend": backend, **changes})


@dataclass(frozen=True)
class Made:
    """How an entry is made: a character a query, `+` right, `-` wrong, `.` failed.

    Query 0 is in row `first_row` of the test split. Replies to the positions in `unread` give no
    label. `batches` are prefill tokens and seconds of each batch, decoded at the same speed, in
    twice the time; the replies are spread over them in order.
    """

    verdicts: str = "++--"
    backend: str = "mock"
    run_id: str = "a"
    first_row: int = 100
    text: str = "text"
    token: str = "token"
    unread: Sequence[int] = ()
    batches: Sequence[tuple[int, float]] = ((10, 1.0),) * 8
    first_token_ms: float = 20.0
    info: SessionInfo = INFO
    model_sha256: str = "m"
    later_sessions: Sequence[SessionRow] = ()
    environment: Environment = ENVIRONMENT
    data_sha256: str | None = "data"
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def prompts(self) -> list[PromptRow]:
        places = [
            (voter, role, position)
            for voter in range(VOTERS)
            for role in ("query", "calibration")
            for position in range(len(self.verdicts))
        ]
        return [
            PromptRow(
                voter=voter,
                role=cast(Any, role),
                position=position,
                row=self.first_row + position,
                label=position % 2,
                examples=5,
                text_sha256=self.text,
                id=index,
            )
            for index, (voter, role, position) in enumerate(places, start=1)
        ]

    def _cell(self, prompt: PromptRow, batch_id: int | None) -> CellRow:
        mark = self.verdicts[prompt.position]
        if mark == ".":
            return CellRow(prompt.id, 0, "failed", 1, None, "killed", None)
        word = WORDS[(prompt.label + (mark == "-")) % 2]
        reply = Reply(
            prompt=prompt.id,
            finish="stop",
            prompt_tokens=5,
            text="maybe" if prompt.position in self.unread else word,
            time_to_first_token_ms=self.first_token_ms,
        )
        return CellRow(prompt.id, 0, "done", 1, batch_id, None, reply)

    @property
    def store(self) -> FakeStore:
        prompts = self.prompts
        batches: list[BatchRow] = []
        for place, (tokens, seconds) in enumerate(self.batches, start=1):
            began = batches[-1].ended if batches else 0.0
            timed = (began, began + 2 * seconds, tokens, seconds, tokens, seconds)
            batches.append(BatchRow(place, 1, *timed))
        of_batches = [
            1 + index * len(batches) // len(prompts) if batches else None
            for index in range(len(prompts))
        ]
        first = replace(
            SESSION,
            run_id=self.run_id,
            entry=self.backend,
            info=self.info,
            model_sha256=self.model_sha256,
        )
        return FakeStore(
            prompts_of=prompts,
            tokens_of=[TokensRow(self.token, 5) for _ in prompts],
            cells_of=[self._cell(*pair) for pair in zip(prompts, of_batches, strict=True)],
            batches_of=batches,
            sessions_of=[first, *self.later_sessions],
        )


def entry(made: Made = Made(), /, store: FakeStore | None = None, **spec: Any) -> StoredEntry:
    """Of a free-decoding run on a file, but for what is given."""
    accuracy = RUN.accuracy.model_copy(update={"headline": "majority"})
    changes = {"accuracy": accuracy, "label_words": list(WORDS), **made.summary}
    run = stored_run(
        RunSpec(**{"backend": (made.backend,), "data": "small.npz", **spec}),
        [summary_of(made.backend, **changes)],
        store or made.store,
        run_id=made.run_id,
        environment=made.environment,
        data_sha256=made.data_sha256,
    )
    return run.entry(made.backend)


def imported(*figures: Figure, **changes: Any) -> ImportRow:
    stated = {
        "tool": "llama-bench",
        "tool_version": "0123abc",
        "engine": "llama.cpp",
        "model": "tiny.gguf",
        "test": "pp64",
        "figures": figures,
        "conditions": {"n_threads": "2", "test_time": "2026-01-02"},
    }
    whole = Imported.model_validate({**stated, **changes})
    return ImportRow("import-aa", "2026-01-02", "a.json", "a.json", "aa", whole)
