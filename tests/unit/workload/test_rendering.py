"""What chat templates are rendered in: what transformers 5 gives them, and nothing beyond."""

from __future__ import annotations

import importlib.util
import time
from typing import Any

import jinja2
import pytest

from harness.workload.rendering import environment, render

MESSAGES = [
    {"role": "system", "content": "be <brief>"},
    {"role": "user", "content": 'é "&\n1 2'},
]
SPECIAL = {"bos_token": "[B]", "eos_token": "[E]"}


def rendered(source: str) -> str:
    return render(environment().from_string(source), MESSAGES, SPECIAL)


HONEST = {
    "trim": "  {% for m in messages %}\n    {{ m.role }}\n  {% endfor %}\nend\n",
    "break": "{% for m in messages %}{% break %}{% endfor %}a",
    "continue": "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}a{% endfor %}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}\n"
    "{% endfor %}",
    "a scope": "{% set a = 1 %}{% generation %}{% set a = 2 %}{{ a }}{% endgeneration %}{{ a }}",
    "JSON": "{{ messages|tojson }}",
    "pretty JSON": "{{ messages|tojson(indent=2, sort_keys=true) }}",
    "short JSON": "{{ messages|tojson(separators=(',', ':'), ensure_ascii=true) }}",
    "tools": "{{ tools is none }}{{ tools is defined }}{% if tools %}a{% endif %}",
    "documents": "{{ documents is none }}",
    "the reply's beginning": "{{ add_generation_prompt }}",
    "special tokens": "{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}",
    "clock": "{{ strftime_now is defined }}",
    "namespace": "{% set n = namespace(self=1, a=2) %}{% set n.a = n.a + n.self %}{{ n.a }}",
    "dict": "{{ dict([('a', 1)], b=2) }}{{ dict.fromkeys('ab', 3) }}{{ dict(a=1) is mapping }}",
    "escaping": "{{ messages[1].content }}{{ messages[0].content|e }}",
    "undefined": "{{ nothing }}{{ nothing is defined }}",
    "macro": "{% macro m(a, b='c') %}{{ a }}{{ b }}{% endmacro %}{{ m('d') }}",
    "methods": "{{ messages[1].content.split('\n')[-1].strip().upper() }}",
    "slices": "{{ messages[::-1]|map(attribute='role')|join(',') }}",
}


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="pip install 'llm-backend-harness[hf]'"
)
@pytest.mark.parametrize("source", HONEST.values(), ids=HONEST)
def test_a_template_makes_the_text_that_it_makes_in_transformers(source: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    theirs: Any = render_jinja_template
    [[text], _] = theirs([MESSAGES], chat_template=source, add_generation_prompt=True, **SPECIAL)
    assert rendered(source) == text


def test_text_in_json_stands_as_it_is() -> None:
    assert rendered("{{ messages[1]|tojson }}") == r'{"role": "user", "content": "é \"&\n1 2"}'


def test_there_are_no_tools_and_no_documents() -> None:
    assert rendered("{{ tools is none and documents is none }}") == "True"


def test_what_would_be_generated_is_shown_like_the_rest() -> None:
    assert rendered("a{% generation %}{{ bos_token }}{% endgeneration %}b") == "a[B]b"


def test_the_day_and_what_is_drawn_are_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rendered("{{ strftime_now('%d %B %Y %H:%M') }}") == "26 July 2024 00:00"
    for source in ("{{ range(10**5)|random }}", "{{ lipsum() }}"):
        assert rendered(source) == rendered(source)
    template = environment().from_string(
        "{% set n = namespace(n=0) %}{% set n.n = n.n + 1 %}{{ n.n }}"
    )
    assert [render(template, MESSAGES, {}) for _ in range(2)] == ["1", "1"]


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ self.__init__.__globals__.__builtins__ }}",
        "{{ cycler.__init__.__globals__.os.popen('true').read() }}",
        "{{ lipsum.__globals__['os'] }}",
        "{{ raise_exception.__globals__.sys }}",
        "{{ strftime_now.__self__.__class__.mro() }}",
        "{{ dict.__class__.__mro__ }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ '{m.__class__.__mro__}'.format_map({'m': ''}) }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'content': 1}) }}",
        "{% set n = namespace(__class__=1) %}",
        "{% set n = namespace() %}{% set n.__init__ = 1 %}",
    ],
)
def test_a_template_that_reaches_for_more_is_refused(source: str) -> None:
    with pytest.raises(jinja2.exceptions.SecurityError):
        rendered(source)


@pytest.mark.parametrize("source", ["{% include 'other' %}", "{% import 'os' as os %}"])
def test_there_are_no_other_templates(source: str) -> None:
    with pytest.raises(TypeError, match="no loader"):
        rendered(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ ''|attr('__class__')|attr('__mro__') }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__self__ }}",
    ],
)
def test_what_a_template_may_not_see_is_nothing_to_it(source: str) -> None:
    assert rendered(source) == ""


def test_a_text_is_not_much_longer_than_what_it_is_made_of() -> None:
    began = time.monotonic()
    with pytest.raises(jinja2.TemplateError, match="its text is longer than"):
        rendered("{% for i in range(99999) %}{{ 'a' * 99999 }}{% endfor %}")
    assert time.monotonic() - began < 10  # the whole would have 10 GB
    assert len(rendered("{{ 'a' * 2**16 }}")) == 2**16
