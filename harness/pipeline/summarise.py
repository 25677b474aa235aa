"""From what was kept of a run to its summary: one pure step, the same after a resume."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backends.api import Reply, SessionInfo
from backends.sharing.prefix_tree import floors
from harness.baselines.classifiers import ShownNumbers, score_controls
from harness.scoring.accuracy import score_accuracy
from harness.scoring.ballots import read_replies
from harness.scoring.caveats import Facts, find_caveats
from harness.spec import RunSpec
from harness.store.schema import BatchRow, CellRow, SessionRow
from harness.store.store import Store
from harness.summary import (
    Cells,
    ContextFit,
    Controls,
    Memory,
    Percentiles,
    PromptHashes,
    RunSummary,
    Speed,
    Summary,
)
from harness.workload.workload import Workload, numbers


def summarise(
    store: Store, run_id: str, spec: RunSpec, workload: Workload, controls: Controls
) -> Summary:
    """The answer of a run, of all its backends."""
    runs = []
    for backend in spec.backend:
        kept = _Kept(
            backend,
            store.sessions(run_id, backend),
            store.batches(run_id, backend),
            {prompt.id: index for index, prompt in enumerate(store.prompts(run_id))},
            store.cells(run_id, backend),
        )
        runs.append(_run_summary(spec, workload, kept, controls))
    return Summary(
        run_id=run_id,
        created=store.run(run_id).created,
        wall_seconds=None,
        harness_seconds=None,
        runs=runs,
    )


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was kept of one backend; `places` gives a prompt's index in the workload by its id."""

    backend: str
    sessions: Sequence[SessionRow]
    batches: Sequence[BatchRow]
    places: dict[int, int]
    cells: Sequence[CellRow]

    @property
    def info(self) -> SessionInfo:
        return self.sessions[-1].info

    @property
    def replies(self) -> dict[int, Reply]:
        """The replies by the index of their prompt in the workload."""
        return {self.places[c.prompt_id]: c.reply for c in self.cells if c.reply is not None}

    @property
    def failure_reasons(self) -> Counter[str]:
        return Counter(cell.reason for cell in self.cells if cell.reason is not None)


def _run_summary(spec: RunSpec, workload: Workload, kept: _Kept, controls: Controls) -> RunSummary:
    replies = kept.replies
    words = workload.writer.words
    parse, ballots = read_replies(workload.packed.prompts, replies, words, spec.decoding)
    accuracy = score_accuracy(ballots, workload.dataset.classes, spec.seed)
    failed = kept.failure_reasons
    fit = _context_fit(workload, kept)
    return RunSummary(
        backend=kept.backend,
        engine_version=kept.info.engine_version,
        model=kept.info.model,
        weights=kept.info.weights,
        dataset=workload.dataset.name,
        seed=spec.seed,
        label_words=list(words),
        context_fit=fit,
        speed=_speed(workload, kept, replies),
        memory=_memory(kept.sessions),
        parse=parse,
        accuracy=accuracy,
        controls=controls,
        prompts=PromptHashes(
            text_sha256=workload.packed.text_sha256(),
            token_sha256=workload.packed.token_sha256(kept.backend),
        ),
        tokens=workload.tokens[kept.backend],
        cells=Cells(done=len(replies), failed=failed.total()),
        caveats=find_caveats(
            Facts(
                is_mock=kept.info.is_mock,
                accuracy=accuracy,
                parse=parse,
                label_mass=_label_mass(replies),
                queries_asked=spec.queries,
                calibration_asked=spec.calibration_queries,
                calibration_per_voter=min(len(v.calibration) for v in workload.voters),
                shots=spec.shots,
                fewest_shown=min(fit.examples_per_voter),
                examples_shown=round(float(np.mean(fit.examples_per_voter))),
                examples_available=fit.examples_available,
                cells_failed=failed.total(),
                cells_missing=len(workload.packed.prompts) - len(replies) - failed.total(),
                failure_reasons=tuple(f"{n} x {reason}" for reason, n in failed.most_common()),
                shared_vectors=workload.dataset.train_test_duplicates,
                sessions=len(kept.sessions),
                own_tokens=workload.tokens[kept.backend].own_difference,
            )
        ),
    )


