"""What llama.cpp's backend promises beyond the contract: what it stores, and has room for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.api import BackendError, Batch, Decoding, ModelRef, Prompt, Reply
from backends.llama_cpp import backend as llama_cpp
from backends.rules import NOT_FINITE
from backends.sharing import session as shared_cache
from backends.sharing.prefix_tree import common_prefix_length, unique_tokens
from backends.sharing.session import SharedCacheSession
from tests.unit.backends.tiny_gguf import random_tensors, write

LONG = "one two three four five six seven eight nine ten "
OTHER = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday "


def opened(model: ModelRef, **options: Any) -> SharedCacheSession:
    return llama_cpp.open_session(model, {"max_model_len": 192, "threads": 1, **options})


@pytest.fixture
def session(model: ModelRef) -> Iterator[SharedCacheSession]:
    with closing(opened(model)) as one:
        yield one


def ask(
    session: SharedCacheSession, prompts: Sequence[Sequence[int]], **options: Any
) -> dict[int, Reply]:
    labels = tuple(map(tuple, session.tokenize([" yes", " no"])))
    how = Decoding(**({"mode": "score", "labels": labels} | options))
    events = session.generate([Prompt(ids) for ids in prompts], how)
    batches = [event for event in events if isinstance(event, Batch)]
    return {reply.prompt: reply for batch in batches for reply in batch.replies}


def computed(replies: dict[int, Reply]) -> int:
    return sum(reply.prompt_tokens - (reply.cached_tokens or 0) for reply in replies.values())


def test_weights_are_named_by_what_they_are(session: SharedCacheSession) -> None:
    """llama.cpp itself says 256M, which it guesses by the number of layers."""
    assert session.info.weights == "llama 135M Q4_1 GGUF"


def test_a_prompt_given_again_costs_nothing(session: SharedCacheSession) -> None:
    prompts = session.tokenize([LONG])
    first, again = ask(session, prompts), ask(session, prompts)
    assert computed(first) == len(prompts[0])
    assert computed(again) == 0
    assert again[0].label_logprobs == first[0].label_logprobs


def test_a_beginning_of_the_last_prompt_costs_its_last_token(session: SharedCacheSession) -> None:
    [prompt] = session.tokenize([LONG])
    ask(session, [prompt])
    assert computed(ask(session, [prompt[:-3]])) == 1


def test_a_later_call_goes_on_from_the_last_prompt(session: SharedCacheSession) -> None:
    prompts = session.tokenize([LONG + end for end in ("a", "b c", "d e f")])
    shared = common_prefix_length(prompts[0], prompts[1])
    assert computed(ask(session, prompts)) == unique_tokens(prompts)
    assert computed(ask(session, prompts)) <= unique_tokens(prompts) - shared


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_the_order_of_a_call_makes_no_difference(model: ModelRef, temperature: float) -> None:
    with closing(opened(model)) as one, closing(opened(model)) as other:
        prompts = one.tokenize([LONG + str(number) for number in range(6)])
        options: dict[str, Any] = {"mode": "free", "max_tokens": 3, "temperature": temperature}
        forward = ask(one, prompts, **options)
        backward = ask(other, prompts[::-1], **options)
    for index, reply in forward.items():
        same = backward[5 - index]
        assert (reply.token_ids, reply.label_logprobs) == (same.token_ids, same.label_logprobs)


def test_the_last_prompt_makes_room_for_the_next(
    model: ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two prompts that fill the context one after the other, and a cache that holds one of them."""
    monkeypatch.setattr(shared_cache, "BRANCH_SLOTS", 64)
    with closing(opened(model)) as session:
        one, other = (ids[:190] for ids in session.tokenize([LONG * 30, OTHER * 30]))
        for prompts in ([one], [other], [one, other]):
            replies = ask(session, prompts)
            assert [reply.finish for reply in replies.values()] == ["scored"] * len(prompts)


@given(st.lists(st.booleans(), max_size=1200), st.integers(1, 97))
def test_calls_keep_within_the_limits_of_tokens_and_logits(
    wanted: list[bool], most_outputs: int
) -> None:
    context = pytest.importorskip("backends.llama_cpp.context", reason="needs llama-cpp-python")
    steps = [context.Step(0, i, (0,), wants) for i, wants in enumerate(wanted)]
    chunks = list(context._chunks(steps, 60, most_outputs))
    assert [step for chunk in chunks for step in chunk] == steps
    assert all(0 < len(chunk) <= 60 for chunk in chunks)
    assert all(sum(step.wants_logits for step in chunk) <= most_outputs for chunk in chunks)


BRANCHES = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 1500)), max_size=6)


