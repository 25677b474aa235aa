"""What the client of the backend `server` costs, against fakes that cost nothing themselves.

    python tests/benchmarks/servers.py

Linux: the client has one core to itself, the fake another. Beside the session that a run has, a
bare loop of aiohttp sends the same bytes: what it takes longer is ours. Rounds alternate. On a
machine that does other things too, the processor time of a request is the figure to look at.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import aiohttp
import numpy as np

from backends.api import Batch, Decoding, ModelRef, Options, Prompt
from backends.server import backend
from backends.server.session import ServerSession

AT_ONCE = 16
TOKENS = 900
FAKE = Path(__file__).parents[1] / "fakes" / "at_once.py"


@contextmanager
def fake(delay_ms: float) -> Iterator[str]:
    """A fake server in a process of its own, on the last core."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    command = [sys.executable, str(FAKE), str(port), str(delay_ms)]
    process = subprocess.Popen(command)
    try:
        os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def prompts(count: int) -> list[Prompt]:
    return [Prompt([place % 200, place // 200, *[7] * (TOKENS - 2)]) for place in range(count)]


def ours(session: ServerSession, count: int) -> list[float]:
    """The seconds of each request, through the session of a run."""
    events = session.generate(prompts(count), Decoding("free", (), max_tokens=1))
    return [one.ended - one.began for one in events if isinstance(one, Batch)]


def bare(url: str, count: int) -> list[float]:
    """The same requests, of a loop that does nothing else."""

    async def whole() -> list[float]:
        took: list[float] = []
        left = iter(prompts(count))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as client:

            async def work() -> None:
                for prompt in left:
                    began = time.perf_counter()
                    body = {
                        "model": "fake-model",
                        "prompt": prompt.token_ids,
                        "max_tokens": 1,
                        "stream": True,
                    }
                    async with client.post(f"{url}/v1/completions", json=body) as response:
                        async for line in response.content:
                            if line.startswith(b"data: {"):
                                json.loads(line[6:])
                    took.append(time.perf_counter() - began)

            await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        return took

    return asyncio.run(whole())


def measured(what: Callable[[], list[float]]) -> tuple[float, float, float]:
    """Requests per second, processor milliseconds of each, and the p95 of their milliseconds."""
    began, used = time.perf_counter(), _cpu()
    took = what()
    seconds = time.perf_counter() - began
    p95 = 1000 * float(np.percentile(took, 95))
    return len(took) / seconds, 1000 * (_cpu() - used) / len(took), p95


def _cpu() -> float:
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


def main() -> None:
    for delay_ms, count, rounds in ((50.0, 480, 12), (0.0, 1500, 3)):
        with fake(delay_ms) as url:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            options: Options = {"url": url, "max_model_len": 1024, "concurrency": AT_ONCE}
            session = cast(
                ServerSession, backend.open_session(ModelRef("bytes", "none", ""), options)
            )
            ours(session, 50)
            later: list[float] = []
            for _ in range(rounds):
                p95s: list[float] = []
                for name, what in (
                    ("session", partial(ours, session, count)),
                    ("bare aiohttp", partial(bare, url, count)),
                ):
                    rate, cpu, p95 = measured(what)
                    p95s.append(p95)
                    print(
                        f"{delay_ms:g} ms, {AT_ONCE} at once, {name}: {rate:,.0f} requests/s, "
                        f"{cpu:.2f} ms of processor a request, p95 {p95:.1f} ms, "
                        f"load {os.getloadavg()[0]:.1f}"
                    )
                later.append(p95s[0] - p95s[1])
            print("p95, session - bare aiohttp, ms:", *(f"{one:+.2f}" for one in sorted(later)))
            session.close()
            os.sched_setaffinity(0, range(os.cpu_count() or 1))


if __name__ == "__main__":
    main()
