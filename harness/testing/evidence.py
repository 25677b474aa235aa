"""What is stored of a test's rounds in the file that pytest-benchmark saves: records.

Small enough to be committed, and enough to compare it with what is measured later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from harness.record import Estimate, Record
from harness.summary import Cells, ContextFit, Memory, Parse, PromptHashes

EXTRA_INFO = "harness"  # the key in pytest-benchmark's `extra_info`


class Sample(Record):
    """One round: `values` has its figure of every metric that has one, as the summary of a run
    has it. `work` has, for every such rate, the tokens and the seconds that it is made of, by the
    engine's own clock.

    Rounds with the same `session` had the same worker, counted from 1.
    """

    run_id: str
    session: int
    values: dict[str, float | None]
    work: dict[str, tuple[float, float]]


class Evidence(Record):
    """What is saved of a test's rounds. All but the samples is of the last round.

    `shares` has of every metric that is a share what each query came to, in the order of the
    queries: `None` for one that came to nothing, and no query at all where nothing is parsed.
    `accuracy` is that of the headline, `vote`. What describes the engine is `None` where no session
    of it was opened.
    """

    version: Literal[2] = 2
    backend: str
    model: str
    engine_version: str | None
    weights: str | None
    model_sha256: str | None
    device: str | None
    threads: int | None
    is_mock: bool
    prompts: PromptHashes
    vote: str
    accuracy: Estimate | None
    parse: Parse
    context_fit: ContextFit
    memory: Memory
    cells: Cells
    shares: dict[str, list[float | None]]
    samples: list[Sample]


def read_evidence(record: Mapping[str, Any]) -> Evidence:
    """Evidence of this version or of version 1. Raises pydantic's `ValidationError`."""
    return Evidence.model_validate(_upgraded(record) if record.get("version") == 1 else record)


def _upgraded(record: Mapping[str, Any]) -> dict[str, Any]:
    """Version 1 had one worker for all rounds, and its metrics of the last round only.

    Its times to the first token were means over replies. They are medians now: left out.
    """
    upgraded = dict(record)
    metrics = upgraded.pop("metrics") | {"time_to_first_token_ms": None}
    right, readable = upgraded.pop("right"), upgraded.pop("readable")
    samples = [
        {
            "run_id": one["run_id"],
            "session": 1,
            "values": {},
            "work": {
                f"{kind}_tokens_per_second": (one[f"{kind}_tokens"], one[f"{kind}_seconds"])
                for kind in ("prefill", "decode")
            },
        }
        for one in upgraded["samples"]
    ]
    if samples:
        samples[-1]["values"] = metrics
    # Any other mark was a query without a verdict.
    marks = {"1": 1.0, "0": 0.0}
    shares = {"accuracy": [marks.get(mark) for mark in right], "parse_rate": readable}
    return {**upgraded, "version": 2, "shares": shares, "samples": samples}
