"""Backends are found by entry point, ours like anybody's."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import pytest

from backends import mock
from backends.api import ENTRY_POINT_GROUP
from harness.engine import registry
from harness.engine.registry import Registered, find_backend, registered_backends
from harness.errors import EngineError, UsageError


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


@pytest.mark.parametrize("target", ["backends.nowhere", "backends.mock:nothing"])
def test_one_that_cannot_be_imported_is_told(target: str) -> None:
    with pytest.raises(EngineError, match="backend gone cannot be imported") as caught:
        Registered("gone", target).load()
    assert caught.value.remedy
