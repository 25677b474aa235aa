"""What is saved of a machine: what kind it is, not whose."""

from __future__ import annotations

from typing import Any


def pytest_benchmark_update_machine_info(config: object, machine_info: dict[str, Any]) -> None:
    """Without its name and kernel, and without the CPU's long list of features."""
    for name in ("node", "release"):
        machine_info.pop(name, None)
    machine_info.get("cpu", {}).pop("flags", None)
