"""Which backends there are: the entry points of the group `llm_harness.backends`, ours included."""

from __future__ import annotations

from importlib.metadata import entry_points

from backends.api import ENTRY_POINT_GROUP
from harness.errors import UsageError


def backend_targets() -> dict[str, str]:
    """The import target (`module` or `module:attribute`) of each installed backend, by name."""
    found = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name)
    return {point.name: point.value for point in found}


def backend_target(name: str) -> str:
    targets = backend_targets()
    if name not in targets:
        raise UsageError(
            f"there is no backend {name!r}",
            remedy=f"Use one of: {', '.join(targets)}; `harness backends` tells which can run.",
        )
    return targets[name]
