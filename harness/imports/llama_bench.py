"""`llama-bench -o json` and `-o jsonl`, and `harness bench --json`: one row a test.

The field names are those of llama.cpp's tools/llama-bench/llama-bench.cpp. A speed is the number of
tokens over the time of one repetition; `avg_ts` is the mean of the repetitions.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from harness.imports.records import (
    Document,
    Figure,
    Imported,
    Positive,
    Reader,
    Stated,
    base_name,
    conditions,
    model_name,
)

_MACHINE = ("cpu_info", "gpu_info", "backends", "device", "devices", "n_threads", "n_gpu_layers")
_SETTINGS = ("n_batch", "n_ubatch", "type_k", "type_v", "flash_attn")
_CONDITIONS = (*_MACHINE, *_SETTINGS, "model_sha256", "test_time")
_PREFILL = "prefill_tokens_per_second"
_DECODE = "decode_tokens_per_second"
# Names of their own: neither is the speed of prefill or of decoding alone, and no metric of ours.
_BOTH = "total_tokens_per_second"
_CACHED = "cached_tokens_per_second"
_Length = Annotated[int, Field(ge=0)]


class _Test(Stated):
    """What both tools state of a test: lengths in tokens, speeds in tokens per second."""

    n_prompt: _Length
    n_gen: _Length
    n_depth: _Length = 0  # older files of llama-bench have none
    avg_ts: Positive
    samples_ts: Annotated[list[Positive], Field(min_length=1)]

    @model_validator(mode="after")
    def _times_something(self) -> Self:
        if not self.n_prompt + self.n_gen:
            raise ValueError("n_prompt and n_gen are both 0")
        return self

    @property
    def name(self) -> str:
        """As llama-bench prints it: `pp512`, `tg128 @ d4096`, `pp512+tg128`."""
        lengths = {"pp": self.n_prompt, "tg": self.n_gen}
        timed = "+".join(f"{kind}{length}" for kind, length in lengths.items() if length)
        return f"{timed} @ d{self.n_depth}" if self.n_depth else timed

    @property
    def metric(self) -> str:
        if self.n_prompt and self.n_gen:
            return _BOTH
        return _PREFILL if self.n_prompt else _DECODE

    def speed(self, metric: str) -> Figure:
        return Figure(
            metric=metric, unit="tokens/s", value=self.avg_ts, samples=tuple(self.samples_ts)
        )


class _LlamaBench(_Test):
    build_commit: str
    build_number: int = 0
    model_filename: str
    model_type: str


class _HarnessBench(_Test):
    engine: str
    engine_version: str
    model: str
    weights: str
    batch: Annotated[int, Field(ge=1)]
    cached: bool
    mock: bool
    peak_rss_mib: Positive | None

    @property
    def label(self) -> str:
        cached = " cached" if self.cached else ""
        batch = f", batch {self.batch}" if self.batch > 1 else ""
        return f"{self.name}{cached}{batch}"

    @property
    def figures(self) -> tuple[Figure, ...]:
        speed = self.speed(_CACHED if self.cached else self.metric)
        if self.peak_rss_mib is None:
            return (speed,)
        return speed, Figure(metric="peak_rss_mib", unit="MiB", value=self.peak_rss_mib)


def read_llama_bench(document: Document) -> list[Imported]:
    """A row of llama-bench."""
    row = _LlamaBench.model_validate(document)
    build = f"{row.build_commit} ({row.build_number})"
    return [
        Imported(
            tool="llama-bench",
            tool_version=build if row.build_number else row.build_commit,
            engine="llama.cpp",
            model=f"{base_name(row.model_filename)}, {row.model_type}",
            test=row.name,
            figures=(row.speed(row.metric),),
            conditions=conditions(document, _CONDITIONS),
        )
    ]


def read_harness_bench(document: Document) -> list[Imported]:
    """A row of `harness bench`, which does not state its own version."""
    row = _HarnessBench.model_validate(document)
    return [
        Imported(
            tool="harness bench",
            tool_version="",
            engine=row.engine_version,
            model=f"{model_name(row.model)}, {row.weights}",
            test=row.label,
            figures=row.figures,
            conditions=conditions(document, _CONDITIONS),
            is_mock=row.mock,
        )
    ]


READERS = (
    Reader(frozenset({"build_commit", "model_filename", "n_prompt", "n_gen"}), read_llama_bench),
    Reader(frozenset({"engine_version", "cached", "n_prompt", "n_gen"}), read_harness_bench),
)
