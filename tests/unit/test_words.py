"""Plain words: what the project no longer says, in messages, help, docstrings and documents."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = [
    path
    for room in ("harness", "backends", "prompts")
    for path in sorted((ROOT / room).rglob("*.py"))
]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "DECISIONS", "CONTRIBUTING", "SECURITY")),
    *sorted((ROOT / "docs").glob("*.md")),
]
TEMPLATES = sorted((ROOT / "prompts").glob("*.toml"))
RETIRED = {
    r"\bkept\b": "stored",
    r"\btold\b": "reported",
    r"\bask(s|ed|ing)?\b": "prompt, give, or want",
    r"(?<!loop )\bcontrols\b": "baselines",
    r"\blost\b": "failed, or was killed",
    r"\banew\b": "again",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"no difference shown|not told apart": "no significant difference",
    r"nodes in the prefix tree": "the minimum with perfect prefix caching",
    r"few numbers of many": "dimensionality reduction",
    r"is given up\b": "abort",
    r"neighbours in time": "autocorrelation",
    r"\bheld against\b": "compared with",
    r"\bforet(ell|old)": "predict, or extrapolate",
    r"\bis nought\b|\bby nought\b": "zero",
}
"""What is no longer said, and what is said instead."""


def retired_in(text: str) -> Iterator[str]:
    for pattern, instead in RETIRED.items():
        for found in re.finditer(pattern, text, re.IGNORECASE):
            begin = max(found.start() - 30, 0)
            yield f"...{text[begin : found.end() + 20]!r}: say {instead}"


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every text in a module, docstrings among them, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


UPGRADE = ROOT / "harness" / "store" / "upgrade.py"
"""It has to name what earlier versions wrote."""


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_messages_help_and_docstrings_are_in_the_words_of_now(path: Path) -> None:
    if path != UPGRADE:
        found = [
            f"line {line}: {said}" for line, text in texts_of(path) for said in retired_in(text)
        ]
        assert not found


@pytest.mark.parametrize("path", PAGES + TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_are_in_the_words_of_now(path: Path) -> None:
    assert not list(retired_in(path.read_text(encoding="utf-8")))


def test_a_retired_word_is_found() -> None:
    assert list(retired_in("it was kept and told")) == [
        "...'it was kept and told': say stored",
        "...'it was kept and told': say reported",
    ]
