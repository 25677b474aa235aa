"""The workload of a run, from spec to prompts."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

import numpy as np
import pytest

from backends import mock
from backends.api import ModelRef
from harness.errors import TemplateError, UsageError
from harness.spec import RunSpec
from harness.workload import chat
from harness.workload.chat import ChatTemplate
from harness.workload.encoders import Item
from harness.workload.tokens import Tokenizer
from harness.workload.workload import Draft, Workload, contents, draw, write

SPEC = RunSpec(backend="mock", voters=2, queries=4, calibration_queries=2)
CHAT_SPEC = SPEC.model_copy(update={"prompt": "chat"})
SOURCE = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.fixture(scope="module")
def draft() -> Draft:
    return draw(SPEC)


def written(
    draft: Draft, spec: RunSpec = SPEC, chats: Mapping[str, ChatTemplate | None] | None = None
) -> Workload:
    session = mock.open_session(ModelRef("mock", "mock", ""), {"max_model_len": 1})
    tokenizer = Tokenizer("bytes", None, session.tokenize, session.token_texts)
    chats = chats or {"mock": None}
    return write(draft, spec, dict.fromkeys(chats, tokenizer), chats, limit=900)


def test_a_spec_gives_its_prompts_and_the_same_ones_each_time(draft: Draft) -> None:
    first, again = written(draft), written(draw(SPEC))
    assert len(first.packed.prompts) == 2 * (4 + 2)
    assert first.packed == again.packed


def test_every_voter_is_given_the_same_test_rows(draft: Draft) -> None:
    workload = written(draft)
    given = [prompt.row for prompt in workload.packed.prompts if prompt.role == "query"]
    assert given == workload.query_rows * 2
    assert len(set(workload.query_rows)) == 4
    for prompt in workload.packed.prompts:
        split = workload.dataset.y_test if prompt.role == "query" else workload.dataset.y_train
        assert prompt.label == split[prompt.row]


def test_a_chat_needs_a_model_that_has_one(draft: Draft) -> None:
    with pytest.raises(UsageError, match="no chat template"):
        written(draft, CHAT_SPEC)


def test_an_entry_without_a_chat_template_beside_others_is_named(draft: Draft) -> None:
    chats = {"first": ChatTemplate(SOURCE, "[B]", "[E]"), "second": None}
    with pytest.raises(UsageError, match="a chat, and second: the model has no chat") as caught:
        written(draft, CHAT_SPEC, chats)
    assert "--chat-template FILE" in caught.value.remedy


def test_a_chat_template_is_for_a_chat(draft: Draft) -> None:
    spec = SPEC.model_copy(update={"chat_template": "mine.jinja"})
    with pytest.raises(UsageError, match=r"mine\.jinja: the prompt template compact is no chat"):
        written(draft, spec)


@pytest.mark.parametrize(
    "other",
    [
        ChatTemplate(SOURCE + " ", "[B]", "[E]"),
        ChatTemplate(SOURCE, "[b]", "[E]"),
        ChatTemplate(SOURCE, "[B]", "[e]"),
    ],
    ids=["source", "bos", "eos"],
)
def test_a_chat_is_refused_where_it_would_be_another_text_for_another_entry(
    draft: Draft, other: ChatTemplate
) -> None:
    one = ChatTemplate(SOURCE, "[B]", "[E]")
    for first, second in ((one, other), (other, one)):
        chats = {"first": first, "like-it": first, "second": second}
        with pytest.raises(UsageError, match=r"first has another .* than second, so") as caught:
            written(draft, CHAT_SPEC, chats)
        assert "Run them apart" in caught.value.remedy
        assert "completion" in caught.value.remedy
        assert written(draft, SPEC, chats).packed == written(draft).packed


def test_a_chat_template_is_not_even_read_where_there_is_no_chat(
    draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = ChatTemplate("{{ 7**(10**9) }}", "", "", "mine")
    monkeypatch.setattr(chat, "SECONDS", 0.5)
    with pytest.raises(TemplateError, match="mine is broken: it takes too long"):
        written(draft, CHAT_SPEC, {"mock": hostile})
    monkeypatch.delattr(subprocess, "Popen")
    assert written(draft, SPEC, {"mock": hostile}).packed == written(draft).packed


def test_entries_of_one_chat_template_share_a_chat(draft: Draft) -> None:
    chats: dict[str, ChatTemplate | None] = {
        name: ChatTemplate(SOURCE, "[B]", "[E]") for name in ("a", "b")
    }
    workload = written(draft, CHAT_SPEC, chats)
    assert workload.packed.prompts[0].text.startswith("You sort")
    assert workload.vocabularies == {"a": "bytes", "b": "bytes"}


def test_numbers_are_what_the_words_say() -> None:
    items = [Item(0, 0, ("1", "-2.50")), Item(1, 1, ("03", "4"))]
    np.testing.assert_array_equal(contents("vectors", items), [[1.0, -2.5], [3.0, 4.0]])
