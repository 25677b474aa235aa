"""Each real engine: how soon it starts, how fast it evaluates and generates, and how it votes.

make bench
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from backends.api import Decoding, Prompt
from harness.engine.engine import Engine, plan_engine
from harness.engine.session import EngineSession
from harness.spec import RunSpec, entries_of
from harness.summary import RunSummary

MODEL = "smollm2-135m"
ENGINES = ("llama-cpp", "hf", "vllm")
# Compiling takes vLLM minutes on a CPU, and what is compiled is kept: a start would be one or the
# other. Without, every start is the same.
OPTIONS: dict[str, dict[str, Any]] = {"vllm": {"enforce_eager": True}}
STARTS = 3

Asked: TypeAlias = tuple[Sequence[Prompt], Decoding]

each_engine = pytest.mark.parametrize("backend", ENGINES)


@each_engine
def test_start(benchmark: Any, backend: str, tmp_path: Path) -> None:
    """From nothing to the first token that it could evaluate, and the end of its process."""
    spec = RunSpec(backend=(backend,), model=MODEL, backends={backend: OPTIONS.get(backend, {})})

    [entry] = entries_of(spec)

    def start() -> None:
        with Engine(plan_engine(entry, spec, tmp_path), spec.max_model_len) as engine:
            assert engine.session.info.allocated_context >= spec.max_model_len

    benchmark.pedantic(start, rounds=STARTS)


@each_engine
def test_prefill_512(
    benchmark: Any, backend: str, harness_session: Callable[..., EngineSession]
) -> None:
    """One prompt of 512 tokens, cold, as `pp512` of `harness bench`."""
    decoding = Decoding("score", ((0,),), max_tokens=1)
    _time(benchmark, _session(harness_session, backend), length=512, decoding=decoding)


@each_engine
def test_decode_128(
    benchmark: Any, backend: str, harness_session: Callable[..., EngineSession]
) -> None:
    """129 tokens behind one: as `tg128` of `harness bench`, and the prompt."""
    decoding = Decoding("free", (), max_tokens=129, ignore_end=True)
    _time(benchmark, _session(harness_session, backend), length=1, decoding=decoding)


@each_engine
def test_votes(benchmark: Any, backend: str, harness_run: Callable[..., RunSummary]) -> None:
    """The workload: three voters, as `harness run` asks them."""
    result = harness_run(
        benchmark,
        backend=backend,
        model=MODEL,
        voters=3,
        queries=40,
        calibration_queries=8,
        shots=40,
        backends={backend: OPTIONS.get(backend, {})},
    )
    assert result.cells.failed == 0
    assert result.accuracy.single is not None
    assert result.accuracy.single.low > 0.5


def _session(open_session: Callable[..., EngineSession], backend: str) -> EngineSession:
    # as long as the votes', so that one worker an engine serves all tests of the module
    length = RunSpec().max_model_len
    return open_session(backend, MODEL, max_model_len=length, **OPTIONS.get(backend, {}))


def _time(benchmark: Any, session: EngineSession, length: int, decoding: Decoding) -> None:
    """Ten rounds of one prompt of random tokens, a new one each, behind one that is not timed."""
    [found] = session.tokenize([f"{'one two three four five six seven eight nine ten ' * 8}"])
    drawn = random.Random(0)

    def begin() -> tuple[Asked, dict[str, object]]:
        session.forget()
        return ([Prompt(drawn.choices(found, k=length))], decoding), {}

    def ask(prompts: Sequence[Prompt], decoding: Decoding) -> None:
        for _ in session.generate(prompts, decoding):
            pass

    benchmark.pedantic(ask, setup=begin, rounds=10, warmup_rounds=1)
