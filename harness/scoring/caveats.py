"""What a reader of the figures has to know: kinds of caveats, with the figures they are about.

The words for them are in `harness.report.words`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TypeAlias

from pydantic import JsonValue

from harness.contract import Finding
from harness.scoring.accuracy import covers_chance
from harness.summary import Accuracy, Caveat, CaveatKind, Parse, TokenDifference

ENOUGH_QUERIES = 100  # below it, a 95 % interval is wider than about 0.2
ENOUGH_LABEL_MASS = 0.5
ENOUGH_CALIBRATION = 8
ENOUGH_READABLE = 0.9
MUCH_UNUSED = 0.5  # of the model's context: with half of it, twice as many examples would fit
MUCH_OTHER_CPU = 0.05  # beside more, speeds differ by more than repeated runs do (DECISIONS.md)

_Caveats: TypeAlias = Iterator[tuple[CaveatKind, dict[str, JsonValue]]]


@dataclass(frozen=True, slots=True)
class CaveatInputs:
    """What caveats depend on.

    `is_mock` is false where no session of the engine was opened. `label_mass`: median share of
    probability that the labels hold, `None` without any. `*_wanted` and `shots` are what the user
    wanted; `calibration_per_voter` and `fewest_shown` are those of the voter with fewest,
    `examples_*` are means. `context_limit` is what the prompts were packed for, in
    tokens: what was wanted, or the shortest context that a model of the run was made for.
    `is_text`: whether the data are texts, not vectors. `shared_items` stand in train and test.
    `all_tokens`: what a prompt with every example would take, if that does not fit.
    `declared_context` is what the model
    was made for, and `longest_prompt` what is used of it, in tokens with the reply; `None` where
    that is not known. `examples_too_long` are training texts that were passed over,
    `queries_too_long` queries whose prompts do not fit. `own_tokens`: where the engine's own
    tokenization differs from the tokens that it was given. `findings`: what the engine did to
    prompts and did not say.
    """

    is_mock: bool
    accuracy: Accuracy
    parse: Parse
    label_mass: float | None
    queries_wanted: int
    calibration_wanted: int
    calibration_per_voter: int
    shots: int | None
    fewest_shown: int
    examples_shown: int
    examples_available: int
    cells_failed: int
    cells_missing: int
    failure_reasons: tuple[str, ...]
    failure_remedies: tuple[str, ...]
    has_replies: bool
    is_text: bool
    shared_items: int
    examples_too_long: int
    all_tokens: int | None
    queries_too_long: int
    context_limit: int
    context_wanted: int
    declared_context: int | None
    longest_prompt: int | None
    sessions: int
    other_cpu_share: float | None
    own_tokens: TokenDifference | None
    findings: tuple[Finding, ...]


def find_caveats(inputs: CaveatInputs) -> list[Caveat]:
    """The caveats that hold, the gravest first."""
    parts = (
        _of_the_run,
        _of_the_tokens,
        _of_the_votes,
        _of_the_labels,
        _of_the_examples,
        _of_the_sessions,
    )
    found = chain.from_iterable(part(inputs) for part in parts)
    return [Caveat(kind=kind, figures=figures) for kind, figures in found]


def _of_the_run(inputs: CaveatInputs) -> _Caveats:
    if inputs.is_mock:
        yield CaveatKind.MOCK, {}
    if inputs.cells_failed:
        yield (
            CaveatKind.CELLS_FAILED,
            {
                "cells": inputs.cells_failed,
                "reasons": list(inputs.failure_reasons),
                "remedies": list(inputs.failure_remedies),
            },
        )
    if inputs.cells_missing:
        yield CaveatKind.CELLS_MISSING, {"cells": inputs.cells_missing}
    if inputs.shared_items:
        items = "texts" if inputs.is_text else "vectors"
        yield CaveatKind.TRAIN_TEST_OVERLAP, {items: inputs.shared_items}


def _of_the_tokens(inputs: CaveatInputs) -> _Caveats:
    if inputs.own_tokens:
        yield CaveatKind.TOKENS_DIFFER, inputs.own_tokens.model_dump(mode="json")
    for finding in inputs.findings:
        if finding.kind == "prompts_not_equal":  # because it was wanted: nothing that it hid
            yield CaveatKind.PROMPTS_NOT_EQUAL, {}
            continue
        known = {name: value for name, value in asdict(finding).items() if value not in (None, "")}
        yield CaveatKind.SERVER_FINDING, {**known, "kind": finding.kind}


def _of_the_votes(inputs: CaveatInputs) -> _Caveats:
    accuracy = inputs.accuracy
    # Where nothing could be read, no accuracy is reported that might be compared with chance.
    is_unread = inputs.parse.lenient is not None and inputs.parse.lenient.value == 0
    if covers_chance(accuracy) and not is_unread:
        yield CaveatKind.COVERS_CHANCE, {"chance": accuracy.chance}
    if accuracy.queries < max(inputs.queries_wanted, ENOUGH_QUERIES):
        yield (
            CaveatKind.FEW_QUERIES,
            {
                "queries": accuracy.queries,
                "wanted": inputs.queries_wanted,
                "enough": ENOUGH_QUERIES,
            },
        )
    # of an entry without any reply the failed cells say all
    if inputs.has_replies and accuracy.answered < accuracy.queries:
        yield (
            CaveatKind.UNANSWERED,
            {
                "unanswered": accuracy.queries - accuracy.answered,
                "queries": accuracy.queries,
                "vote": accuracy.headline,
            },
        )


def _of_the_labels(inputs: CaveatInputs) -> _Caveats:
    readable, headline = inputs.parse.lenient, inputs.accuracy.headline
    if readable and readable.value < ENOUGH_READABLE and headline != "majority":
        yield CaveatKind.LABELS_NOT_WRITTEN, {"readable": readable.value, "vote": headline}
    if inputs.label_mass is not None and inputs.label_mass < ENOUGH_LABEL_MASS:
        yield CaveatKind.LOW_LABEL_MASS, {"label_mass": inputs.label_mass}
    given, wanted = inputs.calibration_per_voter, inputs.calibration_wanted
    # Either the data gave fewer than were wanted, or fewer than enough were wanted. None at all is
    # a choice (`--calibration-queries 0`) and no caveat.
    if given < min(wanted, ENOUGH_CALIBRATION) or 0 < given < ENOUGH_CALIBRATION:
        yield (
            CaveatKind.CALIBRATION_THIN,
            {"examples": given, "wanted": wanted, "enough": ENOUGH_CALIBRATION},
        )


def _of_the_examples(inputs: CaveatInputs) -> _Caveats:
    if inputs.shots is not None and inputs.fewest_shown < inputs.shots:
        yield CaveatKind.FEW_EXAMPLES, {"shots": inputs.shots, "examples": inputs.fewest_shown}
    is_limited = inputs.context_limit < inputs.context_wanted
    if is_limited:
        yield (
            CaveatKind.CONTEXT_LIMITED,
            {"limit": inputs.context_limit, "wanted": inputs.context_wanted},
        )
    if inputs.examples_too_long or inputs.queries_too_long:
        yield (
            CaveatKind.TEXTS_TOO_LONG,
            {
                "examples": inputs.examples_too_long,
                "queries": inputs.queries_too_long,
                "limit": inputs.context_limit,
            },
        )
    # With --shots the number was chosen; what is left out then is no surprise.
    if inputs.shots is None and inputs.examples_shown < inputs.examples_available:
        yield (
            CaveatKind.EXAMPLES_DROPPED,
            {
                "shown": inputs.examples_shown,
                "available": inputs.examples_available,
                "is_limited": is_limited,
                # Runs of earlier versions had vectors only, and do not have it.
                **({"is_text": True} if inputs.is_text else {}),
                **(
                    {"all_tokens": inputs.all_tokens, "limit": inputs.context_limit}
                    if inputs.all_tokens is not None
                    else {}
                ),
            },
        )
        declared, used = inputs.declared_context, inputs.longest_prompt
        # What the mock was made for says nothing of a model.
        if declared and used and used < MUCH_UNUSED * declared and not inputs.is_mock:
            yield CaveatKind.CONTEXT_UNUSED, {"declared": declared, "used": used}


def _of_the_sessions(inputs: CaveatInputs) -> _Caveats:
    if inputs.sessions > 1:
        yield CaveatKind.SEVERAL_SESSIONS, {"sessions": inputs.sessions}
    share = inputs.other_cpu_share
    if share is not None and share >= MUCH_OTHER_CPU and not inputs.is_mock:
        yield CaveatKind.PROCESSORS_SHARED, {"share": share}
