"""The child process: opens one backend and serves it over a dedicated socket.

    python -P backends/worker.py FD

`FD` is an inherited stream socket. Stdout and stderr are the engine's; no message travels there. On
the socket go messages, one a frame (`backends.wire` has the layout; what is called an array here
travels in its body). The harness sends requests one at a time. Each has a number under "request",
which all messages of its answer bear too, so that none is taken for the answer to another:

    {"do": "check", "backend": "module"}                       -> {"result": Availability}
    {"do": "open_tokenizer", "backend": "module", "model": ModelRef, "options": {..}}
                                                               -> {"result": TokenizerInfo}
    {"do": "open", "backend": "module", "model": ModelRef, "options": {..}}
            -> {"event": "stage", "stage": text} .., {"result": SessionInfo, "seconds": of loading}
    {"do": "predict_memory", "backend": "module", "model": ModelRef, "options": {..},
     "tokens": [number, ..]}                            -> {"result": [MemoryPlan, ..] or null}
    {"do": "allocated"}                                        -> {"result": Allocated or null}
    {"do": "tokenize", "texts": front-coded texts}
            -> {"result": null, "shared": array, "following": array, "ids": array}
    {"do": "token_texts", "ids": array}                        -> {"result": [text, ..]}
    {"do": "generate", "decoding": Decoding, "texts": front-coded texts or null,
     "shared": array, "following": array, "ids": array, "attempts": array}
            -> {"event": "started" | "progress" | "batch" | "finding", ..} ..,
               {"result": null} at the end
    {"do": "forget"}                                           -> {"result": null}
    {"do": "open_embedder", "backend": "module", "model": ModelRef, "options": EmbedderOptions}
                                                               -> {"result": EmbedderInfo}
    {"do": "embed", "files": [path, ..]}
            -> {"event": "embedded", "files": [Embedded without its vector, ..],
                "vectors": array} .., {"result": null} at the end
    {"do": "train", "backend": "module", "model": ModelRef or null, "order": TrainOrder without its
     labels, "labels": array}
            -> {"event": "step", fields of TrainStep} .., {"result": TrainInfo,
                "validation": array, "queries": array} at the end
    {"do": "close"}                                            -> {"result": null}, then the end

A worker holds one session, one tokenizer or one embedder; a trainer holds nothing. A session and a
tokenizer answer "tokenize" and "token_texts". A null result of "predict_memory" or "allocated": it
is not known. "backend" is `module` or `module:attribute`. Names with a capital are the records of
`backends.api` (the embedder's: of `backends.embedder.api`, the trainer's: of
`backends.trainer.api`), as JSON objects of their fields; events are in `backends.records`. The
words of "vectors", "validation" and "queries" are float32, those of one file or row behind those of
the one before.

`shared`, `following` and `ids` are lists of token ids, front-coded: list i begins with `shared[i]`
ids of the list before it, and the next `following[i]` of `ids` come behind. Front-coded texts are
[[characters shared with the text before, the rest], ..]. In "generate" the lists are the prompts'
ids and `attempts` has one number for each prompt. The texts of the prompts travel only to a session
that takes text, and are null for any other. A batch has its replies' ids in the same three arrays.

Any request may be answered by {"error": message, "remedy": text, "expected": bool} instead;
`expected` is false for a bug, whose traceback goes to stderr. End of file ends the worker.
Standard library only, so that any interpreter that has the engine can run it.
"""

from __future__ import annotations

import importlib
import importlib.util
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

if not __package__:
    # Run by its path: `backends` is the folder that this file is in, whatever lies first on the
    # path. An engine's processes that are started afresh run this, too.
    _spec = ModuleSpec("backends", None, is_package=True)
    _spec.submodule_search_locations = [str(Path(__file__).parent)]
    sys.modules["backends"] = importlib.util.module_from_spec(_spec)

from backends import records, stages, wire
from backends.api import (
    BackendError,
    Decoding,
    Event,
    ModelRef,
    Progress,
    Prompt,
    Session,
    Tokenizer,
)
from backends.embedder.api import Embedder, EmbedderOptions, encode_embedded
from backends.trainer.api import decode_order, encode_step, encode_trained
from backends.wire import Message

SECONDS_BETWEEN_SIGNS = 0.1


