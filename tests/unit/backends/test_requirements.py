"""What an environment of its own gets, and what an extra brings into ours, is the same engine."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.engine.models import KNOWN_MODELS
from harness.engine.registry import find_backend

MODELS = {
    canonicalize_name(part.package) for model in KNOWN_MODELS.values() for part in model.parts
}


def of_extra(extra: str) -> Mapping[str, str]:
    every = map(Requirement, importlib.metadata.requires("llm-backend-harness") or ())
    return ranges(one for one in every if one.marker and one.marker.evaluate({"extra": extra}))


def ranges(packages: Iterable[Requirement]) -> Mapping[str, str]:
    return {canonicalize_name(one.name): str(one.specifier) for one in packages}


@pytest.mark.parametrize("has_gpu", [False, True])
@pytest.mark.parametrize("name", ["hf", "llama-cpp"])
def test_they_agree(name: str, has_gpu: bool) -> None:
    own = ranges(map(Requirement, find_backend(name).load().requirements(has_gpu).packages))
    extra = {one: range_ for one, range_ in of_extra(name).items() if one not in MODELS}
    assert own == extra != {}
