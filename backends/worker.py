"""The child process: opens one backend and serves it over a dedicated connection.

    python -P -m backends.worker FD

`FD` is an inherited socket. Stdout and stderr are the engine's; no record travels there. On the
socket go JSON objects, one a frame (`backends.wire`). The harness sends requests one at a time:

    {"do": "check", "backend": "module"}                       -> {"result": Availability}
    {"do": "open", "backend": "module", "model": {..}, "options": {..}}
                                          -> {"result": SessionInfo, "seconds": time of loading}
    {"do": "tokenize", "texts": [..]}                          -> {"result": front-coded ids}
    {"do": "token_texts", "token_ids": [..]}                   -> {"result": [..]}
    {"do": "generate", "prompts": front-coded ids, "decoding": {..}}
            -> {"event": "started" | "progress" | "batch", ..} .., {"result": null} at the end
    {"do": "forget"}                                           -> {"result": null}
    {"do": "close"}                                            -> {"result": null}, then the end

Any request may be answered by {"error": message, "remedy": text, "expected": bool} instead;
`expected` is false for a bug, whose traceback goes to stderr. End of file ends the worker.
Standard library only, so that any interpreter that has the engine can run it.
"""

from __future__ import annotations

import importlib
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any, cast

from backends import wire
from backends.api import Backend, BackendError, Decoding, Event, ModelRef, Progress, Session
from backends.wire import Message

SECONDS_BETWEEN_SIGNS = 0.1


class Server:
    """Answers requests; holds the one open session."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._handlers: dict[str, Callable[[Message], Iterator[Message]]] = {
            "check": self._check,
            "open": self._open,
            "tokenize": self._tokenize,
            "token_texts": self._token_texts,
            "generate": self._generate,
            "forget": self._forget,
            "close": self._close,
        }

    def answer(self, request: Message) -> Iterator[Message]:
        """The messages that answer one request; errors become one of them."""
        try:
            yield from self._handlers[request["do"]](request)
        except BackendError as error:
            yield {"error": str(error), "remedy": error.remedy, "expected": True}
        except Exception as error:  # noqa: BLE001 - whatever an engine raises, the parent must hear of it
            traceback.print_exc()
            yield {"error": f"{type(error).__name__}: {error}", "remedy": "", "expected": False}

    def _check(self, request: Message) -> Iterator[Message]:
        yield {"result": asdict(_load(request["backend"]).check())}

    def _open(self, request: Message) -> Iterator[Message]:
        model = ModelRef(**request["model"])
        began = time.perf_counter()
        self._session = _load(request["backend"]).open_session(model, request["options"])
        seconds = time.perf_counter() - began
        yield {"result": asdict(self._session.info), "seconds": seconds}

    def _tokenize(self, request: Message) -> Iterator[Message]:
        yield {"result": wire.front_code(self._opened().tokenize(request["texts"]))}

    def _token_texts(self, request: Message) -> Iterator[Message]:
        yield {"result": self._opened().token_texts(request["token_ids"])}

    def _generate(self, request: Message) -> Iterator[Message]:
        fields = request["decoding"]
        labels = tuple(tuple(label) for label in fields["labels"])
        decoding = Decoding(**{**fields, "labels": labels, "stop": tuple(fields["stop"])})
        prompts = wire.front_decode(request["prompts"])
        for event in _thinned(self._opened().generate(prompts, decoding)):
            yield wire.encode_event(event)
        yield {"result": None}

    def _forget(self, request: Message) -> Iterator[Message]:
        del request
        self._opened().forget()
        yield {"result": None}

    def _close(self, request: Message) -> Iterator[Message]:
        del request
        if self._session is not None:
            self._session.close()
        yield {"result": None}

    def _opened(self) -> Session:
        if self._session is None:
            raise BackendError("no session is open")
        return self._session


def _thinned(events: Iterator[Event]) -> Iterator[Event]:
    """Signs of life added up: one for each token would take time from what is measured."""
    tokens, told = 0, 0.0
    for event in events:
        if isinstance(event, Progress):
            tokens += event.prompt_tokens
            if time.perf_counter() - told < SECONDS_BETWEEN_SIGNS:
                continue
        if isinstance(event, Progress) or tokens:
            yield Progress(tokens)
            tokens, told = 0, time.perf_counter()
        if not isinstance(event, Progress):
            yield event


def _load(target: str) -> Backend:
    """The backend an entry point's value names: `module` or `module:attribute`."""
    module, _, attribute = target.partition(":")
    loaded: Any = importlib.import_module(module)
    return cast(Backend, getattr(loaded, attribute) if attribute else loaded)


def main(descriptor: int) -> None:
    server = Server()
    connection: Connection[Any, Any] = Connection(descriptor)
    with connection:
        while True:
            try:
                request = wire.receive(connection)
            except (EOFError, ConnectionResetError):
                return
            try:
                for message in server.answer(request):
                    wire.send(connection, message)
            except BrokenPipeError:  # the harness is gone, and with it all that is worth doing
                return
            if request["do"] == "close":
                return


if __name__ == "__main__":
    main(int(sys.argv[1]))
