"""Pairs of runs of the mock, and what `compare` calls different between them.

Each run is of 600 queries. Its noise is a real machine's (`docs/METRICS.md`, "Differences"): what
llama.cpp showed in equal runs. One reply in fifty is another one than it would be, too: the harness
has to live with that. A pair takes a fifth of a second: a few are unit tests, many a soak test.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

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

QUERIES = 600
JITTER = 0.08
DIFFERENT = (Outcome.BETTER, Outcome.WORSE)
CLASSES = ("FAKE", "REAL")
TOKENS_PER_SECOND = 70.0  # a run takes about 250 s by its own clock
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


@cache
def _truth() -> list[int]:
    """Every fifth query's is not what the mock says."""
    said = {reply.prompt: reply.text for batch in _batches() for reply in batch.replies}
    return [int((said[i] == CLASSES[1]) ^ (i % 5 == 0)) for i in range(QUERIES)]


def _made(tokens_per_second: float, errors: float, noise_seed: int) -> StoredEntry:
    """What would be stored of a run of the mock at this speed, with this noise and these errors."""
    batches = _batches(
        tokens_per_second=tokens_per_second, jitter=JITTER, errors=errors, noise_seed=noise_seed
    )
    store = FakeStore(
        prompts_of=[
            PromptRow(0, "query", index, index, label, 0, "", id=index)
            for index, label in enumerate(_truth())
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


def differences(
    pairs: int,
    first_speed: float = TOKENS_PER_SECOND,
    speed: float = TOKENS_PER_SECOND,
    errors: float = CHURN,
) -> list[dict[str, Difference]]:
    """Of each pair, what is sampled; the other side is of this speed and makes these errors."""
    found = []
    for seed in range(0, 2 * pairs, 2):
        sides = _made(first_speed, CHURN, seed), _made(speed, errors, seed + 1)
        [comparison] = compare(sides).against_first
        found.append({one.metric: one for one in comparison.differences if one.metric in SAMPLED})
    return found


def of_equal_runs(pairs: int, seconds: float) -> list[dict[str, Difference]]:
    """Where nothing is planted, in runs of about so long."""
    speed = TOKENS_PER_SECOND * 250 / seconds
    return differences(pairs, speed, speed)


def of_a_slowdown(pairs: int) -> list[dict[str, Difference]]:
    """By a tenth."""
    return differences(pairs, speed=0.9 * TOKENS_PER_SECOND)


def of_a_loss(pairs: int) -> list[dict[str, Difference]]:
    """Of eight points of accuracy."""
    return differences(pairs, errors=EIGHT_POINTS)


def called_different(found: list[dict[str, Difference]]) -> Counter[str]:
    """In how many pairs each metric was."""
    return Counter(m for one in found for m, d in one.items() if d.outcome in DIFFERENT)