class Server:
    """Answers requests; holds the one open session, tokenizer or embedder."""

    def __init__(self, tell: Callable[[Message], None] = lambda _: None) -> None:
        self._tell = tell  # sends a message before the answer that is being made
        self._session: Session | None = None
        self._tokenizer: Session | Tokenizer | None = None  # the session, where one is open
        self._embedder: Embedder | None = None
        self._handlers: dict[str, Callable[[Message], Iterator[Message]]] = {
            "check": self._check,
            "open_tokenizer": self._open_tokenizer,
            "open": self._open,
            "predict_memory": self._predict_memory,
            "allocated": self._allocated,
            "tokenize": self._tokenize,
            "token_texts": self._token_texts,
            "generate": self._generate,
            "forget": self._forget,
            "open_embedder": self._open_embedder,
            "embed": self._embed,
            "train": self._train,
            "close": self._close,
        }

    def answer(self, request: Message) -> Iterator[Message]:
        """The messages that answer one request; errors become one of them."""
        try:
            yield from self._handlers[request["do"]](request)
        except BackendError as error:
            yield {"error": str(error), "remedy": error.remedy, "expected": True}
        except Exception as error:  # noqa: BLE001 - whatever an engine raises, the parent must hear of it
            yield unexpected(error)

    def _check(self, request: Message) -> Iterator[Message]:
        yield {"result": asdict(_load(request["backend"]).check())}

    def _open_tokenizer(self, request: Message) -> Iterator[Message]:
        model = ModelRef(**request["model"])
        self._tokenizer = _load(request["backend"]).open_tokenizer(model, request["options"])
        yield {"result": asdict(self._tokenizer.info)}

    def _open(self, request: Message) -> Iterator[Message]:
        model = ModelRef(**request["model"])
        began = time.perf_counter()
        with stages.heard_by(lambda stage: self._tell({"event": "stage", "stage": stage})):
            self._session = _load(request["backend"]).open_session(model, request["options"])
        seconds = time.perf_counter() - began
        self._tokenizer = self._session
        yield {"result": asdict(self._session.info), "seconds": seconds}

    def _predict_memory(self, request: Message) -> Iterator[Message]:
        predict = getattr(_load(request["backend"]), "predict_memory", None)
        model, options = ModelRef(**request["model"]), request["options"]
        plans = [predict(model, options, n) for n in request["tokens"]] if predict else [None]
        known = [asdict(plan) for plan in plans if plan is not None]
        yield {"result": known if len(known) == len(plans) else None}

    def _allocated(self, request: Message) -> Iterator[Message]:
        del request
        said = getattr(self._opened(), "allocated", None)
        yield {"result": said and asdict(said())}

    def _tokenize(self, request: Message) -> Iterator[Message]:
        texts = wire.front_decode_texts(request["texts"])
        yield {"result": None, **wire.front_code(self._opened_tokenizer().tokenize(texts))}

    def _token_texts(self, request: Message) -> Iterator[Message]:
        yield {"result": self._opened_tokenizer().token_texts(request["ids"].tolist())}

    def _generate(self, request: Message) -> Iterator[Message]:
        fields = request["decoding"]
        labels = tuple(tuple(label) for label in fields["labels"])
        decoding = Decoding(**{**fields, "labels": labels, "stop": tuple(fields["stop"])})
        token_ids = wire.front_decode(request)
        coded = request["texts"]
        texts = [""] * len(token_ids) if coded is None else wire.front_decode_texts(coded)
        prompts = list(map(Prompt, token_ids, texts, request["attempts"]))
        for event in _thinned(self._opened().generate(prompts, decoding)):
            yield records.encode_event(event)
        yield {"result": None}

    def _forget(self, request: Message) -> Iterator[Message]:
        del request
        self._opened().forget()
        yield {"result": None}

    def _open_embedder(self, request: Message) -> Iterator[Message]:
        model = ModelRef(**request["model"])
        fields = {**request["options"], "layers": tuple(request["options"]["layers"])}
        self._embedder = _load(request["backend"]).open_embedder(model, EmbedderOptions(**fields))
        yield {"result": asdict(self._embedder.info)}

    def _embed(self, request: Message) -> Iterator[Message]:
        if self._embedder is None:
            raise BackendError("no embedder is open")
        for batch in self._embedder.embed(request["files"]):
            yield encode_embedded(batch)
        yield {"result": None}

    def _train(self, request: Message) -> Iterator[Message]:
        model = ModelRef(**request["model"]) if request["model"] else None
        trainer = _load(request["backend"])
        yield encode_trained(
            trainer.train(model, decode_order(request), lambda step: self._tell(encode_step(step)))
        )

    def _close(self, request: Message) -> Iterator[Message]:
        del request
        if self._tokenizer is not None:
            self._tokenizer.close()
        yield {"result": None}

    def _opened(self) -> Session:
        if self._session is None:
            raise BackendError("no session is open")
        return self._session

    def _opened_tokenizer(self) -> Session | Tokenizer:
        if self._tokenizer is None:
            raise BackendError("neither a session nor a tokenizer is open")
        return self._tokenizer


def unexpected(error: Exception) -> Message:
    """The message of a bug; its traceback goes to stderr."""
    traceback.print_exception(error)
    return {"error": f"{type(error).__name__}: {error}", "remedy": "", "expected": False}


def _thinned(events: Iterator[Event]) -> Iterator[Event]:
    """Signs of life added up: one for each token would take time from what is measured."""
    tokens, sent = 0, 0.0
    for event in events:
        if isinstance(event, Progress):
            tokens += event.prompt_tokens
            if time.perf_counter() - sent < SECONDS_BETWEEN_SIGNS:
                continue
        # Tokens that were not reported yet go before the event that follows them, so none is
        # missing.
        if isinstance(event, Progress) or tokens:
            yield Progress(tokens)
            tokens, sent = 0, time.perf_counter()
        if not isinstance(event, Progress):
            yield event


def _load(target: str) -> Any:
    """The `Backend`, or embedder, that `module` or `module:attribute` names."""
    module, _, attribute = target.partition(":")
    loaded: Any = importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def main(descriptor: int) -> None:
    number: Message = {}
    with socket.socket(fileno=descriptor) as connection:
        server = Server(lambda message: wire.send(connection, {**message, **number}))
        while True:
            try:
                request = wire.receive(connection)
            except (EOFError, ConnectionResetError):
                return
            number = {"request": request.get("request")}
            try:
                try:
                    for message in server.answer(request):
                        wire.send(connection, {**message, **number})
                except wire.WireError as error:  # the engine's answer is none that can be sent
                    wire.send(connection, {**unexpected(error), **number})
            except (BrokenPipeError, ConnectionResetError):
                return  # the harness is gone, and with it all that is worth doing
            if request["do"] == "close":
                return


if __name__ == "__main__":
    main(int(sys.argv[1]))
