"""The line that repeats a run means the same run when it is read again."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from harness.cli.again import command, needs_file, toml
from harness.cli.commands import PLAIN, with_late_flags
from harness.cli.flags import flags_of_run, signature
from harness.cli.options import RESULTS
from harness.cli.order import read_order
from harness.spec import RunSpec


def understood(line: str) -> dict[str, Any]:
    """The flags of a line, as the command gets them from a shell."""
    given: dict[str, Any] = {}

    def run(**flags: Any) -> None:
        given.update(flags)

    # mypy does not know that a function may have it.
    make = with_late_flags(run, lambda: signature(flags_of_run())).make  # type: ignore[attr-defined]
    app = typer.Typer(**PLAIN)
    app.command("run")(make())
    program, name, *words = shlex.split(line)
    assert (program, name) == ("harness", "run")
    app(words, standalone_mode=False)
    return given


SPECS: dict[str, dict[str, Any]] = {
    "the default": {},
    "flags": {
        "backend": ("mock", "hf"),
        "model": "it's $HOME/a b.gguf",
        "voters": 3,
        "bootstrap": False,
        "temperature": 1e-05,
        "shots": 0,
        "decoding": "choice",
        "prompts_from": "20260101-120000-7f3a",
    },
    "options": {
        "backend": ("mock",),
        "engine": {"threads": 2, "n_gpu_layers": 9, "script": "a| b"},
    },
    "a text that looks like a number": {"engine": {"script": "2", "other": "true"}},
    "several models": {"backend": ("mock",), "model": ("a.gguf", "b c.gguf")},
    "a switch that is called no": {"engine": {"no_mmap": False, "enforce_eager": False}},
    "more options": {"engine": {"batch": 4, "delay_ms": 0.5, "x": True}},
    "a list of texts": {"engine": {"x": ["a b", "true", '"']}},
}


@pytest.mark.parametrize("kind", SPECS)
def test_a_line_of_flags_gives_the_spec(kind: str) -> None:
    spec = RunSpec(**SPECS[kind])
    assert not needs_file(spec)
    line = command(spec, RESULTS)
    assert "\n" not in line
    assert read_order(understood(line)).what == spec


TABLES: dict[str, dict[str, Any]] = {
    "entries": {
        "backend": ("llama-cpp",),
        "entries": {"q8": {"backend": "mock", "batch": 4}, "a b": {"backend": "mock"}},
        "voters": 3,
    },
    "entries alone": {"entries": {"q8": {"backend": "mock"}}},
    "backends": {"backends": {"mock": {"delay_ms": 0.5}}, "engine": {"threads": 2}},
    "models": {"models": {'m"x': {"gguf": "a\\b.gguf"}}, "model": 'm"x'},
    "a model with a line feed": {"model": ("a", "b\nc")},
    "control characters": {"engine": {"script": "\x1b[31m\n\x7f'"}},
    "control characters in a list": {"engine": {"x": ["\x1b[31m"]}},
    "a list of an entry": {"entries": {"mine": {"backend": "mock", "x": ["a", "b c"]}}},
}


@pytest.mark.parametrize("kind", TABLES)
def test_what_flags_cannot_say_is_a_file(kind: str, tmp_path: Path) -> None:
    spec = RunSpec(**TABLES[kind])
    assert needs_file(spec)
    file = tmp_path / "run it.toml"
    file.write_text(toml(spec), encoding="utf-8")
    order = read_order(understood(command(spec, tmp_path, file)))
    assert order.what == spec
    assert order.output.results == tmp_path
