"""The options of engines: which there are, and what a run gives to each of its entries."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.contract import NO_FILES, Backend, Option, OptionValue, written
from harness.engine.registry import Registered, find_backend, registered_backends
from harness.errors import EngineError, UsageError
from harness.spec import CONCURRENCY, Entry, RunSpec, entries_of, loads_toml
from harness.validation import nearest

INTERPRETER = "python"  # the one key of an entry's table that is not an option of the engine


@dataclass(frozen=True, slots=True)
class KnownOption:
    """An option by name, as each backend that has it defines it; there is one at least."""

    name: str
    by_backend: Mapping[str, Option[Any]]

    @property
    def any(self) -> Option[Any]:
        """One of the definitions, for what is the same in all: the type, mostly."""
        return next(iter(self.by_backend.values()))

    @property
    def is_mixed(self) -> bool:
        """Whether backends disagree on its type."""
        return len({option.kind for option in self.by_backend.values()}) > 1


def known_options() -> list[KnownOption]:
    """The options of all backends that can be imported, in the order that backends define them."""
    found: dict[str, dict[str, Option[Any]]] = {}
    for registered in registered_backends():
        backend = _importable(registered)
        # `harness backends` names one that is not; it must not cost the others their flags.
        for option in backend.OPTIONS if backend else ():
            found.setdefault(option.name, {})[registered.name] = option
    return [KnownOption(name, by_backend) for name, by_backend in found.items()]


def check_options(spec: RunSpec) -> None:
    """Raises `UsageError` for an option that none of the run's backends has, for one that an
    entry's own backend does not have, for a value that is not allowed, and for the options of a
    backend that there is not. What is given to a backend that cannot be imported is not looked at:
    its entry fails, and the others run.
    """
    entries = entries_of(spec)
    named = dict.fromkeys([*spec.backends, *(entry.backend for entry in entries)])
    backends = {name: _importable(find_backend(name)) for name in named}
    for name, given in spec.backends.items():
        if backend := backends[name]:
            known = {option.name for option in backend.OPTIONS}
            _refuse_unknown(given.keys() - {INTERPRETER}, known, f"[backends.{name}]")
    _check_models(spec)
    used = {entry.backend: backends[entry.backend] for entry in entries}
    whole = {name: backend for name, backend in used.items() if backend}
    if len(whole) == len(used):
        of_all = {option.name for backend in whole.values() for option in backend.OPTIONS}
        _refuse_concurrency(spec, entries, whole)
        _refuse_unknown(spec.engine, of_all, ", ".join(whole))
    for entry in entries:
        if entry.backend in whole:
            options_of(entry, whole[entry.backend], spec)


def _refuse_concurrency(
    spec: RunSpec, entries: Sequence[Entry], backends: Mapping[str, Backend]
) -> None:
    """Raises `UsageError` that names the entries that cannot have several prompts in flight."""
    if CONCURRENCY not in spec.engine:
        return
    able = [
        entry.backend
        for entry in entries
        if any(option.name == CONCURRENCY for option in backends[entry.backend].OPTIONS)
    ]
    unable = [entry.name for entry in entries if entry.backend not in able]
    if unable:
        mixed = f", or give it to {', '.join(dict.fromkeys(able))} in a table of the config"
        raise UsageError(
            f"{', '.join(unable)}: no option {CONCURRENCY}, because prompts are answered one batch "
            "after the other",
            remedy=f"Leave --{CONCURRENCY} out{mixed if able else ''}.",
        )


def _importable(registered: Registered) -> Backend | None:
    try:
        return registered.load()
    except EngineError:
        return None


def _check_models(spec: RunSpec) -> None:
    """Raises `UsageError` for a model in a format that no backend reads: a slip of the pen."""
    read = {name for one in registered_backends() for name in _formats(one)} - {NO_FILES}
    for model, table in spec.models.items():
        _refuse_unknown(table, read, f"[models.{model}]")


def _formats(registered: Registered) -> Sequence[str]:
    backend = _importable(registered)
    return backend.FORMATS if backend else ()


def options_of(entry: Entry, backend: Backend, spec: RunSpec) -> Mapping[str, OptionValue]:
    """What an entry's backend is given: the common options that it has, the entry's own over them,
    and the context length. Raises `UsageError`."""
    own = {key: value for key, value in entry.options.items() if key != INTERPRETER}
    own = {**_of_argument(entry, backend), **own}
    known = {option.name for option in backend.OPTIONS}
    who = entry.name if entry.name == entry.backend else f"{entry.name} ({entry.backend})"
    common = {key: value for key, value in spec.engine.items() if key in known}
    given = {**common, **own}
    check_given(given, backend, who)
    return {**given, "max_model_len": spec.max_model_len}


def _of_argument(entry: Entry, backend: Backend) -> Mapping[str, OptionValue]:
    """What `NAME:ARGUMENT` stands for. Raises `UsageError` where the backend takes none."""
    if not entry.argument:
        return {}
    made = getattr(backend, "options_of", None)
    if made is None:
        raise UsageError(
            f"backend {entry.backend} takes nothing behind its name, and got {entry.argument!r}",
            remedy=f"Use --backend {entry.backend}.",
        )
    given: Mapping[str, OptionValue] = made(entry.argument)
    return given


def check_given(given: Mapping[str, OptionValue], backend: Backend, who: str) -> None:
    """Raises `UsageError`, which calls the backend `who`, for an option that it does not have, and
    for a value that is not allowed."""
    known = {option.name: option for option in backend.OPTIONS}
    _refuse_unknown(given, known, who)
    for name, value in given.items():
        if allowed := known[name].why_not(value):
            raise UsageError(f"{who}: {name} is {written(value)}", remedy=f"Use {allowed}.")


def _refuse_unknown(given: Collection[str], known: Collection[str], who: str) -> None:
    if unknown := sorted(set(given) - set(known)):
        near = [one for name in unknown if (one := nearest(name.replace("-", "_"), known))]
        there = f"It has: {', '.join(sorted(known))}." if known else "It has no options."
        raise UsageError(
            f"{who} has no option {', '.join(unknown)}",
            remedy=f"Did you mean {', '.join(near)}?" if near else there,
        )


def parse_options(texts: Iterable[str], where: str) -> dict[str, OptionValue]:
    """Options of texts such as `delay_ms=20`. Raises `UsageError`."""
    options: dict[str, OptionValue] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise UsageError(f"{where} {text!r} is no NAME=VALUE", remedy="For example: threads=4.")
        if key in options:
            raise UsageError(f"{where} {key} is given twice", remedy="Give it once.")
        options[key] = parse_value(value)
    return options


def parse_value(text: str) -> OptionValue:
    """A TOML boolean, number, quoted text or list of texts; anything else is text as it stands."""
    try:
        table = loads_toml(f"value = {text}")
    except ValueError:
        return text
    value = table.pop("value")
    # `table` has more only for a text with a line feed, in which a second line looks like a key.
    is_scalar = isinstance(value, bool | int | float | str)
    is_texts = isinstance(value, list) and all(isinstance(one, str) for one in value)
    return value if (is_scalar or is_texts) and not table else text
