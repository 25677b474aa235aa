"""What the plugin costs those who do not use it; how it works is seen in `tests/third_party`."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

from harness.config import RunSpec
from harness.pytest_plugin import _request

HEAVY = ("numpy", "pydantic", "sqlalchemy", "sklearn", "scipy", "rich", "harness.config")


def test_to_import_it_is_cheap() -> None:
    code = f"import sys, harness.pytest_plugin; print({set(HEAVY)} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_pytest_finds_it() -> None:
    [found] = (point for point in entry_points(group="pytest11") if point.name == "llm-harness")
    assert found.value == "harness.pytest_plugin"


def test_a_worker_is_shared_by_what_decides_it() -> None:
    def request(**fields: object) -> str:
        return _request(RunSpec.model_validate({"backend": "mock", **fields}))

    assert request(voters=3, seed=1, decoding="score") == request()
    assert request(engine={"batch": 2}) == request(backends={"mock": {"batch": 2}}) != request()
    assert request(max_model_len=300) != request()
