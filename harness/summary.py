"""The answer of a run, as one object: what `--json` prints and the tables show.

Figures that do not apply are `None`, never 0. Units stand in the names; `docs/METRICS.md` has the
formulas. The JSON schema in `docs/run.schema.json` is made from these models.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from pydantic import Field, JsonValue

from harness.metrics import Difference
from harness.record import Estimate, Measured, Record


class CaveatKind(StrEnum):
    """What a reader of the figures has to know."""

    MOCK = "mock"
    PROMPTS_NOT_EQUAL = "prompts_not_equal"
    FEW_QUERIES = "few_queries"
    COVERS_CHANCE = "covers_chance"
    LOW_LABEL_MASS = "low_label_mass"
    EXAMPLES_DROPPED = "examples_dropped"
    TEXTS_TOO_LONG = "texts_too_long"
    CONTEXT_LIMITED = "context_limited"
    CONTEXT_UNUSED = "context_unused"
    FEW_EXAMPLES = "few_examples"
    CELLS_FAILED = "cells_failed"
    CELLS_MISSING = "cells_missing"
    UNANSWERED = "unanswered"
    LABELS_NOT_WRITTEN = "labels_not_written"
    CALIBRATION_THIN = "calibration_thin"
    TRAIN_TEST_OVERLAP = "train_test_overlap"
    SEVERAL_SESSIONS = "several_sessions"
    PROCESSORS_SHARED = "processors_shared"
    TOKENS_DIFFER = "tokens_differ"
    ENGINES_DISAGREE = "engines_disagree"
    SERVER_FINDING = "server_finding"


class Caveat(Record):
    """One caveat: what was seen, as figures by name.

    `message` and `advice` say it in words where it is shown (`harness.report.words`); what is
    stored has none, but in runs stored before words were made only there.
    """

    kind: CaveatKind
    # pydantic copies a default for each record, so that one dictionary is never shared.
    figures: dict[str, JsonValue] = Field(default={})
    message: str = ""
    advice: str = ""


class Missing(StrEnum):
    """Why a figure cannot be had."""

    NO_REPLY = "no_reply"
    NO_VERDICT = "no_verdict"
    NOTHING_PARSED = "nothing_parsed"
    NOT_REPORTED = "not_reported_by_the_engine"
    NOT_MEASURED = "not_measured"
    REMOTE = "engine_on_another_machine"
    CLIENT_CLOCK = "measured_by_the_client"
    ENGINE_CLOCK = "measured_by_the_engine"
    NO_CONCURRENCY = "no_concurrency_given"
    COLD_RUN = "run_was_cold"
    WARM_RUN = "run_was_not_cold"
    NOT_LOADED = "engine_not_loaded"
    ALREADY_OPEN = "engine_already_open"
    SCORE_GENERATES_NOTHING = "score_generates_nothing"
    SCORE_PARSES_NOTHING = "score_parses_nothing"
    CHOICE_DECODES_NOTHING = "choice_decodes_nothing"
    NO_SECOND_TOKEN = "no_second_token"  # noqa: S105 - of a reply
    NO_LABEL_LOGPROBS = "no_label_logprobs"
    LABEL_LOGPROBS_INCOMPLETE = "label_logprobs_incomplete"
    NO_CALIBRATION = "no_calibration_query"
    ONE_CLASS = "one_class"
    ONE_VOTER = "one_voter"


class ContextFit(Record):
    """`fill_ratio`: longest prompt and reserved reply over the token limit that was set.
    `all_tokens`: those of one prompt and its reply with every example, where that does not fit;
    `None` also where it was too long to be counted.

    Contexts are `None` where no session of the engine was opened.
    """

    examples_per_voter: list[int]
    tokens_per_example: float | None
    fill_ratio: float | None
    declared_context: int | None
    allocated_context: int | None
    examples_available: int
    all_tokens: int | None = None


class Percentiles(Record):
    p50: float
    p95: float


class Speed(Record):
    """Token counts and `engine_seconds` are `None` where no cell is done, or where the engine does
    not report them. `engine_seconds` is the union of the batches' spans, without loading.
    `load_seconds` is `None` where no session was opened, or where it was open already.
    `other_cpu_share` of the processors' time went to other processes while the engine was prompted.

    `unique_tokens` is the minimum of prefill tokens with perfect prefix caching, `least_tokens`
    that of an engine that shares blocks of `shared_block_tokens` only: the same where that is 1.
    Both hold for any order of the prompts where the cache holds all of them, and for the order of
    their prefixes where it holds one. `in_order_tokens` is the minimum for the order in which they
    were sent where it holds one; `None` where the engine does not report what it computed.
    """

    prefill_tokens_per_second: float | None
    decode_tokens_per_second: float | None
    time_to_first_token_ms: Percentiles | None
    computed_tokens: int | None
    unique_tokens: int | None
    least_tokens: int | None
    shared_block_tokens: int
    served_tokens: int | None
    engine_seconds: float | None
    wall_seconds: float
    load_seconds: float | None
    other_cpu_share: float | None = None  # not in summaries of before it was measured
    in_order_tokens: int | None = None


class Tail(Record):
    """Quantiles of the times of all replies."""

    p50: Measured
    p95: Measured
    p99: Measured


class Load(Record):
    """How an entry served several prompts at once. Times are the client's, from when a request was
    sent, or the engine's own, from when it took up the batch: under names of their own, those of
    the other `None`.

    `is_cold`: no request used what was computed before it, so these are other figures than those
    of a warm run. `concurrency` is what was given, `None` where nothing was; `in_flight` the most
    replies that were under way at once. `failed` cells got no reply. Rates are over the union of
    the spans of all requests, or batches.
    """

    is_cold: bool
    concurrency: int | None
    in_flight: int
    requests: int
    failed: int
    requests_per_second: Measured | None
    output_tokens_per_second: Measured | None
    request_time_to_first_token_ms: Tail | None
    request_time_per_output_token_ms: Tail | None
    request_seconds: Tail | None
    time_to_first_token_ms: Tail | None
    time_per_output_token_ms: Tail | None
    batch_seconds: Tail | None


class Memory(Record):
    peak_rss_mib: float | None
    peak_gpu_mib: float | None


class Parse(Record):
    """`reasons` counts why the lenient parser could not read a reply. Null in `score` decoding."""

    replies: int | None
    strict: Estimate | None
    lenient: Estimate | None
    reasons: dict[str, int] | None


class ByVoters(Record):
    """Mean accuracy of the votes of `voters` voters, over subsets of the voters of the run."""

    voters: int
    majority: float | None
    soft: float | None
    calibrated: float | None


class Accuracy(Record):
    """`answered` of the `queries` have a verdict of the headline.

    `single` is the mean of single voters (interval: bootstrap clustered by query), the votes have
    Wilson intervals. `chance` is the share of the most frequent class among the queries.
    `confusion[i][j]`: queries of class i given verdict j. `voter_agreement`: share of equal votes
    among pairs of voters. `headline` names the vote that the other figures here and the table use.
    `sentence` says the headline in words where it is shown; what is stored has none.
    """

    queries: int
    answered: int
    chance: float
    headline: str
    single: Estimate | None
    majority: Estimate | None
    soft: Estimate | None
    calibrated: Estimate | None
    by_voters: list[ByVoters]
    balanced: float | None
    f1: float | None
    auc: float | None
    voter_agreement: float | None
    classes: list[str]
    confusion: list[list[int]] | None
    sentence: str = ""


Fact: TypeAlias = bool | int | float | str


class Baseline(Record):
    """A classifier without a language model, or a sanity check, over the queries of a run.

    `predictions` are indices into the run's classes, in the order of the queries' positions; `None`
    in runs stored before predictions were. `seconds` is what fitting and predicting took. `kind` is
    what `harness baseline` calls it, empty in runs stored before that was. Peaks are of the process
    that fitted it, where they were measured. `facts` are what else is to be known of it, by a name
    in words: its parameters, which model and whose weights, further figures.
    """

    name: str
    estimate: Estimate
    seconds: float | None  # `None` in runs of records version 1
    predictions: list[int] | None
    kind: str = ""
    peak_rss_mib: float | None = None
    peak_gpu_mib: float | None = None
    facts: dict[str, Fact] = Field(default={})


SHUFFLED = "the same prompts, labels shuffled"
"""What the sanity check is called among the baselines of an entry."""


class Shuffled(Record):
    """What an entry makes of the same prompts with the labels of the examples shuffled.

    `vote` names its vote: there are no calibration queries behind shuffled labels. `estimate` is
    over the queries that got a verdict, `None` where none did. `parsed` is the share of its replies
    that could be read, `None` in `score` decoding.
    """

    vote: str
    estimate: Estimate | None
    parsed: float | None


class BaselineTest(Record):
    """The headline vote of an entry against a baseline, over the queries that got a verdict; or
    its vote without calibration against the same one behind shuffled labels.

    In `difference` the baseline is the first side; p is adjusted by Holm over the run's baselines.
    """

    baseline: str
    difference: Difference


class PromptHashes(Record):
    text_sha256: str
    token_sha256: str


class Token(Record):
    """`text` is as the vocabulary writes it."""

    id: int
    text: str


class TokenDifference(Record):
    """Where a backend's own tokens of a prompt part from those it was given, counted from 0.

    `given` and `own` are the next tokens of either side; none where it has ended.
    """

    voter: int
    role: str
    position: int
    token: int
    given: list[Token]
    own: list[Token]


class PromptTokens(Record):
    """Whose tokens a backend was given.

    `tokenized_by` is the first backend of the run with its vocabulary. `same_as_first`: all token
    ids are those that the first backend of the run was given, or of the run that its prompts come
    from. `own_difference`: where what the backend itself makes of the texts differs first; null
    where it makes the same.
    """

    same_as_first: bool
    tokenized_by: str
    own_difference: TokenDifference | None


class Cells(Record):
    """A cell is one attempt at one prompt of an entry. `not_needed`: its reply would change
    nothing any more, so it was left out on purpose."""

    done: int
    failed: int
    not_needed: int = 0


class RunSummary(Record):
    """One entry of a run: a backend with its model and options, under a name.

    `load` is `None` where no concurrency was given and the times are the engine's own. `tokens` is
    `None` where its tokenizer could not be opened. `label_words`: each class's word in
    the prompts. What describes the engine is `None` where no session of it was opened. `missing`
    says of each figure that cannot be had why, by its name. `metrics` are filled in where a summary
    is shown, by `harness.comparison.metrics`: they are not stored.
    """

    entry: str
    backend: str
    engine_version: str | None
    model: str
    weights: str | None
    dataset: str
    seed: int
    label_words: list[str]
    context_fit: ContextFit
    speed: Speed
    memory: Memory
    parse: Parse
    accuracy: Accuracy
    against_baselines: list[BaselineTest]
    shuffled: Shuffled | None = None
    load: Load | None = None
    prompts: PromptHashes
    tokens: PromptTokens | None
    cells: Cells
    missing: dict[str, Missing]
    caveats: list[Caveat]
    metrics: dict[str, float | None] = Field(default={})


class DataFacts(Record):
    """What the data are, and how they were read.

    `kind` is "vectors", of so many `numbers` each, or "text", from the column `text_column`, which
    the user named or which is the only one that is not numeric. `train` and `test` are rows.
    `test_share` is that of a split that was made of the data, `None` where they had one. Not used
    are columns beside the texts, rows of a validation split beside a test split, and rows without
    a text.
    """

    kind: str
    numbers: int | None
    train: int
    test: int
    classes: int
    text_column: str | None = None
    is_column_given: bool = False
    test_share: float | None = None
    unused_columns: list[str] = Field(default=[])
    unused_rows: int = 0
    without_text: int = 0


class Queries(Record):
    """The items that were classified: `rows` of the test split, in the order of their positions,
    and the class of each as an index into `classes`."""

    classes: list[str]
    rows: list[int]
    labels: list[int]


class Summary(Record):
    """What `harness run --json` prints, and `harness baseline --json`.

    `name` is the user's for it, if any. `data_sha256` is the identity of the data. It and `data`
    are `None` in runs stored before they were. `wall_seconds` is the whole of the run, or of its
    last resume; `harness_seconds` is what is left of it without the time that engines were loading
    or generating by their own clocks. A run of baselines has no `runs`, and `queries`, which are
    `None` in a run of engines: its prompts have them.
    """

    run_id: str
    created: str
    name: str | None = None
    group: str | None
    data: DataFacts | None = None
    data_sha256: str | None
    wall_seconds: float | None
    harness_seconds: float | None
    runs: list[RunSummary]
    baselines: list[Baseline]
    queries: Queries | None = None


class GivenTemplate(Record):
    """A chat template in place of the models' own, with the hash of its text."""

    sha256: str
    source: str


