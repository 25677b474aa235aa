"""What a reader of the figures has to know, each with its advice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

from harness.scoring.accuracy import covers_chance
from harness.summary import Accuracy, Caveat, CaveatKind, Parse, Token, TokenDifference

ENOUGH_QUERIES = 100  # below it, a 95 % interval is wider than about 0.2
ENOUGH_LABEL_MASS = 0.5
ENOUGH_CALIBRATION = 8
ENOUGH_READABLE = 0.9

_Caveats: TypeAlias = Iterator[tuple[CaveatKind, str, str]]


@dataclass(frozen=True, slots=True)
class CaveatInputs:
    """What caveats depend on.

    `is_mock` is false where no session of the engine was opened. `label_mass`: median share of
    probability that the labels hold, `None` without any. `*_asked` and `shots` are what the user
    asked for; `calibration_per_voter` and `fewest_shown` are those of the voter with fewest,
    `examples_*` are means. `own_tokens`: where the engine's own tokenization differs from the
    tokens that it was given.
    """

    is_mock: bool
    accuracy: Accuracy
    parse: Parse
    label_mass: float | None
    queries_asked: int
    calibration_asked: int
    calibration_per_voter: int
    shots: int | None
    fewest_shown: int
    examples_shown: int
    examples_available: int
    cells_failed: int
    cells_missing: int
    failure_reasons: tuple[str, ...]
    shared_vectors: int
    sessions: int
    own_tokens: TokenDifference | None


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
    return [Caveat(kind=kind, message=text, advice=advice) for kind, text, advice in found]


def _of_the_run(inputs: CaveatInputs) -> _Caveats:
    if inputs.is_mock:
        yield (
            CaveatKind.MOCK,
            "This is the mock: its replies are made up and its speed means nothing.",
            "Use it to test the harness only.",
        )
    if inputs.cells_failed:
        yield (
            CaveatKind.CELLS_FAILED,
            f"{inputs.cells_failed} cells failed: {'; '.join(inputs.failure_reasons)}.",
            "See the engine's log in the results folder; --resume asks them again.",
        )
    if inputs.cells_missing:
        yield (
            CaveatKind.CELLS_MISSING,
            f"{inputs.cells_missing} cells were not prompted yet.",
            "Complete the run with --resume.",
        )
    if inputs.shared_vectors:
        yield (
            CaveatKind.TRAIN_TEST_OVERLAP,
            f"{inputs.shared_vectors} test vectors are in the training data too.",
            "Remove them: they make every accuracy too good.",
        )


def _of_the_tokens(inputs: CaveatInputs) -> _Caveats:
    if where := inputs.own_tokens:
        yield (
            CaveatKind.TOKENS_DIFFER,
            "Its own tokenizer makes other tokens of the prompts than it was given, first in voter "
            f"{where.voter}, {where.role} {where.position}, at token {where.token}: "
            f"{_spelt(where.own)} and not {_spelt(where.asked)}.",
            "Its tokenizer does not keep to the model's vocabulary as the first engine does: "
            "fix its files, or prompt it in a run of its own.",
        )


def _spelt(tokens: Sequence[Token]) -> str:
    """`'the' (12) ' cat' (7)`."""
    return " ".join(f"{token.text!r} ({token.id})" for token in tokens) or "the end"


def _of_the_votes(inputs: CaveatInputs) -> _Caveats:
    accuracy = inputs.accuracy
    if covers_chance(accuracy):
        yield (
            CaveatKind.COVERS_CHANCE,
            f"The accuracy is not told apart from chance ({accuracy.chance:.2f}).",
            "Use more queries, or show more.",
        )
    if accuracy.queries < inputs.queries_asked:
        yield (
            CaveatKind.FEW_QUERIES,
            f"The test split holds only {accuracy.queries} queries; {inputs.queries_asked} were "
            "asked for.",
            "Give more test rows before you call one engine better.",
        )
    elif accuracy.queries < ENOUGH_QUERIES:
        yield (
            CaveatKind.FEW_QUERIES,
            f"{accuracy.queries} queries leave wide intervals.",
            f"Use at least {ENOUGH_QUERIES} (--queries) before you call one engine better.",
        )
    if accuracy.answered < accuracy.queries:
        yield (
            CaveatKind.UNANSWERED,
            f"{accuracy.queries - accuracy.answered} of {accuracy.queries} queries got no "
            f"{accuracy.headline} verdict; they are left out of the accuracy.",
            "Use --decoding choice or score, or another --prompt."
            if accuracy.headline == "majority"
            else "Prompt what has no reply again with --resume.",
        )


def _of_the_labels(inputs: CaveatInputs) -> _Caveats:
    readable, headline = inputs.parse.lenient, inputs.accuracy.headline
    if readable and readable.value < ENOUGH_READABLE and headline != "majority":
        yield (
            CaveatKind.LABELS_NOT_WRITTEN,
            f"Only {100 * readable.value:.0f} % of the replies could be read; the {headline} vote "
            "is made from label log-probabilities, not from what was written.",
            "Raise --max-tokens, or try another --prompt or --decoding choice.",
        )
    if inputs.label_mass is not None and inputs.label_mass < ENOUGH_LABEL_MASS:
        yield (
            CaveatKind.LOW_LABEL_MASS,
            f"In the median reply the labels hold {inputs.label_mass:.3f} of the probability.",
            "The model would rather say something else: try another --prompt.",
        )
    if inputs.calibration_per_voter < min(inputs.calibration_asked, ENOUGH_CALIBRATION):
        yield (
            CaveatKind.CALIBRATION_THIN,
            f"A voter was calibrated on {inputs.calibration_per_voter} examples, not on the "
            f"{inputs.calibration_asked} asked for: at most a quarter of those it has is held "
            "back.",
            "Give more training rows.",
        )
    elif 0 < inputs.calibration_per_voter < ENOUGH_CALIBRATION:
        yield (
            CaveatKind.CALIBRATION_THIN,
            f"Each voter was calibrated on {inputs.calibration_per_voter} examples.",
            f"Give it at least {ENOUGH_CALIBRATION} (--calibration-queries).",
        )


def _of_the_examples(inputs: CaveatInputs) -> _Caveats:
    if inputs.shots is not None and inputs.fewest_shown < inputs.shots:
        yield (
            CaveatKind.FEW_EXAMPLES,
            f"--shots {inputs.shots} was asked for, and a voter has only {inputs.fewest_shown} "
            "examples to show.",
            "Give more training rows, or lower --shots.",
        )
    if inputs.shots is None and inputs.examples_shown < inputs.examples_available:
        yield (
            CaveatKind.EXAMPLES_DROPPED,
            f"The context holds {inputs.examples_shown} of {inputs.examples_available} examples "
            "(mean per voter); the others were left out.",
            "Raise --max-model-len, or write fewer numbers an example.",
        )


def _of_the_sessions(inputs: CaveatInputs) -> _Caveats:
    if inputs.sessions > 1:
        yield (
            CaveatKind.SEVERAL_SESSIONS,
            f"The replies come from {inputs.sessions} sessions of the engine.",
            "Some prefixes were evaluated again: compare speeds of uninterrupted runs.",
        )
