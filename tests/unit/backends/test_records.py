"""Events and infos arrive as they were sent; one that is wrong is refused, and its field named."""

from __future__ import annotations

import math
import socket
from array import array
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import records, wire
from backends.api import (
    Allocated,
    Availability,
    Batch,
    Capabilities,
    Event,
    MemoryPlan,
    Progress,
    Reply,
    SessionInfo,
    Started,
    TokenizerInfo,
)
from backends.wire import Message, WireError

PROMPTS = 10
COUNTS = st.integers(0, 2**31 - 1)
AMOUNTS = st.floats(0, allow_nan=False, allow_infinity=False)
LOGPROBS = st.none() | st.floats(allow_nan=False, max_value=0.0)  # minus infinity too
INDICES = st.integers(0, PROMPTS - 1)
REPLIES = st.builds(
    Reply,
    prompt=INDICES,
    finish=st.sampled_from(["stop", "length", "label", "scored", "overflow", "empty", "failed"]),
    prompt_tokens=st.integers(1000, 2**31),
    cached_tokens=st.none() | st.integers(0, 1000),
    text=st.text(min_size=1).map("it ".__add__),
    token_ids=st.lists(COUNTS, max_size=5).map(tuple),
    label_logprobs=st.none() | st.tuples(LOGPROBS, LOGPROBS),
    time_to_first_token_ms=st.none() | AMOUNTS,
    time_per_output_token_ms=st.none() | AMOUNTS,
)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Started, st.lists(INDICES).map(tuple)),
    st.builds(Progress, COUNTS),
    st.builds(
        lambda replies, times, *rest: Batch(replies, *sorted(times), *rest),
        st.lists(REPLIES, max_size=3).map(tuple),
        st.tuples(AMOUNTS, AMOUNTS),
        st.none() | COUNTS,
        st.none() | AMOUNTS,
        st.none() | COUNTS,
        st.none() | AMOUNTS,
    ),
)
INFO = SessionInfo(
    engine="toy",
    engine_version="toy 1",
    model="m",
    weights="w",
    device="cpu",
    threads=2,
    declared_context=100,
    allocated_context=50,
    vocabulary_sha256="0" * 64,
    bos_id=1,
    chat_template="{{ x }}",
    capabilities=Capabilities("text", "top_k", False, "client", "remote", False),
    vocabulary_size=300,
)
REPLY = Reply(3, "label", 7, 5, "a", (9,), (-0.5, None), 1.0, 2.0)
BATCH = Batch((REPLY, replace(REPLY, prompt=4)), 1.0, 2.0, 4, 0.5, 1, 0.25)


def carried(message: Message) -> Message:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire.send(ours, message)
        return wire.receive(theirs)


@given(EVENTS)
def test_events_arrive_as_they_were(event: Event) -> None:
    sent = carried(records.encode_event(event))
    assert records.decode_event(sent, PROMPTS, labels=2) == event


def test_an_impossible_label_arrives_as_minus_infinity() -> None:
    batch = Batch((Reply(0, "scored", 1, label_logprobs=(-math.inf, None)),), 0.0, 0.0)
    sent = carried(records.encode_event(batch))
    assert sent["replies"][0]["label_logprobs"] == ["-inf", None]
    assert records.decode_event(sent, 1, labels=2) == batch


def altered(**changes: Any) -> Message:
    return {**records.encode_event(BATCH), **changes}


def with_reply(**changes: Any) -> Message:
    first, second = records.encode_event(BATCH)["replies"]
    return altered(replies=[{**first, **changes}, second])


