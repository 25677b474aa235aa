"""Each engine as the harness runs it beside the same engine used the usual way, in one go.

    python tests/benchmarks/engines.py llama-cpp
    python tests/benchmarks/engines.py vllm --enforce-eager
    python tests/benchmarks/engines.py hf --rival-python .venv-lm-eval/bin/python

The last one needs an environment with lm-evaluation-harness:

    python -m venv .venv-lm-eval
    .venv-lm-eval/bin/pip install 'lm_eval[hf]==0.4.13' torch==2.13.0

The workload: 2 voters with prefixes of 1,500 tokens, 64 queries each, digits data, SmolLM2-135M,
score decoding. The rivals are in `rivals/`: each answers the same token ids in its own process, and
both sides are loaded before anything is timed. They take turns, ours first; each round has its own
prompts, so that nothing is cached from round to round. A slow rival is asked the first prompts of
each voter only, and its time is scaled; the table says so. Loading is in neither time; the way to
the worker is in ours.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.progress import track
from rich.table import Table

from backends.api import Batch, Decoding, OptionValue, Prompt
from backends.hf.weights import folder_of
from harness.engine.interpreters import find_interpreter
from harness.engine.models import resolve_model
from harness.engine.process import ProcessTransport
from harness.engine.registry import find_backend
from harness.engine.session import EngineSession
from harness.spec import RunSpec
from harness.workload.tokens import Tokenizer
from harness.workload.workload import draw, write

MODEL = "smollm2-135m"
VOTERS, QUERIES, PREFIX_TOKENS = 2, 64, 1500
ROOM_TOKENS = 16  # for the query and the reply
LONGEST = PREFIX_TOKENS + ROOM_TOKENS
TIMEOUT_SECONDS = 900.0

Other: TypeAlias = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Rival:
    """`script` runs in the backend's interpreter unless another is given. It is asked the first
    `sample` queries of each voter."""

    name: str
    script: str
    options: dict[str, OptionValue]
    reads_gguf: bool = False
    sample: int = QUERIES


RIVALS = {
    "hf": Rival(
        "lm-evaluation-harness",
        "lm_eval_hf.py",
        {"dtype": "bfloat16", "device": "cpu"},
        sample=16,
    ),
    "llama-cpp": Rival(
        "llama-cpp-python's Llama", "llama_high_level.py", {}, reads_gguf=True, sample=4
    ),
    "vllm": Rival("bare LLM.generate", "bare_vllm.py", {"dtype": "bfloat16"}),
}


@dataclass(frozen=True, slots=True)
class Round:
    """Token ids of prompts and labels; `sampled` are the places of what the rival is asked."""

    prompts: Sequence[Sequence[int]]
    labels: tuple[tuple[int, ...], ...]
    sampled: Sequence[int]


@dataclass(frozen=True, slots=True)
class Timed:
    """One round; `scale` is all prompts by those that the rival was asked."""

    ours_seconds: float
    rival_seconds: float
    scale: float
    largest_logprob_difference: float

    @property
    def ratio(self) -> float:
        return self.rival_seconds * self.scale / self.ours_seconds


def main() -> None:
    arguments = _arguments()
    rival = RIVALS[arguments.backend]
    options = {**rival.options, "max_model_len": LONGEST}
    if arguments.enforce_eager:
        options["enforce_eager"] = True
    python = find_interpreter(arguments.backend, None)
    with ExitStack() as stack:
        session = stack.enter_context(_session(arguments.backend, options, python))
        other = stack.enter_context(_other(rival, arguments.rival_python or python, options))
        timed = [
            _time(session, other, _round(session, seed, rival.sample))
            for seed in track(range(arguments.rounds + 1), console=Console(stderr=True))
        ]
    _print(arguments.backend, rival, timed[1:])  # the first round is warm-up


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("backend", choices=sorted(RIVALS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rival-python", help="interpreter of the rival (default: the backend's)")
    parser.add_argument("--enforce-eager", action="store_true", help="vllm: both sides uncompiled")
    return parser.parse_args()


@contextmanager
def _session(backend: str, options: dict[str, OptionValue], python: str) -> Iterator[EngineSession]:
    registered = find_backend(backend)
    model = resolve_model(MODEL, registered.load().FORMATS, {})
    log = Path(tempfile.mkdtemp()) / "engine.log"
    transport = ProcessTransport(registered.target, TIMEOUT_SECONDS, log, python)
    session = EngineSession(transport, registered.target, model, options)
    try:
        _ = session.info  # waits until it is loaded
        yield session
    finally:
        session.close()


@contextmanager
def _other(rival: Rival, python: str, options: dict[str, OptionValue]) -> Iterator[Other]:
    """A process with the rival's model loaded; one line of JSON a question and one an answer."""
    answers_fd, theirs_out = os.pipe()
    theirs_in, ask_fd = os.pipe()
    script = Path(__file__).parent / "rivals" / rival.script
    log = Path(tempfile.mkdtemp()) / "rival.log"
    with log.open("w") as sink, os.fdopen(answers_fd) as answers, os.fdopen(ask_fd, "w") as ask:
        process = subprocess.Popen(
            [python, str(script), str(theirs_in), str(theirs_out)],
            pass_fds=[theirs_in, theirs_out],
            stdout=sink,
            stderr=sink,
        )
        os.close(theirs_in)
        os.close(theirs_out)

        def other(question: dict[str, Any]) -> Any:
            print(json.dumps(question), file=ask, flush=True)
            line = answers.readline()
            if not line:
                raise SystemExit(f"the rival ended: see {log}")
            return json.loads(line)

        try:
            other({"model": _weights(rival), "options": options})
            yield other
        finally:
            process.kill()
            process.wait()


