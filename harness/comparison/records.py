"""What is compared between measurements, and what a comparison says: records and names.

Differences are told from the first to the other, by metrics that are known by name: to
`harness compare`, to `harness history` and to the gate of the pytest plugin alike.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from harness.metrics import Difference
from harness.summary import Caveat, Record, Summary


class Member(Record):
    """One backend of one run."""

    run_id: str
    backend: str


class LabelAgreement(Record):
    """Over the prompts of queries that both have answered.

    A reply that gives no label is unread; `read` counts the prompts on which both replies give
    one, and `share` is that of equal ones among these, null without any.
    """

    answered: int
    unread_first: int
    unread_other: int
    read: int
    share: float | None


class CellDifference(Record):
    """By how many nats two backends' label log-odds differ on one prompt.

    `row` is in the test split for a query and in the training split for a calibration query.
    """

    voter: int
    role: str
    position: int
    row: int
    difference: float


class LogOddsAgreement(Record):
    """Differences of label log-odds in nats, over `cells`; `furthest` begins with the largest."""

    cells: int
    median: float
    largest: float
    furthest: list[CellDifference]


class VerdictDifference(Record):
    """A query (row of the test split) that got the one class here and another there."""

    position: int
    row: int
    first: str
    other: str


class VerdictAgreement(Record):
    """Over the `queries` that both put to the same voters in the same words, and gave a verdict on.

    The votes are the headlines of both.
    """

    first_vote: str
    other_vote: str
    queries: int
    differing: list[VerdictDifference]


class Agreement(Record):
    """How far two backends agree on the `prompts` that both were asked with the same text.

    `same_weights`: both read the same model file. `log_odds` is null where there are none.
    """

    first: Member
    other: Member
    prompts: int
    same_weights: bool
    labels: LabelAgreement
    log_odds: LogOddsAgreement | None
    verdicts: VerdictAgreement
    caveats: list[Caveat]


What: TypeAlias = Literal["text", "tokens", "missing"]


class PromptDifference(Record):
    """The first prompt that differs. Tokens are compared where the text is the same."""

    voter: int
    role: str
    position: int
    what: What


class FieldDifference(Record):
    """A field that is not the same on both sides."""

    field: str
    first: Any
    other: Any


class Flip(Record):
    """A query (row of the test split) that one side got right and the other wrong."""

    position: int
    row: int
    truth: str
    first: str
    other: str


class Comparison(Record):
    """One side against the first of all.

    `spec` are the fields of the run specs that differ; `conditions` what else differs of machine,
    engine, weights, threads and packages. `first_difference` is null where both were asked the
    same tokens. `elsewhere`: another tool has measured one of them, so that what it asked is not
    known.
    """

    first: Member
    other: Member
    elsewhere: bool
    same_text: bool
    same_tokens: bool
    first_difference: PromptDifference | None
    spec: list[FieldDifference]
    conditions: list[FieldDifference]
    differences: list[Difference]
    flips: list[Flip]


class Compared(Record):
    """What `harness compare --json` prints.

    `same_accuracy_p` is Cochran's Q over the queries that three or more all answered, null where
    it does not apply. `agreements` are of each pair of all backends.
    """

    runs: list[Summary]
    imports: list[dict[str, Any]]
    against_first: list[Comparison]
    same_accuracy_p: float | None
    agreements: list[Agreement]