def _context_fit(workload: Workload, kept: _Kept) -> ContextFit:
    packed = workload.packed
    longest = max(map(len, packed.token_ids[kept.backend]))
    return ContextFit(
        examples_per_voter=[len(shown) for shown in packed.shown],
        tokens_per_example=packed.tokens_per_example,
        fill_ratio=(longest + packed.reserve) / packed.limit,
        declared_context=kept.info.declared_context,
        allocated_context=kept.info.allocated_context,
        examples_available=round(np.mean([len(voter.examples) for voter in workload.voters])),
    )


def _speed(workload: Workload, kept: _Kept, replies: dict[int, Reply]) -> Speed:
    batches, done = kept.batches, list(replies.values())
    token_ids = workload.packed.token_ids[kept.backend]
    prompts = [token_ids[index] for index in replies]
    block = kept.info.shared_block_tokens
    unique, least = floors(prompts, block)
    first_tokens = [
        reply.time_to_first_token_ms for reply in done if reply.time_to_first_token_ms is not None
    ]
    return Speed(
        prefill_tokens_per_second=_rate(
            sum(b.prefill_tokens for b in batches), sum(b.prefill_seconds for b in batches)
        ),
        decode_tokens_per_second=_rate(
            sum(b.decode_tokens for b in batches), sum(b.decode_seconds for b in batches)
        ),
        time_to_first_token_ms=_percentiles(first_tokens),
        computed_tokens=sum(r.prompt_tokens - r.cached_tokens for r in done) if done else None,
        unique_tokens=unique if done else None,
        least_tokens=least if done else None,
        shared_block_tokens=block,
        served_tokens=sum(r.prompt_tokens + len(r.token_ids) for r in done) if done else None,
        engine_seconds=sum(b.engine_seconds for b in batches) if done else None,
        wall_seconds=sum(session.use.wall_seconds or 0.0 for session in kept.sessions),
        load_seconds=kept.sessions[0].load_seconds,
    )


def _rate(amount: int, seconds: float) -> float | None:
    return amount / seconds if amount and seconds else None


def _percentiles(values: Sequence[float]) -> Percentiles | None:
    if not values:
        return None
    p50, p95 = np.percentile(values, [50, 95])
    return Percentiles(p50=float(p50), p95=float(p95))


def _memory(sessions: Sequence[SessionRow]) -> Memory:
    rss = [s.use.peak_rss_mib for s in sessions if s.use.peak_rss_mib is not None]
    gpu = [s.use.peak_gpu_mib for s in sessions if s.use.peak_gpu_mib is not None]
    return Memory(peak_rss_mib=max(rss, default=None), peak_gpu_mib=max(gpu, default=None))


def _label_mass(replies: dict[int, Reply]) -> float | None:
    masses = [
        math.fsum(map(math.exp, reply.label_logprobs))
        for reply in replies.values()
        if reply.label_logprobs is not None
    ]
    return float(np.median(masses)) if masses else None


def make_controls(spec: RunSpec, workload: Workload) -> Controls:
    """What classical classifiers make of the same queries: the same for every backend and round."""
    dataset, rows = workload.dataset, workload.query_rows
    shown = [
        ShownNumbers(
            examples=numbers(examples),
            labels=np.array([example.label for example in examples], dtype=np.int64),
            queries=numbers(voter.queries),
        )
        for voter, examples in zip(workload.voters, workload.packed.shown, strict=True)
        if examples
    ]
    return score_controls(
        dataset.X_train,
        dataset.y_train,
        dataset.X_test[rows],
        dataset.y_test[rows],
        n_classes=len(dataset.classes),
        shown=shown,
        seed=spec.seed,
    )
