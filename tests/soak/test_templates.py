"""Chat templates that were made to do harm: each ends soon, in a short text or in one error.

`TAKES_TOO_MUCH` wants time or memory without end, `REACHES_OUT` what is outside of the sandbox,
`IS_BROKEN` is no template, or none that can be followed.
"""

from __future__ import annotations

import time
from itertools import islice

import psutil

from harness.errors import TemplateError
from harness.workload.chat import SECONDS, START_SECONDS, ChatTemplate, open_chat
from tests.soak.conftest import Soak

LOOP = "{% for a in range(99999) %}"
END = "{% endfor %}"

TAKES_TOO_MUCH = {
    "power": "{{ 7**(10**9) }}",
    "power of a power": "{{ 9**9**9**9 }}",
    "power of a variable": "{% set n = 10**9 %}{{ 7**n }}",
    "digits of a power": "{{ (7**(10**7))|string|length }}",
    "remainder": "{{ (3**(3**20)) % 7 }}",
    "product": "{{ (2**(10**9)) * (2**(10**9)) }}",
    "width": "{{ '%1000000000d'|format(1) }}",
    "width of an operator": "{{ '%1000000000d' % 1 }}",
    "width of a method": "{{ '{:>2000000000}'.format(1) }}",
    "precision": "{{ '%.1000000000f'|format(1) }}",
    "width that is an argument": "{{ '%*d'|format(2000000000, 1) }}",
    "centre": "{{ 'a'|center(2000000000) }}",
    "left": "{{ 'a'.ljust(2000000000) }}",
    "zeros": "{{ 'a'.zfill(2000000000) }}",
    "tabs": "{{ ('\\t' * 100000).expandtabs(100000) }}",
    "indentation": "{{ ('a\\n' * 100000)|indent(100000) }}",
    "string times": "{{ 'a' * 10**10 }}",
    "string times a variable": "{% set n = 10**10 %}{{ 'a' * n }}",
    "list times": "{{ ([0] * 10**10)|length }}",
    "replace": "{{ ('a' * 10**5).replace('a', 'a' * 10**5) }}",
    "replace of a filter": "{{ ('a' * 10**5)|replace('a', 'a' * 10**5) }}",
    "join": "{{ (['a'] * 10**5)|join('a' * 10**5) }}",
    "join of a method": "{{ ('a' * 10**5).join(['a'] * 10**5) }}",
    "doubling": "{% set n = namespace(s='ab') %}" + LOOP + "{% set n.s = n.s + n.s %}" + END,
    "doubling of lists": "{% set n = namespace(s=[0]) %}"
    + LOOP
    + "{% set n.s = n.s + n.s %}"
    + END,
    "tree of lists": "{% set n = namespace(s=[0]) %}"
    + LOOP
    + "{% set n.s = [n.s, n.s] %}"
    + END
    + "{{ n.s }}",
    "short tree": "{% set n = namespace(s='a') %}{% for a in range(40) %}{% set n.s = [n.s, n.s] %}"
    + END
    + "{{ n.s }}",
    "short tree as JSON": "{% set n = namespace(s='a') %}{% for a in range(40) %}"
    "{% set n.s = [n.s, n.s] %}" + END + "{{ n.s|tojson }}",
    "two loops": LOOP + LOOP + END + END,
    "three loops that print": LOOP * 3 + "a" + END * 3,
    "a loop that prints": LOOP + "{{ 'a' * 9999 }}" + END,
    "a loop that stores": "{% set n = namespace(s='') %}"
    + LOOP
    + "{% set n.s = n.s + 'a' * 99999 %}"
    + END,
    "loop in a block": "{% set s %}" + LOOP * 2 + "a" + END * 2 + "{% endset %}",
    "loop in a call": "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}"
    + LOOP * 2
    + "a"
    + END * 2
    + "{% endcall %}",
    "loop in a generation": "{% generation %}" + LOOP * 2 + "a" + END * 2 + "{% endgeneration %}",
    "tower of macros": "".join(
        f"{{% macro m{n}() %}}" + f"{{{{ m{n - 1}() }}}}" * 10 + "{% endmacro %}"
        if n
        else "{% macro m0() %}a{% endmacro %}"
        for n in range(12)
    )
    + "{{ m11() }}",
    "macro that forks": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}"
    "{% endmacro %}{{ m(60) }}",
    "loop that forks": "{% for a in [1, 2] recursive %}{{ loop([1, 2]) if loop.depth < 60 }}" + END,
    "batch": "{{ ('a' * 10**6)|batch(10**10, 'b')|list|length }}",
    "slice": "{{ ('a' * 10**6)|slice(10**9)|list|length }}",
    "words": "{{ lipsum(n=10**9) }}",
    "words without end": "{{ lipsum(n=1, min=10**9, max=10**9 + 1) }}",
    "nested sort": LOOP + "{{ range(99999)|sort|length }}" + END,
    "sums": LOOP + "{% set _ = range(99999)|sum %}" + END,
    "regular expression": "{{ ('<' * 10**6)|striptags|length }}",
    "links": "{{ ('a@' * 10**6)|urlize|length }}",
    "wrapping": "{{ ('a ' * 10**7)|wordwrap(1)|length }}",
    "date": "{{ strftime_now('%1000000000d') }}",
    "dates": "{{ strftime_now('%A' * 10**8) }}",
    "long error": "{{ raise_exception('a' * 10**8) }}",
    "unpacking": "{{ dict(range(99999)|batch(2))|tojson * 10**6 }}",
    "pretty": "{{ (range(99999)|list * 1000)|pprint|length }}",
}
REACHES_OUT = {
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "class by a filter": "{{ (''|attr('__class__')).__mro__ }}",
    "class by an item": "{{ ''['__class__']['__mro__'] }}",
    "class by a map": "{{ ([''] | map(attribute='__class__') | list)[0].__mro__ }}",
    "class by a format": "{{ '{0.__class__.__mro__}'.format('') }}",
    "class by a format map": "{{ '{m.__class__.__mro__}'.format_map({'m': ''}) }}",
    "format by a filter": "{{ ('{0.__class__.__mro__}'|attr('format'))('') }}",
    "format by a map": "{{ ['{0.__class__.__mro__}']|map('attr', 'format')|list }}"
    "{{ (['{0.__class__.__mro__}']|map('attr', 'format')|first)('') }}",
    "globals of a class": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "globals of joiner": "{{ joiner.__init__.__globals__ }}",
    "globals of a namespace": "{{ namespace.__init__.__globals__ }}",
    "globals of a function": "{{ lipsum.__globals__.os.system('id') }}",
    "globals of ours": "{{ raise_exception.__globals__.sys.exit() }}",
    "self of ours": "{{ strftime_now.__self__.__class__.mro() }}",
    "dict's class": "{{ dict.__class__.__mro__ }}",
    "dict's subclasses": "{{ dict.__subclasses__() }}",
    "a namespace with a dunder": "{% set n = namespace(__class__=1) %}",
    "a dunder into a namespace": "{% set n = namespace() %}{% set n.__class__ = 1 %}",
    "self": "{{ self.__init__.__globals__.__builtins__ }}",
    "self's context": "{{ self._TemplateReference__context.environment.from_string('a') }}",
    "environment": "{{ self._environment.loader.get_source('a') }}",
    "frames of a generator": "{{ (messages|map('upper')).gi_frame.f_globals }}",
    "code of a macro": "{% macro m() %}{% endmacro %}{{ m._func.__code__.co_consts }}",
    "change of a list": "{{ messages.append(1) }}",
    "change of a message": "{{ messages[0].update({'content': 'b'}) }}",
    "file": "{% include '/etc/passwd' %}",
    "parent": "{% extends '/etc/passwd' %}",
    "module": "{% import 'os' as os %}",
    "debug": "{% debug %}",
    "do": "{% do messages.clear() %}",
}
IS_BROKEN = {
    "brackets": "{{ " + "(" * 5000 + ")" * 5000 + " }}",
    "lists": "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "signs": "{{ " + "-" * 20000 + "1 }}",
    "nots": "{{ " + "not " * 5000 + "1 }}",
    "sum of many": "{{ " + "1+" * 50000 + "1 }}",
    "chain of names": "{{ messages" + ".a" * 5000 + " }}",
    "chain of filters": "{{ ''" + "|trim" * 5000 + " }}",
    "ifs": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "loops": "{% for a in [1] %}" * 500 + END * 500,
    "elifs": "{% if 0 %}" + "{% elif 0 %}" * 5000 + "{% endif %}",
    "open": "{% if %}",
    "a quote": "{{ 'a }}",
    "a tag": "{% nothing %}",
    "a filter": "{{ 1|nothing }}",
    "end of a generation": "{% endgeneration %}",
    "generation without end": "{% generation %}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "division": "{{ 1 / 0 }}",
    "overflow": "{{ 10.0**1000 }}",
    "type": "{{ 1 + 'a' }}",
    "key": "{{ {}.popitem() }}",
    "lookup": "{{ {}|dictsort(by='x') }}",
    "digits": "{{ 10**5000 }}",
    "unhashable": "{{ {[]: 1} }}",
    "codec": "{{ '\\ud800' }}{{ 'a'.encode('nothing') }}",
    "stop": "{{ messages|first|last|nothing.x }}",
    "number of arguments": "{{ strftime_now() }}",
    "name": "{{ raise_exception() }}",
    "zero": "\x00{{ '\x00' }}{% \x00 %}",
    "terminal": "{{ raise_exception('\x1b]0;owned\x07\x1b[2J') }}",
}
EVERY = {
    f"{kind}: {name}": source
    for kind, sources in {
        "takes too much": TAKES_TOO_MUCH,
        "reaches out": REACHES_OUT,
        "is broken": IS_BROKEN,
    }.items()
    for name, source in sources.items()
}
KIND = "hostile template"
MOST_CHARACTERS = 70_000


MOST_BYTES = 50 * 2**20


def check(source: str) -> None:
    us = psutil.Process()
    children, before, began = set(us.children()), us.memory_info().rss, time.monotonic()
    text = ""
    try:
        with open_chat(ChatTemplate(source, "[B]", "[E]", "mine")) as render:
            [text] = render("", ["hello"])
    except TemplateError as error:
        assert str(error).startswith("the chat template of the model mine ")
        assert str(error).isprintable()
        assert len(str(error)) < 400
        assert "--prompt compact" in error.remedy
    assert len(text) <= MOST_CHARACTERS
    assert not any(word in text for word in ("<class", "root:", "uid=", "built-in"))
    assert time.monotonic() - began < 2 * SECONDS + START_SECONDS / 10
    assert us.memory_info().rss - before < MOST_BYTES
    assert set(us.children()) == children


def test_a_hostile_template_ends_soon_in_a_short_text_or_one_error(soak: Soak) -> None:
    for name in islice(soak.draw("templates", EVERY), soak.most("templates")):
        fault = ""
        try:
            check(EVERY[name])
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are to be tried too
            fault = f"{type(error).__name__}: {error}"
        soak.count(KIND, name, fault)
    assert soak.faults(KIND) == {}
