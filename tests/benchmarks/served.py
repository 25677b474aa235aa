"""How much slower an engine is behind its server than in process, and how much of it is HTTP.

    python tests/benchmarks/served.py ROUNDS

Rounds of the same prompts are given to llama.cpp in process and to `server:llama-cpp` in turn, so
that what else the machine does hits both. A round is one voter: a beginning that is new, and some
queries behind it. What the server takes longer is its own work beside its engine, or the client's:
the processor time of either process says which.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil

from backends.api import Batch, Decoding, Prompt
from harness.engine.engine import plan_engine
from harness.engine.session import EngineSession
from harness.spec import RunSpec, entries_of
from tests.benchmarks.sides import geometric_mean

BEGINNING, QUERIES, BEHIND = 256, 16, 6  # tokens, prompts, tokens
THREADS = 1


def main(rounds: int) -> None:
    spec = RunSpec(
        backend=("llama-cpp", "server:llama-cpp"), engine={"threads": THREADS}, max_model_len=512
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sessions = []
        for entry in entries_of(spec):
            sessions.append(plan_engine(entry, spec, folder).open_session(spec.max_model_len))
            stack.callback(sessions[-1].close)
        in_process, served = sessions
        print(served.info.engine_version)  # noqa: T201 - a script
        processes = psutil.Process().children(recursive=True)
        [server] = [one for one in processes if one.name() == "llama-server"]
        client = server.parent()
        assert client is not None
        labels = tuple(map(tuple, in_process.tokenize([" yes", " no"])))
        how = Decoding("free", labels, max_tokens=4)
        shares: dict[str, list[float]] = {}
        for number in range(rounds + 1):
            prompts = list(map(Prompt, _prompts(number)))
            alone, _ = _timed(in_process, prompts, how)
            before = _cpu(server), _cpu(client)
            behind, batches = _timed(served, prompts, how)
            of_server, of_client = _cpu(server) - before[0], _cpu(client) - before[1]
            engine = sum((b.prefill_seconds or 0) + (b.decode_seconds or 0) for b in batches)
            if number:  # the first one warms both up
                for name, value in {
                    "seconds behind the server / in process": behind / alone,
                    "of the server's seconds: its engine, by its own timings": engine / behind,
                    "processor seconds of the server / seconds": of_server / behind,
                    "processor seconds of the client / seconds": of_client / behind,
                }.items():
                    shares.setdefault(name, []).append(value)
    for name, values in shares.items():
        print(f"{name}: {geometric_mean(values)}")  # noqa: T201


def _prompts(number: int) -> list[list[int]]:
    draw = np.random.default_rng(number).integers(1000, 20_000, BEGINNING + QUERIES * BEHIND)
    head, rest = draw[:BEGINNING].tolist(), draw[BEGINNING:].reshape(QUERIES, BEHIND)
    return [[*head, *query] for query in rest.tolist()]


def _timed(
    session: EngineSession, prompts: Sequence[Prompt], how: Decoding
) -> tuple[float, list[Batch]]:
    began = time.perf_counter()
    events = [one.event for one in session.generate(prompts, how)]
    return time.perf_counter() - began, [one for one in events if isinstance(one, Batch)]


def _cpu(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


if __name__ == "__main__":
    main(int(sys.argv[1]))
