"""What `harness bench` times, and the times: plan, tests, samples, rows. Immutable."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated

from harness.contract import SessionInfo
from harness.flag import Flag
from harness.record import Measured
from harness.summary import Tail

_TIMED = "What is timed"


@dataclass(frozen=True, slots=True)
class BenchTest:
    """One test in llama-bench's terms: either prompt processing or token generation.

    `batch` distinct sequences in one call, each of which evaluates `prompt_tokens` or generates
    `generate_tokens` (the other is 0) behind `depth` tokens that are in the KV cache. `is_cached`:
    the very same prompts as in the test without it, once more right after it.
    """

    prompt_tokens: int
    generate_tokens: int
    depth: int
    batch: int
    is_cached: bool = False

    @property
    def name(self) -> str:
        """`pp512`, `tg128 @ d4096`, `pp512 cached`."""
        kind = f"tg{self.generate_tokens}" if self.generate_tokens else f"pp{self.prompt_tokens}"
        depth = f" @ d{self.depth}" if self.depth else ""
        return f"{kind}{depth}{' cached' if self.is_cached else ''}"

    @property
    def wanted_tokens(self) -> int:
        """What is to be evaluated or generated, over all sequences."""
        return self.batch * (self.prompt_tokens + self.generate_tokens)

    @property
    def longest(self) -> int:
        """The context it takes. Generation is begun by one prompt token, and its first token comes
        out of the prefill: two more than are timed."""
        reply = self.generate_tokens + 2 if self.generate_tokens else 0
        return self.depth + self.prompt_tokens + reply

    @property
    def rows(self) -> tuple[BenchTest, ...]:
        """A prompt is timed twice: cold, and once more."""
        return (self,) if self.generate_tokens else (self, replace(self, is_cached=True))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to time: the cross product of the lists, each test `repetitions` times."""

    prompt_tokens: Annotated[
        tuple[int, ...],
        Flag("Prompt lengths to time (pp); 0 for none.", _TIMED, "tokens", "N,...", short="p"),
    ] = (512,)
    generate_tokens: Annotated[
        tuple[int, ...],
        Flag("Reply lengths to time (tg); 0 for none.", _TIMED, "tokens", "N,...", short="n"),
    ] = (128,)
    depth: Annotated[
        tuple[int, ...],
        Flag(
            "Depth: tokens in the KV cache before the test.", _TIMED, "tokens", "N,...", short="d"
        ),
    ] = (0,)
    batch: Annotated[
        tuple[int, ...],
        Flag("Distinct sequences in one call.", _TIMED, "", "N,...", short="b"),
    ] = (1,)
    repetitions: Annotated[
        int, Flag("Repetitions of each test, after one as a warm-up.", _TIMED, short="r")
    ] = 5

    @property
    def tests(self) -> list[BenchTest]:
        """In the order of llama-bench: at each batch and depth, prompts, then generation.

        A length of 0 leaves its test out, as there.
        """
        tests = []
        for batch, depth in product(self.batch, self.depth):
            tests += [BenchTest(n, 0, depth, batch) for n in self.prompt_tokens if n]
            tests += [BenchTest(0, n, depth, batch) for n in self.generate_tokens if n]
        return tests


@dataclass(frozen=True, slots=True)
class Sample:
    """One repetition of a test, by the engine's clock.

    `tokens` are those that the speed counts; `evaluated` those that went through the model. They
    differ where a prompt was cached.
    """

    tokens: int
    evaluated: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


@dataclass(frozen=True, slots=True)
class Row:
    """A test of an entry. `begun` is in ISO 8601, UTC; `warm_up` is not among the `samples`.

    `entry` is its name, which is its backend's where it has no other. `model_sha256` is
    `None` where there are no files of a model. `peak_rss_mib` and `peak_gpu_mib` are those of the
    engine since it began to load.
    """

    entry: str
    backend: str
    info: SessionInfo
    model_sha256: str | None
    test: BenchTest
    begun: str
    warm_up: Sample
    samples: tuple[Sample, ...]
    peak_rss_mib: float | None
    peak_gpu_mib: float | None

    @property
    def speeds(self) -> list[float]:
        """Tokens per second of each repetition."""
        return [sample.tokens_per_second for sample in self.samples]

    @property
    def nanoseconds(self) -> list[int]:
        return [nanoseconds(sample) for sample in self.samples]


@dataclass(frozen=True, slots=True)
class LoadTest:
    """Requests of `prompt_tokens` behind `depth` tokens that are the same in all of them, each with
    a reply of `generate_tokens`. `is_cached`: the very same prompts once more."""

    prompt_tokens: int
    generate_tokens: int
    depth: int
    is_cached: bool = False

    @property
    def name(self) -> str:
        """`pp512+tg128`, `tg128 @ d4096`, `pp512 cached`."""
        parts = [f"pp{self.prompt_tokens}"] if self.prompt_tokens else []
        parts += [f"tg{self.generate_tokens}"] if self.generate_tokens else []
        depth = f" @ d{self.depth}" if self.depth else ""
        return f"{'+'.join(parts)}{depth}{' cached' if self.is_cached else ''}"

    @property
    def longest(self) -> int:
        return self.depth + max(self.prompt_tokens, 1) + max(self.generate_tokens, 1)


@dataclass(frozen=True, slots=True)
class LoadRow:
    """A test of an entry with so many requests at once. Times are the client's; `cached_tokens` are
    over all requests, `None` where the server does not report them. `seconds` is the union of the
    requests' spans."""

    entry: str
    backend: str
    info: SessionInfo
    test: LoadTest
    concurrency: int
    begun: str
    requests: int
    failed: int
    seconds: float
    cached_tokens: int | None
    requests_per_second: Measured | None
    output_tokens_per_second: Measured | None
    request_time_to_first_token_ms: Tail | None
    request_time_per_output_token_ms: Tail | None
    request_seconds: Tail | None


def nanoseconds(sample: Sample) -> int:
    return round(1e9 * sample.seconds)


def deviation(values: Sequence[float]) -> float:
    """The sample's standard deviation (n - 1); 0 of a single value, as in llama-bench."""
    return statistics.stdev(values) if len(values) > 1 else 0.0
