"""The requests of `harness bench` beside vLLM's own serving benchmark, over one server of vLLM.

    python -m tests.benchmarks.vllm_serving URL ROUNDS

In vLLM's environment (`harness backends install vllm`), the server is started by

    python -m vllm.entrypoints.openai.api_server --model FOLDER --served-model-name NAME

Both send their requests at the same time, 2 in flight each, so that what else the machine does hits
both: 64 random tokens, 16 tokens of reply. A round is done twice: vLLM's benchmark sends prompts as
text, and as token ids where it replays a trace.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TypeAlias

from harness.bench.load import LoadBench
from harness.bench.rows import Plan
from harness.bench.timing import RandomPrompts
from harness.engine.engine import Engine, plan_engine
from harness.engine.interpreters import own_environment
from harness.spec import RunSpec, entries_of
from tests.benchmarks.sides import geometric_mean

PROMPT, REPLY, AT_ONCE, REQUESTS = 64, 16, 2, 24
METRICS = ("requests/s", "p50 ms to first", "p50 ms per token", "p50 s of a request")
_CHUNK = 16  # tokens that a trace has a number for
_RUNNER = """
import argparse, json, os, sys
import vllm.benchmarks.serve as serve
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # it prints tables
parser = argparse.ArgumentParser()
serve.add_cli_args(parser)
for line in sys.stdin:
    result = serve.main(parser.parse_args(json.loads(line)))
    print(json.dumps({key: one for key, one in result.items() if isinstance(one, int | float)}),
          file=answers, flush=True)
"""
Figures: TypeAlias = tuple[float, ...]


def main(url: str, rounds: int) -> None:
    with urllib.request.urlopen(f"{url}/v1/models") as answered:
        [served] = json.load(answered)["data"]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runner = stack.enter_context(_runner())
        bench = _bench(stack.enter_context(_engine(url, folder)))
        common = [
            *("--backend", "vllm", "--base-url", url, "--endpoint", "/v1/completions"),
            *("--model", served["root"], "--served-model-name", served["id"]),
            *("--num-prompts", str(REQUESTS), "--max-concurrency", str(AT_ONCE)),
            *("--temperature", "0", "--percentile-metrics", "ttft,tpot,e2el", "--disable-tqdm"),
            *("--num-warmups", str(AT_ONCE), "--ready-check-timeout-sec", "0"),
        ]
        pool = stack.enter_context(ThreadPoolExecutor(1))
        random = ["--random-input-len", str(PROMPT), "--random-output-len", str(REPLY)]
        ratios: dict[str, list[Figures]] = {"text": [], "ids": []}
        for number in range(rounds + 1):
            for kind, found in ratios.items():
                prompts = (
                    [*random, "--seed", str(number)]
                    if kind == "text"
                    else [*_trace(folder, number), "--no-self-timed"]
                )
                other = pool.submit(theirs, runner, [*common, *prompts])
                mine = ours(bench)
                pairs = zip(METRICS, mine, other.result(), strict=True)
                print(number, kind, *(f"{name}: {a:.4g} {b:.4g};" for name, a, b in pairs))
                if number:  # the first one warms all up
                    found.append(tuple(a / b for a, b in zip(mine, other.result(), strict=True)))
    for kind, found in ratios.items():
        for name, values in zip(METRICS, zip(*found, strict=True), strict=True):
            print(f"{name}, harness bench / vLLM's with {kind}: {geometric_mean(values)}")


def _engine(url: str, folder: Path) -> Engine:
    spec = RunSpec(backend=(f"server:{url}",), engine={"concurrency": AT_ONCE})
    [entry] = entries_of(spec)
    return Engine(plan_engine(entry, spec, folder), PROMPT + REPLY)


def _bench(engine: Engine) -> LoadBench:
    plan = Plan((PROMPT,), (REPLY,), repetitions=REQUESTS // AT_ONCE)
    prompts = RandomPrompts.of(engine.session, 0, 0)
    return LoadBench(engine, prompts, plan, AT_ONCE, lambda *_: None)


def ours(bench: LoadBench) -> Figures:
    """The first row, of new prompts: the same prompts once more are the second, and not timed."""
    row = next(bench.rows())
    tails = (
        row.request_time_to_first_token_ms,
        row.request_time_per_output_token_ms,
        row.request_seconds,
    )
    assert row.requests_per_second is not None
    return (row.requests_per_second.value, *(one.p50.value for one in tails if one is not None))


def theirs(runner: subprocess.Popen[str], arguments: list[str]) -> Figures:
    asked, answers = _pipes(runner)
    print(json.dumps(arguments), file=asked, flush=True)
    result = json.loads(answers.readline())
    return (
        result["request_throughput"],
        result["median_ttft_ms"],
        result["median_tpot_ms"],
        result["median_e2el_ms"] / 1000,
    )


def _trace(folder: Path, number: int) -> list[str]:
    """Of requests that share nothing, all at the same time."""
    chunks = PROMPT // _CHUNK
    lines = [
        {
            "timestamp": 0,
            "input_length": PROMPT,
            "output_length": REPLY,
            "hash_ids": [(number * REQUESTS + request) * chunks + part for part in range(chunks)],
        }
        for request in range(REQUESTS)
    ]
    file = folder / f"{number}.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ["--dataset-name", "timed_trace", "--dataset-path", str(file)]


def _runner() -> subprocess.Popen[str]:
    """vLLM's benchmark takes long to import: one process for all rounds."""
    command = [str(own_environment("vllm").python), "-c", _RUNNER]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)


def _pipes(runner: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert runner.stdin is not None
    assert runner.stdout is not None
    return runner.stdin, runner.stdout


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
