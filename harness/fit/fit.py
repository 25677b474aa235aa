"""What fits into each context: the order of `harness fit`, carried out.

Nothing is loaded but tokenizers, each in a worker of its own. Data are read once, and what is
fitted to them is fitted once, whatever it is combined with.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, product
from pathlib import Path

from harness.contract import MemoryPlan
from harness.engine.engine import EnginePlan, EngineTokenizer, plan_engine
from harness.engine.options import check_options
from harness.errors import EngineError, UsageError
from harness.fit.helps import SHORTER, helps
from harness.fit.load import load
from harness.fit.memory import Free, Measured, Memory, free_now, memory_at
from harness.fit.probe import Prediction, Probe, probe
from harness.fit.rows import FitRow
from harness.fit.scale import Scale
from harness.fit.shares import prompt_shares
from harness.spec import RunSpec, entries_of
from harness.workload.chat import ChatTemplate, open_chat, read_chat_template
from harness.workload.dataset import Dataset
from harness.workload.prompt import Writer, make_writer
from harness.workload.tokens import Tokenizer
from harness.workload.voters import Voter, draw_in_encodings
from harness.workload.workload import read_data, template_of

SHORTEST = 512
"""The first of the lengths where none is given; each is twice the one before."""
_MOST_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Fit:
    """The rows, and of entries that have none, why. `probes` are there where they were wanted."""

    rows: Sequence[FitRow]
    probes: Sequence[Probe]
    failures: Mapping[str, EngineError]


@dataclass(frozen=True, slots=True)
class Order:
    """What is combined with what, each in order; `spec` has all else.

    Without `lengths`, each model gets those from `SHORTEST` to its own. With `load`, each model is
    loaded at each of its lengths, and its memory measured. With `probe`, it is looked how much each
    engine answers, up to the longest of the lengths.
    """

    spec: RunSpec
    data: Sequence[str]
    prompts: Sequence[str | None]
    reducers: Sequence[str]
    feature_fractions: Sequence[float]
    encodings: Sequence[str]
    lengths: Sequence[int]
    load: bool = False
    probe: bool = False


def fit(
    order: Order,
    logs: Path,
    given: Collection[str] = (),
    observe: Callable[[str], None] = lambda _: None,
) -> Fit:
    """Counts every combination. `given` as for `harness.workload.workload.draw`; `observe` hears
    what is being done. Raises `HarnessError`; `EngineError` where no model's tokenizer opens."""
    check_options(order.spec)
    chat = order.spec.chat_template
    given_chat = None if chat is None else read_chat_template(chat)
    failures: dict[str, EngineError] = {}
    rows: dict[tuple[int, ...], FitRow] = {}
    free = free_now(order.spec.memory_limit)  # before our tokenizers take some of it
    with ExitStack() as stack:
        entries = _open(order.spec, logs, given_chat, stack, failures)
        if not entries:
            raise _none_opens(failures)
        data = [
            read_data(order.spec.model_copy(update={"data": name}), given) for name in order.data
        ]
        drawings = (
            (place, key, drawn)
            for place, dataset in enumerate(data)
            for key, drawn in _drawings(order, dataset, observe)
        )
        first = next(drawings)  # while the tokenizers open, which takes about as long
        entries = [one for one in entries if one.is_open(failures)]
        if not entries:
            raise _none_opens(failures)
        _check_size(order, entries)
        for entry in entries:
            observe(f"reading the head of the files of {entry.name}")
            entry.read_memory(failures, free)
        entries = [one for one in entries if one.name not in failures]
        if not entries:
            raise _none_opens(failures)
        for place, key, drawn in chain([first], drawings):
            for number, entry in enumerate(entries):
                observe(f"counting the tokens of {entry.name}")
                for inner, row in _rows(order, entry, drawn):
                    rows[number, place, inner[0], *key, *inner[1:]] = row
    found = [rows[key] for key in sorted(rows)]
    if order.load:  # behind the tokenizers, so that nothing else has memory
        found = _loaded(found, {one.name: one.plan for one in entries}, failures, observe)
    probes = _probed(order, entries, failures, observe) if order.probe else []
    return Fit(found, probes, failures)


def _probed(
    order: Order,
    entries: Sequence[_Entry],
    failures: dict[str, EngineError],
    observe: Callable[[str], None],
) -> list[Probe]:
    found = []
    for entry in entries:
        longest = max(order.lengths, default=None)
        try:
            found.append(
                probe(entry.plan, entry.session.info, longest, Prediction.of(entry.plans), observe)
            )
        except EngineError as error:
            failures[entry.name] = error
    return found


