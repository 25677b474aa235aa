"""Prompts to a server: what becomes of replies, of lies about them, and of what goes wrong."""

from __future__ import annotations

import time
from typing import Any

import pytest

from backends.api import (
    BackendError,
    Batch,
    Decoding,
    Event,
    Finding,
    ModelRef,
    Options,
    Prompt,
    Reply,
)
from backends.server import backend, client
from tests.fakes.server import Fake, Lies, Trouble, running
from tests.unit.backends.server.conftest import BYTES, Open, tokenize

IDS = ("vllm", "llama-server", "sglang")
TEXT = ("openai", "ollama", "lm-studio", "llama_cpp.server")
KEY = "sk-very-secret"
WORDS = (" REAL", " FAKE")


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_WAIT_SECONDS", 0.005)
    monkeypatch.setattr(client, "MOST_WAIT_SECONDS", 0.05)


def fake(flavour: str, **more: Any) -> Fake:
    if flavour in TEXT:
        more = {"tokenize": tokenize, **more}
    return Fake(flavour=flavour, **more)  # type: ignore[arg-type]


def prompts(flavour: str, count: int = 3) -> list[Prompt]:
    texts = [f"{place}: which is it, real or not? Say:" for place in range(count)]
    ids = tokenize if flavour in TEXT else lambda text: list(text.encode())
    return [Prompt(ids(text), text) for text in texts]


def labels(flavour: str) -> tuple[tuple[int, ...], ...]:
    if flavour in TEXT:
        return tuple(tuple(tokenize(word)) for word in WORDS)
    return tuple(tuple(word.encode()) for word in ("R", "F"))


def events(opened: Open, one: Fake, mode: Any = "free", **options: Any) -> list[Event]:
    session, _ = opened(one, **options)
    decoding = Decoding(mode, labels(one.flavour), max_tokens=4)
    return list(session.generate(prompts(one.flavour), decoding))


def replies(found: list[Event]) -> list[Reply]:
    every = [reply for one in found if isinstance(one, Batch) for reply in one.replies]
    return sorted(every, key=lambda reply: reply.prompt)


@pytest.mark.parametrize("flavour", [*IDS, *TEXT])
def test_a_reply_is_text_with_a_time_of_its_first_token(opened: Open, flavour: str) -> None:
    for reply in replies(events(opened, fake(flavour))):
        assert reply.text.startswith(WORDS)
        assert reply.finish == "stop"
        assert (reply.time_to_first_token_ms or 0) > 0
        scored = reply.label_logprobs is not None and None not in reply.label_logprobs
        # Of the likeliest five that OpenAI's API gives, a label may be none.
        assert scored == (flavour != "lm-studio") or flavour == "openai"


@pytest.mark.parametrize("flavour", [*IDS, "llama_cpp.server"])
def test_choice_takes_the_likelier_label(opened: Open, flavour: str) -> None:
    for reply in replies(events(opened, fake(flavour), "choice")):
        scores = reply.label_logprobs
        assert scores is not None
        best = max(range(2), key=lambda i: scores[i] or 0.0)
        assert reply.token_ids == labels(flavour)[best]
        assert reply.finish == "label"


@pytest.mark.parametrize("flavour", IDS)
def test_ids_are_what_is_sent(opened: Open, flavour: str) -> None:
    one = fake(flavour)
    events(opened, one, "score")
    key = "input_ids" if flavour == "sglang" else "prompt"
    sent = [body[key] for body in one.asked]
    assert all(prompt.token_ids in sent for prompt in prompts(flavour))


def test_text_is_sent_raw(opened: Open) -> None:
    one = fake("openai")
    events(opened, one)
    assert {prompt.text for prompt in prompts("openai")} < {body["prompt"] for body in one.asked}


def test_labels_that_are_not_among_the_likeliest_are_asked_for_again(opened: Open) -> None:
    """llama-server gives the hundred likeliest of the fake's 256 tokens, or all."""
    one = fake("llama-server")
    for reply in replies(events(opened, one, "score")):
        assert reply.label_logprobs is not None
        assert None not in reply.label_logprobs
    assert max(body["n_probs"] for body in one.asked) > 256


@pytest.mark.parametrize("mode", ["score", "choice"])
def test_without_log_probabilities_labels_cannot_be_compared(opened: Open, mode: str) -> None:
    with pytest.raises(BackendError, match=f"{mode} decoding compares .* LM Studio reports none"):
        events(opened, fake("lm-studio"), mode)


@pytest.mark.parametrize("flavour", ["vllm", "openai"])
def test_a_wrong_count_is_a_failed_reply_and_one_finding(opened: Open, flavour: str) -> None:
    one = fake(flavour)
    session, _ = opened(one)
    one.lies = Lies(sees=10)
    found = list(session.generate(prompts(flavour), Decoding("score", labels(flavour))))
    sent = len(prompts(flavour)[0].token_ids)
    for reply in replies(found):
        assert reply.finish == "failed"
        assert reply.text == f"the server saw 10 prompt tokens, and {sent} were sent"
    assert [one for one in found if isinstance(one, Finding)] == [Finding("prompt_cut", sent, 10)]


