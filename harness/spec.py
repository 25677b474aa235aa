"""The run spec: what is prompted, on which engines. A TOML file and flags give one object.

Loading a spec touches neither network nor environment; the object is saved with every run.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Number
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from harness.errors import UsageError
from harness.flag import Flag
from harness.presets import preset_names, read_preset
from harness.validation import nearest, validated

EngineOption = bool | int | float | str | Annotated[list[str], Field(min_length=1)]

CONCURRENCY = "concurrency"
"""The option of engines that can have several prompts in flight at once. Given to a run, it is for
each of its entries: others beside them would look as if they had been measured so too."""

# All voters are held in memory with all that they may show. The votes of so many are known to
# 0.016 (the standard error of a share of 1,000): more would change no answer.
MOST_VOTERS = 1000
MOST_ATTEMPTS = 1000  # likewise, of a prompt

ENGINE = "Engine"
TRAINING = "What is trained"
_PROMPTED, _VOTERS, _REPLY = "What is prompted", "Voters and numbers", "Context and reply"


OF_DATA = frozenset({"data", "text_column", "label_column", "test_share"})
"""The fields of a spec that say where data are and how they are read: where their content is known,
it takes the place of these."""


class DataSpec(BaseModel):
    """Which test items are classified, and what may be learnt from: the same for engines and
    baselines. Immutable."""

    # The spec is stored as JSON, which has neither infinity nor NaN.
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    data: Annotated[
        str,
        Flag(
            "A known dataset, a table of labelled texts or vectors (.csv, .parquet, .jsonl), or an "
            ".npz file or a folder of labelled vectors.",
            _PROMPTED,
            metavar="DATA",
        ),
    ] = "digits"
    text_column: Annotated[
        str | None,
        Flag(
            "Column of a table that holds the texts.",
            _PROMPTED,
            metavar="COLUMN",
            default_text="the only column that is not numeric; without one, data are vectors",
        ),
    ] = None
    label_column: Annotated[
        str | None,
        Flag(
            "Column of a table that holds the labels.",
            _PROMPTED,
            metavar="COLUMN",
            default_text="label",
        ),
    ] = None
    test_share: Annotated[
        float | None,
        Flag(
            "Share of each class that is for testing, where a table has no column `split`. It is "
            "chosen by the content of the rows, not by --seed.",
            _PROMPTED,
            default_text="0.3",
        ),
    ] = Field(default=None, gt=0, lt=1)
    # scikit-learn takes no larger seed.
    seed: Annotated[int, Flag("Seed of all random choices.", _PROMPTED)] = Field(
        default=0, ge=0, lt=2**32
    )
    queries: Annotated[int, Flag("Most test examples that are classified.", _PROMPTED)] = Field(
        default=100, ge=1
    )

    @field_validator("*", mode="before")
    @classmethod
    def _plain_number(cls, value: Any) -> Any:
        # numpy's numbers are none to a strict check, and are what a notebook has.
        is_foreign = isinstance(value, Number) and hasattr(value, "item")
        return value.item() if is_foreign else value


_REDUCER = Flag(
    "Dimensionality reduction: none, top:K, pca:K, pls:K, plsda:K.", _VOTERS, metavar="REDUCER"
)
_ENCODING = Flag(
    "How numbers are written: int:BINS, int:BINS:quantile, decimal:PLACES.",
    _VOTERS,
    metavar="ENCODING",
)


class BaselineSpec(DataSpec):
    """Classifiers without a language model that are fitted alone, by the names of
    `harness.baselines.registry`. Each field with a `Flag` is a flag of `harness baseline`.

    The defaults of those that are `None` are the baseline's.
    """

    baseline: tuple[str, ...] = ()
    model: Annotated[
        str | None,
        Flag(
            "What is trained: a folder with a text encoder such as DistilBERT, for clip a CLIP "
            "model; or the name of one that is in the hub's cache.",
            TRAINING,
            metavar="MODEL",
            default_text="MiniLM where its package is installed, else a small fresh one",
            short="m",
        ),
    ] = None
    images: Annotated[
        str | None,
        Flag(
            "For clip: the folder of {train,test}/CLASS/* images that the vectors were made of.",
            TRAINING,
            metavar="FOLDER",
        ),
    ] = None
    epochs: Annotated[
        int | None,
        Flag(
            "Most passes over the training rows; for clip, 0 is zero-shot.",
            TRAINING,
            default_text="the baseline's own",
        ),
    ] = Field(default=None, ge=0, le=1000)
    reducer: Annotated[str | None, replace(_REDUCER, panel=TRAINING, default_text="pls:4")] = None
    encoding: Annotated[str | None, replace(_ENCODING, panel=TRAINING, default_text="int:100")] = (
        None
    )
    device: Annotated[
        str | None,
        Flag(
            "cpu, cuda, or one of several GPUs, such as cuda:1.",
            TRAINING,
            default_text="cuda where there is one",
        ),
    ] = None
    threads: Annotated[
        int | None,
        Flag(
            "CPU threads.",
            TRAINING,
            default_text="the CPUs this process may use",
            short="t",
        ),
    ] = Field(default=None, ge=1, le=512)


class RunSpec(DataSpec):
    """Everything that decides a run's prompts, replies and scoring. Immutable.

    Each field is a key of the TOML file, and each with a `Flag` is a flag of `harness run`, with
    `-` for `_`. `backends` holds a table of options for each backend by name (`python` among them:
    another interpreter), over the common ones in `engine`. `entries` names further entries, each a
    table with `backend`, `model` and options of its own. `models` gives a model several forms.
    `prompts_from` is the run whose prompts are used again.
    """

    backend: Annotated[
        tuple[str, ...],
        Flag("Backend to run; repeat it for several.", _PROMPTED, metavar="NAME"),
    ] = ("llama-cpp",)
    model: Annotated[
        tuple[str, ...],
        Flag(
            "A name that `harness models` lists, a GGUF file, a folder, a hub name, or a "
            "[models.NAME] table of the config; repeat it for several.",
            _PROMPTED,
            metavar="MODEL",
            short="m",
        ),
    ] = ("smollm2-135m",)
    preset: Annotated[
        str | None,
        Flag(
            f"Values for many of these flags under one name: {', '.join(preset_names())}. A flag, "
            "or a key of the TOML file, wins over its value.",
            _PROMPTED,
            metavar="NAME",
        ),
    ] = None
    prompt: Annotated[
        str | None,
        Flag(
            "Template of the prompts: compact, lico, chat or ece209 for vectors, text or text-chat "
            "for texts, or your own file.",
            _PROMPTED,
            metavar="TEMPLATE",
            default_text="compact, or text for texts",
        ),
    ] = None
    chat_template: Annotated[
        str | None,
        Flag(
            "Jinja file of a chat template that stands for the models' own; for a --prompt that is "
            "a chat.",
            _PROMPTED,
            metavar="FILE",
            default_text="the model's own",
        ),
    ] = None

    voters: Annotated[
        int,
        Flag(
            "Number of voters. Each sees a random subset of the training examples, and of the "
            "features of vectors.",
            _VOTERS,
        ),
    ] = Field(default=7, ge=1, le=MOST_VOTERS)
    calibration_queries: Annotated[
        int, Flag("Most training examples that each voter is calibrated on.", _VOTERS)
    ] = Field(default=20, ge=0)
    reducer: Annotated[str, _REDUCER] = "plsda:4"
    feature_fraction: Annotated[
        float, Flag("Share of the features that each voter sees: above 0, at most 1.", _VOTERS)
    ] = Field(default=0.5, gt=0, le=1)
    bootstrap: Annotated[
        bool,
        Flag(
            "Fit each voter's reducer on a bootstrap sample; its prompts show only other examples.",
            _VOTERS,
        ),
    ] = True
    encoding: Annotated[str, _ENCODING] = "int:100"

    decoding: Annotated[
        Literal["free", "choice", "score"],
        Flag(
            "free generates text and parses it, choice generates a label only, score compares the "
            "labels' log-probabilities.",
            _REPLY,
        ),
    ] = "free"
    max_model_len: Annotated[
        int,
        Flag("Most tokens that a prompt and its reply may have together.", _REPLY, unit="tokens"),
    ] = Field(default=1024, ge=16, lt=2**31)
    shots: Annotated[
        int | None,
        Flag(
            "Examples that each voter shows. More than fit is an error.",
            _REPLY,
            default_text="as many as fit",
        ),
    ] = Field(default=None, ge=0)
    max_tokens: Annotated[
        int | None,
        Flag(
            "Most tokens of a reply.",
            _REPLY,
            default_text="8 tokens, or what the longest label takes",
        ),
    ] = Field(default=None, ge=1)
    temperature: Annotated[
        float, Flag("Sampling temperature; 0 takes the most likely token.", _REPLY)
    ] = Field(default=0.0, ge=0)
    attempts: Annotated[int, Flag("Number of replies to each prompt.", _REPLY)] = Field(
        default=1, ge=1, le=MOST_ATTEMPTS
    )
    baselines: Annotated[
        bool,
        Flag("Fit classifiers without a language model, and test the votes against them.", _VOTERS),
    ] = True
    shuffled_labels: Annotated[
        bool,
        Flag(
            "Prompt each query again behind the same examples with their labels shuffled, and test "
            "the votes against that: a model that is as often right learns nothing from them.",
            _VOTERS,
        ),
    ] = False

    timeout_seconds: Annotated[
        float,
        Flag("Abort if the engine sends nothing for this long.", ENGINE, unit="seconds"),
    ] = Field(default=300.0, gt=0)
    # A conversion took 90 s and vLLM's compilation 140 s on two cores; this is four times both.
    load_timeout_seconds: Annotated[
        float,
        Flag("Give up an engine that is not ready after this long.", ENGINE, unit="seconds"),
    ] = Field(default=900.0, gt=0)
    force: Annotated[
        bool, Flag("Load a model that would take more memory than is free.", ENGINE)
    ] = False
    memory_limit: Annotated[
        ByteSize | None,
        Flag(
            "End an engine that takes more memory than that, such as 2GiB or 500M. Of a GPU's, "
            "nothing is counted.",
            ENGINE,
            metavar="SIZE",
            default_text="none",
        ),
    ] = None
    engine: dict[str, EngineOption] = {}
    backends: dict[str, dict[str, EngineOption]] = {}
    entries: dict[str, dict[str, EngineOption]] = {}
    models: dict[str, dict[str, str]] = {}

    prompts_from: Annotated[
        str | None,
        Flag(
            "Use the prompts of this earlier run again.",
            _PROMPTED,
            metavar="RUN",
            default_text="draw new ones",
        ),
    ] = None

    @field_validator("backend", "model", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        # A TOML file may have `backend = "mock"`, and earlier versions stored one model as a text.
        # A text is a sequence too, of its letters.
        if isinstance(value, str):
            return (value,)
        return tuple(value) if isinstance(value, list) else value

    @field_validator("backend", "model")
    @classmethod
    def _named_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if twice := [name for name, count in Counter(value).items() if count > 1]:
            raise ValueError(f"{twice[0]} is named twice")
        return value

    @field_validator("preset")
    @classmethod
    def _is_preset(cls, value: str | None) -> str | None:
        if value is not None and value not in preset_names():
            near = nearest(value, preset_names())
            raise ValueError(f"use {near or 'one of: ' + ', '.join(preset_names())}")
        return value

    @field_validator("model")
    @classmethod
    def _is_named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one model")
        return value

    @field_validator("memory_limit", mode="wrap")
    @classmethod
    def _is_size(cls, value: Any, read: ValidatorFunctionWrapHandler) -> Any:
        try:
            found = read(value)
        except ValidationError:
            found = 0
        if found == 0:
            raise ValueError("use a size, such as 2GiB or 500M")
        return found

    @model_validator(mode="before")
    @classmethod
    def _holds_no_password(cls, values: Any) -> Any:
        # Before anything else, whose errors would show the value.
        if isinstance(values, dict) and any(
            _has_password(values.get(name)) for name in ("backend", "engine", "backends", "entries")
        ):
            raise ValueError(
                "a url with a user or a password is refused: the run would store it. An API key "
                "comes from the environment variable that api_key_variable names"
            )
        return values

    @model_validator(mode="before")
    @classmethod
    def _preset_stands_below(cls, values: Any) -> Any:
        if isinstance(values, dict) and (name := values.get("preset")) in preset_names():
            return {**read_preset(name), **values}
        return values

    @model_validator(mode="before")
    @classmethod
    def _entries_stand_for_backends(cls, values: Any) -> Any:
        """With named entries and no backend beside them, the default backend is not meant."""
        if isinstance(values, dict) and values.get("entries") and "backend" not in values:
            return {**values, "backend": ()}
        return values

    @model_validator(mode="after")
    def _has_entries(self) -> Self:
        # For its errors: pydantic makes them one error of the spec, with its place.
        entries_of(self)
        return self


def _has_password(value: object) -> bool:
    """Whether a text in it is a url that names a user."""
    if isinstance(value, Mapping):
        return any(map(_has_password, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_password, value))
    return isinstance(value, str) and re.search(r"://[^/\s]*@", value) is not None


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a run: a backend with its model and options, under a name of its own.

    `options` are those given for this backend and for this entry; the common ones of the spec come
    below them. Replies, sessions, logs and `RUN:ENTRY` go by the name, which is safe for files.
    `series` is the name without the model: beside which other models it was run makes no other
    series of `harness history` of it. `argument` is what stands behind the backend's name and a
    colon, which the backend makes options of.
    """

    name: str
    backend: str
    model: str
    options: Mapping[str, EngineOption]
    series: str = field(default="", compare=False)
    argument: str = ""


