"""`results_*.json` of lm-evaluation-harness, version 0.4 and later: one import a task or group.

The layout is that of lm_eval/result_schema.py: `results` has for each task its figures by
`metric,filter`, with `metric_stderr,filter` beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from pydantic import Field, TypeAdapter

from harness.imports.records import (
    Document,
    Figure,
    Imported,
    Reader,
    Stated,
    conditions,
    finite,
    model_name,
)

_ACCURACY = "acc,none"
_STDERR = "_stderr"
_OF_ALL = ("git_hash", "transformers_version", "chat_template_sha", "system_instruction_sha")
_OF_CONFIG = ("device", "batch_size", "model_dtype", "limit", "random_seed", "fewshot_seed")
_BY_TASK = ("n-shot", "versions", "task_hashes")
_SHARE = TypeAdapter(Annotated[float, Field(ge=0, le=1)])
_MOST_DOCUMENTS = 10_000_000  # a comparison holds one answer for each
_Documents: TypeAlias = Annotated[int, Field(ge=0, le=_MOST_DOCUMENTS)]


class _Count(Stated):
    effective: _Documents


class _OfGroup(Stated):
    """A group counts the documents of its tasks beside its figures."""

    sample_len: _Documents | None = None


class _Config(Stated):
    model: str = ""


class _Results(Stated):
    results: dict[str, dict[str, object]]
    config: _Config = _Config()
    model_name: str | None = None
    lm_eval_version: str | None = None
    n_samples: dict[str, _Count] = Field(default={}, alias="n-samples")


def read_lm_eval(document: Document) -> list[Imported]:
    """The tasks and groups that have a figure: a group without an own one has a heading only."""
    stated = _Results.model_validate(document)
    common = _conditions(document)
    return [
        Imported(
            tool="lm-eval",
            tool_version=stated.lm_eval_version or "",
            engine=stated.config.model,
            model=model_name(stated.model_name or ""),
            test=task,
            figures=figures,
            conditions={**common, **_conditions_of(document, task)},
        )
        for task, values in stated.results.items()
        if (figures := tuple(_figures(values, stated.n_samples.get(task))))
    ]


def _figures(values: Mapping[str, object], stated: _Count | None) -> Iterator[Figure]:
    count = stated.effective if stated else _OfGroup.model_validate(values).sample_len
    for key, value in values.items():
        metric, comma, chosen_by = key.partition(",")
        number = finite(value)
        # Beside the figures stand `alias` and `sample_len`, which have no comma.
        if not comma or metric.endswith(_STDERR) or number is None:
            continue
        # `acc` without a filter is a share of documents that were right, as our accuracy is.
        # Others, such as `acc_norm`, are right by another rule and have their own names.
        is_accuracy = key == _ACCURACY
        yield Figure(
            metric="accuracy" if is_accuracy else key,
            unit="share" if is_accuracy else "",
            value=_SHARE.validate_python(number) if is_accuracy else number,
            stderr=finite(values.get(f"{metric}{_STDERR},{chosen_by}")),
            count=count,
        )


def _conditions(document: Document) -> dict[str, str]:
    """What holds for all tasks."""
    config = document.get("config")
    of_config = conditions(config, _OF_CONFIG) if isinstance(config, dict) else {}
    return {**conditions(document, _OF_ALL), **of_config, **_begun(document.get("date"))}


def _conditions_of(document: Document, task: str) -> dict[str, str]:
    sections = {name: document.get(name) for name in _BY_TASK}
    stated = {name: of.get(task) for name, of in sections.items() if isinstance(of, dict)}
    return conditions(stated, _BY_TASK)


def _begun(date: object) -> dict[str, str]:
    """`date` is in seconds since 1970."""
    seconds = finite(date)
    try:
        begun = None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        begun = None  # no time that a calendar has
    return {"date": begun.isoformat()} if begun else {}


READERS = (Reader(frozenset({"results", "versions", "n-shot"}), read_lm_eval),)
