"""The plugin for pytest: whole regression tests of engines, by pytest-benchmark and over it.

    def test_votes(benchmark, harness_run):
        result = harness_run(benchmark, backend="llama-cpp", voters=3, queries=20)
        assert result.accuracy.majority.low > 0.5

It is loaded in every run of pytest where the harness is installed: what is heavy is imported when a
test asks for it.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from harness.engine.engine import Engine
    from harness.engine.session import EngineSession
    from harness.spec import RunSpec
    from harness.summary import RunSummary
    from harness.testing.rounds import Benchmark

    OpenSession: TypeAlias = Callable[..., EngineSession]
    HarnessRun: TypeAlias = Callable[..., RunSummary]

ROUNDS = 10  # fewer may show no change at all, if rounds that follow one another are alike


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("harness", "llm-harness: regression tests of engines")
    group.addoption(
        "--harness-results",
        metavar="DIR",
        help="Keep every round as a run in this folder, for `harness list --results DIR`. "
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
        f"harness(rounds={ROUNDS}, **spec): what harness_run takes where the call does not say it: "
        "rounds, and the fields of a run's spec (backend, voters, timeout_seconds, ...).",
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
    return Path(request.config.invocation_params.dir, chosen)


@pytest.fixture(scope="module")
def _harness_engines(_harness_results: Path) -> Iterator[_Engines]:
    with ExitStack() as stack:
        yield _Engines(_harness_results, stack)


@pytest.fixture(scope="module")
def harness_session(_harness_engines: _Engines) -> OpenSession:
    """Opens engines: `harness_session("llama-cpp", "smollm2-135m", max_model_len=1024, threads=2)`.

    What is asked for again in a module is the same session; all are closed at its end.
    """

    def open_session(
        backend: str, model: str, *, max_model_len: int = 1024, **options: object
    ) -> EngineSession:
        from harness.spec import parse_spec

        with _told_to_the_test():
            table = {
                "backend": backend,
                "model": model,
                "max_model_len": max_model_len,
                "backends": {backend: options},
            }
            return _harness_engines.opened(parse_spec(table, where="harness_session")).session

    return open_session


@pytest.fixture
def harness_run(
    request: pytest.FixtureRequest, _harness_engines: _Engines, _harness_results: Path
) -> HarnessRun:
    """Times a run: `harness_run(benchmark, rounds=10, backend="vllm", voters=3, queries=20)`.

    Takes the fields of a run's spec, for one backend. The engine is the module's; each round asks
    all prompts cold. Returns the last round's `RunSummary`.
    """
    markers = list(request.node.iter_markers("harness"))

    def run(benchmark: Benchmark, **given: Any) -> RunSummary:
        with _told_to_the_test():
            fields = {"rounds": ROUNDS, **_marked(markers), **given}
            rounds = fields.pop("rounds")
            result = _run(benchmark, fields, rounds, _harness_engines, _harness_results)
        _warn_of_failed_cells(result)
        return result

    return run


def _marked(markers: Sequence[pytest.Mark]) -> dict[str, Any]:
    """What the markers say; the closest one comes first, and wins. Raises `UsageError`."""
    from harness.errors import UsageError

    fields: dict[str, Any] = {}
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
    benchmark: Benchmark, fields: dict[str, Any], rounds: int, engines: _Engines, results: Path
) -> RunSummary:
    from harness.engine.engine import check_options
    from harness.errors import UsageError
    from harness.pipeline.run import settle
    from harness.spec import parse_spec
    from harness.store.store import Store
    from harness.testing.rounds import repeat

    spec = parse_spec(fields, where="harness_run")
    if len(spec.backend) > 1:
        raise UsageError("harness_run takes one backend", remedy="Call it once for each, in tests.")
    check_options(spec)
    with Store(results) as store:
        spec, source = settle(spec, store)
        return repeat(benchmark, engines.opened(spec), spec, store, source, rounds)


@contextmanager
def _told_to_the_test() -> Iterator[None]:
    """An expected failure fails the test with its remedy, and without a traceback of ours."""
    from harness.errors import HarnessError

    try:
        yield
    except HarnessError as error:
        pytest.fail(f"{error}\n{error.remedy}".strip(), pytrace=False)


def _warn_of_failed_cells(result: RunSummary) -> None:
    from harness.summary import CaveatKind

    for caveat in result.caveats:
        if caveat.kind is CaveatKind.CELLS_FAILED:
            said = f"{result.backend}: {caveat.message} {caveat.advice}"
            warnings.warn(pytest.PytestWarning(said), stacklevel=3)


@dataclass(frozen=True, slots=True)
class _Engines:
    """The open engines of a module, by what was asked for."""

    results: Path
    stack: ExitStack
    by_request: dict[str, Engine] = field(default_factory=dict)

    def opened(self, spec: RunSpec) -> Engine:
        """The engine of a spec's one backend, loaded; one that was lost meanwhile is begun anew.

        Raises `EngineError`.
        """
        from harness.engine.engine import Engine
        from harness.pipeline.run import log_of

        [name] = spec.backend
        request = _request(spec)
        if request not in self.by_request:
            with ExitStack() as opening:
                engine = opening.enter_context(Engine(name, spec, log_of(name, self.results)))
                _ = engine.session.info  # waits until it is loaded
                self.stack.enter_context(opening.pop_all())
            self.by_request[request] = engine
        self.by_request[request].revive()
        return self.by_request[request]


def _request(spec: RunSpec) -> str:
    """What decides a worker."""
    [name] = spec.backend
    options = {**spec.engine, **spec.backends.get(name, {})}
    decides = [name, spec.model, spec.models, spec.max_model_len, spec.timeout_seconds, options]
    return json.dumps(decides, sort_keys=True)
