"""A session over a fake server, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any, TypeAlias

import pytest

from backends.api import ModelRef
from backends.llama_cpp.tokenizer import LlamaTokenizer, open_vocabulary
from backends.server import backend
from backends.server.session import ServerSession
from harness.engine.models import resolve_model
from tests.fakes.server import Fake, Running, running

Opened: TypeAlias = tuple[ServerSession, Running]
Open: TypeAlias = Callable[..., Opened]

BYTES = ModelRef("bytes", "none", "")
"""No files are here: the fake's own tokenizer counts, whose tokens are bytes."""


@cache
def local_model() -> ModelRef:
    return resolve_model("smollm2-135m", ("gguf",), {})


@cache
def local_tokenizer() -> LlamaTokenizer:
    return open_vocabulary(local_model())


def tokenize(text: str) -> list[int]:
    """As the embedded model's tokenizer does: for servers that take text."""
    return local_tokenizer().tokenize([text])[0]


def model_for(fake: Fake) -> ModelRef:
    return BYTES if fake.flavour in ("vllm", "llama-server", "sglang") else local_model()


@pytest.fixture
def opened() -> Iterator[Open]:
    with ExitStack() as stack:

        def open_(fake: Fake, max_model_len: int = 600, **options: Any) -> Opened:
            server = stack.enter_context(running(fake))
            given = {"url": server.url, "max_model_len": max_model_len, **options}
            session = backend.open_session(model_for(fake), given)
            stack.callback(session.close)
            return session, server

        yield open_