HUGE = 10**400
COUNT, AMOUNT = "a whole number of 0 or more", "(a finite number|0 or more)"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({}, "event: None"),
        ({"event": "token"}, "event: 'token'"),
        ({"event": ["batch"]}, "event: "),
        ({"event": "started"}, r"started\.prompts: missing"),
        ({"event": "started", "prompts": 1}, r"started\.prompts: 1 is not a list"),
        ({"event": "started", "prompts": [PROMPTS]}, r"started\.prompts: 10 is none of the 10"),
        ({"event": "started", "prompts": [-1]}, r"started\.prompts: -1"),
        ({"event": "started", "prompts": [True]}, r"started\.prompts: True"),
        (
            {"event": "progress", "prompt_tokens": -1},
            rf"progress\.prompt_tokens: -1 is not {COUNT}",
        ),
        ({"event": "progress", "prompt_tokens": 1.5}, r"progress\.prompt_tokens: 1\.5"),
        ({"event": "progress", "prompt_tokens": 1, "more": 2}, r"progress\.more: there is no such"),
        (altered(began="nan"), r"batch\.began: 'nan' is not a finite number"),
        (altered(began=None), r"batch\.began: None"),
        (altered(ended=math.inf), r"batch\.ended: inf is not a finite number"),
        (altered(ended=0.5), r"batch\.ended: 0\.5 is not at or behind began"),
        (altered(ended=True), r"batch\.ended: True"),
        (altered(began=-1.7e308, ended=1.7e308), r"batch\.ended: .* by a finite time"),
        (altered(ended=HUGE), r"batch\.ended: 10+"),
        (altered(prefill_tokens=-4), r"batch\.prefill_tokens: -4"),
        (altered(prefill_tokens=HUGE), r"batch\.prefill_tokens: 10+"),
        (altered(prefill_seconds=-0.5), rf"batch\.prefill_seconds: -0\.5 is not {AMOUNT}"),
        (altered(decode_tokens=0.5), r"batch\.decode_tokens: 0\.5"),
        (altered(decode_seconds="1"), rf"batch\.decode_seconds: '1' is not {AMOUNT}"),
        (altered(replies={}), r"batch\.replies: {} is not a list"),
        (altered(replies=[]), r"batch\.replies: 0 with the ids of 2"),
        (altered(replies=[1, 2]), "reply: not a JSON object"),
        (altered(ids=array("i", [1, 2])), "following: "),
        (altered(ids=[9]), "ids: there is no such array"),
        (with_reply(prompt=PROMPTS), r"reply\.prompt: 10 is none of the 10 prompts"),
        (with_reply(prompt=None), r"reply\.prompt: None"),
        (with_reply(finish="done"), r"reply\.finish: 'done' is not one of stop, length"),
        (with_reply(finish=["stop"]), r"reply\.finish: "),
        (with_reply(prompt_tokens=-1), r"reply\.prompt_tokens: -1"),
        (with_reply(cached_tokens=8), r"reply\.cached_tokens: 8 is not within the 7 tokens"),
        (with_reply(cached_tokens=-1), r"reply\.cached_tokens: -1"),
        (with_reply(text=None), r"reply\.text: None is not a text"),
        (with_reply(label_logprobs=[-1.0]), r"reply\.label_logprobs: .* as many as the 2 labels"),
        (with_reply(label_logprobs=0.5), r"reply\.label_logprobs: 0\.5 is not a list"),
        (with_reply(label_logprobs=["low", 0]), r"reply\.label_logprobs: .* a list of numbers"),
        (with_reply(label_logprobs=[[], 0]), r"reply\.label_logprobs: .* a list of numbers"),
        (with_reply(label_logprobs=[0.5, 0]), r"reply\.label_logprobs: .* logarithms of prob"),
        (with_reply(finish="failed", text=" "), r"reply\.text: ' ' is not the reason"),
        (with_reply(time_to_first_token_ms=-1), r"reply\.time_to_first_token_ms: -1"),
        (with_reply(time_to_first_token_ms="inf"), r"reply\.time_to_first_token_ms: 'inf'"),
        (with_reply(time_per_output_token_ms=[]), r"reply\.time_per_output_token_ms: \[\]"),
        (with_reply(score=1), r"reply\.score: there is no such field"),
    ],
)
def test_an_event_that_is_wrong_is_refused(message: Message, said: str) -> None:
    with pytest.raises(WireError, match=said):
        records.decode_event(message, PROMPTS, labels=2)


@pytest.mark.parametrize("logprobs", [(math.nan, -1.0), (None, math.inf), (math.nan, math.nan)])
def test_a_reply_with_log_probabilities_that_are_not_finite_has_failed(
    logprobs: tuple[float | None, ...],
) -> None:
    """It is the computation that is wrong: the record is sound, and so are the other replies."""
    sent = carried(
        records.encode_event(
            replace(BATCH, replies=(replace(REPLY, label_logprobs=logprobs), BATCH.replies[1]))
        )
    )
    read = records.decode_event(sent, PROMPTS, labels=2)
    assert isinstance(read, Batch)
    failed = Reply(3, "failed", 7, 5, "the engine's log-probabilities are not finite")
    assert read.replies == (failed, BATCH.replies[1])


def test_what_an_engine_may_not_report_is_sent_all_the_same_and_refused() -> None:
    """The harness has to be able to name the field."""
    sent = carried(records.encode_event(replace(BATCH, ended=math.nan)))
    with pytest.raises(WireError, match=r"batch\.ended: 'nan'"):
        records.decode_event(sent, PROMPTS, labels=2)


def test_infos_arrive_as_they_were() -> None:
    sent = carried({"result": asdict(INFO)})["result"]
    assert records.decode_session_info(sent) == INFO
    tokenizer = TokenizerInfo(100, "0" * 64, None, "", "</s>", None, 300)
    assert records.decode_tokenizer_info(asdict(tokenizer)) == tokenizer
    found = Availability(False, "1", "none", "Install it.", True, "CUDA", ("GPU 0", "CPU"), "Wait.")
    assert records.decode_availability(carried({"result": asdict(found)})["result"]) == found


