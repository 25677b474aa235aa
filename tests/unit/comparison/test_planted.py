"""How often runs that differ in nothing are called different, and how often a planted difference
is found: 200 pairs of runs of the mock, each of 600 queries and about 250 s by its own clock.

Its noise is a real machine's (`docs/METRICS.md`, "Differences"): what llama.cpp showed in equal
runs. One reply in fifty is another one than it would be, too: the harness has to live with that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from backends.api import Batch, Decoding, ModelRef, OptionValue, Prompt
from backends.mock import MockSession
from harness.comparison.compare import compare
from harness.comparison.metrics import METRICS
from harness.metrics import Difference, Outcome
from harness.spec import RunSpec
from harness.store.runs import StoredEntry
from harness.store.schema import BatchRow, CellRow, PromptRow, TokensRow
from tests.unit.comparison.made import FakeStore, stored_run, summary_of
from tests.unit.report.conftest import RUN

PAIRS = 200
QUERIES = 600
JITTER = 0.08
CLASSES = ("FAKE", "REAL")
DIFFERENT = (Outcome.BETTER, Outcome.WORSE)
TOKENS_PER_SECOND = 70.0
CHURN = 0.02  # replies that are others in any two runs
# With 80 % of the truth on the mock's side, a share e of errors leaves 0.8 - 0.6 e right.
EIGHT_POINTS = CHURN + 0.08 / 0.6
DECODING = Decoding("free", (tuple(b"REAL"), tuple(b"FAKE")), max_tokens=8)
PROMPTS = [
    Prompt(list(f"{'shown ' * 6}{index:05d} {'query ' * 4}".encode())) for index in range(QUERIES)
]
SAMPLED = [name for name, metric in METRICS.items() if metric.samples]
SUMMARY = summary_of(
    "mock",
    accuracy=RUN.accuracy.model_copy(update={"headline": "majority"}),
    label_words=list(CLASSES),
)


def _batches(**options: OptionValue) -> list[Batch]:
    session = MockSession(ModelRef("", "mock", ""), {"max_model_len": 1024, **options})
    return [one for one in session.generate(PROMPTS, DECODING) if isinstance(one, Batch)]


@pytest.fixture(scope="module")
def truth() -> list[int]:
    """Every fifth query's is not what the mock says."""
    said = {reply.prompt: reply.text for batch in _batches() for reply in batch.replies}
    return [int((said[i] == CLASSES[1]) ^ (i % 5 == 0)) for i in range(QUERIES)]


def made(truth: list[int], tokens_per_second: float, errors: float, noise_seed: int) -> StoredEntry:
    """What would be stored of a run of the mock at this speed, with this noise and these errors."""
    batches = _batches(
        tokens_per_second=tokens_per_second, jitter=JITTER, errors=errors, noise_seed=noise_seed
    )
    store = FakeStore(
        prompts_of=[
            PromptRow(0, "query", index, index, label, 0, "", id=index)
            for index, label in enumerate(truth)
        ],
        tokens_of=[TokensRow("", len(prompt.token_ids)) for prompt in PROMPTS],
        cells_of=[
            CellRow(reply.prompt, 0, "done", 1, number, None, reply)
            for number, batch in enumerate(batches)
            for reply in batch.replies
        ],
        batches_of=[
            BatchRow(
                number,
                1,
                batch.began,
                batch.ended,
                batch.prefill_tokens,
                batch.prefill_seconds,
                batch.decode_tokens,
                batch.decode_seconds,
            )
            for number, batch in enumerate(batches)
        ],
    )
    return stored_run(RunSpec(backend=("mock",)), [SUMMARY], store).entry("mock")


def pairs(
    truth: list[int],
    first_speed: float = TOKENS_PER_SECOND,
    speed: float = TOKENS_PER_SECOND,
    errors: float = CHURN,
) -> Iterator[tuple[StoredEntry, StoredEntry]]:
    """The other side of each is of this speed and makes these errors."""
    for seed in range(0, 2 * PAIRS, 2):
        yield made(truth, first_speed, CHURN, seed), made(truth, speed, errors, seed + 1)


def differences(pair: tuple[StoredEntry, StoredEntry]) -> dict[str, Difference]:
    """Of what is sampled."""
    [comparison] = compare(pair).against_first
    return {one.metric: one for one in comparison.differences if one.metric in SAMPLED}


@pytest.mark.parametrize("seconds", [250, 20])
def test_equal_runs_are_hardly_ever_called_different(truth: list[int], seconds: int) -> None:
    called: Counter[str] = Counter()
    speed = TOKENS_PER_SECOND * 250 / seconds
    for pair in pairs(truth, speed, speed):
        found = differences(pair)
        assert len(found) == 5
        called.update(m for m, one in found.items() if one.outcome in DIFFERENT)
    print(f"called different, of {PAIRS} pairs: {dict(called)}")  # noqa: T201 - shown by pytest -s
    assert called.total() <= 0.05 * 5 * PAIRS
    assert max(called.values(), default=0) <= 0.08 * PAIRS


def test_a_slowdown_of_a_tenth_is_found(truth: list[int]) -> None:
    slowed = [differences(pair) for pair in pairs(truth, speed=0.9 * TOKENS_PER_SECOND)]
    for metric in ("prefill_tokens_per_second", "time_to_first_token_ms"):
        verdicts = [one[metric].outcome for one in slowed]
        print(metric, Counter(verdicts))  # noqa: T201 - shown by pytest -s
        assert verdicts.count(Outcome.WORSE) >= 0.95 * PAIRS


def test_a_loss_of_eight_points_is_found(truth: list[int]) -> None:
    worse = [differences(pair) for pair in pairs(truth, errors=EIGHT_POINTS)]
    changes = [one["accuracy"].change for one in worse]
    assert -0.085 < sum(changes) / PAIRS < -0.075
    verdicts = [one["accuracy"].outcome for one in worse]
    print(Counter(verdicts))  # noqa: T201 - shown by pytest -s
    assert verdicts.count(Outcome.WORSE) >= 0.95 * PAIRS
