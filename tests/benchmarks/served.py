"""How much slower an engine is behind its server than in process, and how much of it is HTTP.

    python tests/benchmarks/served.py ROUNDS

Rounds of the same prompts are given to llama.cpp in process and to `server:llama-cpp` in turn, so
that what else the machine does hits both. A round is one voter: a beginning that is new, and some
queries behind it, for text alone, and once more for the log-probabilities of two labels. What the
server takes longer is its own work beside its engine, or the client's: the processor time of either
process says which.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import mean

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
        print(served.info.engine_version)
        processes = psutil.Process().children(recursive=True)
        [server] = [one for one in processes if one.name() == "llama-server"]
        client = server.parent()
        assert client is not None
        labels = tuple(map(tuple, in_process.tokenize([" yes", " no"])))
        ratios: dict[str, list[float]] = {}
        times: dict[str, list[float]] = {}
        for number in range(rounds + 1):
            for kind, wanted in {"text": (), "labels": labels}.items():
                how = Decoding("free", wanted, max_tokens=4)
                prompts = list(map(Prompt, _prompts(in_process, f"{kind} {number}")))
                alone, _ = _timed(in_process, prompts, how)
                before = _cpu(server), _cpu(client)
                behind, batches = _timed(served, prompts, how)
                of_server, of_client = _cpu(server) - before[0], _cpu(client) - before[1]
                engine = sum((b.prefill_seconds or 0) + (b.decode_seconds or 0) for b in batches)
                if number:  # the first one warms both up
                    ratios.setdefault(f"{kind}, seconds", []).append(behind / alone)
                    ratios.setdefault(f"{kind}, seconds of the engine", []).append(engine / alone)
                    each = {
                        "seconds beside the engine": behind - engine,
                        "processor of the server": of_server,
                        "processor of the client": of_client,
                    }
                    for name, value in each.items():
                        times.setdefault(f"{kind}, {name}", []).append(1000 * value / QUERIES)
    for name, values in ratios.items():
        print(f"{name}, server / in process: {geometric_mean(values)}")
    for name, values in times.items():
        spread = f"{mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"
        print(f"{name}, ms of a prompt: {spread}")


def _prompts(session: EngineSession, seed: str) -> list[list[int]]:
    """Examples that make the labels likely: for one that is not among the 100 likeliest tokens, the
    server has to give the whole vocabulary."""
    draw = random.Random(seed)

    def digits() -> str:
        return "".join(draw.choices("0123456789", k=BEHIND - 1))

    examples = "".join(f"\n{digits()} {draw.choice(('yes', 'no'))}" for _ in range(BEGINNING))
    [head, *queries] = session.tokenize([examples, *(f"\n{digits()}" for _ in range(QUERIES))])
    return [[*head[:BEGINNING], *query] for query in queries]


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
