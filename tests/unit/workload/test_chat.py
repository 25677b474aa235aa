"""Models' chat templates are not to be trusted: they are rendered within limits."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from harness.errors import TemplateError, UsageError
from harness.workload import chat
from harness.workload.chat import (
    MOST_TEMPLATE_BYTES,
    ChatTemplate,
    open_chat,
    read_chat_template,
)

SOURCE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def rendered(source: str, users: Sequence[str] = ("hello",), system: str = "") -> list[str]:
    with open_chat(ChatTemplate(source, "[B]", "[E]", "mine")) as render:
        return render(system, users)


def test_a_model_may_have_none() -> None:
    assert ChatTemplate.of_model(None, "", "") is None


def test_where_a_template_comes_from_does_not_make_it_another() -> None:
    assert ChatTemplate("a", "b", "c", "one") == ChatTemplate("a", "b", "c", "two")


def test_a_token_that_a_template_does_not_name_does_not_make_it_another() -> None:
    plain = [ChatTemplate.of_model("{{ messages }}", bos, "[E]") for bos in ("a", "b")]
    named = [ChatTemplate.of_model("{{ bos_token }}", bos, "[E]") for bos in ("a", "b")]
    assert plain[0] == plain[1]
    assert named[0] != named[1]


def test_a_given_template_is_read_from_its_file_and_named_by_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_bytes("\ufeff{% no %}".encode())
    template = ChatTemplate.of_model(read_chat_template(str(file)), "", "", "a", str(file))
    assert template is not None
    assert template.source == "{% no %}"
    with pytest.raises(TemplateError, match=f"the chat template {file} is broken"):
        open_chat(template).__enter__()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (b"\xff", "is not UTF-8"),
        (b" " * (MOST_TEMPLATE_BYTES + 1), "more than 1 MiB"),
    ],
)
def test_a_file_that_is_no_chat_template_is_wrong_usage(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "mine.jinja"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=said):
        read_chat_template(str(file))


def test_each_user_is_given_a_chat_of_their_own() -> None:
    assert rendered(SOURCE, ["x", "y"], "be brief") == [
        "[B]<system>be brief[E]<user>x[E]<assistant>",
        "[B]<system>be brief[E]<user>y[E]<assistant>",
    ]
    assert rendered(SOURCE, []) == []


def test_a_chat_without_a_system_message_has_none() -> None:
    assert rendered(SOURCE) == ["[B]<user>hello[E]<assistant>"]


def test_a_token_that_the_model_lacks_is_not_defined_as_in_transformers() -> None:
    source = "{{ bos_token is defined }}{{ eos_token is defined }}{{ bos_token }}"
    with open_chat(ChatTemplate(source, "", "[E]")) as render:
        assert render("", [""]) == ["FalseTrue"]


def test_many_and_long_texts_are_rendered_in_order() -> None:
    users = [f"{number} \ud800 ü" for number in range(1000)] + ["a" * 2**20] * 3
    assert rendered("{{ messages[0].content }}", users) == users


def test_one_process_renders_all_and_ends_with_its_use() -> None:
    us = psutil.Process()
    with open_chat(ChatTemplate(SOURCE, "", "")) as render:
        [child] = us.children()
        assert len([render("", [str(number)]) for number in range(100)]) == 100
        assert us.children() == [child]
    assert us.children() == []


def test_what_is_shown_is_never_taken_for_a_template() -> None:
    attack = "{{ 1 + 1 }} {% for %} $labels ${numbers}"
    assert rendered("{{ messages[0].content }}", [attack]) == [attack]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{% if %}", "Expected an expression"),
        ("{{ 'a }}", "unexpected char"),
        ("{{ x | nofilter }}", "No filter named"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "nested too deeply"),
        ("{{ " + "1+" * 50000 + "1 }}", "nested too deeply"),
        ("{{ '%1000000000d' % 1 }}", ""),  # computed while it is compiled, or later
    ],
)
def test_a_chat_template_that_is_none_is_an_error_with_its_model(source: str, why: str) -> None:
    with pytest.raises(TemplateError, match=f"^the chat template of the model mine .*{why}") as it:
        rendered(source)
    assert "--prompt compact" in it.value.remedy


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate$"),
        ("{{ raise_exception('\x1b[2J\na ' + 'b' * 10**6) }}", r"\[2J a b{290,300}$"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ 10.0 ** 1000 }}", "OverflowError"),
        ("{{ messages[0].content + 1 }}", "TypeError"),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "calls itself for ever"),
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
        ("{% set n = 10**9 %}{{ 'a' * n }}", "too much memory"),
        ("{{ '%1000000000d'|format(1) }}", "too much memory"),
        ("{% for i in range(99999) %}{{ i }}{% endfor %}", "longer than 65556 characters"),
    ],
)
def test_what_cannot_be_rendered_is_one_error(source: str, why: str) -> None:
    with pytest.raises(TemplateError, match=f"mine cannot be rendered: .*{why}") as caught:
        rendered(source)
    assert "--prompt compact" in caught.value.remedy


@pytest.mark.parametrize(
    ("source", "when"),
    [
        ("{{ 7**(10**9) }}", "is broken"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "can"),
    ],
)
def test_a_template_has_a_deadline(source: str, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "SECONDS", 1.0)
    began = time.monotonic()
    with pytest.raises(TemplateError, match=rf"mine {when}.*: it takes too long"):
        rendered(source)
    assert time.monotonic() - began < 30  # to start the process may take some of it
    assert psutil.Process().children() == []


def test_a_template_that_is_slow_each_time_is_stopped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each text within the deadline, and all of them would take a minute."""
    monkeypatch.setattr(chat, "SECONDS", 1.0)
    monkeypatch.setattr(chat, "SECONDS_A_TEXT", 0.001)  # far less than this one takes anywhere
    slow = "{% for i in range(200) %}{% for j in range(9999) %}{% endfor %}{% endfor %}"
    with (
        open_chat(ChatTemplate(slow, "", "")) as render,
        pytest.raises(TemplateError, match="it takes too long"),
    ):
        for _ in range(1000):
            render("", ["hello"])


def test_a_crash_is_the_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_chat(ChatTemplate(SOURCE, "", "", "mine")) as render:
        psutil.Process().children()[0].kill()
        with pytest.raises(TemplateError, match="mine cannot be rendered: it crashed"):
            render("", ["hello"])


def test_that_the_process_cannot_start_is_not_the_templates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with (
        pytest.raises(TemplateError, match="could not be started") as caught,
        open_chat(ChatTemplate(SOURCE, "", "")),
    ):
        pass
    assert "/bin/false" in caught.value.remedy


HARNESS = """
from harness.workload.chat import ChatTemplate, open_chat
with open_chat(ChatTemplate({source!r}, "", "")) as render:
    print("open", flush=True)
    render("", ["hello"])
    import sys
    print("jinja2" in sys.modules)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends by its limit of time")
def test_a_harness_that_is_killed_takes_the_process_along() -> None:
    source = "{% set n = 10**9 %}{{ 7**n }}"  # one step of Python: no thread of its own had a turn
    command = [sys.executable, "-c", HARNESS.format(source=source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as harness:
        assert harness.stdout is not None
        assert harness.stdout.readline() == b"open\n"
        [child] = psutil.Process(harness.pid).children()
        time.sleep(0.2)
        harness.kill()
        child.wait(30)


def test_jinja_is_not_even_imported_by_the_harness() -> None:
    command = [sys.executable, "-c", HARNESS.format(source=SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["open", "False"]