def entries_of(spec: RunSpec) -> tuple[Entry, ...]:
    """The entries of a run, in order: its backends, then those that have a name in the config; each
    with every model of the spec, unless it has one of its own.

    An unnamed entry is called after its backend. `@MODEL` stands behind the name where it has
    several models, and behind an unnamed one where a named one is called so. Raises `ValueError`
    where there is none, where one names no backend, or where two names are one.
    """
    found: dict[str, Entry] = {}
    given_names = set(map(safe_name, spec.entries))
    behind = short_names(spec.model)

    def add(base: str, given: str, options: Mapping[str, EngineOption]) -> None:
        backend, argument = _with_argument(given)
        for model, short in zip(spec.model, behind, strict=True):
            name = f"{base}@{short}" if len(behind) > 1 else base
            _add(found, Entry(name, backend, model, options, base, argument))

    for given in spec.backend:
        backend, argument = _with_argument(given)
        # Of a url the host and what follows: two servers differ by that.
        base = f"{backend}-{argument.rpartition('://')[2]}" if argument else backend
        name, options = safe_name(base), spec.backends.get(backend, {})
        if name in given_names and len(spec.model) == 1:
            name = safe_name(f"{base}@{spec.model[0]}")
        add(name, given, options)
    for given, table in spec.entries.items():
        options = {key: value for key, value in table.items() if key not in ("backend", "model")}
        its_backend, its_model = table.get("backend"), table.get("model", spec.model[0])
        if not isinstance(its_backend, str) or not isinstance(its_model, str):
            raise ValueError(
                f"[entries.{given}] has to name its backend, and its model, as text; it has "
                f"{', '.join(table) or 'no key'}"
            )
        backend, argument = _with_argument(its_backend)
        own = {**spec.backends.get(backend, {}), **options}
        name = safe_name(given)
        if "model" in table:
            _add(found, Entry(name, backend, its_model, own, name, argument))
        else:
            add(name, its_backend, own)
    if not found:
        raise ValueError("name at least one backend")
    return tuple(found.values())


