"""What the plugin costs those who do not use it; how it works is seen in `tests/third_party`."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from backends.api import Decoding, Prompt
from harness.engine.engine import EnginePlan
from harness.errors import UsageError
from harness.pipeline.run import plan
from harness.spec import RunSpec
from harness.testing.plugin import _Engines, _marked, _request

HEAVY = ("numpy", "pydantic", "sqlalchemy", "sklearn", "scipy", "rich", "harness.spec")


def test_to_import_it_is_cheap() -> None:
    code = f"import sys, harness.testing.plugin; print({set(HEAVY)} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_pytest_finds_it() -> None:
    [found] = (point for point in entry_points(group="pytest11") if point.name == "llm-harness")
    assert found.value == "harness.testing.plugin"


def planned(results: Path, **fields: object) -> EnginePlan:
    [one] = plan(RunSpec.model_validate({"backend": "mock", **fields}), results).plans
    return one


def test_a_worker_is_shared_by_what_decides_it(tmp_path: Path) -> None:
    def request(max_model_len: int = 200, **fields: object) -> str:
        return _request(planned(tmp_path, **fields), max_model_len)

    assert request(voters=3, seed=1, decoding="score", max_model_len=200) == request()
    assert request(engine={"batch": 2}) == request(backends={"mock": {"batch": 2}}) != request()
    assert request(300) != request()


def test_a_session_that_a_test_left_in_mid_answer_is_not_given_to_the_next(tmp_path: Path) -> None:
    wanted = planned(tmp_path)
    with ExitStack() as stack:
        engines = _Engines(tmp_path, stack)
        first = engines.opened(wanted, 100).session
        assert engines.opened(wanted, 100).session is first
        left = first.generate([Prompt([1]), Prompt([2])], Decoding("score", ((1,), (2,))))
        next(left)
        second = engines.opened(wanted, 100).session
        assert second is not first
        assert second.tokenize(["ab"]) == [[97, 98]]


def test_the_closest_marker_wins_and_takes_keywords_only() -> None:
    close = pytest.mark.harness(rounds=3).mark
    far = pytest.mark.harness(rounds=5, voters=2).mark
    assert _marked([close, far]) == {"rounds": 3, "voters": 2}
    with pytest.raises(UsageError, match=r"pytest\.mark\.harness\(20\): it takes keywords only"):
        _marked([pytest.mark.harness(20).mark])
