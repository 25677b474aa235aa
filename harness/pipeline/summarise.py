"""From what is stored of a run to its summary: one pure step, the same after a resume and years on.

It needs no model, no tokenizer and no data: prompts, token ids and the facts of packing are stored.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from harness.comparison.against import against_baselines
from harness.comparison.load import load_of, missing_of
from harness.comparison.samples import clock_of, has_own_prompts, right_by_query
from harness.contract import Finding, Reply, common_prefix_length, minimum_tokens
from harness.errors import StoreError
from harness.machine.homes import without_homes
from harness.pipeline.failures import read_failure
from harness.scoring.accuracy import hold_vote, score_accuracy
from harness.scoring.ballots import read_replies
from harness.scoring.caveats import CaveatInputs, find_caveats
from harness.spec import BaselineSpec, RunSpec
from harness.stats.intervals import wilson
from harness.stats.spans import busy_seconds
from harness.store.runs import StoredBaseline, StoredEntry, StoredRun
from harness.store.schema import SessionRow
from harness.summary import (
    Accuracy,
    Baseline,
    Cells,
    ContextFit,
    Facts,
    Memory,
    Missing,
    Parse,
    Percentiles,
    PromptHashes,
    RunSummary,
    Shuffled,
    Speed,
    Summary,
)
from harness.workload.packing import text_sha256


def summarise(run: StoredRun, baselines: Sequence[Baseline]) -> Summary:
    """The answer of a run, of all its entries, tested against these baselines.

    Raises `StoreError` where the run was stored before the facts were that this needs.
    """
    entries = list(run.entries.values())
    packed_for = [entry for entry in entries if entry.vocabulary is not None]
    parts = (run.facts, run.texts, *(entry.token_ids for entry in packed_for))
    if run.facts is None or any(part is None for part in parts):
        raise StoreError(
            f"run {run.run_id} does not hold the prompts that its summary is made of: it was "
            "stored by an earlier version, or is damaged",
            remedy="Its stored summary is what `harness show` prints. Begin a new run for another.",
        )
    summary = Summary(
        run_id=run.run_id,
        created=run.created,
        name=run.name,
        group=run.group,
        data=run.facts.data,
        data_sha256=run.data_sha256,
        wall_seconds=None,  # of the whole run: whoever ran it adds both
        harness_seconds=None,
        runs=[_run_summary(entry, run.facts, baselines) for entry in entries],
        baselines=list(baselines),
    )
    return Summary.model_validate(without_homes(summary.model_dump()))


def so_far(run: StoredRun) -> Summary:
    """What an unfinished run has come to. Raises `StoreError` where nothing was prompted yet."""
    if isinstance(run.any_spec, BaselineSpec):
        return run.summary  # says why there is none
    if run.facts is None or not run.prompts:
        raise StoreError(
            f"run {run.run_id} ended before anything was prompted",
            remedy=f"Begin it again with `{run.resume_command}`.",
        )
    return summarise(run, run.baselines)


def recompute(run: StoredRun) -> Summary:
    """The summary of a finished run, made again from what is stored.

    How long the run took cannot be computed again: that is taken from its stored summary.
    """
    stored = run.summary
    if stored.queries is not None:
        return stored.model_copy(
            update={"baselines": [_estimated(one) for one in run.fitted.values()]}
        )
    again = summarise(run, run.baselines)
    return again.model_copy(
        update={"wall_seconds": stored.wall_seconds, "harness_seconds": stored.harness_seconds}
    )


def _estimated(side: StoredBaseline) -> Baseline:
    """Its record, with the accuracy of its predictions."""
    right = right_by_query(side)
    estimate = wilson(int(sum(right.values())), len(right))
    return side.record.model_copy(update={"estimate": estimate})


def _run_summary(entry: StoredEntry, facts: Facts, baselines: Sequence[Baseline]) -> RunSummary:
    run, spec = entry.run, entry.run.spec
    info, replies, prompts = entry.info, entry.replies, entry.run.prompts
    parse, ballots = read_replies(prompts, replies, facts.label_words, spec.decoding)
    accuracy = score_accuracy(ballots, tuple(facts.classes), spec.seed, _is_sampled(spec))
    verdicts = hold_vote(accuracy.headline, ballots, len(facts.classes))
    shuffled, shuffled_verdicts = _shuffled(entry, facts)
    # Like with like: a calibrated vote may be better for its calibration alone.
    pair = None
    if shuffled_verdicts is not None and shuffled and getattr(accuracy, shuffled.vote):
        pair = hold_vote(shuffled.vote, ballots, len(facts.classes)), shuffled_verdicts
    fit, speed, memory = _context_fit(entry, facts), _speed(entry), _memory(entry)
    tokens = facts.tokens.get(entry.name)
    statuses = Counter(cell.status for cell in entry.cells)
    load = load_of(entry, statuses["failed"])
    # With a beginning of its own before each, they are equal to no other run's.
    unequal = has_own_prompts(entry)
    nonce = (run.run_id, entry.name) if unequal else ()
    return RunSummary(
        entry=entry.name,
        backend=entry.backend,
        engine_version=info.engine_version if info else None,
        model=entry.model,
        weights=info.weights if info else None,
        dataset=facts.dataset,
        seed=spec.seed,
        label_words=facts.label_words,
        context_fit=fit,
        speed=speed,
        memory=memory,
        parse=parse,
        accuracy=accuracy,
        against_baselines=against_baselines(ballots.truth, verdicts, baselines, pair),
        shuffled=shuffled,
        load=load,
        prompts=PromptHashes(
            # NUL between them: where one text ends is a part of what is hashed.
            text_sha256=text_sha256("\0".join([*nonce, *(run.texts or ())])),
            token_sha256=text_sha256(
                "\0".join([*nonce, *(row.token_sha256 for row in entry.tokens)])
            ),
        ),
        tokens=tokens,
        cells=Cells(
            done=statuses["done"], failed=statuses["failed"], not_needed=statuses["not_needed"]
        ),
        missing=_missing_of_replies(entry, speed, parse, accuracy)
        | _missing_of_sessions(entry, speed, memory)
        | missing_of(entry, load),
        caveats=find_caveats(_caveat_inputs(entry, facts, fit, speed, parse, accuracy)),
    )


def _caveat_inputs(
    entry: StoredEntry,
    facts: Facts,
    fit: ContextFit,
    speed: Speed,
    parse: Parse,
    accuracy: Accuracy,
) -> CaveatInputs:
    info, spec = entry.info, entry.run.spec
    tokens = facts.tokens.get(entry.name)
    statuses = Counter(cell.status for cell in entry.cells)
    failures = [read_failure(cell.reason) for cell in entry.cells if cell.reason is not None]
    # Without log-probabilities there is nothing to calibrate: no caveat about it.
    is_scored = info is not None and info.capabilities.label_logprobs != "none"
    return CaveatInputs(
        is_mock=info is not None and info.is_mock,
        accuracy=accuracy,
        parse=parse,
        label_mass=_label_mass(entry.replies),
        queries_wanted=spec.queries,
        calibration_wanted=spec.calibration_queries if is_scored else 0,
        calibration_per_voter=min(facts.calibration) if is_scored else 0,
        shots=spec.shots,
        fewest_shown=min(fit.examples_per_voter),
        examples_shown=round(float(np.mean(fit.examples_per_voter))),
        examples_available=fit.examples_available,
        cells_failed=statuses["failed"],
        cells_missing=len(entry.run.prompts) * spec.attempts - statuses.total(),
        failure_reasons=_counted(Counter(message for message, _ in failures)),
        failure_remedies=tuple(dict.fromkeys(remedy for _, remedy in failures if remedy)),
        has_replies=bool(entry.replies),
        is_text=facts.data is not None and facts.data.kind == "text",
        shared_items=facts.train_test_duplicates,
        examples_too_long=len(facts.too_long),
        all_tokens=facts.all_tokens,
        queries_too_long=_queries_too_long(entry, facts),
        context_limit=facts.limit,
        context_wanted=spec.max_model_len,
        declared_context=fit.declared_context,
        longest_prompt=None if fit.fill_ratio is None else round(fit.fill_ratio * facts.limit),
        sessions=len(entry.sessions),
        other_cpu_share=speed.other_cpu_share,
        own_tokens=tokens.own_difference if tokens else None,
        findings=_findings(entry),
    )


def _findings(entry: StoredEntry) -> tuple[Finding, ...]:
    """Of all its sessions, each kind once: the first, for a later one finds it again. What was
    sent again is counted over all, and of servers that died the fewest that were left."""
    every = [one for session in entry.sessions for one in session.info.findings]
    first: dict[str, Finding] = {}
    for one in every:
        first.setdefault(one.kind, one)
    if "retried" in first:
        again = [one for one in every if one.kind == "retried"]
        first["retried"] = Finding(
            "retried",
            requests=sum(one.requests or 0 for one in again),
            seconds=math.fsum(one.seconds or 0.0 for one in again),
        )
    lost = [one for one in every if one.kind == "server_lost"]
    if lost:
        first["server_lost"] = min(lost, key=lambda one: one.seen or 0)
    return tuple(first.values())


def _is_sampled(spec: RunSpec) -> bool:
    return spec.attempts > 1 and spec.temperature > 0 and spec.decoding != "score"


def _shuffled(entry: StoredEntry, facts: Facts) -> tuple[Shuffled | None, NDArray[np.int64] | None]:
    """What came of the prompts with shuffled labels, and the verdicts; `None` without any."""
    run, classes = entry.run, len(facts.classes)
    if not any(prompt.role == "shuffled" for prompt in run.prompts):
        return None, None
    words, decoding = facts.label_words, run.spec.decoding
    parse, ballots = read_replies(run.prompts, entry.replies, words, decoding, role="shuffled")
    accuracy = score_accuracy(ballots, tuple(facts.classes), run.spec.seed, _is_sampled(run.spec))
    found = Shuffled(
        vote=accuracy.headline,
        estimate=getattr(accuracy, accuracy.headline),
        parsed=parse.lenient.value if parse.lenient else None,
    )
    return found, hold_vote(accuracy.headline, ballots, classes)


def _queries_too_long(entry: StoredEntry, facts: Facts) -> int:
    """Those whose prompts do not fit, of one voter or more. Vectors are not called long: of them
    the prompts of an earlier run may not fit, where a vocabulary needs more tokens."""
    if facts.data is None or facts.data.kind == "vectors" or not entry.tokens:
        return 0  # without tokens, its tokenizer failed: what fits is not known
    pairs = zip(entry.run.prompts, entry.tokens, strict=True)
    return len(
        {
            prompt.row
            for prompt, row in pairs
            if prompt.role == "query" and row.n_tokens + facts.reserve > facts.limit
        }
    )


def _counted(messages: Counter[str]) -> tuple[str, ...]:
    """Each with how often it came, the most frequent first; one that is the only one as it is."""
    if len(messages) == 1:
        return tuple(messages)
    return tuple(f"{n} x {message}" for message, n in messages.most_common())


def _context_fit(entry: StoredEntry, facts: Facts) -> ContextFit:
    shown = {prompt.voter: prompt.examples for prompt in entry.run.prompts}
    lengths = [row.n_tokens for row in entry.tokens]
    room = facts.limit - facts.reserve
    # A text that is too long for the limit has a prompt of its own length, and no reply.
    longest = max((n for n in lengths if n <= room), default=max(lengths, default=None))
    return ContextFit(
        examples_per_voter=[shown[voter] for voter in sorted(shown)],
        tokens_per_example=facts.tokens_per_example,
        fill_ratio=None if longest is None else (longest + facts.reserve) / facts.limit,
        declared_context=entry.info.declared_context if entry.info else None,
        allocated_context=entry.info.allocated_context if entry.info else None,
        examples_available=round(float(np.mean(facts.examples_available))),
        all_tokens=facts.all_tokens,
    )


def _speed(entry: StoredEntry) -> Speed:
    batches, done = entry.batches, list(entry.replies.values())
    block = entry.info.shared_block_tokens if entry.info else 1
    ids = entry.token_ids
    unique = least = None
    if done and ids is not None:
        # Lists: slices of them are compared as a whole, those of arrays one by one. Another attempt
        # is the same prompt again, and adds nothing to the minimum where single tokens are shared.
        unique, least = minimum_tokens([ids[index].tolist() for index, _ in entry.replies], block)
    # A client's times have names of their own (`Load`).
    timed = done if clock_of(entry) == "engine" else []
    first_tokens = [
        reply.time_to_first_token_ms for reply in timed if reply.time_to_first_token_ms is not None
    ]
    computed = _computed(done)
    return Speed(
        prefill_tokens_per_second=_rate(
            [(batch.prefill_tokens, batch.prefill_seconds) for batch in batches]
        ),
        decode_tokens_per_second=_rate(
            [(batch.decode_tokens, batch.decode_seconds) for batch in batches]
        ),
        time_to_first_token_ms=_percentiles(first_tokens),
        computed_tokens=computed,
        in_order_tokens=None if computed is None or ids is None else _in_order(entry, ids),
        unique_tokens=unique,
        least_tokens=least,
        shared_block_tokens=block,
        served_tokens=_served(done),
        engine_seconds=sum(_busy(entry, session) for session in entry.sessions) if done else None,
        wall_seconds=sum(session.use.wall_seconds or 0.0 for session in entry.sessions),
        load_seconds=entry.sessions[0].load_seconds if entry.sessions else None,
        other_cpu_share=_other_cpu_share(entry.sessions) if done else None,
    )


def _in_order(entry: StoredEntry, ids: Sequence[NDArray[np.int32]]) -> int:
    """The fewest tokens that an engine has to compute for the prompts in the order in which they
    were sent, if it holds the one before and no other. In a batch it may put them in order itself;
    a session begins with nothing.
    """
    places = {prompt.id: index for index, prompt in enumerate(entry.run.prompts)}
    begins = {batch.id: (batch.session_id, batch.began, batch.id) for batch in entry.batches}
    sent = sorted(
        (begins[cell.batch_id], ids[places[cell.prompt_id]].tolist())
        for cell in entry.cells
        if cell.reply is not None and cell.batch_id is not None
    )
    total = 0
    for _, of_session in groupby(sent, key=lambda one: one[0][0]):
        held: list[int] = []
        for _, prompt in of_session:
            total += len(prompt) - common_prefix_length(held, prompt)
            held = prompt
    return total


def _other_cpu_share(sessions: Sequence[SessionRow]) -> float | None:
    """Over all sessions of which it is known; `None` for an engine on another machine."""
    uses = [one.use for one in sessions if one.info.capabilities.location == "local"]
    pairs = [(use.other_cpu_seconds or 0.0, use.all_cpu_seconds) for use in uses]
    known = [(others, whole) for others, whole in pairs if whole]
    whole = math.fsum(one for _, one in known)
    return math.fsum(others for others, _ in known) / whole if whole else None


def _rate(pairs: Sequence[tuple[int | None, float | None]]) -> float | None:
    """Tokens per second over the batches whose engine reports both."""
    known = [
        (tokens, seconds) for tokens, seconds in pairs if tokens is not None and seconds is not None
    ]
    amount, took = sum(tokens for tokens, _ in known), sum(seconds for _, seconds in known)
    # The ratio of sums, not a mean of rates: long batches count for more (DECISIONS.md).
    return amount / took if amount and took else None


def _computed(replies: Sequence[Reply]) -> int | None:
    """Prompt tokens that were evaluated; `None` where an engine does not say what it had cached."""
    total = 0
    for reply in replies:
        if reply.cached_tokens is None:
            return None
        total += reply.prompt_tokens - reply.cached_tokens
    return total if replies else None


def _served(replies: Sequence[Reply]) -> int | None:
    """Prompt and reply tokens; `None` where an engine reports a reply's text and not its ids."""
    if not replies or any(reply.text and not reply.token_ids for reply in replies):
        return None
    return sum(reply.prompt_tokens + len(reply.token_ids) for reply in replies)