def concurrency_of(spec: RunSpec, entry: str) -> int | None:
    """How many prompts the entry may have in flight at once; `None` where that was not given."""
    given = _given(spec, entry).get(CONCURRENCY)
    return given if isinstance(given, int) else None


def is_cold(spec: RunSpec, entry: str) -> bool:
    """Whether no request of the entry was to use what was computed before it."""
    return _given(spec, entry).get("cold") is True


def _given(spec: RunSpec, entry: str) -> Mapping[str, EngineOption]:
    [own] = [one.options for one in entries_of(spec) if one.name == entry]
    return {**spec.engine, **own}


def _with_argument(given: str) -> tuple[str, str]:
    """`server:URL` is the backend `server` with an argument."""
    backend, _, argument = given.partition(":")
    return backend, argument


_LONGEST_MODEL = 40


def short_names(models: Sequence[str]) -> list[str]:
    """A short name for each model, safe for files: the last part of its path or hub name, more of
    it where two end alike, a number behind it where that does not tell them apart."""
    parts = [[part for part in re.split(r"[/\\]", model) if part] or [""] for model in models]
    shorts: list[str] = []
    for count in range(1, max(map(len, parts), default=0) + 1):
        shorts = [
            _shortened(safe_name("-".join(own[-count:]).removesuffix(".gguf"))) for own in parts
        ]
        if len(set(map(str.casefold, shorts))) == len(shorts):
            return shorts
    return [f"{short}-{number}" for number, short in enumerate(shorts, start=1)]


