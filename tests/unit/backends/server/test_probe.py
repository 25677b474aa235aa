"""What the probe finds out about servers that lie, and that it suspects no honest one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from backends.api import Finding, TokenIds, TokenizerInfo
from backends.server import backend
from backends.server.client import Client
from backends.server.probe import Probed, probe
from backends.server.session import Wire
from tests.fakes.server import Fake, Lies, running
from tests.unit.backends.server.conftest import Open, model_for, tokenize

FLAVOURS = ("vllm", "llama-server", "sglang", "openai", "llama_cpp.server", "ollama", "lm-studio")
TIMES = 20
BOS, BOS_TEXT = 256, "<s>"


def fake(flavour: str, lies: Lies = Lies(), **more: object) -> Fake:  # noqa: B008 - immutable
    if flavour not in ("vllm", "llama-server", "sglang"):
        more = {"tokenize": tokenize, **more}
    return Fake(flavour=flavour, lies=lies, **more)  # type: ignore[arg-type]


def probes(one: Fake, times: int = TIMES, at_once: int = 1) -> list[Probed]:
    """Of sessions with a server, one after the other; the tokenizer is opened once."""
    with running(one) as server:
        tokenizer, found = backend._opened(model_for(one), {}, server.url)

        async def probed() -> Probed:
            client = Client(server.url, most=at_once)
            labels = found.flavour.LABEL_LOGPROBS
            wire = Wire(client, found, tokenizer, 600, at_once, label_logprobs=labels)
            try:
                return await probe(wire, 600)
            finally:
                await client.close()

        try:
            return [asyncio.run(probed()) for _ in range(times)]
        finally:
            tokenizer.close()


def findings(one: Fake, times: int = TIMES, at_once: int = 1) -> Sequence[Finding]:
    """The one finding of each probe."""
    return [finding for probed in probes(one, times, at_once) for [finding] in [probed.findings]]


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("at_once", [1, 4])
def test_an_honest_server_is_not_suspected(flavour: str, at_once: int) -> None:
    if flavour == "llama_cpp.server":
        at_once = 1
    assert [one.findings for one in probes(fake(flavour), at_once=at_once)] == [()] * TIMES


@pytest.mark.parametrize("flavour", ["vllm", "openai", "ollama"])
def test_a_dropped_head_with_the_short_count_is_found(flavour: str) -> None:
    for cut in findings(fake(flavour, Lies(sees=300))):
        assert (cut.kind, cut.seen, cut.side) == ("prompt_cut", 300, "head")
        assert cut.declared is not None and 580 < cut.declared < 600


def test_a_dropped_tail_is_found() -> None:
    [cut] = findings(fake("vllm", Lies(sees=300, cuts_tail=True)), times=1)
    assert (cut.kind, cut.seen, cut.side) == ("prompt_cut", 300, "tail")


@pytest.mark.parametrize("flavour", ["vllm", "llama-server", "openai"])
def test_a_dropped_head_with_the_full_count_is_found(flavour: str) -> None:
    for cut in findings(fake(flavour, Lies(sees=300, counts_whole=True))):
        assert (cut.kind, cut.side) == ("prompt_cut", "head")
        assert cut.seen is not None and 280 <= cut.seen <= 320


def test_without_log_probabilities_a_dropped_head_is_a_doubt() -> None:
    """The text alone may be the same for two prompts, of a small model too."""
    [doubt] = findings(fake("lm-studio", Lies(sees=300, counts_whole=True)), times=1)
    assert doubt.kind == "head_unproven"


@pytest.mark.parametrize("flavour", ["vllm", "openai"])
def test_one_more_bos_is_found(flavour: str) -> None:
    for bos in findings(fake(flavour, Lies(bos=1))):
        # Neither the embedded model nor bytes want one.
        assert bos.kind == "bos_added"
        assert bos.seen == (bos.declared or 0) + 1


def test_a_doubled_bos_is_found() -> None:
    for _ in range(TIMES):
        one = fake("vllm", Lies(bos=1), adds_bos=2)
        [bos] = findings(one, times=1)
        assert (bos.kind, bos.seen) == ("bos_doubled", (bos.declared or 0) + 1)


class WithBos:
    """A local tokenizer of a model that wants BOS first, whose other tokens are bytes."""

    info = TokenizerInfo(4096, "0" * 64, bos_id=BOS, bos_text=BOS_TEXT)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [bytes_with_bos(text) for text in texts]

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        return [self.detokenize([token]) for token in token_ids]

    def detokenize(self, token_ids: TokenIds) -> str:
        return bytes(token for token in token_ids if token != BOS).decode(errors="replace")

    def close(self) -> None:
        """There is nothing to give back."""


def bytes_with_bos(text: str) -> list[int]:
    """Special tokens are parsed, and none is added."""
    first, *others = text.encode().split(BOS_TEXT.encode())
    return [*first, *(token for one in others for token in (BOS, *one))]


def with_bos(flavour: str, lies: Lies | None = None, adds_bos: int | None = BOS) -> Fake:
    return fake(flavour, lies or Lies(), tokenize=bytes_with_bos, adds_bos=adds_bos)


@pytest.fixture
def model_with_bos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backends.server.tokenizer.open_local", lambda model: WithBos())


@pytest.mark.usefixtures("model_with_bos")
@pytest.mark.parametrize("flavour", ["vllm", "llama-server", "sglang", "openai", "ollama"])
def test_a_missing_bos_is_found(flavour: str) -> None:
    for bos in findings(with_bos(flavour, Lies(bos=-1))):
        assert (bos.kind, bos.seen) == ("bos_missing", (bos.declared or 0) - 1)


@pytest.mark.usefixtures("model_with_bos")
@pytest.mark.parametrize("flavour", [*FLAVOURS])
def test_an_honest_server_of_a_model_with_bos_is_not_suspected(flavour: str) -> None:
    assert [one.findings for one in probes(with_bos(flavour))] == [()] * TIMES


@pytest.mark.usefixtures("model_with_bos")
@pytest.mark.parametrize("flavour", ["openai", "ollama"])
def test_a_server_that_adds_no_bos_to_a_text_is_sent_it(flavour: str) -> None:
    """As the API of such a server has it: then nothing is missing."""
    one = with_bos(flavour, adds_bos=None)
    assert [probed.findings for probed in probes(one, times=2)] == [(), ()]
    assert one.asked[-1]["prompt"].startswith(BOS_TEXT)


def test_a_chat_template_round_a_prompt_is_found() -> None:
    for template in findings(fake("openai", Lies(wraps=True))):
        assert template.kind == "chat_template"


@pytest.mark.parametrize("flavour", ["vllm", "openai", "ollama"])
@pytest.mark.parametrize("cuts_share", [False, True])
def test_a_context_that_slots_divide_is_found(flavour: str, cuts_share: bool) -> None:
    for _ in range(TIMES // 4):
        lies = Lies(slots=4, cuts_share=cuts_share)
        [divided] = findings(fake(flavour, lies, context=1000), times=1, at_once=4)
        assert (divided.kind, divided.at_once) == ("context_divided", 4)
        assert divided.seen is not None and 100 <= divided.seen < 250


def test_a_context_that_slots_divide_behind_the_full_count_is_found() -> None:
    lies = Lies(slots=4, cuts_share=True, counts_whole=True)
    [cut] = findings(fake("vllm", lies, context=1000), times=1, at_once=4)
    assert (cut.kind, cut.side, cut.at_once) == ("prompt_cut", "head", 4)


def test_one_request_at_a_time_has_the_whole_context() -> None:
    [one] = probes(fake("vllm", Lies(slots=4), context=1000), times=1)
    assert one.findings == ()


def test_a_context_that_is_smaller_than_declared_is_found() -> None:
    for smaller in findings(fake("vllm", Lies(takes=256))):
        assert (smaller.kind, smaller.declared) == ("context_smaller", 4096)
        assert smaller.seen is not None and 230 <= smaller.seen <= 256


def test_a_server_that_declares_no_context_has_what_it_takes(opened: Open) -> None:
    session, _ = opened(fake("openai", Lies(takes=256)))
    assert session.info.findings == ()
    assert 230 <= session.info.allocated_context <= 256


@pytest.mark.parametrize("flavour", ["vllm", "llama-server", "sglang"])
def test_false_cached_tokens_are_found_and_not_believed(flavour: str) -> None:
    for false in findings(fake(flavour, Lies(cached=480))):
        assert (false.kind, false.declared) == ("cached_tokens_false", 0)


def test_a_server_without_log_probabilities_is_seen_to_have_none(opened: Open) -> None:
    session, _ = opened(fake("openai", logprobs=False))
    assert session.info.capabilities.label_logprobs == "none"