def _weights(rival: Rival) -> str:
    """The very file or folder that our side reads."""
    gguf = resolve_model(MODEL, ("gguf",), {})
    return gguf.location if rival.reads_gguf else folder_of(gguf)


def _round(session: EngineSession, seed: int, sample: int) -> Round:
    spec = RunSpec(
        model=MODEL,
        voters=VOTERS,
        queries=QUERIES,
        calibration_queries=0,
        decoding="score",
        max_model_len=PREFIX_TOKENS + ROOM_TOKENS,
        seed=seed,
    )
    info = session.info
    tokenizer = Tokenizer(
        info.vocabulary_sha256, info.bos_id, session.tokenize, session.token_texts
    )
    workload = write(draw(spec), spec, {"": tokenizer}, {"": None}, spec.max_model_len)
    packed = workload.packed
    sampled = [i for i, prompt in enumerate(packed.prompts) if prompt.position < sample]
    [token_ids], [labels] = packed.token_ids.values(), packed.labels.values()
    return Round(token_ids, labels, sampled)


def _time(session: EngineSession, other: Other, asked: Round) -> Timed:
    began = time.perf_counter()
    prompts = [Prompt(ids) for ids in asked.prompts]
    events = [one.event for one in session.generate(prompts, Decoding("score", asked.labels))]
    ours = time.perf_counter() - began
    replies = {r.prompt: r for e in events if isinstance(e, Batch) for r in e.replies}
    answer = other(
        {"prompts": [list(asked.prompts[i]) for i in asked.sampled], "labels": asked.labels}
    )
    pairs = zip(asked.sampled, answer["logprobs"], strict=True)
    return Timed(
        ours_seconds=ours,
        rival_seconds=answer["seconds"],
        scale=len(asked.prompts) / len(asked.sampled),
        largest_logprob_difference=max(
            abs(one - two)
            for index, theirs in pairs
            for one, two in zip(replies[index].label_logprobs or (), theirs, strict=True)
            if one is not None
        ),
    )


def _print(backend: str, rival: Rival, timed: Sequence[Timed]) -> None:
    table = Table(title=f"{backend} beside {rival.name}; seconds for {VOTERS * QUERIES} prompts")
    for title in (
        "ours",
        "rival",
        "of it measured",
        "rival / ours",
        "largest difference of a logprob",
    ):
        table.add_column(title, justify="right")
    for one in timed:
        table.add_row(
            f"{one.ours_seconds:.2f}",
            f"{one.rival_seconds * one.scale:.2f}",
            f"{one.rival_seconds:.2f}",
            f"{one.ratio:.3g}",
            f"{one.largest_logprob_difference:.3f}",
        )
    console = Console(width=100)
    console.print(table)
    ratios = sorted(one.ratio for one in timed)
    console.print(
        f"rival / ours: median {statistics.median(ratios):.3g} of {len(ratios)} rounds "
        f"({ratios[0]:.3g} to {ratios[-1]:.3g})"
    )


if __name__ == "__main__":
    main()
