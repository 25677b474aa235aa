"""Templates, and the texts made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import TemplateError, UsageError
from harness.scoring.parsing import parse_strict
from harness.workload.dataset import Kind
from harness.workload.encoders import Item
from harness.workload.prompt import (
    FOLDER,
    Template,
    Writer,
    load_template,
    make_writer,
    template_names,
)

CLASSES = ("REAL", "FAKE")
EXAMPLES = (Item(0, 0, ("1", "2")), Item(1, 1, ("3", "4")))
QUERY = Item(9, 0, ("5", "6"))

PLAIN: dict[str, Any] = {
    "version": 1,
    "kind": "completion",
    "separator": " ",
    "head": "$labels?\n",
    "example": "$numbers: $label\n",
    "query": "$numbers:",
    "answer": " $label",
    "stop": ("\n",),
    "labels": {"REAL": "yes", "FAKE": "no"},
}


def template(**changes: Any) -> Template:
    return Template.model_validate({**PLAIN, **changes})


def writer(classes: Sequence[str] = CLASSES, **changes: Any) -> Writer:
    return make_writer("mine", template(**changes), classes, chat)


def chat(system: str, users: Sequence[str]) -> list[str]:
    """What a model's chat template might make of them."""
    return [f"[B]<system>{system}<user>{user}<assistant>" for user in users]


KINDS: dict[str, Kind] = {
    name: "text" if name.startswith("text") else "vectors" for name in template_names()
}


@pytest.mark.parametrize(
    ("name", "kind", "remedy"),
    [
        ("compact", "text", "--prompt text, text-chat, or a file of your own that writes $text"),
        ("chat", "text", "--prompt text, text-chat"),
        ("text", "vectors", "--prompt chat, compact, ece209, lico, or a file of your own"),
    ],
)
def test_a_template_for_other_data_is_refused(name: str, kind: Kind, remedy: str) -> None:
    with pytest.raises(UsageError, match="and the data are") as caught:
        make_writer(name, load_template(name), CLASSES, chat, kind)
    assert remedy in caught.value.remedy


def test_a_text_stands_in_the_prompt_as_it_is() -> None:
    """What looks like a placeholder in it is none."""
    shipped = make_writer("text", load_template("text"), ("bad news", "good"), None, "text")
    item = Item(0, 0, ("$label costs $5",))
    assert shipped.prompt(shipped.body([item]), item) == (
        "$label costs $5\nOverall: bad news\n\n$label costs $5\nOverall:"
    )


def test_the_name_of_a_class_is_one_line() -> None:
    assert writer(classes=("a\n\tb", "c\x1b"), labels={}).words == ("a b", "c")


@pytest.mark.parametrize("name", template_names())
@pytest.mark.parametrize("classes", [CLASSES, ("cat", "dog", "horse")])
def test_every_shipped_template_holds_all_it_is_given(name: str, classes: tuple[str, ...]) -> None:
    shipped = make_writer(name, load_template(name), classes, chat, KINDS[name])
    text = shipped.prompt(shipped.body(EXAMPLES), QUERY)
    between = shipped.template.separator
    for item in (*EXAMPLES, QUERY):
        assert between.join(item.words) in text
    assert all(shipped.words[item.label] in text for item in EXAMPLES)
    assert "$" not in text


@pytest.mark.parametrize("name", template_names())
def test_what_a_shipped_template_calls_an_answer_is_read_as_its_label(name: str) -> None:
    shipped = make_writer(name, load_template(name), CLASSES, chat, KINDS[name])
    for label, answer in enumerate(shipped.answers()):
        assert parse_strict(answer, shipped.words, cut_off=False) == label


WORDS = st.text(st.characters(categories=["L", "Nd", "P"]), min_size=1, max_size=6)


@given(
    st.lists(WORDS, min_size=2, max_size=4, unique_by=str.casefold), st.text("$ \n:", max_size=4)
)
def test_answers_are_read_as_what_they_were_made_of(words: list[str], around: str) -> None:
    labels = {str(number): word for number, word in enumerate(words)}
    answer = around.replace("$", "").replace(":", "") + "$label"
    made = make_writer("mine", template(labels=labels, answer=answer), tuple(labels), None)
    for label, text in enumerate(made.answers()):
        assert parse_strict(text, made.words, cut_off=False) == label


@given(st.lists(st.text("0123456789.-$", min_size=1, max_size=5), min_size=1, max_size=5))
def test_numbers_stand_as_they_are(words: list[str]) -> None:
    text = writer(query="$numbers", head="").prompt("", Item(0, 0, tuple(words)))
    assert text == " ".join(words)


