"""Fakes of servers: the public shape of their APIs, no model behind it, and lies to order.

A fake's "model" is a hash of the tokens that it saw: every one of them counts, so an honest fake
answers every prompt in its own way, always in the same one. What it does to prompts behind the
client's back is `Lies`; what goes wrong with single replies is put into `troubles`, one for each.
It runs in a thread on a free port of the loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Flavour: TypeAlias = Literal[
    "openai", "llama-server", "llama_cpp.server", "vllm", "sglang", "ollama", "lm-studio"
]
Trouble: TypeAlias = Literal[
    "busy",
    "busy_for_long",
    "loading",
    "unauthorised",
    "no_model",
    "error",
    "page",
    "broken_json",
    "not_utf8",
    "half",
    "dies",
    "silent",
    "endless",
    "other_model",
    "redirect_away",
    "redirect_here",
    "error_in_stream",
]
MODEL = "fake-model"
VERSION = "0.fake"
WRITES = (" REAL", " FAKE")
PIECES = sorted({word[i:j] for word in WRITES for i in range(5) for j in range(i + 1, 6)})
"""Whatever tokens a vocabulary makes of these words, they are among its likeliest."""


@dataclass(frozen=True, slots=True)
class Lies:
    """What it does to prompts, and does not say.

    It sees the last `sees` tokens of a prompt only, or the first where it `cuts_tail`, and with
    `counts_whole` it reports the count of all. `bos` more of the BOS token go before each prompt;
    with -1 those that are there are dropped.
    `wraps`: a chat template goes round it. Its context is divided by `slots` where it answers
    several requests at a time: what is longer is refused, or with `cuts_share` cut. `takes`: it
    refuses longer prompts, whatever it declares. `cached` of the tokens are reported as cached.
    """

    sees: int | None = None
    cuts_tail: bool = False
    counts_whole: bool = False
    bos: int = 0
    wraps: bool = False
    slots: int = 1
    cuts_share: bool = False
    takes: int | None = None
    cached: int | None = None


def as_bytes(text: str) -> list[int]:
    return list(text.encode())


@dataclass
class Fake:
    """A server that is not started yet. `context` is what it declares; `adds_bos` is the id that it
    puts before texts, as llama.cpp does where a model wants one; `holds_seconds` is how long each
    reply takes at least; vLLM shares whole blocks of `block_tokens`. The first
    `busy_looks` at what it is find it busy. `asked` are the bodies of the requests for replies."""

    flavour: Flavour = "vllm"
    tokenize: Callable[[str], list[int]] = as_bytes
    lies: Lies = field(default_factory=Lies)
    context: int = 4096
    adds_bos: int | None = None
    logprobs: bool = True
    holds_seconds: float = 0.0
    key: str | None = None
    block_tokens: int = 1
    busy_looks: int = 0
    models: Sequence[str] = (MODEL,)
    tokens: int = 3
    most_active: int = 0
    troubles: deque[Trouble] = field(default_factory=deque)
    asked: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=1000))
    active: int = 0
    _seen: deque[tuple[str, list[int]]] = field(default_factory=lambda: deque(maxlen=64))

    def app(self) -> Starlette:
        posts = {
            "/v1/completions": self._openai,
            "/completion": self._llama_server,
            "/generate": self._sglang,
            "/api/generate": self._ollama,
        }
        paths = {
            "openai": ["/v1/completions"],
            "vllm": ["/v1/completions"],
            "lm-studio": ["/v1/completions"],
            "llama_cpp.server": ["/v1/completions"],
            "llama-server": ["/completion"],
            "sglang": ["/generate"],
            "ollama": ["/api/generate"],
        }[self.flavour]
        routes = [Route(path, self._guarded(posts[path]), methods=["POST"]) for path in paths]
        routes += [Route(p, self._said(v)) for p, v in self._about().items()]
        routes += [
            Route("/tokenize", self._tokenize, methods=["POST"]),
            Route("/detokenize", self._detokenize, methods=["POST"]),
            Route("/extras/tokenize", self._tokenize, methods=["POST"]),
            Route("/api/show", self._said(self._show()), methods=["POST"]),
        ]
        if self.flavour == "vllm":
            routes.append(Route("/metrics", self._metrics))
        return Starlette(routes=routes)

    def _about(self) -> dict[str, Any]:
        """What GET answers, by path."""
        owner = {"vllm": "vllm", "llama_cpp.server": "me"}.get(self.flavour, "somebody")
        more = {"max_model_len": self.context} if self.flavour == "vllm" else {}
        listed = {"data": [{"id": one, "owned_by": owner, **more} for one in self.models]}
        own: dict[str, dict[str, Any]] = {
            "openai": {"/v1/models": listed},
            "vllm": {"/v1/models": listed, "/version": {"version": VERSION}},
            "llama_cpp.server": {
                "/v1/models": listed,
                "/openapi.json": {"info": {"title": "llama.cpp Python API", "version": VERSION}},
            },
            "llama-server": {
                "/v1/models": listed,
                "/props": {
                    "default_generation_settings": {"n_ctx": self.context},
                    "build_info": VERSION,
                },
            },
            "sglang": {
                "/get_model_info": {"model_path": MODEL},
                "/get_server_info": {"version": VERSION, "context_length": self.context},
            },
            "ollama": {
                "/api/version": {"version": VERSION},
                "/api/tags": {"models": [{"name": one} for one in self.models]},
            },
            "lm-studio": {
                "/v1/models": listed,
                "/api/v0/models": {
                    "data": [{"id": one, "type": "llm", "state": "loaded"} for one in self.models]
                },
                f"/api/v0/models/{MODEL}": {"loaded_context_length": self.context},
            },
        }
        return own[self.flavour]

    def _show(self) -> dict[str, Any]:
        return {"model_info": {"fake.context_length": self.context}}

    def _said(self, value: object) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            if self.busy_looks:
                self.busy_looks -= 1
                return _error(503, "it is busy")
            return JSONResponse(value) if self._is_known(request) else _error(401, "who is it?")

        return answer

    async def _metrics(self, request: Request) -> Response:
        labels = f'hash_block_size="None",block_size="{self.block_tokens}",engine="0"'
        return Response(f"# TYPE a gauge\nvllm:cache_config_info{{{labels}}} 1.0\n")

    def _is_known(self, request: Request) -> bool:
        return self.key is None or request.headers.get("authorization") == f"Bearer {self.key}"

    async def _tokenize(self, request: Request) -> Response:
        if self.flavour in ("openai", "ollama", "lm-studio"):
            return _error(404, "not found")
        body = await request.json()
        text = next(body[key] for key in ("content", "prompt", "input") if key in body)
        first = [self.adds_bos] if self.adds_bos is not None and self._wants_bos(body) else []
        return JSONResponse({"tokens": [*first, *self.tokenize(text)]})

    def _wants_bos(self, body: Mapping[str, Any]) -> bool:
        return bool(body.get("add_special") or body.get("add_special_tokens") or "input" in body)

    async def _detokenize(self, request: Request) -> Response:
        text = bytes((await request.json())["tokens"]).decode(errors="replace")
        return JSONResponse({"content": text, "prompt": text, "text": text})

    def _guarded(
        self, answer: Callable[[Request, dict[str, Any]], Any]
    ) -> Callable[[Request], Any]:
        """With the troubles that are due."""

        async def guarded(request: Request) -> Response:
            if not self._is_known(request):
                # As some servers do, it repeats what it was given.
                return _error(401, f"no such key: {request.headers.get('authorization')}")
            body = await request.json()
            self.asked.append(body)
            trouble = self.troubles.popleft() if self.troubles else None
            if trouble in _RESPONSES:
                return _RESPONSES[trouble](request)
            self.active += 1
            self.most_active = max(self.most_active, self.active)
            try:
                if self.holds_seconds or self.lies.slots > 1:
                    await asyncio.sleep(max(self.holds_seconds, 0.1 * (self.lies.slots > 1)))
                response: Response = answer(request, body)
                if isinstance(response, StreamingResponse) and trouble:
                    response.body_iterator = _troubled(response.body_iterator, trouble)
                return response
            finally:
                self.active -= 1

        return guarded

    # What it makes of a prompt

    def _saw(self, body: Mapping[str, Any], prompt: str | list[int]) -> tuple[list[int], int]:
        """The tokens that it sees, and how many it says that it saw. Raises `ValueError` for more
        than it takes."""
        lies = self.lies
        if isinstance(prompt, str):
            first = [self.adds_bos] if self.adds_bos is not None else []
            tokens = [*first, *self.tokenize(prompt)]
        else:
            tokens = list(prompt)
        while lies.bos < 0 and tokens[:1] == [self.adds_bos]:
            tokens = tokens[1:]
        tokens = [self.adds_bos or 1] * lies.bos + tokens
        if lies.wraps:
            tokens = [*self.tokenize("<|user|>\n"), *tokens, *self.tokenize("\n<|assistant|>\n")]
        room = lies.takes or self.context
        if self.active > 1:
            room //= lies.slots
        whole = len(tokens)
        if whole >= room and not lies.cuts_share:
            raise ValueError(f"{whole} tokens are more than {room}")
        keeps = min(lies.sees or whole, room - 1)
        if keeps < whole:
            tokens = tokens[:keeps] if lies.cuts_tail else tokens[-keeps:]
        del body
        return tokens, whole if lies.counts_whole else len(tokens)

    def _cached(self, tokens: list[int], salt: str) -> int:
        if self.lies.cached is not None:
            return min(self.lies.cached, len(tokens))
        shared = [_common(tokens, one) for of, one in self._seen if of == salt]
        self._seen.append((salt, tokens))
        most = min(max(shared, default=0), len(tokens) - 1)
        return most // self.block_tokens * self.block_tokens

    def _reply(self, tokens: list[int], most: int) -> list[str]:
        """A label and what comes behind it, a piece for each token."""
        word = WRITES[_number(tokens, "word") % len(WRITES)]
        behind = [f" {_number(tokens, place) % 10**6}" for place in range(1, self.tokens)]
        return [word, *behind][:most]

    # The APIs

    def _openai(self, request: Request, body: dict[str, Any]) -> Response:
        del request
        is_vllm = self.flavour == "vllm"
        if not is_vllm and not isinstance(body["prompt"], str):
            return _error(500, "a list is no text")
        if body["model"] not in self.models:
            return _error(404, f"there is no model {body['model']}")
        try:
            tokens, count = self._saw(body, body["prompt"])
        except ValueError as error:
            return _error(400, str(error))
        usage: dict[str, Any] = {"prompt_tokens": count}
        pieces = self._reply(tokens, body["max_tokens"])
        usage["completion_tokens"] = len(pieces)
        if is_vllm or self.lies.cached is not None:
            cached = self._cached(tokens, str(body.get("cache_salt")))
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        wants = self.logprobs and body.get("logprobs")
        first = self._openai_logprobs(tokens, body) if wants else None
        ended = "stop" if len(pieces) < body["max_tokens"] else "length"
        events: list[dict[str, Any]] = []
        for place, piece in enumerate(pieces):
            choice: dict[str, Any] = {"text": piece, "logprobs": None if place else first}
            if is_vllm:
                choice["token_ids"] = [65 + place]
            events.append({"choices": [choice]})
        events.append({"choices": [{"text": "", "finish_reason": ended}]})
        named: dict[str, Any] = {"model": body["model"]}
        if not body.get("stream"):
            text = "".join(pieces)
            choice = {"text": text, "finish_reason": ended, "logprobs": first}
            return JSONResponse({**named, "choices": [choice], "usage": usage})
        if self.flavour != "llama_cpp.server":
            events.append({"choices": [], "usage": usage})
        return _sse([{**named, **one} for one in events])

    def _openai_logprobs(self, tokens: list[int], body: Mapping[str, Any]) -> dict[str, Any]:
        if self.flavour == "vllm":
            wanted = body.get("logprob_token_ids") or []
            tops = {f"token_id:{one}": _logprob(tokens, one) for one in wanted}
        else:
            ranked = sorted(PIECES, key=lambda text: -_logprob(tokens, text))
            tops = {text: _logprob(tokens, text) for text in ranked[: int(body["logprobs"])]}
        return {"top_logprobs": [tops]}

    def _llama_server(self, request: Request, body: dict[str, Any]) -> Response:
        del request
        try:
            tokens, count = self._saw(body, body["prompt"])
        except ValueError as error:
            return _error(400, str(error))
        pieces = self._reply(tokens, body["n_predict"])
        events: list[dict[str, Any]] = []
        for place, piece in enumerate(pieces):
            event: dict[str, Any] = {"content": piece, "tokens": [65 + place], "stop": False}
            if not place and body.get("n_probs"):
                ranked = sorted(range(256), key=lambda token: -_logprob(tokens, token))
                tops = [
                    {"id": token, "logprob": _logprob(tokens, token)}
                    for token in ranked[: body["n_probs"]]
                ]
                event["completion_probabilities"] = [{"top_logprobs": tops}]
            events.append(event)
        cached = self._cached(tokens, "")
        events.append(
            {
                "content": "",
                "tokens": [],
                "stop": True,
                "stop_type": "eos" if len(pieces) < body["n_predict"] else "limit",
                "tokens_evaluated": count,
                "tokens_predicted": len(pieces),
                "timings": {"cache_n": cached, "prompt_ms": 0.01, "predicted_ms": 0.01},
            }
        )
        return _sse(events)

    def _sglang(self, request: Request, body: dict[str, Any]) -> Response:
        del request
        sampling = body["sampling_params"]
        try:
            tokens, count = self._saw(body, body["input_ids"])
        except ValueError as error:
            return _error(400, str(error))
        pieces = self._reply(tokens, sampling["max_new_tokens"])
        wanted = body.get("token_ids_logprob") or []
        known = [[[_logprob(tokens, one), one, None] for one in wanted]]
        meta: dict[str, Any] = {
            "prompt_tokens": count,
            "cached_tokens": self._cached(tokens, ""),
            "output_token_ids_logprobs": known if wanted else [],
            "finish_reason": None,
        }
        events: list[dict[str, Any]] = [
            {
                "text": "".join(pieces[: n + 1]),
                "output_ids": [65 + place for place in range(n + 1)],
                "meta_info": {**meta, "completion_tokens": n + 1},
            }
            for n in range(len(pieces))
        ]
        kind = "stop" if len(pieces) < sampling["max_new_tokens"] else "length"
        events[-1]["meta_info"]["finish_reason"] = {"type": kind}
        return _sse(events)

    def _ollama(self, request: Request, body: dict[str, Any]) -> Response:
        del request
        options = body["options"]
        try:
            tokens, count = self._saw(body, body["prompt"])
        except ValueError as error:
            return _error(400, str(error))
        pieces = self._reply(tokens, options["num_predict"])
        events: list[dict[str, Any]] = [
            {"model": body["model"], "response": piece, "done": False} for piece in pieces
        ]
        if body.get("logprobs") and self.logprobs:
            tops = [{"token": text, "logprob": _logprob(tokens, text)} for text in PIECES]
            events[0]["logprobs"] = [{"top_logprobs": tops}]
        ended = {
            "model": body["model"],
            "response": "",
            "done": True,
            "done_reason": "stop" if len(pieces) < options["num_predict"] else "length",
            "prompt_eval_count": count,
            "eval_count": len(pieces),
            "prompt_eval_duration": 10_000,
            "eval_duration": 10_000,
        }
        lines = [json.dumps(one) + "\n" for one in (*events, ended)]
        return StreamingResponse(_each(lines), media_type="application/x-ndjson")


def _number(tokens: Sequence[int], what: object) -> int:
    digest = hashlib.sha256(f"{what}:{_digest(tuple(tokens))}".encode()).digest()
    return int.from_bytes(digest[:8])


@lru_cache(64)
def _digest(tokens: tuple[int, ...]) -> str:
    return hashlib.sha256(",".join(map(str, tokens)).encode()).hexdigest()


def _logprob(tokens: Sequence[int], what: object) -> float:
    return -9.0 * _number(tokens, what) / 2**64 - math.log(16)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


async def _each(chunks: Sequence[str]) -> AsyncIterator[str]:
    for chunk in chunks:
        yield chunk


def _sse(events: Sequence[Mapping[str, Any]]) -> Response:
    lines = [f"data: {json.dumps(one)}\n\n" for one in events]
    return StreamingResponse(_each([*lines, "data: [DONE]\n\n"]), media_type="text/event-stream")


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "code": status}}, status_code=status)


_HTML = "<html><body><h1>502 Bad Gateway</h1></body></html>"
_RESPONSES: dict[Any, Callable[[Request], Response]] = {
    "busy": lambda _: JSONResponse({}, status_code=429, headers={"Retry-After": "0"}),
    "busy_for_long": lambda _: JSONResponse({}, status_code=503, headers={"Retry-After": "9e9"}),
    "loading": lambda _: _error(503, "Loading model"),
    "unauthorised": lambda _: _error(401, "no"),
    "no_model": lambda _: _error(404, "no such model"),
    "error": lambda _: _error(500, "it went wrong"),
    "page": lambda _: Response(_HTML, media_type="text/html"),
    "broken_json": lambda _: Response('{"choices": [', media_type="application/json"),
    "not_utf8": lambda _: Response(b'{"a": "\xff\xfe"}', media_type="application/json"),
    "redirect_away": lambda _: Response(
        status_code=307, headers={"Location": "http://elsewhere.invalid/v1/completions"}
    ),
    "redirect_here": lambda request: Response(
        status_code=307, headers={"Location": request.url.path}
    ),
}


async def _troubled(pieces: Any, trouble: Trouble) -> AsyncIterator[Any]:
    """A stream that goes wrong in the middle."""
    first = True
    async for piece in pieces:
        text = piece if isinstance(piece, str) else piece.decode()
        if trouble == "other_model":
            yield text.replace(MODEL, "another-model")
        elif trouble == "endless":
            for _ in range(100):
                yield "data: " + "x" * 2**18
        elif not first and trouble == "half":
            return
        elif not first and trouble == "dies":
            raise ConnectionError
        elif not first and trouble == "silent":
            await asyncio.sleep(10)
        elif not first and trouble == "error_in_stream":
            yield 'data: {"error": {"message": "out of memory"}}\n\n'
            return
        else:
            yield text
        first = False


class Running:
    """A fake in a thread of its own, on a free port; it can be stopped and started again there.
    With `certificate`, files of one and of its key, it speaks TLS."""

    def __init__(self, fake: Fake, certificate: tuple[Path, Path] | None = None) -> None:
        self.fake = fake
        self.port = 0
        self._certificate = certificate
        self.start()
        scheme = "https" if certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"

    def start(self) -> None:
        # Bound here, and not by its number: another process could take the port meanwhile. asyncio
        # sends small pieces at once only over a socket that says that it is TCP; over another each
        # reply of two pieces waits 40 ms for the first to be acknowledged.
        listening = socket.socket(proto=socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        listening.listen()
        self.port = listening.getsockname()[1]
        file, key = self._certificate or (None, None)
        config = uvicorn.Config(
            self.fake.app(),
            log_level="critical",
            lifespan="off",
            ws="none",
            ssl_certfile=file,
            ssl_keyfile=key,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listening],), daemon=True)
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.005)

    def stop(self) -> None:
        self._server.force_exit = True  # what is being answered is broken off
        self._server.should_exit = True
        self._thread.join(10)


@contextlib.contextmanager
def running(fake: Fake, certificate: tuple[Path, Path] | None = None) -> Iterator[Running]:
    server = Running(fake, certificate)
    try:
        yield server
    finally:
        server.stop()
