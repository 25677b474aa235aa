"""The pipeline, whole.

    workload                           engine                      scoring         kept, shown
    dataset -> reducer -> encoding
        -> template -> packing ------> session (own process) ----> parse -> vote -> store -> table
             (voters, queries)         prompt token ids, replies    -> metrics
                                                                    -> statistics

Engines load while the workload is drawn. Each batch of replies is kept as it comes: a run that was
ended, however, is completed by `resume`, and every summary is made from what was kept. A test that
repeats a run (`harness.testing.rounds`) goes the same steps, over an engine that stays open.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.engine.engine import Engine, check_options
from harness.errors import EngineError
from harness.machine.environment import describe_environment
from harness.pipeline.asking import Observer, ask
from harness.pipeline.prompts import check_unchanged, save_prompts
from harness.pipeline.replay import Source, check_replay, find_source
from harness.pipeline.summarise import make_controls, summarise
from harness.spec import RunSpec, parse_spec, replay_spec
from harness.store.store import Store
from harness.summary import CaveatKind, Controls, Summary
from harness.workload.prompt import ChatTemplate
from harness.workload.tokens import Tokenizer
from harness.workload.workload import Workload, draw, write


def run(spec: RunSpec, results: Path, observe: Observer = lambda _: None) -> Summary:
    """Asks every backend of the spec the same prompts. Raises `HarnessError`."""
    began = time.perf_counter()
    check_options(spec)
    with Store(results) as store:
        spec, source = settle(spec, store)
        with _loading(spec, results) as engines:
            workload = make_workload(spec, engines, source)
            run_id = begin(store, spec, workload)
            return _complete(store, run_id, spec, workload, engines, observe, began)


def resume(run_id: str, results: Path, observe: Observer = lambda _: None) -> Summary:
    """Completes a run that was ended: asks what has no reply yet. Raises `HarnessError`."""
    began = time.perf_counter()
    with Store(results) as store:
        row = store.run(run_id)
        spec = parse_spec(json.loads(row.spec), where=f"run {row.run_id}")
        source = _source(store, spec)
        with _loading(spec, results) as engines:
            workload = make_workload(spec, engines, source)
            if store.prompts(row.run_id):
                check_unchanged(store, row.run_id, workload)
            else:  # it was ended before they were kept
                save_prompts(store, row.run_id, workload)
            return _complete(store, row.run_id, spec, workload, engines, observe, began)


@contextmanager
def _loading(spec: RunSpec, results: Path) -> Iterator[list[Engine]]:
    """The engines of a run, which load from now on, each in its own process."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(Engine(name, spec, log_of(name, results))) for name in spec.backend
        ]


def log_of(backend: str, results: Path) -> Path:
    """Where what an engine prints goes."""
    return results / "logs" / f"{backend}.log"


def settle(spec: RunSpec, store: Store) -> tuple[RunSpec, Source | None]:
    """The spec with what it takes from the run whose prompts it asks again, and that run."""
    source = _source(store, spec)
    return (replay_spec(spec, source.spec, source.run_id) if source else spec), source


def _source(store: Store, spec: RunSpec) -> Source | None:
    """The run whose prompts are asked again, if any."""
    return None if spec.prompts_from is None else find_source(store, spec.prompts_from)


def make_workload(spec: RunSpec, engines: Sequence[Engine], source: Source | None) -> Workload:
    """The workload, packed with the tokenizers of all engines, or as it was in its source."""
    draft = draw(spec)
    infos = {engine.name: engine.session.info for engine in engines}
    first = source.info if source else infos[engines[0].name]
    chat = ChatTemplate.of_model(first.chat_template, first.bos_text, first.eos_text)
    limit = min(spec.max_model_len, *(info.allocated_context for info in infos.values()))
    tokenizers = {engine.name: _tokenizer(engine) for engine in engines}
    workload = write(draft, spec, tokenizers, chat, limit, source.earlier if source else None)
    if source:
        vocabularies = {name: info.vocabulary_sha256 for name, info in infos.items()}
        check_replay(source, workload.packed, vocabularies)
    return workload


def _tokenizer(engine: Engine) -> Tokenizer:
    session = engine.session
    return Tokenizer(
        vocabulary=session.info.vocabulary_sha256,
        bos_id=session.info.bos_id,
        encode=session.tokenize,
        spell=session.token_texts,
    )


def begin(store: Store, spec: RunSpec, workload: Workload) -> str:
    """Keeps what is to be asked, and where; returns the id of the new run."""
    environment = describe_environment()
    run_id = store.create_run(spec.model_dump_json(), environment.model_dump_json())
    save_prompts(store, run_id, workload)
    return run_id


def _complete(
    store: Store,
    run_id: str,
    spec: RunSpec,
    workload: Workload,
    engines: Sequence[Engine],
    observe: Observer,
    began: float,
) -> Summary:
    """Asks what is left to ask, one engine after the other, and sums up."""
    for engine in engines:
        ask(engine, spec, workload.packed, store, run_id, observe)
        engine.session.close()
    # The engines of a run load side by side at its begin: the longest load is what that takes.
    first_loads = [engine.first_load_seconds for engine in engines]
    engine_seconds = sum(engine.busy_seconds for engine in engines)
    engine_seconds -= sum(first_loads) - max(first_loads)
    controls = make_controls(spec, workload)
    return finish(store, run_id, spec, workload, controls, began, engine_seconds)


def finish(
    store: Store,
    run_id: str,
    spec: RunSpec,
    workload: Workload,
    controls: Controls,
    began: float,
    engine_seconds: float,
) -> Summary:
    """Sums up what was kept, and keeps the summary.

    The run began at `began` by `time.perf_counter`, and engines were at work for `engine_seconds`
    of the time since.
    """
    summary = summarise(store, run_id, spec, workload, controls)
    wall_seconds = time.perf_counter() - began
    timed = summary.model_copy(
        update={"wall_seconds": wall_seconds, "harness_seconds": wall_seconds - engine_seconds}
    )
    store.finish_run(run_id, timed.model_dump_json())
    return timed


def check_answered(summary: Summary) -> None:
    """Raises `EngineError`, which says why, where not one cell of any backend is done."""
    if any(run.cells.done for run in summary.runs):
        return
    failures = {
        f"{run.backend}: {caveat.message}": caveat.advice
        for run in summary.runs
        for caveat in run.caveats
        if caveat.kind is CaveatKind.CELLS_FAILED
    }
    raise EngineError(
        f"every cell failed; {' '.join(failures)}",
        remedy=" ".join(dict.fromkeys(failures.values())),
    )
