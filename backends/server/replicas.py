"""Which prompt goes to which of several servers that serve the same.

Prompts that share most of their tokens, as those of one voter do, form a family, and go to one
server: only there is their beginning in the cache. A server takes a family when it is done with the
one before, so that a faster one takes more of them. What a server that died leaves over, the others
take.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from backends.api import (
    BackendError,
    Decoding,
    Event,
    Prompt,
    SessionInfo,
    TokenIds,
)
from backends.sharing.prefix_tree import walk

if TYPE_CHECKING:
    from backends.server.session import ServerSession

_FAMILY = 0.5
"""Prompts of one voter differ in their last few tokens; those of two share the instructions."""


def families(prompts: Mapping[int, TokenIds]) -> list[list[int]]:
    """Every prompt once, in the order of their prefix tree."""
    found: list[list[int]] = []
    for leaf in walk(prompts):
        if found and leaf.shared >= _FAMILY * len(prompts[leaf.prompt]):
            found[-1].append(leaf.prompt)
        else:
            found.append([leaf.prompt])
    return found


class Shares:
    """Hands out the prompts of families, by their index, to servers, by theirs."""

    def __init__(self, every: Iterable[Iterable[int]]) -> None:
        self._waiting = deque(map(deque, every))
        self._taken: dict[int, deque[int]] = {}

    @property
    def are_left(self) -> bool:
        return bool(self._waiting) or any(self._taken.values())

    def take(self, server: int) -> int | None:
        """The next prompt for a server; `None` where there is none for it now."""
        if not self._taken.get(server) and self._waiting:
            self._taken[server] = self._waiting.popleft()
        family = self._taken.get(server)
        return family.popleft() if family else None

    def give_back(self, server: int, prompt: int) -> None:
        """One that the server could not be given comes first in its family again."""
        self._taken.setdefault(server, deque()).appendleft(prompt)

    def leave(self, server: int) -> None:
        """The server is gone: its family is the next that another one takes."""
        if family := self._taken.pop(server, None):
            self._waiting.appendleft(family)


class ReplicatedSession:
    """A session with several servers that serve the same."""

    def __init__(self, urls: Sequence[str], servers: Sequence[ServerSession]) -> None:
        self._servers = servers
        self.info = _of_all(urls, [server.info for server in servers])

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self._servers[0].tokenize(texts)

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        return self._servers[0].token_texts(token_ids)

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[Event]:
        from backends.server.session import answers_of

        yield from answers_of(self._servers, prompts, decoding, self.info.allocated_context)

    def forget(self) -> None:
        for server in self._servers:
            server.forget()

    def close(self) -> None:
        for server in self._servers[1:]:
            server.leave()
        self._servers[0].close()


def _of_all(urls: Sequence[str], infos: Sequence[SessionInfo]) -> SessionInfo:
    """What all of them can do. Raises `BackendError` where they do not serve the same."""
    first = infos[0]
    for url, other in zip(urls[1:], infos[1:], strict=True):
        if (other.engine_version, other.weights) != (first.engine_version, first.weights):
            raise BackendError(
                f"the servers are not alike: at {urls[0]} {first.engine_version}, {first.weights}; "
                f"at {url} {other.engine_version}, {other.weights}",
                "Give servers that differ an entry each.",
            )
    least = min(infos, key=lambda info: _LOGPROBS.index(info.capabilities.label_logprobs))
    findings = {found.kind: found for info in infos for found in info.findings}
    return replace(
        first,
        allocated_context=min(info.allocated_context for info in infos),
        capabilities=least.capabilities,
        findings=tuple(findings.values()),
    )


_LOGPROBS = ("none", "top_k", "exact")
