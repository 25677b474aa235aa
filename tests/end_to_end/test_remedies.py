"""Every command that a remedy names is run: it would install this project, and no other."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
OFFLINE = ("--no-index", "--no-deps", "--no-build-isolation")
# What is printed where nothing is installed that a remedy could name.
REMEDIES = """
import importlib.util
importlib.util.find_spec = lambda name: None
from harness.engine.models import KNOWN_MODELS
from backends.hf import backend as hf
from backends.llama_cpp import backend as llama_cpp
for one in (hf, llama_cpp):
    print(one.check().remedy)
for model in KNOWN_MODELS.values():
    print(model.install)
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is built from, in a folder with a name that a shell takes apart."""
    folder = tmp_path_factory.mktemp("sources") / "my clone"
    folder.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    compiled = shutil.ignore_patterns("__pycache__")  # they come and go beside other tests
    for name in ("harness", "backends", "prompts"):
        shutil.copytree(ROOT / name, folder / name, ignore=compiled)
    return folder


@pytest.fixture(scope="module")
def wheels(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", str(folder)], cwd=sources, check=True)
    return folder


@pytest.mark.parametrize("is_clone", [True, False], ids=["from a clone", "from a wheel"])
def test_they_install_this_project(
    is_clone: bool, sources: Path, wheels: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    what = str(sources) if is_clone else "llm-backend-harness"
    find = ("--find-links", str(wheels))
    subprocess.run([*PIP, *OFFLINE, *find, "--target", str(site), what], check=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    printed = subprocess.run(
        [sys.executable, "-P", "-c", REMEDIES],
        check=True,
        capture_output=True,
        env=environment,
        text=True,
    )
    commands = printed.stdout.splitlines()
    assert len(commands) == 4
    for command in commands:
        report = tmp_path / "report.json"
        # `--ignore-installed`: as where it is not there yet, so that pip has to find it
        dry = ["--dry-run", "--ignore-installed", *OFFLINE, *find, "--report", str(report)]
        subprocess.run(
            f"{command} {shlex.join(dry)}", shell=True, check=True, cwd=tmp_path, env=environment
        )
        [found] = json.loads(report.read_text())["install"]
        assert found["metadata"]["name"] == "llm-backend-harness"
        assert found["requested_extras"]
        url = found["download_info"]["url"]
        assert url == (sources if is_clone else next(wheels.glob("*.whl"))).as_uri()
        extras = set(found["metadata"]["provides_extra"])
        assert set(found["requested_extras"]) <= extras


def test_the_wheel_has_licence_and_type_markers(wheels: Path) -> None:
    import zipfile

    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        names = wheel.namelist()
    assert {f"{name}/py.typed" for name in ("harness", "backends", "prompts")} <= set(names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
