"""The plugin for pytest: whole regression tests of engines, by pytest-benchmark and over it.

    def test_votes(benchmark, harness_run):
        result = harness_run(benchmark, backend="llama-cpp", voters=3, queries=20)
        assert result.accuracy.majority.low > 0.5

It is loaded in every run of pytest where the harness is installed: what is heavy is imported when a
test uses it.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from harness.engine.engine import Engine, EnginePlan
    from harness.engine.session import EngineSession
    from harness.summary import RunSummary
    from harness.testing.rounds import Benchmark

    OpenSession: TypeAlias = Callable[..., EngineSession]
    HarnessRun: TypeAlias = Callable[..., RunSummary]

ROUNDS = 10  # fewer may show no change at all, if rounds that follow one another are alike


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("harness", "llm-backend-harness: regression tests of engines")
    group.addoption(
        "--harness-results",
        metavar="DIR",
        help="Store every round as a run in this folder, for `harness list --results DIR`. "
        "Default: a temporary folder.",
    )
    group.addoption(
        "--harness-compare-fail",
        metavar="LIMITS",
        action="append",
        default=[],
        type=_checked_limits,
        help="Fail where a metric is worse than in the saved benchmark, by more than its limit and "
        "more than chance, such as accuracy:3pp,prefill_tokens_per_second:10%%. The saved "
        "benchmark is that of --benchmark-compare, or the newest. Can be used multiple times.",
    )


def _checked_limits(text: str) -> str:
    """The text itself: pytest-xdist sends options to its workers, and can send plain ones only."""
    from harness.errors import UsageError
    from harness.testing.limits import parse_limits

    try:
        parse_limits(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(f"{error}. {error.remedy}") from error
    return text


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"harness(rounds={ROUNDS}, fresh_engine=False, **spec): what harness_run takes where the "
        "call does not say it: rounds, whether each opens an engine of its own, and the fields of "
        "a run's spec (backend, voters, timeout_seconds, ...).",
    )
    limits = ",".join(config.getoption("harness_compare_fail"))
    if limits and not hasattr(config, "workerinput"):  # a worker of pytest-xdist has no say
        from harness.testing.gate import Gate

        config.pluginmanager.register(Gate(config, limits))


@pytest.fixture(scope="session")
def _harness_results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    chosen = request.config.getoption("harness_results")
    if chosen is None:
        return tmp_path_factory.mktemp("harness")
    # pytest's own folder of the call: a test may have changed the working directory.
    return Path(request.config.invocation_params.dir, chosen)


@pytest.fixture(scope="module")
def _harness_engines(_harness_results: Path) -> Iterator[_Engines]:
    with ExitStack() as stack:
        yield _Engines(_harness_results, stack)


@pytest.fixture(scope="module")
def harness_session(_harness_engines: _Engines) -> OpenSession:
    """Opens engines: `harness_session("llama-cpp", "smollm2-135m", max_model_len=1024, threads=2)`.

    What is wanted again in a module is the same session; all are closed at its end.
    """

    def open_session(
        backend: str, model: str, *, max_model_len: int = 1024, **options: object
    ) -> EngineSession:
        from harness.pipeline.run import plan
        from harness.spec import parse_spec

        with _failing_the_test():
            table = {
                "backend": backend,
                "model": model,
                "max_model_len": max_model_len,
                "backends": {backend: options},
            }
            [planned] = plan(
                parse_spec(table, where="harness_session"), _harness_engines.results
            ).plans
            return _harness_engines.opened(planned, max_model_len).session

    return open_session


@pytest.fixture
def harness_run(request: pytest.FixtureRequest, _harness_engines: _Engines) -> HarnessRun:
    """Times a run: `harness_run(benchmark, rounds=10, backend="vllm", voters=3, queries=20)`.

    Takes the fields of a run's spec, for one entry. The engine is the module's, and each round
    gives it all prompts cold; with `fresh_engine=True` each round opens an engine of its own, so
    that memory and load time have a sample a round. Returns the last round's `RunSummary`.
    """
    markers = list(request.node.iter_markers("harness"))

    def run(benchmark: Benchmark, **given: Any) -> RunSummary:
        with _failing_the_test():
            # Later ones win: the call over its markers, markers over the defaults.
            fields = {"rounds": ROUNDS, "fresh_engine": False, **_marked(markers), **given}
            rounds, fresh_engine = fields.pop("rounds"), fields.pop("fresh_engine")
            result = _run(benchmark, fields, rounds, fresh_engine, _harness_engines)
        _warn_of_failed_cells(result)
        return result

    return run


def _marked(markers: Sequence[pytest.Mark]) -> dict[str, Any]:
    """What the markers say; the closest one comes first, and wins. Raises `UsageError`."""
    from harness.errors import UsageError

    fields: dict[str, Any] = {}
    # pytest gives the closest marker first; here the last one wins.
    for marker in reversed(markers):
        if marker.args:
            said = ", ".join(map(repr, marker.args))
            raise UsageError(
                f"pytest.mark.harness({said}): it takes keywords only",
                remedy="Write for example pytest.mark.harness(rounds=20).",
            )
        fields |= marker.kwargs
    return fields


def _run(
    benchmark: Benchmark,
    fields: dict[str, Any],
    rounds: int,
    fresh_engine: bool,
    engines: _Engines,
) -> RunSummary:
    """All that is ours is computed before the engine loads."""
    from harness.errors import UsageError
    from harness.pipeline.run import make_baselines, plan, prepare, settle
    from harness.spec import entries_of, parse_spec
    from harness.store.store import Store
    from harness.testing.rounds import Rounds, repeat

    given = parse_spec(fields, where="harness_run")
    with Store(engines.results) as store:
        spec, source = settle(given, store)
        if len(entries_of(spec)) > 1:
            raise UsageError(
                "harness_run takes one entry", remedy="Call it once for each, in tests."
            )
        planned = plan(spec, engines.results)
        workload, _ = prepare(spec, planned, source, given_fields=given.model_fields_set)
        # Before the engine is loaded, which would wait and may spin its threads.
        baselines = make_baselines(spec, workload)
        engine = engines.opened(planned.plans[0], workload.packed.limit)
        whole = Rounds(engine, spec, workload, baselines, store, fresh_engine)
        return repeat(benchmark, whole, rounds)


@contextmanager
def _failing_the_test() -> Iterator[None]:
    """An expected failure fails the test with its remedy, and without a traceback of ours."""
    from harness.errors import HarnessError

    try:
        yield
    except HarnessError as error:
        pytest.fail(f"{error}\n{error.remedy}".strip(), pytrace=False)


def _warn_of_failed_cells(result: RunSummary) -> None:
    from harness.report.words import worded
    from harness.summary import CaveatKind

    for caveat in result.caveats:
        if caveat.kind is CaveatKind.CELLS_FAILED:
            words = worded(caveat)
            said = f"{result.entry}: {words.message} {words.advice}"
            warnings.warn(pytest.PytestWarning(said), stacklevel=3)


@dataclass(frozen=True, slots=True)
class _Engines:
    """The open engines of a module, by what was wanted."""

    results: Path
    stack: ExitStack
    by_request: dict[str, Engine] = field(default_factory=dict)

    def opened(self, plan: EnginePlan, max_model_len: int) -> Engine:
        """The engine that was planned so, loaded; one that failed meanwhile is loaded again.

        Raises `EngineError`.
        """
        from harness.engine.engine import Engine

        request = _request(plan, max_model_len)
        if request not in self.by_request:
            with ExitStack() as opening:
                engine = opening.enter_context(Engine(plan, max_model_len))
                # Only a loaded engine is closed with the module; one that fails to load is closed
                # at once.
                engine.load()
                self.stack.enter_context(opening.pop_all())
            self.by_request[request] = engine
        self.by_request[request].revive()
        return self.by_request[request]


def _request(plan: EnginePlan, max_model_len: int) -> str:
    """What decides a worker."""
    options = {**plan.options, "max_model_len": max_model_len}
    decides = [plan.entry.name, plan.target, asdict(plan.model), options]
    return json.dumps([*decides, plan.python, plan.timeout_seconds], sort_keys=True)
