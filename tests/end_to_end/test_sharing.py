"""On prompts of the default run, shared prefixes change nothing but the work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from backends.api import Batch, Decoding, Prompt, Reply
from backends.sharing.prefix_tree import unique_tokens
from harness.engine.interpreters import find_interpreter
from harness.engine.models import resolve_model
from harness.engine.process import ProcessTransport
from harness.engine.registry import find_backend
from harness.engine.session import EngineSession, check_backend
from harness.spec import RunSpec
from harness.workload.tokens import Tokenizer
from harness.workload.workload import draw, write

# The default run, but for its size.
SPEC = RunSpec(voters=2, queries=12, calibration_queries=4, max_model_len=512)
TIMEOUT_SECONDS = 120.0


def ask(
    session: EngineSession, prompts: Sequence[Sequence[int]], how: Decoding
) -> dict[int, Reply]:
    events = [one.event for one in session.generate([Prompt(ids) for ids in prompts], how)]
    batches = [event for event in events if isinstance(event, Batch)]
    return {reply.prompt: reply for batch in batches for reply in batch.replies}


@pytest.mark.parametrize("name", RunSpec().backend)
def test_replies_are_those_of_one_prompt_at_a_time(name: str, tmp_path: Path) -> None:
    backend = find_backend(name)
    python, log = find_interpreter(name, None), tmp_path / "log"
    availability = check_backend(backend.target, TIMEOUT_SECONDS, log, python)
    if not availability.available:
        pytest.skip(f"{name}: {availability.reason}. {availability.remedy}")
    model = resolve_model(SPEC.model[0], backend.load().FORMATS, {})
    # Two threads wait for each other, for long beside the tests of another process.
    options = {"max_model_len": SPEC.max_model_len, "threads": 1}
    transport = ProcessTransport(backend.target, TIMEOUT_SECONDS, log, python)
    session = EngineSession(transport, backend.target, model, options)
    try:
        info = session.info
        tokenizer = Tokenizer(
            info.vocabulary_sha256, info.bos_id, session.tokenize, session.token_texts
        )
        work = write(draw(SPEC), SPEC, {name: tokenizer}, {name: None}, SPEC.max_model_len)
        [prompts], [labels] = work.packed.token_ids.values(), work.packed.labels.values()
        how = Decoding("free", labels, work.packed.reserve, work.packed.stop)

        together = ask(session, prompts, how)
        computed = sum(r.prompt_tokens - (r.cached_tokens or 0) for r in together.values())
        assert computed == unique_tokens(prompts) < sum(map(len, prompts)) / 10

        for index in range(0, len(prompts), 8):  # some of each voter: each takes seconds
            ask(session, [[1, 2, 3]], how)  # something that shares nothing
            alone = ask(session, [prompts[index]], how)[0]
            assert alone.cached_tokens == 0
            assert (alone.text, alone.finish) == (together[index].text, together[index].finish)
            assert alone.label_logprobs == pytest.approx(together[index].label_logprobs, abs=0.05)
    finally:
        session.close()