def _busy(entry: StoredEntry, session: SessionRow) -> float:
    """Seconds in which a session worked on a batch, overlapping ones counted once."""
    # By session, because each has a clock of its own.
    own = [batch for batch in entry.batches if batch.session_id == session.id]
    began, ended = (
        np.array([getattr(batch, end) for batch in own], dtype=np.float64)
        for end in ("began", "ended")
    )
    return math.fsum(busy_seconds(began, ended))


def _percentiles(values: Sequence[float]) -> Percentiles | None:
    if not values:
        return None
    p50, p95 = np.percentile(values, [50, 95])
    return Percentiles(p50=float(p50), p95=float(p95))


def _memory(entry: StoredEntry) -> Memory:
    """What the engine used. Of one on another machine nothing is known: what was sampled here is
    its client."""
    if entry.info is not None and entry.info.capabilities.location == "remote":
        return Memory(peak_rss_mib=None, peak_gpu_mib=None)
    uses = [session.use for session in entry.sessions]
    return Memory(
        # Sessions of an entry follow one another, so their peaks are not added.
        peak_rss_mib=max((u.peak_rss_mib for u in uses if u.peak_rss_mib), default=None),
        peak_gpu_mib=max((u.peak_gpu_mib for u in uses if u.peak_gpu_mib), default=None),
    )