def test_prompts_beyond_what_is_really_seen_have_no_reply(opened: Open) -> None:
    session, _ = opened(fake("vllm", lies=Lies(sees=300, counts_whole=True)))
    long = Prompt([65] * 400)
    [*_, batch] = session.generate([long], Decoding("score", labels("vllm")))
    assert isinstance(batch, Batch)
    assert batch.replies[0].finish == "failed"
    assert "drops the head of prompts longer than about" in batch.replies[0].text


def test_false_cached_tokens_are_not_reported(opened: Open) -> None:
    found = events(opened, fake("vllm", lies=Lies(cached=480)))
    assert {reply.cached_tokens for reply in replies(found)} == {None}


REASONS: dict[Trouble, str] = {
    "no_model": "there is no such thing (404): no such model",
    "error": "the server answered with an error (500): it went wrong",
    "page": "a page of HTML came, and no reply: a proxy may stand in between",
    "broken_json": "the reply is no JSON",
    "not_utf8": "the reply is not UTF-8",
    "half": "the reply ended before its end: half of it, or nothing, came",
    "dies": "the connection ended in the middle of the reply",
    "silent": "the server sent nothing for 5 s",
    "endless": "the reply is longer than 4 MiB",
    "other_model": "the reply is of the model 'another-model', and not of fake-model",
    "redirect_away": "the server redirects to another host (elsewhere.invalid)",
    "error_in_stream": "the server broke off: out of memory",
}


def test_what_goes_wrong_costs_one_reply_and_has_a_name(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MOST_BODY", 4 * 2**20)
    one = fake("vllm")
    session, _ = opened(one, request_timeout_seconds=5)
    for trouble, reason in REASONS.items():
        one.troubles.append(trouble)
        found = session.generate(prompts("vllm"), Decoding("free", (), max_tokens=4))
        first, *others = replies(list(found))
        assert (first.finish, first.text) == ("failed", reason), trouble
        assert [reply.text for reply in others if reply.finish != "stop"] == [], trouble


@pytest.mark.parametrize("trouble", ["busy", "busy_for_long", "loading", "redirect_here"])
def test_a_busy_server_is_tried_again(opened: Open, trouble: Trouble) -> None:
    one = fake("vllm")
    session, _ = opened(one)
    one.troubles.extend([trouble] * 2)
    found = list(session.generate(prompts("vllm"), Decoding("free", (), max_tokens=4)))
    assert {reply.finish for reply in replies(found)} == {"stop"}
    again = [one for one in found if isinstance(one, Finding)]
    assert [one.requests for one in again] == ([] if trouble == "redirect_here" else [2])


def test_a_server_that_stays_busy_has_a_reason(opened: Open) -> None:
    one = fake("vllm")
    session, _ = opened(one)
    one.troubles.extend(["busy"] * client.MOST_TRIES)
    found = session.generate(prompts("vllm", 1), Decoding("free", (), max_tokens=4))
    [reply] = replies(list(found))
    assert reply.text.startswith("it was too busy (429, 6 times)")


def test_a_server_that_is_gone_ends_the_call(opened: Open) -> None:
    session, server = opened(fake("vllm"))
    server.stop()
    with pytest.raises(BackendError, match="cannot be reached"):
        list(session.generate(prompts("vllm"), Decoding("free", (), max_tokens=4)))


def test_a_server_that_comes_back_loses_no_reply(opened: Open) -> None:
    session, server = opened(fake("vllm"))
    found = session.generate(prompts("vllm", 8), Decoding("free", (), max_tokens=4))
    first = [next(found) for _ in range(2)]
    server.stop()
    server.start()
    assert {reply.finish for reply in replies([*first, *found])} == {"stop"}


def test_several_requests_are_in_flight(opened: Open) -> None:
    one = fake("vllm", holds_seconds=0.5)
    session, _ = opened(one, concurrency=8)
    list(session.generate(prompts("vllm", 16), Decoding("free", (), max_tokens=4)))
    assert one.most_active == 8


def test_a_key_is_sent_and_said_nowhere(
    opened: Open, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINE", KEY)
    session, _ = opened(fake("vllm", key=KEY), api_key_variable="MINE")
    assert KEY not in repr(session.info)
    monkeypatch.setenv("MINE", f"{KEY}-old")
    with pytest.raises(BackendError) as refused:
        opened(fake("vllm", key=KEY), api_key_variable="MINE")
    assert "refuses the API key (401)" in str(refused.value)
    assert KEY not in f"{refused.value}{refused.value.remedy}{capfd.readouterr()}"


def test_a_variable_that_is_not_set_is_named() -> None:
    options: Options = {
        "url": "http://127.0.0.1:1",
        "api_key_variable": "NOT_SET",
        "max_model_len": 64,
    }
    with pytest.raises(BackendError, match="NOT_SET is not set"):
        backend.open_session(BYTES, options)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@127.0.0.1:8080",
        "http://127.0.0.1:8080/?key=secret",
        "file:///etc/passwd",
        "127.0.0.1:8080",
    ],
)
def test_such_a_url_is_refused(url: str) -> None:
    assert backend.URL.why_not(url)


