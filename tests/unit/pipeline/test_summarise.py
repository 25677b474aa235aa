"""The summary as a function of what was kept: replies made by hand, figures known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from backends import mock
from backends.api import Batch, Capabilities, ModelRef, Reply, SessionInfo
from backends.sharing.prefix_tree import unique_tokens
from harness.errors import StoreError
from harness.pipeline import run as pipeline
from harness.pipeline.prompts import facts_of, save_prompts
from harness.pipeline.run import make_baselines
from harness.pipeline.summarise import recompute, so_far, summarise
from harness.report.words import sharing_sentence
from harness.spec import RunSpec
from harness.store.runs import Results, StoredRun
from harness.store.schema import EntryRow, SessionUse
from harness.store.store import Store
from harness.summary import Load, Missing, RunSummary
from harness.workload.packing import Prompt
from harness.workload.tokens import Tokenizer
from harness.workload.workload import Workload, draw, write

MOCK = mock.open_session(ModelRef("mock", "mock", ""), {"max_model_len": 300})
VOCABULARY = MOCK.info.vocabulary_sha256
TOKENIZER = Tokenizer(VOCABULARY, None, MOCK.tokenize, MOCK.token_texts)
ENTRY = EntryRow("mock", "mock", "mock", VOCABULARY)

Answer: TypeAlias = Callable[[Prompt], Reply | None]


@pytest.fixture(scope="module")
def spec(small_data: str) -> RunSpec:
    return RunSpec(
        backend="mock",
        data=small_data,
        voters=2,
        queries=10,
        calibration_queries=4,
        seed=1,
        baselines=False,  # fitting them takes longer than all the rest
    )


@pytest.fixture(scope="module")
def workload(spec: RunSpec) -> Workload:
    return write(draw(spec), spec, {"mock": TOKENIZER}, {"mock": None}, limit=300)


def plain(text: str = "", logprobs: tuple[float, float] | None = None) -> Reply:
    return Reply(
        0, "stop", 100, cached_tokens=40, text=text, token_ids=(1,), label_logprobs=logprobs
    )


def summed(
    folder: Path,
    spec: RunSpec,
    workload: Workload,
    answer: Answer,
    batches: Sequence[Batch] = (),
    info: SessionInfo = MOCK.info,
) -> RunSummary:
    """The summary of a run in which each prompt got this answer; none where it is `None`."""
    with Store(folder) as store:
        run_id = store.create_run(spec.model_dump_json(), "{}", [ENTRY], None)
        save_prompts(store, run_id, workload, facts_of(workload).model_dump_json())
        session = store.open_session(run_id, "mock", info, 1.5)
        ids = {index: (row.id, 0) for index, row in enumerate(store.prompts(run_id))}
        replies = tuple(
            replace(reply, prompt=index)
            for index, prompt in enumerate(workload.packed.prompts)
            if (reply := answer(prompt)) is not None
        )
        use = SessionUse(2.0, 50.0, None)
        for batch in (Batch(replies, 0.0, 0.0), *batches):
            store.save_batch(session, batch, ids, use)
        run = StoredRun(store, store.run(run_id))
        [summary] = summarise(run, make_baselines(spec, workload)).runs
    return summary


def test_an_unfinished_run_has_a_summary_of_what_is_there(
    tmp_path: Path, spec: RunSpec, workload: Workload
) -> None:
    def answer(prompt: Prompt) -> Reply | None:
        return plain(workload.writer.words[prompt.label]) if prompt.position < 5 else None

    summed(tmp_path, spec, workload, answer)
    with Results(tmp_path) as stored:
        [run] = so_far(stored.run("latest")).runs
    assert (run.accuracy.answered, run.cells.done) == (5, 2 * (5 + 4))
    with Store(tmp_path) as store:
        empty = store.create_run(spec.model_dump_json(), "{}", [ENTRY], None)
        with pytest.raises(StoreError, match=f"run {empty} ended before anything") as caught:
            so_far(StoredRun(store, store.run(empty)))
    assert f"--resume {empty}" in caught.value.remedy


def test_right_words_are_right_and_calibration_replies_are_not_counted(
    tmp_path: Path, spec: RunSpec, workload: Workload
) -> None:
    def answer(prompt: Prompt) -> Reply:
        right = workload.writer.words[prompt.label]
        return plain(f" {right}\n" if prompt.role == "query" else "nonsense")

    result = summed(tmp_path, spec, workload, answer)
    assert result.parse.replies == 20
    assert result.parse.strict is not None
    assert result.parse.strict.value == 1.0
    assert result.accuracy.majority is not None
    assert result.accuracy.majority.value == 1.0
    assert result.accuracy.calibrated is None
    assert result.cells.done == 28


def test_in_score_decoding_the_likelier_label_is_the_vote(
    tmp_path: Path, spec: RunSpec, workload: Workload
) -> None:
    def answer(prompt: Prompt) -> Reply:
        return plain(logprobs=(-1.0, -2.0) if prompt.label == 0 else (-2.0, -1.0))

    scored = spec.model_copy(update={"decoding": "score"})
    result = summed(tmp_path, scored, workload, answer)
    assert result.parse.replies is None
    for vote in (result.accuracy.majority, result.accuracy.soft, result.accuracy.calibrated):
        assert vote is not None
        assert vote.value == 1.0


def test_votes_made_of_logprobs_are_not_taken_for_what_was_written(
    tmp_path: Path, spec: RunSpec, workload: Workload
) -> None:
    def answer(prompt: Prompt) -> Reply:
        return plain("hm", (-1.0, -2.0) if prompt.label == 0 else (-2.0, -1.0))

    result = summed(tmp_path, spec, workload, answer)
    assert (result.accuracy.headline, result.accuracy.answered) == ("calibrated", 10)
    kinds = {caveat.kind.value for caveat in result.caveats}
    assert "labels_not_written" in kinds
    assert "unanswered" not in kinds


def test_voters_may_differ_in_how_many_they_are_calibrated_on(
    tmp_path: Path, spec: RunSpec
) -> None:
    many = spec.model_copy(update={"voters": 6, "calibration_queries": 60})
    work = write(draw(many), many, {"mock": TOKENIZER}, {"mock": None}, limit=300)
    counts = [len(voter.calibration) for voter in work.voters]
    assert counts[0] < max(counts)
    result = summed(tmp_path, many, work, lambda _: plain(logprobs=(-1.0, -2.0)))
    assert result.accuracy.calibrated is not None


def test_a_reply_that_was_cut_off_is_no_vote(
    tmp_path: Path, spec: RunSpec, workload: Workload
) -> None:
    words = workload.writer.words
    cut = replace(plain(words[0]), finish="length")
    result = summed(tmp_path, spec, workload, lambda _: cut)
    assert result.parse.reasons is not None
    assert result.parse.reasons["cut_off"] == 20
    assert (result.accuracy.answered, result.accuracy.majority) == (0, None)


def test_what_was_not_answered_is_missing_and_not_wrong(
    tmp_path: Path, spec: RunSpec, workload: Workload
) -> None:
    def answer(prompt: Prompt) -> Reply | None:
        asked = prompt.role == "query" and prompt.position < 3
        return plain(workload.writer.words[prompt.label]) if asked else None

    result = summed(tmp_path, spec, workload, answer)
    assert (result.accuracy.queries, result.accuracy.answered) == (10, 3)
    assert result.accuracy.majority is not None
    assert result.accuracy.majority.value == 1.0
    assert {"cells_missing", "unanswered"} <= {caveat.kind.value for caveat in result.caveats}


def test_speed_is_of_the_engines_clock_over_all_batches(
    tmp_path: Path, spec: RunSpec, workload: Workload
) -> None:
    batches = [
        Batch((), 10.0, 13.0, 100, 1.0, 10, 0.5),
        Batch((), 11.0, 12.0),  # within the first: it adds nothing
        Batch((), 20.0, 24.0, 200, 2.0, 20, 1.0),
    ]
    speed = summed(tmp_path, spec, workload, lambda _: plain("yes"), batches).speed
    assert speed.prefill_tokens_per_second == pytest.approx(100.0)
    assert speed.decode_tokens_per_second == pytest.approx(20.0)
    assert (speed.engine_seconds, speed.wall_seconds, speed.load_seconds) == (7.0, 2.0, 1.5)
    assert speed.computed_tokens == 28 * 60
    assert speed.served_tokens == 28 * 101
    assert speed.unique_tokens == unique_tokens(workload.packed.token_ids[VOCABULARY])
    assert (speed.least_tokens, speed.shared_block_tokens) == (speed.unique_tokens, 1)
    assert speed.time_to_first_token_ms is None


def test_figures_that_do_not_apply_are_null(
    tmp_path: Path, spec: RunSpec, workload: Workload
) -> None:
    result = summed(tmp_path, spec, workload, lambda _: None)
    assert result.speed.prefill_tokens_per_second is None
    assert result.speed.decode_tokens_per_second is None
    speed = result.speed
    assert (speed.computed_tokens, speed.served_tokens) == (None, None)
    assert (speed.unique_tokens, speed.least_tokens) == (None, None)
    assert speed.engine_seconds is None
    assert result.parse.strict is None
    assert result.accuracy.headline
    assert result.memory.peak_gpu_mib is None
    assert result.memory.peak_rss_mib == 50.0
    assert result.missing["prefill_tokens_per_second"] is Missing.NO_REPLY
    assert "peak_rss_mib" not in result.missing


def test_what_an_engine_cannot_report_is_none_and_says_why(
    tmp_path: Path, spec: RunSpec, workload: Workload
) -> None:
    blind = replace(MOCK.info, capabilities=Capabilities(label_logprobs="none", location="remote"))
    silent = replace(plain("yes"), cached_tokens=None)
    result = summed(tmp_path, spec, workload, lambda _: silent, info=blind)
    assert result.speed.computed_tokens is None
    assert result.accuracy.soft is None
    assert {name: result.missing[name] for name in ("computed_tokens", "soft")} == {
        "computed_tokens": Missing.NOT_REPORTED,
        "soft": Missing.NO_LABEL_LOGPROBS,
    }
    assert result.accuracy.headline == "majority"
    assert result.accuracy.majority is not None


def test_the_model_is_tested_against_each_baseline_over_the_same_queries(
    tmp_path: Path, spec: RunSpec, workload: Workload
) -> None:
    def right(prompt: Prompt) -> Reply:
        return plain(workload.writer.words[prompt.label])

    tested = spec.model_copy(update={"baselines": True})
    result = summed(tmp_path, tested, workload, right)
    baselines = {one.name: one for one in make_baselines(tested, workload)}
    assert {test.baseline for test in result.against_baselines} == set(baselines)
    for test in result.against_baselines:
        baseline = baselines[test.baseline]
        assert baseline.predictions is not None
        assert len(baseline.predictions) == 10
        assert test.difference.paired
        assert test.difference.first == pytest.approx(baseline.estimate.value)
        assert test.difference.other == 1.0


def test_behind_shuffled_labels_the_same_vote_is_compared(tmp_path: Path, spec: RunSpec) -> None:
    """A model that leans and does not look at the examples is better calibrated, and by that alone
    it would seem to learn from them."""

    def leaning(prompt: Prompt) -> Reply:
        return plain(logprobs=(-1.0, -5.0) if prompt.label == 0 else (-1.0, -4.0))

    changes = {"decoding": "score", "shuffled_labels": True}
    scored = spec.model_copy(update=changes)
    work = write(draw(scored), scored, {"mock": TOKENIZER}, {"mock": None}, limit=300)
    result = summed(tmp_path / "all", scored, work, leaning)
    assert result.accuracy.calibrated is not None
    assert result.accuracy.calibrated.value == 1.0
    assert result.shuffled is not None
    assert result.shuffled.vote == "soft"
    [test] = result.against_baselines
    assert test.difference.first == test.difference.other == 0.5
    # Of a run that was ended early there may be nothing to compare.
    early = summed(
        tmp_path / "early", scored, work, lambda one: leaning(one) if one.role != "query" else None
    )
    assert early.against_baselines == []


def test_a_summary_can_be_made_again_from_what_is_stored(tmp_path: Path, small_data: str) -> None:
    """Without model, tokenizer or data: they are taken away before."""
    data = tmp_path / "data.npz"
    data.write_bytes(Path(small_data).read_bytes())
    spec = RunSpec(
        backend="mock", data=str(data), voters=2, queries=10, max_model_len=300, attempts=2,
        temperature=1.0,
    )  # fmt: skip
    stored = pipeline.run(spec, tmp_path)
    data.unlink()
    with Results(tmp_path) as results:
        assert recompute(results.run(stored.run_id)) == stored == results.run("latest").summary


def test_the_order_in_which_prompts_were_sent_has_a_minimum_of_its_own(
    tmp_path: Path, spec: RunSpec, workload: Workload
) -> None:
    """Voters in turn: whoever holds the prompt before only computes each beginning again."""
    prompts, ids = workload.packed.prompts, workload.packed.token_ids[VOCABULARY]

    def sent(order: list[int]) -> RunSummary:
        batches = [
            Batch((replace(plain(), prompt=index),), float(place), place + 0.5)
            for place, index in enumerate(order)
        ]
        folder = tmp_path / str(order[1])
        return summed(folder, spec, workload, lambda _: None, batches)

    by_voter = sorted(range(len(ids)), key=lambda index: list(ids[index]))
    in_turn = sorted(range(len(ids)), key=lambda i: (prompts[i].position, prompts[i].voter))
    good, bad = sent(by_voter).speed, sent(in_turn).speed
    assert good.in_order_tokens == good.unique_tokens == bad.unique_tokens
    assert bad.in_order_tokens is not None
    assert bad.in_order_tokens > 2 * (bad.unique_tokens or 0)
    assert "Sorted by their beginnings" in sharing_sentence(sent(in_turn[::-1]))
    sorted_ones = sent(by_voter[::-1])
    assert "sent is not the reason" in sharing_sentence(sorted_ones)
    # Of an engine that shares whole blocks, that is the reason; of a cold run nothing is shared.
    blocks = {"least_tokens": sorted_ones.speed.computed_tokens, "shared_block_tokens": 32}
    in_blocks = sorted_ones.speed.model_copy(update=blocks)
    said = sharing_sentence(sorted_ones.model_copy(update={"speed": in_blocks}))
    assert "whole blocks of 32 tokens" in said
    counts = {"is_cold": True, "concurrency": 1, "in_flight": 1, "requests": 1, "failed": 0}
    cold = Load.model_validate(dict.fromkeys(Load.model_fields) | counts)
    assert sharing_sentence(sorted_ones.model_copy(update={"load": cold})) == ""


def test_a_session_begins_with_nothing_held(
    tmp_path: Path, spec: RunSpec, workload: Workload
) -> None:
    """After a crash a fresh worker has to compute the common beginning again."""
    ids = workload.packed.token_ids[VOCABULARY]
    with Store(tmp_path) as store:
        run_id = store.create_run(spec.model_dump_json(), "{}", [ENTRY], None)
        save_prompts(store, run_id, workload, facts_of(workload).model_dump_json())
        cells = {index: (row.id, 0) for index, row in enumerate(store.prompts(run_id))}
        for prompt in (0, 1):
            session = store.open_session(run_id, "mock", MOCK.info, 1.5)
            batch = Batch((replace(plain(), prompt=prompt),), 0.0, 1.0)
            store.save_batch(session, batch, cells, SessionUse(2.0, 50.0, None))
        [summary] = so_far(StoredRun(store, store.run(run_id))).runs
    assert summary.speed.in_order_tokens == len(ids[0]) + len(ids[1])
