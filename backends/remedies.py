"""The commands that remedies name: they install into the running interpreter, from a shell."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

DISTRIBUTION = "llm-backend-harness"


def pip_install(*arguments: str) -> str:
    return shlex.join([sys.executable, "-m", "pip", "install", *arguments])


def install_extra(extra: str, packages: Sequence[str]) -> str:
    """Installs what `extra` of the harness stands for; `packages` are the ones that matter here.

    These are named by themselves in an interpreter without the harness, as an engine's own is. A
    harness out of a folder, such as a clone, is named by it: an index need not have it.
    """
    try:
        harness = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return pip_install(*packages)
    # pip writes this file for what it did not install from an index (PEP 610): `dir_info` for a
    # folder, other keys for archives and repositories.
    source = json.loads(harness.read_text("direct_url.json") or "{}")
    folder = Path(url2pathname(urlsplit(source.get("url", "")).path))
    if "dir_info" not in source or not folder.is_dir():
        return pip_install(f"{DISTRIBUTION}[{extra}]")
    editable = ["--editable"] if source["dir_info"].get("editable") else []
    return pip_install(*editable, f"{folder}[{extra}]")


def reinstall(packages: Sequence[str]) -> str:
    """Downloads or compiles these again, and leaves the harness itself as it is."""
    # pip stores the wheels that it compiles. Without the flag, it would install the same one again.
    return pip_install("--force-reinstall", "--no-cache-dir", *packages)


def install_environment(backend: str) -> str:
    """Makes an environment for a backend. An engine's own interpreter has no harness to do it."""
    has_harness = importlib.util.find_spec("harness") is not None
    command = [sys.executable, "-m", "harness"] if has_harness else ["harness"]
    return shlex.join([*command, "backends", "install", backend])
