"""One row for each reply of a run: what `run.replies()`, `run.frame()`, `harness show --replies`
and `harness export` have in common.

Rows are made one after the other, so a run of any size can be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from harness.scoring.labels import read_label
from harness.scoring.parsing import Unparsed
from harness.scoring.verdicts import Verdict
from harness.store.schema import CellRow, PromptRow, Role, Status

if TYPE_CHECKING:
    from harness.contract import Reply
    from harness.store.runs import StoredBaseline, StoredEntry

LOGPROB = "logprob_"
"""What the column of a class's log-probability begins with."""


@dataclass(frozen=True, slots=True)
class ReplyRecord:
    """One cell: an attempt at a prompt of an entry, with what became of it.

    `query` counts the prompts of one voter and role from 0. `row` is the place of the item in its
    split of the data: "test" for a query, "train" for a calibration prompt. `true_label` and
    `label` are classes; `label` is what was read from the reply, `None` where nothing was.
    `verdict` is `None` for calibration prompts that have a reply, which are not judged, for cells
    that are not needed, and where the words of the classes are not stored. `reason` says why a
    cell failed, or why a reply is no label. What follows it, up to the hashes, is the reply, and
    `None` where there is none or the engine does not report it; `label_logprobs` are by class.
    `token_sha256` is `None` in runs without tokens.
    """

    run_id: str
    entry: str
    backend: str
    model: str
    voter: int
    role: Role
    query: int
    row: int
    true_label: str
    attempt: int
    status: Status
    label: str | None
    verdict: str | None
    reason: str | None
    text: str | None
    finish: str | None
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    time_to_first_token_ms: float | None
    time_per_output_token_ms: float | None
    label_logprobs: Mapping[str, float | None] | None
    text_sha256: str
    token_sha256: str | None


@dataclass(frozen=True, slots=True)
class PredictionRecord:
    """What a baseline of a run of baselines gave one query. Names are those of `ReplyRecord`."""

    run_id: str
    baseline: str
    query: int
    row: int
    true_label: str
    label: str
    verdict: str


PREDICTION_COLUMNS: dict[str, type] = get_type_hints(PredictionRecord)
"""The columns of a table of them, each with the type of its values."""


def predictions_of(baseline: StoredBaseline) -> Iterator[PredictionRecord]:
    """One for each query, in their order."""
    queries, given = baseline.run.queries, baseline.predictions
    for query, (row, label) in enumerate(zip(queries.rows, queries.labels, strict=True)):
        is_right = given[row] == queries.classes[label]
        yield PredictionRecord(
            run_id=baseline.run.run_id,
            baseline=baseline.name,
            query=query,
            row=row,
            true_label=queries.classes[label],
            label=given[row],
            verdict=(Verdict.RIGHT if is_right else Verdict.WRONG).value,
        )


_FIELDS = tuple(field.name for field in fields(ReplyRecord))


def columns_of(classes: Sequence[str]) -> dict[str, type]:
    """The columns of a table of these rows, each with the type of its values: each class's
    log-probability has a column of its own, `logprob_CLASS`."""
    hints = get_type_hints(ReplyRecord)
    found: dict[str, type] = {}
    for name in _FIELDS:
        if name == "label_logprobs":
            found |= {f"{LOGPROB}{one}": float for one in classes}
            continue
        kinds = [one for one in get_args(hints[name]) if isinstance(one, type)] or [hints[name]]
        kind = next(one for one in kinds if one is not NoneType)
        found[name] = kind if kind in (int, float) else str
    return found


def as_row(record: ReplyRecord) -> dict[str, Any]:
    """The values of `columns_of`, by column; classes without a log-probability are left out."""
    row = {name: getattr(record, name) for name in _FIELDS}
    by_class = row.pop("label_logprobs") or {}
    return row | {f"{LOGPROB}{name}": value for name, value in by_class.items()}


def records_of(
    entry: StoredEntry, answers: Iterator[tuple[PromptRow, CellRow, str | None]]
) -> Iterator[ReplyRecord]:
    """The rows of one entry: of each cell its prompt, itself and the hash of its tokens."""
    run = entry.run
    classes, words, decoding = run.classes, run.label_words, run.spec.decoding
    for prompt, cell, token_sha256 in answers:
        reply, true_label = cell.reply, classes[prompt.label]
        label, verdict, reason = None, None, cell.reason
        if cell.status == "failed":
            verdict = Verdict.FAILED.value
        elif reply is not None and prompt.role == "query" and words is not None:
            read = read_label(reply, words, decoding)
            if isinstance(read, Unparsed):
                verdict, reason = Verdict.UNPARSED.value, read.reason.value
            else:
                label = classes[read]
                verdict = (Verdict.RIGHT if label == true_label else Verdict.WRONG).value
        logprobs = reply.label_logprobs if reply else None
        yield ReplyRecord(
            run_id=run.run_id,
            entry=entry.name,
            backend=entry.backend,
            model=entry.model,
            voter=prompt.voter,
            role=prompt.role,
            query=prompt.position,
            row=prompt.row,
            true_label=true_label,
            attempt=cell.attempt,
            status=cell.status,
            label=label,
            verdict=verdict,
            reason=reason,
            text=reply.text if reply else None,
            finish=reply.finish if reply else None,
            prompt_tokens=reply.prompt_tokens if reply else None,
            cached_tokens=reply.cached_tokens if reply else None,
            completion_tokens=_completion_tokens(reply),
            time_to_first_token_ms=reply.time_to_first_token_ms if reply else None,
            time_per_output_token_ms=reply.time_per_output_token_ms if reply else None,
            label_logprobs=None if logprobs is None else dict(zip(classes, logprobs, strict=True)),
            text_sha256=prompt.text_sha256,
            token_sha256=token_sha256,
        )


def _completion_tokens(reply: Reply | None) -> int | None:
    """`None` where the engine reports a text and not its tokens."""
    if reply is None or (reply.text and not reply.token_ids):
        return None
    return len(reply.token_ids)
