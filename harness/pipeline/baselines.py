"""Baselines alone, over the queries that a run of the same data, number of queries and seed draws.

What is fitted is stored at once: whoever is stopped with some of several names done has these.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from harness.baselines.kind import BaselineKind, Task
from harness.baselines.registry import ALONE
from harness.errors import UsageError
from harness.spec import BaselineSpec, DataSpec


@dataclass(frozen=True, slots=True)
class Update:
    """What is being fitted, as the `done + 1`-th of `total`, and in a few words what it is at."""

    title: str
    said: str
    done: int
    total: int


Observer: TypeAlias = Callable[[Update], None]


def options_of(kind: BaselineKind, spec: BaselineSpec) -> Mapping[str, Any]:
    """The fields of the spec that this baseline takes."""
    return {name: getattr(spec, name) for name in kind.takes}


def check_options(kinds: Sequence[BaselineKind], spec: BaselineSpec) -> None:
    """Raises `UsageError` for a field that was given and that none of these baselines takes."""
    taken = {name for kind in kinds for name in kind.takes}
    shared = {"baseline", *DataSpec.model_fields}
    if unused := sorted(spec.model_fields_set - shared - taken):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        takers = [one.name for one in ALONE if set(unused) & set(one.takes)]
        raise UsageError(
            f"{flags}: {', '.join(spec.baseline)} takes no such option",
            remedy=f"It is for: {', '.join(takers)}.",
        )


def task_of(
    kind: BaselineKind,
    spec: BaselineSpec,
    task: Task,
    data_sha256: str,
    results: Path,
    say: Callable[[str], None],
) -> Task:
    """The task with what is of this baseline alone: options, progress, and a folder."""
    options = options_of(kind, spec)
    # Whatever decides the result, and no path of the data: so it is found again by the same order.
    asked = [kind.name, data_sha256, spec.seed, spec.queries, options]
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
    folder = results / "checkpoints" / f"{kind.name}-{digest[:16]}"
    return replace(task, options=options, say=say, folder=folder)


def remove_checkpoints(task: Task) -> None:
    """Of a baseline whose result is stored."""
    if task.folder is not None:
        shutil.rmtree(task.folder, ignore_errors=True)
