"""Presets: values of a run's spec under a name, as TOML files beside this module."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent


def preset_names() -> list[str]:
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def read_preset(name: str) -> dict[str, Any]:
    """The values of a preset, by the fields of `harness.spec.RunSpec`."""
    return tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
