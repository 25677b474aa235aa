"""What a comparison says: records. Differences are those of the other side from the first."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from harness.metrics import Difference
from harness.record import Record
from harness.summary import Caveat, Summary


class Member(Record):
    """One entry of one run, or a baseline of it, whose backend is "baseline". What another tool has
    measured goes by its import, and for both names by its engine, or by the tool where it names
    none. `run_name` is that of the run, where it has one."""

    run_id: str
    entry: str
    backend: str
    run_name: str | None = None

    @property
    def called(self) -> str:
        """Which entry of which run it is, in short."""
        return f"{self.entry} {self.run_name or self.run_id}"


class LabelAgreement(Record):
    """Over the prompts of queries that both have answered.

    A reply that gives no label is unread; `read` counts the prompts on which both replies give
    one, and `share` is that of equal ones among these, `None` without any.
    """

    answered: int
    unread_first: int
    unread_other: int
    read: int
    share: float | None


class OddsDifference(Record):
    """By how many nats two entries' label log-odds differ on one prompt.

    `row` is in the test split for a query and in the training split for a calibration query.
    """

    voter: int
    role: str
    position: int
    row: int
    difference: float  # in nats: natural logarithms


class LogOddsAgreement(Record):
    """Differences of label log-odds in nats, over `prompts`; `furthest` begins with the largest."""

    prompts: int
    median: float
    largest: float
    furthest: list[OddsDifference]


class VerdictDifference(Record):
    """A query (row of the test split) that got the one class here and another there."""

    position: int
    row: int
    first: str
    other: str


class VerdictAgreement(Record):
    """Over the `queries` that both gave to the same voters in the same words and have verdicts on.

    The votes are the headlines of both.
    """

    first_vote: str
    other_vote: str
    queries: int
    differing: list[VerdictDifference]


class Agreement(Record):
    """How far two entries agree on the `prompts` that both were given with the same text.

    `same_weights`: both read the same model file. `log_odds` is `None` where there are none.
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

    `unpaired_because` says why their queries are not the same ones, `None` where they are: then
    shares are compared query by query, and `flips` are listed. `spec` are the fields of the run
    specs that differ; `conditions` what else differs of machine, engine, weights, threads and
    packages, as a list where it was not the same in all sessions of a side. `first_difference` is
    `None` where both were given the same tokens, and `prompts_equal` says whether that is so.
    `elsewhere`: another tool has measured one of them. Then its prompts are not known, and
    `prompts_equal` is `None`; so it is beside a baseline, which has no prompts.
    """

    first: Member
    other: Member
    elsewhere: bool
    unpaired_because: str | None
    same_text: bool
    same_tokens: bool
    prompts_equal: bool | None
    first_difference: PromptDifference | None
    spec: list[FieldDifference]
    conditions: list[FieldDifference]
    differences: list[Difference]
    flips: list[Flip]


class Over(Record):
    """How the best side of a metric differs from this one, which is the first of the difference."""

    side: Member
    difference: Difference


class Lead(Record):
    """Of one metric the side with the best figure, and how it differs from each other side that has
    the metric.

    `ahead_of_all`: it is better than each of them.
    """

    metric: str
    best: Member
    ahead_of_all: bool
    over: list[Over]


class Compared(Record):
    """What `harness compare --json` prints.

    `same_accuracy_p` is Cochran's Q over the queries that three or more all answered, `None` where
    it does not apply. `leads` has each metric that two sides or more have. `agreements` are of each
    pair of entries.
    """

    runs: list[Summary]
    imports: list[dict[str, Any]]
    against_first: list[Comparison]
    same_accuracy_p: float | None
    leads: list[Lead]
    agreements: list[Agreement]
