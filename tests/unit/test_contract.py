"""The harness has its own `backends`, and a user's of the same name stays the user's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import backends.api
from backends import mock
from harness import contract
from harness.engine.registry import Registered

THEIRS: Mapping[str, Mapping[str, str]] = {
    "a package": {"backends/__init__.py": "mine = 'theirs'", "backends/api.py": "mine = 'theirs'"},
    "a module": {"backends.py": "mine = 'theirs'"},
    "a folder of modules": {"backends/api.py": "mine = 'theirs'", "backends/mock.py": ""},
}
USE_THEIRS = {
    "a package": "import backends.api; assert backends.api.mine == backends.mine == 'theirs'",
    "a module": "import backends; assert backends.mine == 'theirs'",
    "a folder of modules": "import backends.api; assert backends.api.mine == 'theirs'",
}
USE_OURS = """
import pickle, typing
from dataclasses import replace
from harness import contract
from harness.engine.registry import Registered
reply = contract.Reply(0, "stop", 3)
assert pickle.loads(pickle.dumps(reply)) == replace(reply)
assert typing.get_type_hints(contract.Reply)["prompt_tokens"] is int
assert Registered("mock", "backends.mock").load().FORMATS == (contract.NO_FILES,)
third = Registered("third", "third:engine").load()
assert third.Reply is contract.Reply
from harness.store.schema import EntryRow  # its fields are records of the contract
"""
THIRD = "import backends.mock as engine\nfrom backends.api import Reply\nengine.Reply = Reply\n"


def run(folder: Path, program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(params=THEIRS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    for name, content in THEIRS[request.param].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "third.py").write_text(THIRD)
    return str(request.param)


def test_a_users_own_stays_his_and_the_harness_finds_its_own(kind: str, tmp_path: Path) -> None:
    theirs = USE_THEIRS[kind]
    before, after = f"{theirs}\nfirst = backends", f"{theirs}\nassert backends is first"
    run(tmp_path, f"{before}\n{USE_OURS}\n{after}")
    run(tmp_path, USE_OURS + theirs)


def test_with_none_of_the_user_ours_has_its_name(tmp_path: Path) -> None:
    (tmp_path / "third.py").write_text(THIRD)
    run(tmp_path, USE_OURS + "import backends.api; assert backends.api.Reply is contract.Reply")


def test_here_it_is_one_copy() -> None:
    assert contract.Reply is backends.api.Reply
    assert vars(Registered("mock", "backends.mock").load()) is vars(mock)


def test_what_fails_within_gives_the_name_back(kind: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import backends.nothing")
    program = """
from harness.engine.registry import Registered
from harness.errors import EngineError
try:
    Registered("broken", "broken").load()
except EngineError as error:
    assert "cannot be imported" in str(error)
else:
    raise SystemExit("it was imported")
"""
    run(tmp_path, program + USE_THEIRS[kind])


LATE = """
def requirements(has_gpu):
    from backends.api import Requirements
    return Requirements(("engine",))
FORMATS, OPTIONS = (), ()
"""


def test_what_a_backend_needs_may_be_said_with_a_late_import(kind: str, tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(LATE)
    program = """
from harness.contract import Requirements, requirements_of
from harness.engine.registry import Registered
assert requirements_of(Registered("late", "late").load(), False) == Requirements(("engine",))
"""
    run(tmp_path, program + USE_THEIRS[kind])