class Facts(Record):
    """What drawing and packing measured. Stored with a run's prompts, it is all that its summary
    needs beside them and the replies: no model, no tokenizer, no data.

    `examples_available` and `calibration` have a count for each voter. `limit` is the token limit
    of prompt and reply, `reserve` the part of it that is left for the reply. `labels` are the token
    ids of each class's label by vocabulary hash; `tokens` says by entry whose tokens it is given,
    of those whose tokenizer could be opened. `data` is `None` in runs stored before it was.
    `too_long` are the training rows whose texts were passed over, because they take too much of the
    limit. `all_tokens` are those that a prompt with every example would take, if they do not fit.
    `chat_template` is the one of --chat-template: its file may change.
    """

    dataset: str
    data: DataFacts | None = None
    classes: list[str]
    label_words: list[str]
    train_test_duplicates: int
    examples_available: list[int]
    calibration: list[int]
    tokens_per_example: float | None
    limit: int  # in tokens, with `reserve` in it
    reserve: int
    stop: list[str]
    labels: dict[str, list[list[int]]]
    tokens: dict[str, PromptTokens]
    too_long: list[int] = Field(default=[])
    all_tokens: int | None = None
    chat_template: GivenTemplate | None = None


def is_mock(run: RunSummary) -> bool:
    return any(caveat.kind is CaveatKind.MOCK for caveat in run.caveats)


def parsed_share(run: RunSummary) -> float | None:
    """The share of replies that could be read as a label; `None` where nothing is parsed."""
    return run.parse.lenient.value if run.parse.lenient else None


def headline(run: RunSummary) -> Estimate | None:
    """The vote whose accuracy is the entry's. `None` where no reply could be read: what the label
    log-probabilities say then is not what the model answers."""
    if parsed_share(run) == 0:
        return None
    return {
        "majority": run.accuracy.majority,
        "soft": run.accuracy.soft,
        "calibrated": run.accuracy.calibrated,
    }[run.accuracy.headline]