def _label_mass(replies: Mapping[tuple[int, int], Reply]) -> float | None:
    """The median share of probability that the labels hold; `None` without all of their
    log-probabilities."""
    masses = []
    for reply in replies.values():
        known = [one for one in reply.label_logprobs or () if one is not None]
        # The share of some labels alone would look as if the model wanted to say something else.
        if known and len(known) == len(reply.label_logprobs or ()):
            masses.append(math.fsum(map(math.exp, known)))
    return float(np.median(masses)) if masses else None


def _missing_of_replies(
    entry: StoredEntry, speed: Speed, parse: Parse, accuracy: Accuracy
) -> dict[str, Missing]:
    """Of each figure of replies that cannot be had the reason, by its name."""
    info = entry.info
    scores = entry.run.spec.decoding == "score"
    can_score = info is not None and info.capabilities.label_logprobs != "none"
    no_logprobs = Missing.LABEL_LOGPROBS_INCOMPLETE if can_score else Missing.NO_LABEL_LOGPROBS
    not_generated = Missing.SCORE_GENERATES_NOTHING if scores else Missing.NOT_REPORTED
    no_time = Missing.CLIENT_CLOCK if clock_of(entry) == "client" else not_generated
    one_class = Missing.ONE_CLASS if accuracy.answered else Missing.NO_VERDICT
    is_unread = parse.lenient is not None and parse.lenient.value == 0
    of_replies: dict[str, tuple[object, Missing]] = {
        "prefill_tokens_per_second": (speed.prefill_tokens_per_second, Missing.NOT_REPORTED),
        "decode_tokens_per_second": (speed.decode_tokens_per_second, _no_decode(entry)),
        "time_to_first_token_ms": (speed.time_to_first_token_ms, no_time),
        "computed_tokens": (speed.computed_tokens, Missing.NOT_REPORTED),
        "in_order_tokens": (speed.in_order_tokens, Missing.NOT_REPORTED),
        "served_tokens": (speed.served_tokens, Missing.NOT_REPORTED),
        "unique_tokens": (speed.unique_tokens, Missing.NO_REPLY),
        "least_tokens": (speed.least_tokens, Missing.NO_REPLY),
        "engine_seconds": (speed.engine_seconds, Missing.NO_REPLY),
        "parse_rate": (parse.lenient, Missing.SCORE_PARSES_NOTHING),
        "accuracy": (
            None if is_unread else getattr(accuracy, accuracy.headline),
            Missing.NOTHING_PARSED if is_unread else Missing.NO_VERDICT,
        ),
        "single": (accuracy.single, Missing.NO_VERDICT),
        "majority": (accuracy.majority, Missing.NO_VERDICT),
        "soft": (accuracy.soft, no_logprobs),
        "calibrated": (
            accuracy.calibrated,
            no_logprobs if accuracy.soft is None else Missing.NO_CALIBRATION,
        ),
        "balanced": (accuracy.balanced, one_class),
        "f1": (accuracy.f1, one_class),
        "auc": (accuracy.auc, one_class),
        "confusion": (accuracy.confusion, Missing.NO_VERDICT),
        "voter_agreement": (accuracy.voter_agreement, Missing.ONE_VOTER),
    }
    return {
        name: reason if entry.replies else Missing.NO_REPLY
        for name, (figure, reason) in of_replies.items()
        if figure is None
    }