@pytest.mark.parametrize("devices", ["GPU 0", [1], None])
def test_devices_are_texts(devices: object) -> None:
    with pytest.raises(WireError, match=r"Availability\.devices: .* is not a list of texts"):
        records.decode_availability({**asdict(Availability(True)), "devices": devices})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("engine", None),
        ("engine", ""),
        ("weights", "a\nb"),
        ("device", "\x1b[31mred"),
        ("model", "m" * 10_001),
        ("declared_context", 0),
        ("allocated_context", 0),
        ("allocated_context", -5),
        ("vocabulary_sha256", ""),
        ("vocabulary_sha256", "x" * 64),
        ("eos_text", "\ud800"),
        ("chat_template", "x" * 2**21),
        ("device", 1),
        ("threads", -1),
        ("threads", True),
        ("declared_context", 1.5),
        ("allocated_context", "50"),
        ("shared_block_tokens", None),
        ("shared_block_tokens", 0),
        ("engine_version", "\ud800"),
        ("bos_id", 2**31),
        ("bos_id", 300),
        ("vocabulary_size", 0),
        ("vocabulary_size", 2.5),
        ("vocabulary_sha256", None),
        ("bos_id", "1"),
        ("chat_template", 0),
        ("is_mock", 0),
        ("capabilities", None),
        ("capabilities", {}),
        ("capabilities", {**asdict(INFO)["capabilities"], "clock": "wall"}),
        ("capabilities", {**asdict(INFO)["capabilities"], "can_forget": "no"}),
        ("unheard_of", 1),
    ],
)
def test_an_info_that_is_wrong_is_refused(field: str, value: object) -> None:
    name = r"Capabilities(\.|: )" if field == "capabilities" else rf"SessionInfo\.{field}: "
    with pytest.raises(WireError, match=name):
        records.decode_session_info({**asdict(INFO), field: value})


@pytest.mark.parametrize("missing", ["declared_context", "eos_text"])
def test_an_info_that_lacks_a_field_is_refused(missing: str) -> None:
    fields = asdict(TokenizerInfo(100, "0" * 64))
    del fields[missing]
    with pytest.raises(WireError, match=rf"TokenizerInfo\.{missing}: missing"):
        records.decode_tokenizer_info(fields)


@pytest.mark.parametrize("value", [None, [], "unavailable", {"available": True}])
def test_an_availability_that_is_wrong_is_refused(value: object) -> None:
    with pytest.raises(WireError, match="Availability"):
        records.decode_availability(value)


@pytest.mark.parametrize(
    "value", [None, ["a"], ["a", 1], "ab", ["a", "\ud800"], ["a", "b" * 10_001], ["a", "b", "c"]]
)
def test_token_texts_that_are_wrong_are_refused(value: object) -> None:
    with pytest.raises(WireError, match="token texts"):
        records.decode_token_texts(value, 2)


@pytest.mark.parametrize("seconds", [None, -1.0, "1"])
def test_a_load_time_that_is_wrong_is_refused(seconds: object) -> None:
    with pytest.raises(WireError, match=r"opened\.seconds"):
        records.decode_seconds({"result": None, "seconds": seconds})


PLAN = asdict(MemoryPlan(64, 1, 2, 3, 4, 5))


def test_memory_plans_are_one_for_each_length() -> None:
    longer = {**PLAN, "tokens": 128}
    fixed = {**PLAN, "cache_tokens": 7, "cache_option": "size"}
    found = records.decode_memory_plans([PLAN, longer, fixed], [64, 128, 64])
    assert found == [
        MemoryPlan(64, 1, 2, 3, 4, 5),
        MemoryPlan(128, 1, 2, 3, 4, 5),
        MemoryPlan(64, 1, 2, 3, 4, 5, cache_tokens=7, cache_option="size"),
    ]
    assert records.decode_memory_plans(None, [64]) is None


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        [PLAN, PLAN],
        [{**PLAN, "tokens": 65}],
        [{**PLAN, "cache_bytes": -1}],
        [{**PLAN, "weights_bytes": 2**63}],
        [{**PLAN, "compute_bytes": 1.5}],
        [{**PLAN, "on_gpu": 1}],
        [{**PLAN, "cache_tokens": -1}],
        [{**PLAN, "cache_option": None}],
        [{**PLAN, "cache_tokens": 7}],
        [{**PLAN, "cache_option": "two\nlines"}],
        [{**PLAN, "more": 1}],
    ],
)
def test_memory_plans_that_make_no_sense_are_refused(value: object) -> None:
    with pytest.raises(WireError):
        records.decode_memory_plans(value, [64])


@pytest.mark.parametrize("value", [[], {"cache_bytes": 1}, {"cache_bytes": -1, "compute_bytes": 0}])
def test_what_is_allocated_is_checked(value: object) -> None:
    assert records.decode_allocated(None) == Allocated()
    with pytest.raises(WireError):
        records.decode_allocated(value)
