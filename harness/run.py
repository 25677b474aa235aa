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

from harness.asking import Observer, ask, prompt_rows
from harness.config import RunSpec, parse_spec
from harness.engine.engine import Engine, check_options
from harness.errors import StoreError
from harness.store.environment import describe_environment
from harness.store.store import Store
from harness.summarise import summarise
from harness.summary import Summary
from harness.workload.packing import Tokenize
from harness.workload.prompt import ChatTemplate
from harness.workload.workload import Workload, draw, write


def run(spec: RunSpec, results: Path, observe: Observer = lambda _: None) -> Summary:
    """Asks every backend of the spec the same prompts. Raises `HarnessError`."""
    began = time.perf_counter()
    check_options(spec)
    with Store(results) as store, _loading(spec, results) as engines:
        workload = _draw(spec, engines)
        run_id = store.create_run(spec.model_dump_json(), describe_environment().model_dump_json())
        store.save_prompts(run_id, prompt_rows(workload.packed, engines[0].name))
        return _complete(store, run_id, spec, workload, engines, observe, began)


def resume(run_id: str, results: Path, observe: Observer = lambda _: None) -> Summary:
    """Completes a run that was ended: asks what has no reply yet. Raises `HarnessError`."""
    began = time.perf_counter()
    with Store(results) as store:
        row = store.run(run_id)
        spec = parse_spec(json.loads(row.spec), where=f"run {row.run_id}")
        with _loading(spec, results) as engines:
            workload = _draw(spec, engines)
            rows = prompt_rows(workload.packed, engines[0].name)
            asked = [replace(prompt, id=0) for prompt in store.prompts(row.run_id)]
            if not asked:  # it was ended before they were kept
                store.save_prompts(row.run_id, rows)
            elif asked != rows:
                raise StoreError(
                    f"run {row.run_id} asked other prompts than its spec makes now: the data, the "
                    "model or a template has changed since",
                    remedy="Bring back what it was begun with, or begin a new run.",
                )
            return _complete(store, row.run_id, spec, workload, engines, observe, began)


@contextmanager
def _loading(spec: RunSpec, results: Path) -> Iterator[list[Engine]]:
    """The engines of a run, which load from now on, each in its own process."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(Engine(name, spec, results / "logs" / f"{name}.log"))
            for name in spec.backend
        ]


def _draw(spec: RunSpec, engines: Sequence[Engine]) -> Workload:
    """The workload, packed with the tokenizers of all engines."""
    draft = draw(spec)
    infos = [engine.session.info for engine in engines]
    first = infos[0]
    chat = ChatTemplate.of_model(first.chat_template, first.bos_text, first.eos_text)
    limit = min(spec.max_model_len, *(info.allocated_context for info in infos))
    return write(draft, spec, {e.name: _tokenizer(e) for e in engines}, chat, limit)


def _tokenizer(engine: Engine) -> Tokenize:
    """The engine's tokenizer, with the token that its model wants first, once."""
    bos = engine.session.info.bos_id

    def tokenize(texts: Sequence[str]) -> list[list[int]]:
        every = engine.session.tokenize(texts)
        return every if bos is None else [ids if ids[:1] == [bos] else [bos, *ids] for ids in every]

    return tokenize


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
