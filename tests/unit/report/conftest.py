"""A summary to show, whose parts a test may replace."""

from __future__ import annotations

from typing import Any

import pytest

from harness.metrics import Difference, Outcome
from harness.record import Estimate, Span
from harness.summary import (
    Accuracy,
    Baseline,
    BaselineTest,
    ByVoters,
    Caveat,
    CaveatKind,
    Cells,
    ContextFit,
    Memory,
    Parse,
    Percentiles,
    PromptHashes,
    PromptTokens,
    RunSummary,
    Speed,
    Summary,
)

MOCK_CAVEAT = Caveat(kind=CaveatKind.MOCK, message="A mock.", advice="Do not trust it.")
FEW_CAVEAT = Caveat(kind=CaveatKind.FEW_QUERIES, message="8 queries.", advice="Ask more.")


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.1, high=value + 0.1)


ACCURACY = Accuracy(
    queries=8,
    answered=8,
    chance=0.5,
    headline="soft",
    single=estimate(0.61),
    majority=estimate(0.62),
    soft=estimate(0.63),
    calibrated=None,
    by_voters=[
        ByVoters(voters=1, majority=0.61, soft=0.61, calibrated=None),
        ByVoters(voters=2, majority=None, soft=0.63, calibrated=None),
    ],
    balanced=0.6,
    f1=0.6,
    auc=0.7,
    voter_agreement=0.5,
    classes=["FAKE", "REAL"],
    confusion=[[2, 2], [1, 3]],
    sentence="Soft vote: 0.63 (0.53 to 0.73) on 8 queries; chance is 0.50.",
)


def baseline(name: str, value: float) -> Baseline:
    return Baseline(name=name, estimate=estimate(value), seconds=0.5, predictions=[0, 1] * 4)


BASELINES = [
    baseline("logistic regression, same numbers", 0.7),
    baseline("random forest, all features", 0.8),
    baseline("logistic regression, all features", 0.6),
    baseline("the most frequent class", 0.5),
]


def against(name: str, value: float, p: float | None) -> BaselineTest:
    """The soft vote of `RUN` against the baseline of this name and accuracy."""
    return BaselineTest(
        baseline=name,
        difference=Difference(
            metric="accuracy",
            kind="difference",
            paired=True,
            first=value,
            other=0.63,
            change=0.63 - value,
            interval=Span(low=0.63 - value - 0.151, high=0.63 - value + 0.02),
            test="McNemar, exact",
            p_value=p,
            p_adjusted=p,
            samples=(8, 8),
            outcome=Outcome.NO_SIGNIFICANT_DIFFERENCE,
        ),
    )


AGAINST = [
    against(one.name, one.estimate.value, p)
    for one, p in zip(BASELINES, (1.0, 0.0625, 1.0, 0.0004), strict=True)
]

RUN = RunSummary(
    entry="llama-cpp",
    backend="llama-cpp",
    engine_version="llama-cpp-python 0.3.36",
    model="smollm2-135m",
    weights="llama 135M Q4_1 GGUF",
    dataset="digits",
    seed=0,
    label_words=["no", "yes"],
    context_fit=ContextFit(
        examples_per_voter=[36, 37],
        tokens_per_example=12.5,
        fill_ratio=0.996,
        declared_context=2048,
        allocated_context=512,
        examples_available=898,
    ),
    speed=Speed(
        prefill_tokens_per_second=1234.5,
        decode_tokens_per_second=88.13,
        time_to_first_token_ms=Percentiles(p50=702.0, p95=911.0),
        computed_tokens=4444,
        unique_tokens=4000,
        least_tokens=4000,
        shared_block_tokens=1,
        served_tokens=9999,
        engine_seconds=3.0,
        wall_seconds=4.0,
        load_seconds=0.5,
    ),
    memory=Memory(peak_rss_mib=236.4, peak_gpu_mib=None),
    parse=Parse(
        replies=16,
        strict=estimate(0.75),
        lenient=estimate(1.0),
        reasons={},
    ),
    accuracy=ACCURACY,
    against_baselines=AGAINST,
    prompts=PromptHashes(text_sha256="aa", token_sha256="bb"),
    tokens=PromptTokens(same_as_first=True, tokenized_by="llama-cpp", own_difference=None),
    cells=Cells(done=24, failed=0),
    missing={},
    caveats=[FEW_CAVEAT],
)


class Sample:
    """Makes runs and their summaries; the keywords replace fields."""

    def run(self, **changes: Any) -> RunSummary:
        """An entry goes by its backend's name unless it is given one."""
        if "backend" in changes:
            changes = {"entry": changes["backend"], **changes}
        return RUN.model_copy(update=changes)

    def mock(self, **changes: Any) -> RunSummary:
        return self.run(**{"backend": "mock", "caveats": [MOCK_CAVEAT, FEW_CAVEAT], **changes})

    def accuracy(self, **changes: Any) -> Accuracy:
        return ACCURACY.model_copy(update=changes)

    def summary(
        self, *runs: RunSummary, run_id: str = "20260102-030405-7f3a", **changes: Any
    ) -> Summary:
        whole = Summary(
            run_id=run_id,
            created="2026-01-02T03:04:05+00:00",
            group=None,
            data_sha256="abcdef0123456789" * 4,
            wall_seconds=10.0,
            harness_seconds=2.5,
            runs=list(runs or (RUN,)),
            baselines=BASELINES,
        )
        return whole.model_copy(update=changes)


@pytest.fixture(scope="session")
def sample() -> Sample:
    return Sample()
