"""A server of whatever kind: vLLM's, llama-server, Ollama and others.

`server:URL` as a backend's name, or `url` in a config's table, is one that is there already; of
several urls each serves the same, and they are one row. `server:vllm`, `server:llama-cpp` or
`command` is one that is started for the run (`managed`). The server itself says what it is. The
tokens are those of the local model that --model names (`backends.server.tokenizer`); before
anything is prompted, a few requests find out what the server does to prompts (`probe`).
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
from dataclasses import asdict
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from backends.api import (
    NO_FILES,
    Availability,
    BackendError,
    Capabilities,
    Finding,
    ModelRef,
    Option,
    Options,
    Requirements,
    Session,
    SessionInfo,
)
from backends.remedies import install_extra
from backends.rules import CONCURRENCY, THREADS
from backends.server.presets import PRESETS
from backends.stages import say
from backends.vllm.backend import ENFORCE_EAGER

if TYPE_CHECKING:
    from backends.server.client import Client
    from backends.server.found import Found
    from backends.server.session import ServerSession
    from backends.server.tokenizer import LocalTokenizer

FORMATS = ("gguf", "hf", NO_FILES)
URL = Option(
    "url",
    list,
    "Where the server listens. On the command line: --backend server:URL. Several that serve the "
    "same share the prompts, all of a voter to one, with `concurrency` requests to each.",
    default_text="none: it, or command, has to be given",
    # No user, no query, no fragment: they may hold secrets, and the run stores the url.
    pattern=r"https?://(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d{1,5})?(/[\w./~-]*)?",
    pattern_text="http:// or https://, a host, and a port and a path if need be; no user, no "
    "password and no query: a key comes from the variable that api_key_variable names",
    has_flag=False,
)
FLAVOUR = Option(
    "flavour",
    str,
    "What kind of server it is.",
    default_text="what the server says of itself",
    choices=(
        "vllm",
        "llama-server",
        "llama_cpp.server",
        "sglang",
        "ollama",
        "lm-studio",
        "openai",
    ),
    has_flag=False,
)
SERVED_MODEL = Option(
    "served_model",
    str,
    "The name that the server has for the model.",
    default_text="the only one that it serves, or the one called as --model is",
    has_flag=False,
)
API_KEY_VARIABLE = Option(
    "api_key_variable",
    str,
    "The environment variable that holds the server's API key.",
    default_text="no key is sent",
    pattern=r"[A-Za-z_][A-Za-z0-9_]*",
    pattern_text="the name of an environment variable",
    has_flag=False,
)
REQUEST_TIMEOUT_SECONDS = Option(
    "request_timeout_seconds",
    float,
    "Give up a request to a server that sends nothing for this long.",
    240.0,
    unit="seconds",
    least=0.1,
    has_flag=False,
)
COMMAND = Option(
    "command",
    list,
    "Start a server for the run: its program and arguments, with {model}, {port}, {threads} and "
    "{context} in them; or one that is known: vllm, llama-cpp. On the command line: --backend "
    "server:vllm.",
    default_text="none is started",
    has_flag=False,
)
COLD = Option(
    "cold",
    bool,
    "Let no request use what was computed before it: for speed only. A server that cannot do that "
    "gets a random beginning before each prompt, so that prompts are not equal.",
    False,
    has_flag=False,
)
OPTIONS = (
    URL,
    COMMAND,
    THREADS,
    ENFORCE_EAGER,
    CONCURRENCY,
    FLAVOUR,
    SERVED_MODEL,
    API_KEY_VARIABLE,
    REQUEST_TIMEOUT_SECONDS,
    COLD,
)
PACKAGES = ("aiohttp>=3.12", "msgspec>=0.19")


def requirements(has_gpu: bool) -> Requirements:
    del has_gpu
    return Requirements(PACKAGES)


def options_of(argument: str) -> Options:
    """The options that `server:ARGUMENT` stands for."""
    return {(COMMAND if argument in PRESETS else URL).name: argument}


def environment_of(options: Options) -> str:
    """The backend whose environment a server that is known is started in."""
    command = COMMAND.given(options) or [""]
    return command[0] if command[0] in PRESETS else ""


def check() -> Availability:
    for name in ("aiohttp", "msgspec"):
        if importlib.util.find_spec(name) is None:
            return Availability(
                False, reason=f"{name} is not installed", remedy=install_extra("server", PACKAGES)
            )
    return Availability(
        True,
        version=f"aiohttp {importlib.metadata.version('aiohttp')}",
    )


def open_tokenizer(model: ModelRef, options: Options) -> LocalTokenizer:
    urls, command = _given(options)
    if command:
        from backends.server.managed import open_local_tokenizer

        return open_local_tokenizer(model, command)
    tokenizer, _ = _opened(model, options, urls[0])
    return tokenizer


def open_session(model: ModelRef, options: Options) -> Session:
    urls, command = _given(options)
    _refuse_unavailable()
    if command:
        from backends.server.managed import ManagedSession, start

        server = start(command, model, options)
        try:
            session = _open_at(server.url, model, options)
            return ManagedSession(session, server, model, options)
        except BaseException:
            server.close()
            raise
    first = _open_at(urls[0], model, options)
    if not urls[1:]:
        return first
    from backends.server.replicas import ReplicatedSession

    return ReplicatedSession(
        urls, [first, *(_open_at(url, model, options, first.loop) for url in urls[1:])]
    )


def _given(options: Options) -> tuple[list[str], list[str]]:
    """The urls, or the command, one of which is given."""
    urls, command = URL.given(options) or [], COMMAND.given(options) or []
    if bool(urls) == bool(command):
        what = "both url and command are" if urls else "no url of a server is"
        raise BackendError(
            f"{what} given",
            "Use --backend server:http://127.0.0.1:8080, or url = ... in the config; or, to have "
            "one started, --backend server:vllm, server:llama-cpp, or command = [...].",
        )
    return urls, command


def _open_at(
    url: str, model: ModelRef, options: Options, loop: asyncio.AbstractEventLoop | None = None
) -> ServerSession:
    """`loop` is the event loop of another session that goes on beside this one."""
    say("looking which server it is")
    tokenizer, found = _opened(model, options, url)
    from backends.server.client import ReplyError
    from backends.server.probe import probe
    from backends.server.session import MOST_NONCE_TOKENS, ServerSession, Wire

    flavour, wanted = found.flavour, CONCURRENCY.of(options)
    if flavour.MOST_AT_ONCE is not None and wanted > flavour.MOST_AT_ONCE:
        tokenizer.close()
        raise BackendError(
            f"{flavour.TITLE} answers one request at a time, and {wanted} are wanted at once",
            f"Use --concurrency {flavour.MOST_AT_ONCE}.",
        )
    cold = COLD.of(options)
    has_nonces = cold and not flavour.CAN_START_COLD
    before = MOST_NONCE_TOKENS if has_nonces else 0
    longest = int(options["max_model_len"]) + before
    allocated = min(longest, found.context or longest)
    loop = loop or asyncio.new_event_loop()

    async def wired() -> Wire:
        # aiohttp's sessions are made within the loop that they are used in.
        client = _client(options, url)
        labels = flavour.LABEL_LOGPROBS
        return Wire(client, found, tokenizer, longest, wanted, label_logprobs=labels)

    wire = loop.run_until_complete(wired())
    say("a few requests that find out what it does to prompts")
    try:
        probed = loop.run_until_complete(probe(wire, allocated))
    except BaseException as error:
        loop.run_until_complete(wire.client.close())
        loop.close()
        tokenizer.close()
        if isinstance(error, ReplyError):
            raise BackendError(
                f"{wire.client.host} gave no answer to a first request: {error}",
                "See the server's own log.",
            ) from error
        raise
    # Not before: the probe looks at what the server has in its cache, too.
    wire.cold = cold
    info = SessionInfo(
        engine=flavour.TITLE,
        engine_version=f"{flavour.TITLE} ({found.facts.version})",
        model=model.name,
        weights=f"served as {found.model}",
        device="not reported",
        threads=0,
        allocated_context=min(allocated, probed.context or allocated) - before,
        shared_block_tokens=found.facts.block_tokens,
        capabilities=Capabilities(
            prompts="token_ids" if flavour.TAKES_IDS else "text",
            label_logprobs=wire.label_logprobs,
            can_forget=flavour.HAS_SALT,
            clock="client",
            location="remote",
            can_ignore_end=flavour.CAN_IGNORE_END,
        ),
        findings=(
            *probed.findings,
            *([Finding("prompts_not_equal", seen=before)] if has_nonces else []),
        ),
        **asdict(tokenizer.info),
    )
    return ServerSession(loop, wire, info, probed.window)


def _refuse_unavailable() -> None:
    available = check()
    if not available.available:
        raise BackendError(available.reason, available.remedy)


def _opened(model: ModelRef, options: Options, url: str) -> tuple[LocalTokenizer, Found]:
    """The tokenizer, and the server that it was proven against."""
    _refuse_unavailable()
    from backends.server.client import Apart
    from backends.server.found import find
    from backends.server.tokenizer import open_tokenizer as opened

    apart = Apart(lambda: _client(options, url))
    flavour, served = FLAVOUR.given(options) or "", SERVED_MODEL.given(options) or ""
    try:
        found = apart.run(find(apart.client, flavour, served, model))
        return opened(apart, found, model), found
    except BaseException:
        apart.close()
        raise


def _client(options: Options, url: str) -> Client:
    from backends.server.client import Client, key_of

    key = key_of(API_KEY_VARIABLE.given(options) or "")
    return Client(_root(url), key, REQUEST_TIMEOUT_SECONDS.of(options), CONCURRENCY.of(options))


def _root(url: str) -> str:
    """Without the `/v1` that the APIs of OpenAI have in their url."""
    root = url.rstrip("/").removesuffix("/v1")
    try:
        _ = urlsplit(root).port
    except ValueError as error:
        raise BackendError(f"url: {error}", "Use a port from 1 to 65535.") from error
    return root
