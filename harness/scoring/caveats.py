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
class Facts:
    """What caveats depend on.

    `label_mass`: median share of probability that the labels hold. `*_asked` and `shots` are what
    the user set; `calibration_per_voter` and `fewest_shown` are those of the voter with fewest,
    `examples_*` are means. `own_tokens`: where the engine's own tokenization differs from what it
    was asked.
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


def find_caveats(facts: Facts) -> list[Caveat]:
    """The caveats that hold, the gravest first."""
    parts = (
        _of_the_run,
        _of_the_tokens,
        _of_the_votes,
        _of_the_labels,
        _of_the_examples,
        _of_the_sessions,
    )
    found = chain.from_iterable(part(facts) for part in parts)
    return [Caveat(kind=kind, message=text, advice=advice) for kind, text, advice in found]


def _of_the_run(facts: Facts) -> _Caveats:
    if facts.is_mock:
        yield (
            CaveatKind.MOCK,
            "This is the mock: its replies are made up and its speed means nothing.",
            "Use it to test the harness only.",
        )
    if facts.cells_failed:
        yield (
            CaveatKind.CELLS_FAILED,
            f"{facts.cells_failed} cells failed: {'; '.join(facts.failure_reasons)}.",
            "See the engine's log in the results folder; --resume asks them again.",
        )
    if facts.cells_missing:
        yield (
            CaveatKind.CELLS_MISSING,
            f"{facts.cells_missing} cells were not asked yet.",
            "Complete the run with --resume.",
        )
    if facts.shared_vectors:
        yield (
            CaveatKind.TRAIN_TEST_OVERLAP,
            f"{facts.shared_vectors} test vectors are in the training data too.",
            "Remove them: they make every accuracy too good.",
        )


def _of_the_tokens(facts: Facts) -> _Caveats:
    if where := facts.own_tokens:
        yield (
            CaveatKind.TOKENS_DIFFER,
            "Its own tokenizer makes other tokens of the prompts than it was asked, first in voter "
            f"{where.voter}, {where.role} {where.position}, at token {where.token}: "
            f"{_spelt(where.own)} and not {_spelt(where.asked)}.",
            "Its tokenizer does not keep to the model's vocabulary as the first engine does: "
            "mend its files, or ask it in a run of its own.",
        )


def _spelt(tokens: Sequence[Token]) -> str:
    """`'the' (12) ' cat' (7)`."""
    return " ".join(f"{token.text!r} ({token.id})" for token in tokens) or "the end"


def _of_the_votes(facts: Facts) -> _Caveats:
    accuracy = facts.accuracy
    if covers_chance(accuracy):
        yield (
            CaveatKind.COVERS_CHANCE,
            f"The accuracy is not told apart from chance ({accuracy.chance:.2f}).",
            "Ask more queries, or show more.",
        )
    if accuracy.queries < facts.queries_asked:
        yield (
            CaveatKind.FEW_QUERIES,
            f"The test split holds only {accuracy.queries} queries; {facts.queries_asked} were "
            "asked for.",
            "Give more test rows before you call one engine better.",
        )
    elif accuracy.queries < ENOUGH_QUERIES:
        yield (
            CaveatKind.FEW_QUERIES,
            f"{accuracy.queries} queries leave wide intervals.",
            f"Ask at least {ENOUGH_QUERIES} (--queries) before you call one engine better.",
        )
    if accuracy.answered < accuracy.queries:
        yield (
            CaveatKind.UNANSWERED,
            f"{accuracy.queries - accuracy.answered} of {accuracy.queries} queries got no "
            f"{accuracy.headline} verdict; they are left out of the accuracy.",
            "Use --decoding choice or score, or another --prompt."
            if accuracy.headline == "majority"
            else "Ask what has no reply again with --resume.",
        )


def _of_the_labels(facts: Facts) -> _Caveats:
    readable, headline = facts.parse.lenient, facts.accuracy.headline
    if readable and readable.value < ENOUGH_READABLE and headline != "majority":
        yield (
            CaveatKind.LABELS_NOT_WRITTEN,
            f"Only {100 * readable.value:.0f} % of the replies could be read; the {headline} vote "
            "is made from label log-probabilities, not from what was written.",
            "Raise --max-tokens, or try another --prompt or --decoding choice.",
        )
    if facts.label_mass is not None and facts.label_mass < ENOUGH_LABEL_MASS:
        yield (
            CaveatKind.LOW_LABEL_MASS,
            f"In the median reply the labels hold {facts.label_mass:.3f} of the probability.",
            "The model would rather say something else: try another --prompt.",
        )
    if facts.calibration_per_voter < min(facts.calibration_asked, ENOUGH_CALIBRATION):
        yield (
            CaveatKind.CALIBRATION_THIN,
            f"A voter was calibrated on {facts.calibration_per_voter} examples, not on the "
            f"{facts.calibration_asked} asked for: at most a quarter of those it has is held back.",
            "Give more training rows.",
        )
    elif 0 < facts.calibration_per_voter < ENOUGH_CALIBRATION:
        yield (
            CaveatKind.CALIBRATION_THIN,
            f"Each voter was calibrated on {facts.calibration_per_voter} examples.",
            f"Give it at least {ENOUGH_CALIBRATION} (--calibration-queries).",
        )


def _of_the_examples(facts: Facts) -> _Caveats:
    if facts.shots is not None and facts.fewest_shown < facts.shots:
        yield (
            CaveatKind.FEW_EXAMPLES,
            f"--shots {facts.shots} was asked for, and a voter has only {facts.fewest_shown} "
            "examples to show.",
            "Give more training rows, or lower --shots.",
        )
    if facts.shots is None and facts.examples_shown < facts.examples_available:
        yield (
            CaveatKind.EXAMPLES_DROPPED,
            f"The context holds {facts.examples_shown} of {facts.examples_available} examples "
            "(mean per voter); the others were left out.",
            "Raise --max-model-len, or write fewer numbers an example.",
        )


def _of_the_sessions(facts: Facts) -> _Caveats:
    if facts.sessions > 1:
        yield (
            CaveatKind.SEVERAL_SESSIONS,
            f"The replies come from {facts.sessions} sessions of the engine.",
            "Some prefixes were evaluated again: compare speeds of uninterrupted runs.",
        )