def _missing_of_sessions(entry: StoredEntry, speed: Speed, memory: Memory) -> dict[str, Missing]:
    """The same of what was opened."""
    info = entry.info
    is_remote = info is not None and info.capabilities.location == "remote"
    unmeasured = Missing.REMOTE if is_remote else Missing.NOT_MEASURED
    unloaded = Missing.ALREADY_OPEN if entry.sessions else Missing.NOT_LOADED
    of_sessions: dict[str, tuple[object, Missing]] = {
        "peak_rss_mib": (memory.peak_rss_mib, unmeasured),
        "peak_gpu_mib": (memory.peak_gpu_mib, unmeasured),
        "load_seconds": (speed.load_seconds, unloaded),
        "engine_version": (info, Missing.NOT_LOADED),
        "weights": (info, Missing.NOT_LOADED),
        "declared_context": (info, Missing.NOT_LOADED),
        "allocated_context": (info, Missing.NOT_LOADED),
    }
    return {name: reason for name, (figure, reason) in of_sessions.items() if figure is None}


def _no_decode(entry: StoredEntry) -> Missing:
    match entry.run.spec.decoding:
        case "score":
            return Missing.SCORE_GENERATES_NOTHING
        case "choice":
            return Missing.CHOICE_DECODES_NOTHING
    reported = any(batch.decode_tokens is not None for batch in entry.batches)
    return Missing.NO_SECOND_TOKEN if reported else Missing.NOT_REPORTED
