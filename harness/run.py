"""The pipeline, whole.

    workload                           engine                      scoring         kept, shown
    dataset -> reducer -> encoding
        -> template -> packing ------> session (own process) ----> parse -> vote -> store -> table
             (voters, queries)         prompt token ids, replies    -> metrics
                                                                    -> statistics

Engines load while the workload is drawn. Each batch of replies is kept as it comes: a run that was
ended, however, is completed by `resume`, and every summary is made from what was kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from harness.asking import Observer, ask, prompt_rows, tokens_rows
from harness.config import RunSpec, parse_spec, replay_spec
from harness.engine.engine import Engine, check_options
from harness.errors import StoreError
from harness.replay import Source, check_replay, find_source
from harness.store.environment import describe_environment
from harness.store.store import Store
from harness.summarise import summarise
from harness.summary import Summary
from harness.workload.prompt import ChatTemplate
from harness.workload.tokens import Tokenizer
from harness.workload.workload import Workload, draw, write


def run(spec: RunSpec, results: Path, observe: Observer = lambda _: None) -> Summary:
    """Asks every backend of the spec the same prompts. Raises `HarnessError`."""
    began = time.perf_counter()
    check_options(spec)
    with Store(results) as store:
        source = _source(store, spec)
        if source:
            spec = replay_spec(spec, source.spec, source.run_id)
        with _loading(spec, results) as engines:
            workload = _draw(spec, engines, source)
            environment = describe_environment()
            run_id = store.create_run(spec.model_dump_json(), environment.model_dump_json())
            _save_prompts(store, run_id, workload)
            return _complete(store, run_id, spec, workload, engines, observe, began)


def resume(run_id: str, results: Path, observe: Observer = lambda _: None) -> Summary:
    """Completes a run that was ended: asks what has no reply yet. Raises `HarnessError`."""
    began = time.perf_counter()
    with Store(results) as store:
        row = store.run(run_id)
        spec = parse_spec(json.loads(row.spec), where=f"run {row.run_id}")
        source = _source(store, spec)
        with _loading(spec, results) as engines:
            workload = _draw(spec, engines, source)
            if store.prompts(row.run_id):
                _check_unchanged(store, row.run_id, workload)
            else:  # it was ended before they were kept
                _save_prompts(store, row.run_id, workload)
            return _complete(store, row.run_id, spec, workload, engines, observe, began)


@contextmanager
def _loading(spec: RunSpec, results: Path) -> Iterator[list[Engine]]:
    """The engines of a run, which load from now on, each in its own process."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(Engine(name, spec, results / "logs" / f"{name}.log"))
            for name in spec.backend
        ]


def _source(store: Store, spec: RunSpec) -> Source | None:
    """The run whose prompts are asked again, if any."""
    return None if spec.prompts_from is None else find_source(store, spec.prompts_from)


def _draw(spec: RunSpec, engines: Sequence[Engine], source: Source | None) -> Workload:
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


def _save_prompts(store: Store, run_id: str, workload: Workload) -> None:
    store.save_prompts(run_id, prompt_rows(workload.packed), tokens_rows(workload.packed))


def _check_unchanged(store: Store, run_id: str, workload: Workload) -> None:
    """Raises `StoreError` where a run was begun with other prompts than its spec makes now."""
    prompts = [replace(prompt, id=0) for prompt in store.prompts(run_id)]
    tokens = tokens_rows(workload.packed)
    kept = {backend: store.prompt_tokens(run_id, backend) for backend in tokens}
    if (prompts, kept) != (prompt_rows(workload.packed), tokens):
        raise StoreError(
            f"run {run_id} asked other prompts than its spec makes now: the data, the model or a "
            "template has changed since",
            remedy="Bring back what it was begun with, or begin a new run.",
        )


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
    summary = summarise(store, run_id, spec, workload)
    wall_seconds = time.perf_counter() - began
    # The engines of a run load side by side at its begin: the longest load is what that takes.
    first_loads = [engine.first_load_seconds for engine in engines]
    engine_seconds = sum(engine.busy_seconds for engine in engines)
    engine_seconds -= sum(first_loads) - max(first_loads)
    timed = summary.model_copy(
        update={"wall_seconds": wall_seconds, "harness_seconds": wall_seconds - engine_seconds}
    )
    store.finish_run(run_id, timed.model_dump_json())
    return timed
