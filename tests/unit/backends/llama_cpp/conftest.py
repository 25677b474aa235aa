"""A real model for the tests of llama.cpp, where both are installed."""

from __future__ import annotations

import pytest

from backends.api import ModelRef
from backends.llama_cpp import backend as llama_cpp
from harness.engine.models import resolve_model
from harness.errors import EngineError


@pytest.fixture(scope="session")
def model() -> ModelRef:
    availability = llama_cpp.check()
    if not availability.available:
        pytest.skip(f"{availability.reason}. {availability.remedy}")
    try:
        return resolve_model("smollm2-135m", llama_cpp.FORMATS, {})
    except EngineError as error:
        pytest.skip(f"{error}. {error.remedy}")
