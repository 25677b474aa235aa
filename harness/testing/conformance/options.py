"""The options of the suite, and the backend that they name.

A pytest plugin of its own: with `--pyargs`, pytest reads a package's `conftest.py` when the command
line has been read already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.contract import NO_FILES, ModelRef, Options, OptionValue
from harness.engine.interpreters import find_interpreter
from harness.engine.models import resolve_model
from harness.engine.options import check_given, parse_options
from harness.engine.process import ProcessTransport
from harness.engine.registry import find_backend
from harness.engine.session import EngineSession, TokenizerSession, check_backend
from harness.errors import HarnessError, UsageError

CONTEXT = 1024
CHECK_SECONDS = 120.0
_LENGTH = "max_model_len"  # which every backend is given
TIMEOUT_SECONDS = 600.0  # an engine may compile for minutes when it first opens a model


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backend with its model and options, and the interpreter that it runs in.

    What it opens is opened in a new worker, which writes its log into the folder.
    """

    name: str
    target: str
    model: ModelRef
    options: Options
    python: str

    def open_session(self, folder: Path) -> EngineSession:
        return EngineSession(self._worker(folder), self.target, self.model, self.options)

    def open_tokenizer(self, folder: Path) -> TokenizerSession:
        return TokenizerSession(self._worker(folder), self.target, self.model, self.options)

    def _worker(self, folder: Path) -> ProcessTransport:
        log = folder / f"{self.name}.log"
        return ProcessTransport(self.target, TIMEOUT_SECONDS, log, self.python)


def candidate_of(name: str, model: str | None, options: Mapping[str, OptionValue]) -> Candidate:
    """Raises `HarnessError` where there is no such backend, model or option."""
    registered = find_backend(name)
    backend = registered.load()
    check_given({key: value for key, value in options.items() if key != _LENGTH}, backend, name)
    if model is None and NO_FILES not in backend.FORMATS:
        raise UsageError(f"{name} needs a model", remedy="Name one: --harness-model MODEL.")
    return Candidate(
        name=name,
        target=registered.target,
        model=resolve_model(model or "none", backend.FORMATS, {}),
        options={_LENGTH: CONTEXT, **options},
        python=find_interpreter(name, None),
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("llm-backend-harness conformance")
    group.addoption(
        "--harness-backend", metavar="NAME", help="The backend to put to the conformance suite."
    )
    group.addoption("--harness-model", metavar="MODEL", help="The model that it opens.")
    group.addoption(
        "--harness-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="An option of the backend; may be repeated.",
    )


@pytest.fixture(scope="session")
def candidate(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Candidate:
    """The backend that the command line names; one that cannot run here fails."""
    config = request.config
    name = config.getoption("--harness-backend", None)
    if name is None:
        pytest.fail(
            "name a backend: pytest -p harness.testing.conformance.options "
            "--pyargs harness.testing.conformance --harness-backend NAME",
            pytrace=False,
        )
    try:
        options = parse_options(config.getoption("--harness-option"), "--harness-option")
        found = candidate_of(name, config.getoption("--harness-model"), options)
    except HarnessError as error:
        pytest.fail(f"{error}. {error.remedy}", pytrace=False)
    log = tmp_path_factory.mktemp("check") / f"{name}.log"
    availability = check_backend(found.target, CHECK_SECONDS, log, found.python)
    if not availability.available:
        pytest.fail(f"{name}: {availability.reason}. {availability.remedy}", pytrace=False)
    return found
