"""Backends are found by entry point, ours like anybody's."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backends import mock
from backends.api import ENTRY_POINT_GROUP
from harness.contract import requirements_of
from harness.engine import registry
from harness.engine.registry import (
    Registered,
    find_backend,
    find_installable,
    registered_backends,
)
from harness.errors import EndedBySignal, EngineError, UsageError


def test_ours_are_registered_in_the_order_of_names() -> None:
    names = [one.name for one in registered_backends()]
    assert {"llama-cpp", "mock"} <= set(names)
    assert names == sorted(names)


def test_every_registered_backend_is_one_without_importing_its_engine() -> None:
    engines = {"llama_cpp", "torch", "transformers", "vllm"} - set(sys.modules)
    for one in registered_backends():
        backend = one.load()
        assert backend.FORMATS
        assert all(option.name and option.help for option in backend.OPTIONS)
        assert callable(backend.check)
        assert callable(backend.open_session)
    assert not engines & set(sys.modules)


def test_a_third_party_is_found_like_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("another", "backends:mock", ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    loaded: object = find_backend("another").load()
    assert loaded is mock


def test_an_unknown_backend_is_told_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="no backend 'lama'") as caught:
        find_backend("lama")
    assert all(name in caught.value.remedy for name in ("llama-cpp", "mock"))
    assert "embedder" not in caught.value.remedy


def test_what_can_be_installed_is_named_with_the_embedder() -> None:
    with pytest.raises(UsageError, match="no backend 'lama'") as caught:
        find_installable("lama")
    assert all(name in caught.value.remedy for name in ("llama-cpp", "embedder"))
    assert find_installable("embedder").name == "embedder"


@pytest.mark.parametrize("target", ["backends.nowhere", "backends.mock:nothing"])
def test_one_that_cannot_be_imported_is_told(target: str) -> None:
    with pytest.raises(EngineError, match="backend gone cannot be imported") as caught:
        Registered("gone", target).load()
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise SystemExit(0)", "cannot be imported"),
        ("OPTIONS = ()", "cannot be imported: .*FORMATS"),
        ("OPTIONS, FORMATS = (), 'gguf'", "its FORMATS are not several texts"),
        ("OPTIONS, FORMATS = (), 1", "its FORMATS are not several texts"),
        ("OPTIONS, FORMATS = (), (1,)", "its FORMATS are not several texts"),
        ("OPTIONS, FORMATS = (1,), ()", "written for another version"),
    ],
)
def test_a_module_that_is_no_backend_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    name = f"odd_{abs(hash(body))}"
    (tmp_path / f"{name}.py").write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EngineError, match=said) as caught:
        Registered("odd", name).load()
    assert caught.value.remedy


@pytest.mark.parametrize(
    "body", ["end()", "try:\n    end()\nexcept BaseException:\n    raise RuntimeError"]
)
def test_a_signal_while_one_is_imported_ends_the_harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    """It is no error of the module, and costs more than its row."""
    lines = "from harness.errors import EndedBySignal\ndef end(): raise EndedBySignal(130)\n"
    name = f"interrupted_{abs(hash(body))}"
    (tmp_path / f"{name}.py").write_text(lines + body)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EndedBySignal):
        Registered("odd", name).load()


@pytest.mark.parametrize("answer", [lambda _: None, lambda _: 1 / 0, lambda _: sys.exit(0)])
def test_a_backend_that_does_not_say_what_it_needs_is_one_error(answer: Any) -> None:
    backend: Any = SimpleNamespace(requirements=answer)
    with pytest.raises(EngineError, match="does not say what packages it needs") as caught:
        requirements_of(backend, has_gpu=False)
    assert caught.value.remedy