@given(BRANCHES, st.sampled_from([32, 100, 128, 200, 512, 2048]))
def test_long_beginnings_take_the_fast_way_in_tiles_and_ends_the_short(
    branches: list[tuple[int, int]], largest: int
) -> None:
    context = pytest.importorskip("backends.llama_cpp.context", reason="needs llama-cpp-python")
    steps = [
        context.Step(0, position, (sequence,), position == first + length - 1)
        for sequence, (first, length) in enumerate(branches)
        for position in range(first, first + length)
    ]
    runs = list(context._runs(steps, largest))
    assert [step for run, _ in runs for step in run] == steps
    tile, fast = context.TILE_TOKENS, context.LEAST_FAST_TOKENS
    last = {sequence: first + length - 1 for sequence, (first, length) in enumerate(branches)}
    for run, most in runs:
        sizes = [len(call) for call in context._chunks(run, most, 97)]
        if most == min(context.SHORT_CALL_TOKENS, largest):
            assert max(sizes) < fast
        else:
            assert largest >= tile
            [sequence] = {step.sequences[0] for step in run}
            assert fast <= min(sizes) <= max(sizes) <= largest
            assert run[-1].position == (last[sequence] + 1) // tile * tile - 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_type_k": "f17"}, "cache_type_k is 'f17'"),
        ({"flash_attn": "maybe"}, "flash_attn is 'maybe'"),
        ({"max_model_len": 10**6}, "more than the 8192"),
    ],
)
def test_an_option_that_cannot_be_is_named_with_what_can(
    model: ModelRef, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BackendError, match=message) as caught:
        opened(model, **options)
    assert caught.value.remedy


def test_the_size_of_pieces_changes_neither_results_nor_what_is_computed(model: ModelRef) -> None:
    found = []
    for options in ({}, {"n_ubatch": 128, "no_mmap": True}):
        with closing(opened(model, max_model_len=400, **options)) as session:
            prompts = session.tokenize([LONG * 27 + end for end in ("a", "b c", "d e f")])
            replies = ask(session, prompts)
        assert computed(replies) == unique_tokens(prompts) > 256
        found.append([reply.label_logprobs for reply in replies.values()])
    assert found[0] == found[1]


@pytest.fixture
def needs_engine() -> None:
    if not llama_cpp.check().available:
        pytest.skip(llama_cpp.check().remedy)
    pytest.importorskip("gguf", reason="writes the files")


def check_refused(path: Path, message: str) -> None:
    broken = ModelRef("mine", "gguf", str(path))
    for open_it in (opened, lambda model: llama_cpp.open_tokenizer(model, {})):
        with pytest.raises(BackendError, match=message) as caught:
            open_it(broken)
        assert caught.value.remedy
        assert str(path) not in str(caught.value)


@pytest.mark.usefixtures("needs_engine")
def test_why_a_file_cannot_be_loaded_is_passed_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    check_refused(path, "could not load mine: ")
    write(path, architecture="starling9")
    check_refused(path, "could not load mine: unknown model architecture: 'starling9'$")
    assert "starling9" in capfd.readouterr().err  # the log has all of it
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    check_refused(path, "mine is no GGUF file: it is a Git LFS pointer")
    write(path, head={"pooling_type": 3})
    check_refused(path, "mine is not a model that writes text")


@pytest.mark.usefixtures("needs_engine")
def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "broken.gguf")
    broken = ModelRef("mine", "gguf", str(path))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(BackendError, match=r"output\.weight' data is not within the file"):
        opened(broken)
    tensors = random_tensors()
    tensors["output.weight"] *= 0
    write(path, tensors)
    with pytest.raises(BackendError, match=r"mine finds every token .* equally likely"):
        opened(broken)


@pytest.mark.usefixtures("needs_engine")
@pytest.mark.parametrize("mode", ["free", "choice", "score"])
def test_logits_that_are_not_finite_fail_the_reply(tmp_path: Path, mode: str) -> None:
    tensors = random_tensors()
    tensors["token_embd.weight"][7] = float("nan")
    model = ModelRef("mine", "gguf", str(write(tmp_path / "odd.gguf", tensors)))
    with closing(opened(model)) as session:
        replies = ask(session, [[1, 2, 3], [1, 7, 3], [1, 2, 4]], mode=mode, labels=((5,), (6,)))
    assert [replies[i].finish == "failed" for i in range(3)] == [False, True, False]
    assert replies[1].text == NOT_FINITE


def test_attempts_at_one_prompt_share_it(session: SharedCacheSession) -> None:
    [ids] = session.tokenize([LONG])
    how = Decoding("free", (), max_tokens=4, temperature=1.5)
    count = 70  # more than one group
    prompts = [Prompt(ids, attempt=attempt) for attempt in range(count)]
    events = session.generate(prompts, how)
    batches = [event for event in events if isinstance(event, Batch)]
    replies = {reply.prompt: reply for batch in batches for reply in batch.replies}
    assert len(batches) > 1
    assert computed(replies) == len(ids)
    assert len({reply.token_ids for reply in replies.values()}) > count // 2


def test_processors_are_counted_only_where_threads_are_not_given(
    model: ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backends.llama_cpp import context

    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    monkeypatch.setattr(context, "usable_cpus", lambda: 2)
    for options, threads in (({"threads": 1}, 1), ({}, 2)):
        with closing(llama_cpp.open_session(model, {"max_model_len": 64, **options})) as session:
            assert session.info.threads == threads
