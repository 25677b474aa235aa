"""What is kept of a test's rounds in the file that pytest-benchmark saves: records.

Small enough to be committed, and enough to compare it with what is measured later.
"""

from __future__ import annotations

from typing import Literal

from harness.summary import (
    Cells,
    ContextFit,
    Estimate,
    Memory,
    Parse,
    PromptHashes,
    Record,
)

EXTRA_INFO = "harness"  # the key in pytest-benchmark's `extra_info`


class Sample(Record):
    """One round by the engine's own clock; the time to the first token is the mean of its replies,
    null where there are none."""

    run_id: str
    prefill_tokens: int
    prefill_seconds: float
    decode_tokens: int
    decode_seconds: float
    time_to_first_token_ms: float | None


class Evidence(Record):
    """What is saved of a test's rounds. All but the samples is of the last round.

    `accuracy` is that of the headline, `vote`. `right` has a character a query: 1 for a right
    verdict, 0 for a wrong one, - for none. `readable` is the share of each query's replies that
    could be read; null where it got none, empty where nothing is parsed.
    """

    version: Literal[1] = 1
    backend: str
    model: str
    engine_version: str
    weights: str
    model_sha256: str | None
    device: str
    threads: int
    is_mock: bool
    prompts: PromptHashes
    metrics: dict[str, float | None]
    vote: str
    accuracy: Estimate | None
    parse: Parse
    context_fit: ContextFit
    memory: Memory
    cells: Cells
    right: str
    readable: list[float | None]
    samples: list[Sample]
