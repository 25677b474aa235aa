"""Which prompt goes to which of several servers that serve the same.

Prompts that share most of their tokens, as those of one voter do, form a family, and go to one
server: only there is their beginning in the cache. A server takes a family when it is done with the
one before, so that a faster one takes more of them. What a server that died leaves over, the others
take.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from backends.api import TokenIds
from backends.sharing.prefix_tree import walk

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
