"""How fast an entry answers such prompts on this machine: by earlier runs, or by a few prompts."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from statistics import fmean

import numpy as np

from harness.contract import (
    Batch,
    Prompt,
    SessionInfo,
    TokenIds,
    in_whole_blocks,
    minimum_tokens,
)
from harness.engine.engine import Engine, EnginePlan
from harness.engine.options import options_of
from harness.engine.registry import find_backend
from harness.engine.transport import WorkerFailedError
from harness.errors import EngineError, HarnessError
from harness.machine.environment import Environment, describe_environment
from harness.machine.processors import TRIED_SECONDS, share_now
from harness.pipeline.prompting import decoding_of
from harness.spec import RunSpec, entries_of, prompt_fields
from harness.stats.growth import Interval
from harness.stats.spans import busy_seconds
from harness.stats.spread import likely_share, one_more, unsteadiness_of
from harness.store.runs import StoredEntry, StoredRun
from harness.workload.workload import Workload

MOST_RUNS = 10
"""Of earlier runs, the newest: a machine changes."""
_LOOKED_AT = 200  # runs of a store
_NEAR = 1.25  # prompts of which lengths are alike: a token behind a longer one takes longer
_LEAST_SHARE = 0.01  # of the processors: the counts behind it have steps
_PROMPTED = 64  # prompts of a voter, behind its first


@dataclass(frozen=True, slots=True)
class Pace:
    """What a prompt token takes that is evaluated, what a prompt takes beside that, and loading.
    The engine shares blocks of so many tokens. `harness_seconds` are those of the run outside the
    engines, where that is known and the run did the same there. An engine that computes on the CPU
    has so many `threads`, and had this `share` of the processors that they can use.

    `unsteadiness` is how far parts of some seconds differ from this pace, as for
    `harness.stats.spread.unsteadiness_of`; `None` where there are too few."""

    token_seconds: float
    prompt_seconds: float
    load_seconds: float
    block: int
    harness_seconds: float | None = None
    threads: int | None = None
    share: float = 1.0
    unsteadiness: float | None = None

    def seconds(self, prompts: int, tokens: int) -> float:
        """Of so many prompts with so many tokens to evaluate, with loading."""
        return self.load_seconds + tokens * self.token_seconds + prompts * self.prompt_seconds


def pace_of(
    batches: Sequence[tuple[int | None, int, float]],
    load_seconds: float,
    block: int,
    least_tokens: int | None = None,
) -> Pace:
    """By the prefill tokens, the replies and the seconds of each batch; there is one at least.

    `least_tokens` are those that had to be evaluated: an engine that shares less is as much slower.
    """
    from scipy.optimize import nnls

    replies, seconds = (np.array([one[place] for one in batches], float) for place in (1, 2))
    tokens = np.array([one[0] or 0 for one in batches], float)
    (each_token, each_prompt), _ = nnls(np.column_stack([tokens, replies]), seconds)
    fitted = tokens * each_token + replies * each_prompt
    computed = tokens.sum() if least_tokens is None else least_tokens
    said = float(each_token * computed + each_prompt * replies.sum())
    scale = float(seconds.sum()) / said if said else 1.0
    return Pace(
        token_seconds=float(each_token) * scale,
        prompt_seconds=float(each_prompt) * scale,
        load_seconds=load_seconds,
        block=block,
        unsteadiness=unsteadiness_of(seconds, fitted, TRIED_SECONDS),
    )


def earlier_paces(
    runs: Iterable[StoredRun],
    plan: EnginePlan,
    spec: RunSpec,
    workload: Workload,
    environment: Environment,
) -> list[Pace]:
    """Of the newest runs of this entry on this machine, with prompts about as long."""
    found = _alike(runs, plan, spec, workload, environment)
    return list(islice(found, MOST_RUNS))


def _alike(
    runs: Iterable[StoredRun],
    plan: EnginePlan,
    spec: RunSpec,
    workload: Workload,
    environment: Environment,
) -> Iterator[Pace]:
    longest = max(map(len, workload.packed.token_ids[workload.vocabularies[plan.entry.name]]))
    for run in islice(sorted(runs, key=lambda one: one.created, reverse=True), _LOOKED_AT):
        with suppress(HarnessError):  # one that cannot be read says nothing
            if not _is_alike(run, spec, workload, environment):
                continue
            outside = None
            if _has_same_work(run, spec, workload):
                outside = run.summary.harness_seconds
            for entry in run.entries.values():
                if _is_same(entry, plan, run.given_spec) and _is_near(entry, longest):
                    yield replace(_pace_of_run(entry), harness_seconds=outside)


def _is_alike(run: StoredRun, spec: RunSpec, workload: Workload, environment: Environment) -> bool:
    if not run.is_finished or not run.entries:
        return False
    if any(getattr(run.spec, name) != getattr(spec, name) for name in ("decoding", "attempts")):
        return False
    machine = ("cpu", "usable_cores", "memory_mib", "gpus")
    if any(getattr(run.environment, name) != getattr(environment, name) for name in machine):
        return False
    return run.max_tokens == (spec.max_tokens or workload.packed.reserve)


def _has_same_work(run: StoredRun, spec: RunSpec, workload: Workload) -> bool:
    """Whether as much is drawn, packed, fitted and read outside the engines. Of what is left to a
    default, a stored spec has what that came to."""

    def outside(of: RunSpec) -> tuple[bool, bool, int]:
        return of.baselines, of.prompts_from is None, len(entries_of(of))

    given = run.given_spec
    if run.data_sha256 != workload.dataset.sha256 or outside(given) != outside(spec):
        return False
    earlier, now = prompt_fields(given), prompt_fields(spec)
    names = now.keys() - {"data", "seed"}
    return all(now[name] in (None, earlier[name]) for name in names)


def _is_same(stored: StoredEntry, plan: EnginePlan, spec: RunSpec) -> bool:
    """Whether it is this backend with this model and these options."""
    if stored.backend != plan.entry.backend or not stored.batches:
        return False
    if stored.summary.cells.failed:
        return False
    session = stored.sessions[-1]
    if session.model_sha256 != plan.model_sha256 or session.info.model != plan.model.name:
        return False
    entry = next(one for one in entries_of(spec) if one.name == stored.name)
    options = options_of(entry, find_backend(entry.backend).load(), spec)
    return {**options, "max_model_len": 0} == {**plan.options, "max_model_len": 0}


def _is_near(stored: StoredEntry, longest: int) -> bool:
    return longest / _NEAR <= stored.longest_prompt <= longest * _NEAR


def _pace_of_run(stored: StoredEntry) -> Pace:
    batches = stored.batches
    replies = stored.batch_sizes
    began, ended = (np.array([getattr(b, name) for b in batches]) for name in ("began", "ended"))
    rows = [
        (batch.prefill_tokens, replies.get(batch.id, 0), float(took))
        for batch, took in zip(batches, busy_seconds(began, ended), strict=True)
    ]
    loads = [one.load_seconds for one in stored.sessions if one.load_seconds is not None]
    info, speed = stored.sessions[-1].info, stored.summary.speed
    cores = stored.run.environment.usable_cores
    threads, share = processors_of(info, speed.other_cpu_share, cores)
    found = pace_of(rows, max(loads, default=0.0), info.shared_block_tokens, speed.least_tokens)
    return replace(found, threads=threads, share=share)


def processors_of(
    info: SessionInfo, others: float | None, cores: int | None
) -> tuple[int | None, float]:
    """The threads of an engine on the CPU, and the share that it had of so many processors, of
    which others used that share. `None` and 1 where it computes elsewhere."""
    if info.device != "cpu" or not info.threads or others is None or cores is None:
        return None, 1.0
    left = (1 - others) * cores
    return info.threads, min(max(left / info.threads, _LEAST_SHARE), 1.0)


def seconds_of(paces: Sequence[Pace], prompts: Sequence[TokenIds], attempts: int) -> list[float]:
    """Of all prompts of an entry, by each of its paces."""
    tokens = {block: least_tokens(prompts, attempts, block) for block in {p.block for p in paces}}
    return [one.seconds(len(prompts) * attempts, tokens[one.block]) for one in paces]


def least_tokens(prompts: Sequence[TokenIds], attempts: int, block: int) -> int:
    """Those to evaluate for all attempts at all prompts, by an engine that shares such blocks."""
    again = sum(len(one) - in_whole_blocks(len(one), len(one), block) for one in prompts)
    # Where single tokens are shared, another attempt adds nothing to the minimum.
    return minimum_tokens(prompts, block)[1] + (attempts - 1) * (again if block > 1 else 0)


def seconds_now(paces: Sequence[Pace], seconds: Sequence[float]) -> Interval:
    """What was said by each of the paces, one at least, for what other processes leave of the
    processors now; and what one more run is within in 9 of 10 cases."""
    threads, earlier = paces[0].threads, [pace.share for pace in paces]
    if threads is None:
        return one_more(seconds, earlier, 1.0)
    known = [one.unsteadiness**2 for one in paces if one.unsteadiness is not None]
    unsteadiness = math.sqrt(fmean(known)) if known else 0.0
    share = likely_share(share_now(threads), earlier, unsteadiness)
    return one_more(seconds, earlier, share, unsteadiness)


def probed_pace(plan: EnginePlan, spec: RunSpec, workload: Workload) -> Pace:
    """Loads the engine, and gives it some prompts of the first voter. Raises `EngineError`."""
    name, packed = plan.entry.name, workload.packed
    ids = packed.token_ids[workload.vocabularies[name]]
    of_first = [place for place, one in enumerate(packed.prompts) if one.voter == 0]
    decoding = decoding_of(spec, workload, name)
    rows: list[tuple[int | None, int, float]] = []
    began = time.perf_counter()
    with Engine(plan, packed.limit) as engine:
        engine.load()
        load_seconds = time.perf_counter() - began
        # The first alone, so that what is shared and what is a prompt's own are known apart.
        for part in (of_first[:1], of_first[1 : 1 + _PROMPTED]):
            prompts = [Prompt(ids[place], packed.prompts[place].text) for place in part]
            try:
                for one in engine.session.generate(prompts, decoding):
                    if isinstance(batch := one.event, Batch):
                        rows.append(
                            (batch.prefill_tokens, len(batch.replies), batch.engine_seconds)
                        )
            except WorkerFailedError as failure:
                raise EngineError(
                    f"{name} failed at the first prompts: {failure.reason}",
                    remedy=failure.remedy or f"See {plan.log}.",
                ) from failure
        block = engine.session.info.shared_block_tokens
    _, least = minimum_tokens([ids[place] for place in of_first[: 1 + _PROMPTED]], block)
    return pace_of(rows, load_seconds + engine.session.closing_seconds, block, least)


def expected_seconds(
    runs: Sequence[StoredRun], plans: Sequence[EnginePlan], spec: RunSpec, workload: Workload
) -> dict[str, float]:
    """Of each entry of which there are earlier runs: nothing is prompted for it."""
    environment = describe_environment()
    found: dict[str, float] = {}
    for one in plans:
        name = one.entry.name
        if name in workload.vocabularies and (
            paces := earlier_paces(runs, one, spec, workload, environment)
        ):
            ids = workload.packed.token_ids[workload.vocabularies[name]]
            found[name] = seconds_now(paces, seconds_of(paces, ids, spec.attempts)).value
    return found
