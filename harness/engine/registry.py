"""Which backends there are: the entry points of the group `llm_harness.backends`, ours included."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, cast

from harness.contract import ENTRY_POINT_GROUP, Backend, Option, own_backends
from harness.errors import EngineError, UsageError, ended_in


@dataclass(frozen=True, slots=True)
class Registered:
    """A backend by name; `target` is `module` or `module:attribute`, for the worker to import."""

    name: str
    target: str

    def load(self) -> Backend:
        """The backend itself, for its formats and options; importing it loads no engine."""
        module, _, attribute = self.target.partition(":")
        try:
            with own_backends():
                loaded: Any = importlib.import_module(module)
            backend = cast(Backend, getattr(loaded, attribute) if attribute else loaded)
            # Read here: a module that has none is to fail with this error, not with a later one.
            options, formats = tuple(backend.OPTIONS), cast(Any, backend.FORMATS)
        # A module may end the interpreter, as a script does.
        except (Exception, SystemExit) as error:
            if (ended := ended_in(error)) is not None:
                raise ended from None
            raise EngineError(
                f"backend {self.name} cannot be imported: {error}",
                remedy="Install it again, or remove the package that registers it.",
            ) from error
        if not all(isinstance(option, Option) for option in options):
            raise EngineError(
                f"backend {self.name} was written for another version: its OPTIONS are not "
                "definitions (backends.api.Option)",
                remedy="Update the package that registers it, or remove it.",
            )
        is_several = isinstance(formats, tuple | list)
        if not is_several or not all(isinstance(one, str) for one in formats):
            raise EngineError(
                f"backend {self.name}: its FORMATS are not several texts, such as ('gguf',)",
                remedy="Update the package that registers it, or remove it.",
            )
        return backend


EMBEDDER = Registered("embedder", "backends.embedder.backend")
"""No backend, but installed and checked as one is. Its environment is the trainer's, too."""

TRAINER = Registered(EMBEDDER.name, "backends.trainer.backend")


def registered_backends() -> list[Registered]:
    """Every installed backend, in the order of names."""
    found = entry_points(group=ENTRY_POINT_GROUP)
    return sorted((Registered(p.name, p.value) for p in found), key=lambda one: one.name)


def find_backend(name: str) -> Registered:
    return _of_name(name, registered_backends())


def _of_name(name: str, several: Iterable[Registered]) -> Registered:
    every = {one.name: one for one in several}
    if name not in every:
        raise UsageError(
            f"there is no backend {name!r}",
            remedy=f"Use one of: {', '.join(every)}. `harness backends` shows which can run here.",
        )
    return every[name]


def find_installable(name: str) -> Registered:
    """The backend, or the embedder with the trainer. Raises `UsageError`."""
    return _of_name(name, [*registered_backends(), EMBEDDER])
