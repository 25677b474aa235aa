"""How often runs that differ in nothing are called different, and how often a planted difference
is found: 200 pairs of runs of the mock, each of 600 queries and about 250 s by the clock it tells.

Its noise is a real machine's (`docs/METRICS.md`, "Differences"): what llama.cpp showed in equal
runs. One reply in fifty is another one than it would be, too: the harness has to live with that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from backends.api import Batch, Decoding, ModelRef, OptionValue, Reply
from backends.mock import MockSession
from harness import benchmark
from harness.comparison.agreement import Reading, make_side
from harness.comparison.compare import compare
from harness.comparison.sides import Side, read_side
from harness.metrics import Difference, Verdict
from harness.spec import RunSpec
from harness.store.schema import BatchRow, CellRow, PromptRow, TokensRow
from harness.store.store import Store

PAIRS = 200
QUERIES = 600
JITTER = 0.08
CLASSES = ("FAKE", "REAL")
DIFFERENT = (Verdict.BETTER, Verdict.WORSE)
TOKENS_PER_SECOND = 70.0
CHURN = 0.02  # replies that are others in any two runs
# With 80 % of the truth on the mock's side, a share e of errors leaves 0.8 - 0.6 e right.
EIGHT_POINTS = CHURN + 0.08 / 0.6
DECODING = Decoding("free", (tuple(b"REAL"), tuple(b"FAKE")), max_tokens=8)
PROMPTS = [list(f"{'shown ' * 6}{index:05d} {'query ' * 4}".encode()) for index in range(QUERIES)]


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes sides of a run that was kept, with other replies and times."""

    template: Side
    truth: tuple[int, ...]

    def side(self, tokens_per_second: float, errors: float, noise_seed: int) -> Side:
        events = _ask(
            tokens_per_second=tokens_per_second,
            jitter=JITTER,
            errors=errors,
            noise_seed=noise_seed,
        )
        batches = [event for event in events if isinstance(event, Batch)]
        replies = {r.prompt: (r, number) for number, b in enumerate(batches) for r in b.replies}
        prompts = [
            PromptRow(0, "query", index, index, label, 0, "", id=index)
            for index, label in enumerate(self.truth)
        ]
        read = make_side(
            self.template.member,
            None,
            prompts,
            {index: reply for index, (reply, _) in replies.items()},
            Reading(CLASSES, CLASSES, "free", "majority"),
        )
        return replace(
            self.template,
            prompts=prompts,
            tokens=[TokensRow("", len(prompt)) for prompt in PROMPTS],
            cells=[_cell(reply, number) for reply, number in replies.values()],
            batches=[_batch(batch, number) for number, batch in enumerate(batches)],
            read=read,
        )


def _ask(**options: OptionValue) -> Iterator[object]:
    session = MockSession(ModelRef("", "mock", ""), {"max_model_len": 1024, **options})
    return session.generate(PROMPTS, DECODING)


def _cell(reply: Reply, number: int) -> CellRow:
    return CellRow(reply.prompt, "done", 1, number + 1, None, reply)


def _batch(batch: Batch, number: int) -> BatchRow:
    return BatchRow(
        number + 1,
        1,
        batch.engine_seconds,
        batch.prefill_tokens,
        batch.prefill_seconds,
        batch.decode_tokens,
        batch.decode_seconds,
    )


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory, small_data: str) -> Maker:
    results = tmp_path_factory.mktemp("results")
    spec = RunSpec(backend=("mock",), voters=1, queries=4, data=small_data, max_model_len=300)
    summary = benchmark(results, **spec.model_dump(exclude={"prompts_from"}))
    with Store(results) as store:
        template = read_side(store, summary, summary.runs[0], spec)
    said = {r.prompt: r.text for e in _ask() if isinstance(e, Batch) for r in e.replies}
    # every fifth query's truth is not what the mock says
    truth = tuple((said[i] == CLASSES[1]) ^ (i % 5 == 0) for i in range(QUERIES))
    return Maker(template, tuple(map(int, truth)))


def pairs(
    maker: Maker,
    first_speed: float = TOKENS_PER_SECOND,
    speed: float = TOKENS_PER_SECOND,
    errors: float = CHURN,
) -> Iterator[tuple[Side, Side]]:
    """The other side of each is of this speed and makes these errors."""
    for seed in range(0, 2 * PAIRS, 2):
        yield (
            maker.side(first_speed, CHURN, seed),
            maker.side(speed, errors, seed + 1),
        )


def differences(pair: tuple[Side, Side]) -> dict[str, Difference]:
    [comparison] = compare([], pair).against_first
    return {one.metric: one for one in comparison.differences}


@pytest.mark.parametrize("seconds", [250, 20])
def test_equal_runs_are_hardly_ever_called_different(maker: Maker, seconds: int) -> None:
    called: Counter[str] = Counter()
    speed = TOKENS_PER_SECOND * 250 / seconds
    for pair in pairs(maker, speed, speed):
        found = differences(pair)
        assert len(found) == 5
        called.update(m for m, one in found.items() if one.verdict in DIFFERENT)
    print(f"called different, of {PAIRS} pairs: {dict(called)}")  # noqa: T201 - shown by pytest -s
    assert called.total() <= 0.05 * 5 * PAIRS
    assert max(called.values(), default=0) <= 0.08 * PAIRS


def test_a_slowdown_of_a_tenth_is_found(maker: Maker) -> None:
    slowed = [differences(pair) for pair in pairs(maker, speed=0.9 * TOKENS_PER_SECOND)]
    verdicts = [one["prefill_tokens_per_second"].verdict for one in slowed]
    print(Counter(verdicts))  # noqa: T201 - shown by pytest -s
    assert verdicts.count(Verdict.WORSE) >= 0.95 * PAIRS


def test_a_loss_of_eight_points_is_found(maker: Maker) -> None:
    worse = [differences(pair) for pair in pairs(maker, errors=EIGHT_POINTS)]
    changes = [one["accuracy"].change for one in worse]
    assert -0.085 < sum(changes) / PAIRS < -0.075
    verdicts = [one["accuracy"].verdict for one in worse]
    print(Counter(verdicts))  # noqa: T201 - shown by pytest -s
    assert verdicts.count(Verdict.WORSE) >= 0.95 * PAIRS