@pytest.mark.parametrize("flavour", [*IDS, *TEXT])
def test_which_server_it_is_is_found_by_asking_it(opened: Open, flavour: str) -> None:
    session, _ = opened(fake(flavour))
    wanted = {
        "vllm": "vLLM server (vllm 0.fake)",
        "llama-server": "llama-server (llama.cpp 0.fake)",
        "sglang": "SGLang (sglang 0.fake)",
        "openai": "OpenAI-compatible server (of unknown version)",
        "ollama": "Ollama (ollama 0.fake)",
        "lm-studio": "LM Studio (of unknown version)",
        "llama_cpp.server": "llama_cpp.server (llama-cpp-python 0.fake)",
    }
    assert session.info.engine_version == wanted[flavour]
    assert session.info.device == "not reported"
    assert session.info.capabilities.clock == "client"
    assert session.info.capabilities.prompts == ("token_ids" if flavour in IDS else "text")
    assert session.info.capabilities.can_ignore_end == (flavour in IDS)


@pytest.mark.parametrize("flavour", [*IDS, *TEXT])
def test_a_server_that_is_busy_is_not_taken_for_another(opened: Open, flavour: str) -> None:
    session, _ = opened(fake(flavour, busy_looks=2))
    assert session.info.engine == opened(fake(flavour))[0].info.engine


def test_a_server_that_is_too_busy_to_say_what_it_is_has_a_reason(opened: Open) -> None:
    with pytest.raises(BackendError, match="it was too busy"):
        opened(fake("vllm", busy_looks=client.MOST_TRIES))


def test_blocks_that_vllm_shares_are_as_large_as_its_metrics_say(opened: Open) -> None:
    session, _ = opened(fake("vllm", block_tokens=32))
    assert session.info.shared_block_tokens == 32


def test_a_text_that_has_no_utf8_is_sent_as_our_tokenizer_reads_it(opened: Open) -> None:
    one = fake("openai")
    session, _ = opened(one)
    half = "half of a pair: \udc80"
    [event] = [
        event
        for event in session.generate([Prompt(tokenize(half), half)], Decoding("free", (), 2))
        if isinstance(event, Batch)
    ]
    assert event.replies[0].finish in ("stop", "length"), event.replies[0].text
    assert one.asked[-1]["prompt"] == "half of a pair: ?"


def test_the_clock_of_a_request_starts_when_it_is_written(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[float] = []

    def encoded(body: object) -> bytes:
        data = client.encoded(body)
        written.append(time.perf_counter())
        return data

    session, _ = opened(fake("vllm"))
    monkeypatch.setattr("backends.server.session.encoded", encoded)
    batches = [
        event
        for event in session.generate(prompts("vllm"), Decoding("free", labels("vllm"), 4))
        if isinstance(event, Batch)
    ]
    for last, batch in zip(written, batches, strict=True):
        assert last <= batch.began


def test_tokens_that_come_all_at_once_have_no_time_between_them(opened: Open) -> None:
    for reply in replies(events(opened, fake("llama_cpp.server"))):
        assert reply.time_to_first_token_ms is not None
        assert reply.time_per_output_token_ms is None


def test_of_several_models_one_has_to_be_named(opened: Open) -> None:
    one = fake("openai", models=("fake-model", "another"))
    with pytest.raises(BackendError, match="serves several models: fake-model, another"):
        opened(one)
    session, _ = opened(one, served_model="another")
    assert session.info.weights == "served as another"


def test_where_nobody_counts_tokens_the_model_has_to_be_named() -> None:
    with running(fake("lm-studio")) as server:
        options: Options = {"url": server.url, "max_model_len": 600}
        with pytest.raises(BackendError, match="counts no tokens") as refused:
            backend.open_tokenizer(ModelRef("mine", "none", ""), options)
    assert "--model" in refused.value.remedy


def test_another_vocabulary_is_seen(opened: Open) -> None:
    with pytest.raises(BackendError, match="whose tokens are not those of smollm2-135m"):
        opened(Fake(flavour="llama_cpp.server", tokenize=lambda text: list(text.encode())))


def test_a_server_that_answers_one_at_a_time_is_given_no_more(opened: Open) -> None:
    with pytest.raises(BackendError, match="one request at a time, and 4 are wanted"):
        opened(fake("llama_cpp.server"), concurrency=4)
