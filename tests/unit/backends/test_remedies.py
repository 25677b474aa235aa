"""What remedies say to install, and with which Python."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from backends import remedies
from backends.hf import backend as hf
from backends.llama_cpp import backend as llama_cpp
from backends.remedies import DISTRIBUTION, install_environment, install_extra, pip_install
from backends.vllm import backend as vllm

PIP = [sys.executable, "-m", "pip", "install"]
Installed = Callable[[Mapping[str, Any] | None], None]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Installed:
    """Has the harness installed from where pip noted, or from an index, which it does not note."""

    def install(source: Mapping[str, Any] | None) -> None:
        folder = tmp_path / f"{DISTRIBUTION.replace('-', '_')}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {DISTRIBUTION}\nVersion: 1\n")
        if source:
            (folder / "direct_url.json").write_text(json.dumps(source))
        there = importlib.metadata.Distribution.at(folder)
        monkeypatch.setattr(importlib.metadata, "distribution", lambda _: there)

    return install


def test_a_clone_is_named_by_its_folder_and_stays_editable(
    installed: Installed, tmp_path: Path
) -> None:
    clone = tmp_path / "my clone"
    clone.mkdir()
    installed({"url": clone.as_uri(), "dir_info": {"editable": True}})
    command = install_extra("hf", ["torch"])
    assert shlex.split(command) == [*PIP, "--editable", f"{clone}[hf]"]


def test_a_folder_is_named(installed: Installed, tmp_path: Path) -> None:
    installed({"url": tmp_path.as_uri(), "dir_info": {}})
    assert shlex.split(install_extra("hf", ["torch"])) == [*PIP, f"{tmp_path}[hf]"]


@pytest.mark.parametrize(
    "source",
    [
        None,
        {"url": "file:///gone/llm_backend_harness-1-py3-none-any.whl", "archive_info": {}},
        {"url": "file:///gone/clone", "dir_info": {"editable": True}},
        {"url": "https://forge.example/x.git", "vcs_info": {"vcs": "git", "commit_id": "0"}},
    ],
)
def test_any_other_is_named_as_it_is_installed(
    installed: Installed, source: Mapping[str, Any] | None
) -> None:
    """pip takes the one that is installed, and looks for its extra only."""
    installed(source)
    assert shlex.split(install_extra("hf", ["torch"])) == [*PIP, f"{DISTRIBUTION}[hf]"]


def test_without_the_harness_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an engine's own interpreter."""
    monkeypatch.setattr(remedies, "DISTRIBUTION", "no-such-distribution")
    command = install_extra("hf", ["torch>=2.6", "gguf"])
    assert shlex.split(command) == [*PIP, "torch>=2.6", "gguf"]


def test_the_interpreter_is_quoted_for_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/my envs/bin/python")
    assert pip_install("a[b]") == "'/my envs/bin/python' -m pip install 'a[b]'"


def test_an_environment_is_made_by_the_harness_of_this_interpreter_where_it_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert shlex.split(install_environment("vllm")) == [
        *(sys.executable, "-m", "harness", "backends", "install", "vllm")
    ]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert install_environment("vllm") == "harness backends install vllm"
    assert vllm.check().remedy == "harness backends install vllm"


@pytest.mark.parametrize(
    ("backend", "engine"), [(hf, "transformers"), (llama_cpp, "llama_cpp")], ids=["hf", "llama-cpp"]
)
def test_an_engine_that_cannot_be_imported_is_installed_again_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, backend: Any, engine: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, engine, None)
    found = backend.check()
    assert "cannot be imported" in found.reason
    packages = backend.requirements(has_gpu=False).packages
    options = ["--force-reinstall", "--no-cache-dir"]
    assert shlex.split(found.remedy) == [*PIP, *options, *packages]