def _loaded(
    rows: Sequence[FitRow],
    plans: Mapping[str, EnginePlan],
    failures: dict[str, EngineError],
    observe: Callable[[str], None],
) -> list[FitRow]:
    """The rows with what loading each model at each length took."""
    measured: dict[tuple[str, int], Measured] = {}
    for name, length in dict.fromkeys((row.entry, row.max_model_len) for row in rows):
        declared = next(row.declared_context for row in rows if row.entry == name)
        if length > declared or name in failures:
            continue
        observe(f"loading {name} for {length:,} tokens")
        try:
            measured[name, length] = load(plans[name], length).measured
        except EngineError as error:
            failures[name] = error
    return [
        row.model_copy(update={"measured": measured.get((row.entry, row.max_model_len))})
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The voters over one dataset and reducer, in each encoding."""

    dataset: Dataset
    spec: RunSpec
    voters: Mapping[str, Sequence[Voter]]


def _drawings(
    order: Order, dataset: Dataset, observe: Callable[[str], None]
) -> Iterator[tuple[tuple[int, int], _Drawn]]:
    is_text = dataset.kind == "text"
    reducers = order.reducers[:1] if is_text else order.reducers
    fractions = order.feature_fractions[:1] if is_text else order.feature_fractions
    encodings = [*order.encodings, *(one for one in SHORTER if one not in order.encodings)]
    encodings = encodings[:1] if is_text else encodings
    for (i, reducer), (j, fraction) in product(enumerate(reducers), enumerate(fractions)):
        observe(f"drawing the voters of {dataset.name}")
        spec = order.spec.model_copy(
            update={
                "reducer": reducer,
                "feature_fraction": fraction,
                "encoding": encodings[0],
            }
        )
        drawn = draw_in_encodings(dataset, spec, encodings)
        yield (i, j), _Drawn(dataset, spec, dict(zip(encodings, drawn, strict=True)))


@dataclass(slots=True)
class _Entry:
    """An entry of the spec whose tokenizer is open."""

    plan: EnginePlan
    session: EngineTokenizer
    given_chat: str | None
    chat_file: str
    lengths: Sequence[int] = ()
    declared: int = 0
    token_bytes: int | None = None
    plans: Sequence[MemoryPlan] | None = None
    memory: dict[int, Memory] = field(default_factory=dict)
    tokenizer: Tokenizer = field(init=False)

    @property
    def name(self) -> str:
        return self.plan.entry.name

    def is_open(self, failures: dict[str, EngineError]) -> bool:
        """Waits for it."""
        try:
            info = self.session.info
        except EngineError as error:
            failures[self.name] = error
            return False
        self.declared = info.declared_context
        self.tokenizer = Tokenizer(
            vocabulary=info.vocabulary_sha256,
            bos_id=info.bos_id,
            encode=self.session.tokenize,
            spell=self.session.token_texts,
        )
        return True

    def read_memory(self, failures: dict[str, EngineError], free: Free) -> None:
        """Predicts the memory at each length, where the backend can."""
        try:
            found = memory_at(self.session.predict_memory, self.lengths, free)
            self.plans = self.session.predict_memory([self.declared, 2 * self.declared])
        except EngineError as error:
            failures[self.name] = error
            return
        if found is not None:
            self.token_bytes, every = found
            self.memory = dict(zip(self.lengths, every, strict=True))

    @property
    def chat(self) -> ChatTemplate | None:
        info = self.session.info
        text = info.chat_template if self.given_chat is None else self.given_chat
        return ChatTemplate.of_model(
            text, info.bos_text, info.eos_text, self.plan.entry.model, self.chat_file
        )


def _open(
    spec: RunSpec,
    logs: Path,
    given_chat: str | None,
    stack: ExitStack,
    failures: dict[str, EngineError],
) -> list[_Entry]:
    """Starts to open the tokenizer of each entry."""
    opened = []
    for entry in entries_of(spec):
        try:
            plan = plan_engine(entry, spec, logs)
            session = stack.enter_context(closing(plan.open_tokenizer()))
            opened.append(_Entry(plan, session, given_chat, spec.chat_template or ""))
        except EngineError as error:
            failures[entry.name] = error
    return opened


def _none_opens(failures: Mapping[str, EngineError]) -> EngineError:
    return EngineError(
        "; ".join(f"{name}: {error}" for name, error in failures.items()),
        remedy=" ".join(dict.fromkeys(error.remedy for error in failures.values())),
    )


def _check_size(order: Order, entries: Sequence[_Entry]) -> None:
    for entry in entries:
        entry.lengths = order.lengths or doubling(entry.declared)
    parts = (order.data, order.prompts, order.reducers, order.feature_fractions, order.encodings)
    count = sum(len(entry.lengths) for entry in entries)
    for part in parts:
        count *= len(part)
    if count > _MOST_ROWS:
        raise UsageError(
            f"these are {count:,} combinations, and at most {_MOST_ROWS:,} are shown",
            remedy="Give fewer values, or several commands.",
        )


def doubling(declared: int) -> list[int]:
    """The lengths from `SHORTEST` to the model's own."""
    lengths = []
    length = SHORTEST
    while length < declared:
        lengths.append(length)
        length *= 2
    return [*lengths, declared]


def _rows(
    order: Order, entry: _Entry, drawn: _Drawn
) -> Iterator[tuple[tuple[int, int, int], FitRow]]:
    """Behind the places of template, encoding and length."""
    kind, classes = drawn.dataset.kind, drawn.dataset.classes
    encodings = order.encodings if kind == "vectors" else list(drawn.voters)
    for i, prompt in enumerate(order.prompts):
        spec = drawn.spec.model_copy(update={"prompt": prompt})
        name, template = template_of(spec, kind)
        chat = entry.chat if template.kind == "chat" else None
        with open_chat(chat) if chat else nullcontext() as render:
            scale_of = _scales(entry, drawn, make_writer(name, template, classes, render, kind))
            for (j, encoding), (k, length) in product(
                enumerate(encodings), enumerate(entry.lengths)
            ):
                yield (i, j, k), _row(entry, name, drawn, encoding, length, scale_of)


def _scales(entry: _Entry, drawn: _Drawn, writer: Writer) -> Callable[[str], Scale]:
    """Of an encoding its scale, made once."""

    @cache
    def scale_of(encoding: str) -> Scale:
        return Scale(
            drawn.voters[encoding],
            writer,
            entry.tokenizer,
            max_tokens=drawn.spec.max_tokens,
            shots=drawn.spec.shots,
            seed=drawn.spec.seed,
        )

    return scale_of


def _row(
    entry: _Entry,
    prompt: str,
    drawn: _Drawn,
    encoding: str,
    length: int,
    scale_of: Callable[[str], Scale],
) -> FitRow:
    scale = scale_of(encoding)
    each = [scale.fit(voter, length) for voter in range(len(scale.voters))]
    shown = sum(one.examples for one in each)
    example_tokens = sum(one.example_tokens for one in each)
    fullest = max(each, key=lambda one: one.prompt_tokens)
    voter = scale.voters[each.index(fullest)]
    needed = max(one.all_tokens for one in each) + scale.reserve
    most = max(one.wanted for one in each)
    short = [one.examples for one in each if one.examples < one.wanted]
    is_text = drawn.dataset.kind == "text"
    row = FitRow(
        entry=entry.name,
        backend=entry.plan.entry.backend,
        model=entry.plan.entry.model,
        data=drawn.dataset.name,
        prompt=prompt,
        reducer=None if is_text else drawn.spec.reducer,
        feature_fraction=None if is_text else drawn.spec.feature_fraction,
        encoding=None if is_text else encoding,
        max_model_len=length,
        declared_context=entry.declared,
        is_beyond_model=length > entry.declared,
        fits=not short and needed <= length,  # without examples, a query may be too long
        examples_wanted=most,
        examples_that_fit=min(short, default=most),
        examples_per_voter=[one.examples for one in each],
        examples_left_over=max(one.wanted - one.examples for one in each),
        tokens_needed=needed,
        tokens_over=max(needed - length, 0),
        prompt_tokens=fullest.prompt_tokens,
        reserve=scale.reserve,
        fill_ratio=(fullest.prompt_tokens + scale.reserve) / length,
        tokens_per_example=example_tokens / shown if shown else scale.mean_tokens,
        shares=prompt_shares(
            scale.writer,
            scale.tokenize,
            voter.examples,
            voter.queries[0],
            fullest.prompt_tokens,
            fullest.example_tokens,
        ),
        helps=[],
        kv_bytes_per_token=entry.token_bytes,
        memory=entry.memory.get(length),
        measured=None,
    )
    return row if row.fits else row.model_copy(update={"helps": helps(row, each, scale, scale_of)})