def test_a_prompt_is_head_examples_and_query() -> None:
    made = writer()
    expected = "yes or no?\n1 2: yes\n3 4: no\n5 6:"
    assert made.prompt(made.body(EXAMPLES), QUERY) == expected
    assert made.answers() == (" yes", " no")


def test_the_prompts_of_several_queries_are_those_of_each() -> None:
    for made in (writer(), writer(kind="chat", system="Say $labels.")):
        body = made.body(EXAMPLES[:1])
        several = made.prompts(body, [QUERY, EXAMPLES[1]])
        assert several == [made.prompt(body, QUERY), made.prompt(body, EXAMPLES[1])]
        assert made.prompts(body, []) == []


def test_two_dollars_are_one() -> None:
    assert writer(head="costs $$5 $$labels\n").body(()) == "costs $5 $labels\n"


def test_a_chat_is_wrapped_in_the_models_own_template() -> None:
    made = writer(kind="chat", system="Say $labels.")
    text = made.prompt(made.body(EXAMPLES[:1]), QUERY)
    assert text == "[B]<system>Say yes or no.<user>yes or no?\n1 2: yes\n5 6:<assistant>"


def test_the_reply_of_a_chat_may_be_begun() -> None:
    made = writer(kind="chat", opening="$numbers:")
    assert made.prompts("", [QUERY, EXAMPLES[0]]) == [
        "[B]<system><user>5 6:<assistant>5 6:",
        "[B]<system><user>1 2:<assistant>1 2:",
    ]
    with pytest.raises(TemplateError, match="`opening` begins the reply of a chat"):
        writer(opening="$numbers:")


def test_a_completion_is_not_wrapped_even_if_the_model_has_a_template() -> None:
    assert "[B]" not in writer().prompt("", QUERY)


def test_a_chat_needs_a_chat_template() -> None:
    with pytest.raises(UsageError, match="mine is a chat, and the model has no chat") as caught:
        make_writer("mine", template(kind="chat"), CLASSES, None)
    assert "--prompt compact" in caught.value.remedy
    assert "--chat-template FILE" in caught.value.remedy
    with pytest.raises(UsageError) as caught:
        make_writer("mine", template(kind="chat"), CLASSES, None, "text")
    assert "--prompt text" in caught.value.remedy


def test_classes_without_words_are_called_by_their_names() -> None:
    assert writer(("REAL", "FAKE")).words == ("yes", "no")
    assert writer(("FAKE", "REAL")).words == ("no", "yes")
    assert writer(("REAL", "cat")).words == ("REAL", "cat")


@pytest.mark.parametrize("labels", [{"REAL": "Yes", "FAKE": "yes "}, {"REAL": "", "FAKE": "no"}])
def test_words_that_cannot_be_told_apart_are_an_error(labels: dict[str, str]) -> None:
    with pytest.raises(TemplateError, match=r"mine: .* are not different"):
        writer(labels=labels)


@pytest.mark.parametrize(
    "broken",
    [
        {"head": "$numbers"},
        {"query": "$numbers $label"},
        {"query": "$numbers $other"},
        {"example": "$ 5"},
        {"answer": "$numbers"},
        {"kind": "chat", "system": "$label"},
    ],
)
def test_a_placeholder_that_cannot_be_filled_is_an_error(broken: dict[str, Any]) -> None:
    with pytest.raises(TemplateError, match="mine has a placeholder") as caught:
        writer(**broken)
    assert "$$" in caught.value.remedy


@pytest.mark.parametrize(
    ("field", "text", "lacks"),
    [
        ("example", "x: $label", "numbers"),
        ("example", "$numbers: $$label", "label"),
        ("query", "$labels?", "numbers"),
        ("answer", " yes", "label"),
    ],
)
def test_a_text_that_lacks_its_placeholder_is_an_error(field: str, text: str, lacks: str) -> None:
    with pytest.raises(TemplateError, match=rf"mine: `{field}` has no \${lacks}$"):
        writer(**{field: text})


def test_a_template_of_ones_own_is_loaded_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes((FOLDER / "compact.toml").read_bytes())
    assert load_template(str(path)) == load_template("compact")


def test_a_template_that_is_not_there_is_told_with_those_there_are(tmp_path: Path) -> None:
    for name in ("compat", str(tmp_path)):
        with pytest.raises(UsageError, match="no prompt template") as caught:
            load_template(name)
        assert ", ".join(template_names()) in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version = ", "mine.toml"),
        ("version = 2", "mine.toml: version"),
        ("version = 1\nkind = 'completion'\nmore = 1", "mine.toml: head"),
        ("\udc80", "mine.toml"),
    ],
)
def test_a_broken_template_is_told_with_its_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(TemplateError, match=message) as caught:
        load_template(str(path))
    assert caught.value.remedy