def _shortened(name: str) -> str:
    """Beginning and end: the quantisation stands at the end."""
    half = _LONGEST_MODEL // 2 - 1
    return name if len(name) <= _LONGEST_MODEL else f"{name[:half]}--{name[-half:]}"


_LONGEST_NAME = 100


def safe_name(name: str) -> str:
    """A name without what a file name or `RUN:ENTRY` could not hold."""
    return re.sub(r"[^\w.@+-]+", "-", name).strip("-.") or "entry"


def _add(found: dict[str, Entry], entry: Entry) -> None:
    if len(entry.name) > _LONGEST_NAME:
        raise ValueError(f"the name of an entry is longer than {_LONGEST_NAME}: {entry.name}")
    if entry.name.casefold() in map(str.casefold, found):  # they are names of files, too
        raise ValueError(f"two entries are called {entry.name}")
    found[entry.name] = entry


OF_MACHINE = ("force", "memory_limit")
"""The fields that say what a machine can bear: a run may be completed with others."""

_INHERITED = frozenset({"model", "models"})
# A new field that is not in this list counts as one that changes prompts: it splits the series of
# `harness history`, and `--prompts-from` refuses it.
_OF_ENGINES = _INHERITED | {
    "backend",
    "timeout_seconds",
    "load_timeout_seconds",
    *OF_MACHINE,
    "engine",
    "backends",
    "entries",
    "baselines",
    "preset",
    "prompts_from",
}
"""The fields that leave prompts and replies as they are."""


