"""A summary to show, whose parts a test may replace."""

from __future__ import annotations

from typing import Any

import pytest

from harness.report.answer import Kept
from harness.spec import RunSpec
from harness.summary import (
    Accuracy,
    ByVoters,
    Caveat,
    CaveatKind,
    Cells,
    ContextFit,
    Controls,
    Estimate,
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
    agreement=0.5,
    classes=["FAKE", "REAL"],
    confusion=[[2, 2], [1, 3]],
    sentence="Soft vote: 0.63 (0.53 to 0.73) on 8 queries; chance is 0.50.",
)

RUN = RunSummary(
    backend="llama-cpp",
    engine_version="llama-cpp-python 0.3.36",
    model="smollm2-135m",
    weights="llama 256M Q4_1 GGUF",
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
        lenient=estimate(0.875),
        reasons={"empty": 2},
    ),
    accuracy=ACCURACY,
    controls=Controls(
        majority_class=estimate(0.5),
        same_numbers_logistic=estimate(0.7),
        all_features_random_forest=estimate(0.8),
        all_features_logistic=estimate(0.6),
    ),
    prompts=PromptHashes(text_sha256="aa", token_sha256="bb"),
    tokens=PromptTokens(same_as_first=True, tokenized_by="llama-cpp", own_difference=None),
    cells=Cells(done=24, failed=0),
    caveats=[FEW_CAVEAT],
)


class Sample:
    """Makes runs and what is kept of them; the keywords replace fields."""

    def run(self, **changes: Any) -> RunSummary:
        return RUN.model_copy(update=changes)

    def mock(self, **changes: Any) -> RunSummary:
        return self.run(**{"backend": "mock", "caveats": [MOCK_CAVEAT, FEW_CAVEAT], **changes})

    def accuracy(self, **changes: Any) -> Accuracy:
        return ACCURACY.model_copy(update=changes)

    def kept(self, *runs: RunSummary, run_id: str = "20260102-030405-7f3a", **spec: Any) -> Kept:
        summary = Summary(
            run_id=run_id,
            created="2026-01-02T03:04:05+00:00",
            wall_seconds=10.0,
            harness_seconds=2.5,
            runs=list(runs or (RUN,)),
        )
        return Kept(RunSpec(**spec), summary)


@pytest.fixture(scope="session")
def sample() -> Sample:
    return Sample()