def prompt_fields(spec: RunSpec) -> dict[str, Any]:
    """The fields that decide prompts and replies, as JSON has them: all but those of engines."""
    return spec.model_dump(mode="json", exclude=set(_OF_ENGINES))


def named_flags(names: Sequence[str], spec: RunSpec) -> str:
    """The flags of these fields, as an error names them: a preset first that stands for some, for
    who gave it knows of none."""
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in names)
    preset = read_preset(spec.preset) if spec.preset is not None else {}
    of_preset = any(name in preset and getattr(spec, name) == preset[name] for name in names)
    return f"--preset {spec.preset} ({flags})" if of_preset else flags


def replay_spec(
    given: RunSpec, earlier: RunSpec, run_id: str, used: Mapping[str, object] = MappingProxyType({})
) -> RunSpec:
    """The spec that gives the engines of `given` the prompts of the earlier run.

    The model is the earlier run's too, unless given. `used` has what fields came to in the earlier
    run, where its spec leaves them open: to give that value changes nothing. Raises `UsageError`
    that names every field that was given and would change the prompts or the replies.
    """
    # pydantic's set of what was given. A default that was not given is no wish to change anything.
    named = given.model_fields_set
    changed = [
        name
        for name in RunSpec.model_fields
        if name in named - _OF_ENGINES
        and (value := getattr(given, name)) != (same := getattr(earlier, name))
        and value != used.get(name, same)
    ]
    if changed:
        raise UsageError(
            f"{named_flags(changed, given)}: beside --prompts-from, this would change the prompts "
            f"of run {run_id}",
            remedy="Give engines, their options and a model only.",
        )
    own = {name: getattr(given, name) for name in _OF_ENGINES - (_INHERITED - named)}
    return earlier.model_copy(update={**own, "prompts_from": run_id})


def merge_spec(
    file: Mapping[str, Any],
    flags: Mapping[str, object],
    where: str,
    more_keys: Collection[str] = (),
) -> RunSpec:
    """The spec of a file's table with the flags over it; tables are merged by key.

    `more_keys` may stand in the file, too. Raises `UsageError`.
    """
    if file.keys() & flags.keys():
        # A flag wins over its key, and must not hide that what stands there is wrong.
        validated(RunSpec, file, where, (), more_keys, strict=True)
    table = dict(file)
    for key, value in flags.items():
        if isinstance(value, dict) and isinstance(table.get(key), dict):
            table[key] = {**table[key], **value}
        else:
            table[key] = value
    return validated(RunSpec, table, where, flags, more_keys, strict=True)


def parse_spec(table: Mapping[str, object], where: str) -> RunSpec:
    """A validated spec of a mapping. Raises `UsageError` that names every key that is wrong."""
    return validated(RunSpec, table, where, strict=True)


def loads_toml(text: str) -> dict[str, Any]:
    """Raises `ValueError` for what is no TOML, and for what Python reads and cannot write again,
    not even in a message."""
    try:
        table = tomllib.loads(text)
        repr(table)
    except tomllib.TOMLDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError("it is nested too deeply, or a number has too many digits") from error
    return table


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises `UsageError` where it cannot be read."""
    try:
        # Editors on Windows write a byte-order mark, which TOML does not have.
        return loads_toml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", remedy="Check the path.") from error
    except ValueError as error:
        raise UsageError(
            f"{path} is no TOML file: {error}", remedy='A text needs quotes: model = "mine".'
        ) from error
