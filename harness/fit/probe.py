"""What an engine really answers: how many tokens, in how much memory, in how much time.

Each length is tried in a worker of its own, which may die of it: that is an answer. At first come
the quarters of the window that the model declares, or of the length that was given. What answers
all of it is tried with more. Then what lies between the longest length that was answered and the
shortest that was not is halved, until the two are 3 % apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from harness.contract import BEYOND_MODEL, MemoryPlan, TokenizerInfo
from harness.engine.engine import EnginePlan
from harness.engine.session import check_backend
from harness.engine.transport import MemoryLimitError
from harness.errors import EngineError
from harness.fit.load import Loaded, load
from harness.fit.memory import Measured, total_bytes
from harness.machine.free import free_bytes
from harness.machine.memory import size
from harness.record import Record
from harness.stats.growth import Growth, Interval, slope

QUARTERS = 4
BEYOND = 1.25
"""So many times the declared window is tried where no length is given: enough to see whether an
engine goes beyond it."""
PRECISION = 1 / 32
_LEAST_TOKENS = 64  # what does not answer so few answers nothing
_FIRST_QUARTER = (0.25, 0.5, 0.75)  # of it: further, short prompts, for the time
_EXTRAPOLATED = (32_768, 131_072)

Outcome: TypeAlias = Literal["answered", "memory", "failed"]


class Step(Record):
    """One length, `tokens` of prompt and reply, in a worker of its own.

    `outcome`: "answered"; "memory", where it took more than it may; or "failed", such as an engine
    that refuses the length or dies of it. `reason` says why it was not answered. `total_bytes` is
    what was predicted for it.
    """

    tokens: int
    outcome: Outcome
    reason: str
    measured: Measured | None
    total_bytes: int | None


class Timed(Record):
    """The prefill of one cold prompt."""

    tokens: int
    seconds: float


class Bounds(Record):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    @staticmethod
    def of(found: Interval) -> Bounds:
        return Bounds(value=found.value, low=found.low, high=found.high)


class Extrapolated(Record):
    """The seconds that the prefill of one prompt of so many tokens would take."""

    tokens: int
    seconds: Bounds


class Probe(Record):
    """What was found of one entry.

    `answered_tokens` of prompt and reply were answered, 0 if not even few were; `failed_tokens` is
    the shortest length that was not, `None` where all that were tried were. `allocated_context` is
    what the session had for the longest that was answered. `rope_scaling` is what the model's files
    state, empty where they state none. `memory_limit_bytes` is --memory-limit, or what was free.

    `bytes_per_token` is the slope of the peak over the lengths, `kv_bytes_per_token` what the cache
    was predicted to take of it (`None` of one of fixed size). The seconds of a prefill are
    `linear_seconds` n + `quadratic_seconds` n². All three are `None` with fewer than three lengths,
    or where what they are of is not known.
    """

    entry: str
    backend: str
    model: str
    engine: str | None
    device: str | None
    declared_context: int
    allocated_context: int | None
    answered_tokens: int
    failed_tokens: int | None
    rope_scaling: str
    memory_limit_bytes: int | None
    is_limit_given: bool
    kv_bytes_per_token: int | None
    bytes_per_token: Bounds | None
    linear_seconds: Bounds | None
    quadratic_seconds: Bounds | None
    steps: list[Step]
    prefills: list[Timed]
    extrapolated: list[Extrapolated]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a session of any length will take: what two lengths take lies on one line with it."""

    one: MemoryPlan
    longer: MemoryPlan

    @staticmethod
    def of(plans: Sequence[MemoryPlan] | None) -> Prediction | None:
        return Prediction(*plans) if plans else None

    @property
    def token_bytes(self) -> int | None:
        """`None` of a cache of fixed size: it takes no more for a longer prompt."""
        return None if self.one.cache_option else self.one.token_bytes

    def total_bytes(self, tokens: int) -> int:
        one, longer = total_bytes(self.one), total_bytes(self.longer)
        each = (longer - one) / (self.longer.tokens - self.one.tokens)
        return round(one + each * (tokens - self.one.tokens))


def probe(
    plan: EnginePlan,
    info: TokenizerInfo,
    longest: int | None,
    predicted: Prediction | None,
    observe: Callable[[str], None],
) -> Probe:
    """Up to `longest` tokens where it is given. Raises `EngineError` where the memory limit is less
    than the engine takes without a model."""
    declared = info.declared_context
    limit = plan.memory_limit or free_bytes(on_gpu=False)
    allowed = {BEYOND_MODEL.name: True} if plan.may_go_beyond else {}
    bold = replace(plan, memory_limit=limit, options={**plan.options, **allowed})
    trial = _Trial(bold, predicted, observe)
    window = min(declared, longest or declared)
    ceiling = longest or int(declared * BEYOND)
    answered, failed = search(trial.answers, window, ceiling)
    if not answered and any(one.outcome == "memory" for one in trial.steps):
        _check_interpreter(bold)
    trial.check_first()
    session = trial.longest[1].info if trial.longest else None
    growth, each = trial.growth, trial.slope
    return Probe(
        entry=plan.entry.name,
        backend=plan.entry.backend,
        model=plan.entry.model,
        engine=session and session.engine_version,
        device=session and session.device,
        declared_context=declared,
        allocated_context=session and session.allocated_context,
        answered_tokens=answered,
        failed_tokens=failed,
        rope_scaling=info.rope_scaling,
        memory_limit_bytes=limit,
        is_limit_given=plan.memory_limit is not None,
        kv_bytes_per_token=predicted and predicted.token_bytes,
        bytes_per_token=each and Bounds.of(each),
        linear_seconds=growth and Bounds.of(growth.linear),
        quadratic_seconds=growth and Bounds.of(growth.quadratic),
        steps=sorted(trial.steps, key=lambda one: one.tokens),
        prefills=sorted(trial.prefills, key=lambda one: one.tokens),
        extrapolated=[]
        if growth is None
        else list(_extrapolated(growth, trial.prefills, declared)),
    )


def _extrapolated(
    growth: Growth, prefills: Sequence[Timed], declared: int
) -> Iterator[Extrapolated]:
    """Of lengths beyond those that were measured."""
    longest = max(one.tokens for one in prefills)
    for length in sorted({declared, *_EXTRAPOLATED}):
        if length > longest + 1:  # a prompt is a token shorter than its context
            yield Extrapolated(tokens=length, seconds=Bounds.of(growth.seconds(length)))


def search(answers: Callable[[int], bool], window: int, ceiling: int) -> tuple[int, int | None]:
    """The longest length that is answered, 0 if not one is; and the shortest that is not."""
    answered, failed = 0, None
    for length in _first(window, ceiling):
        if not answers(length):
            failed = length
            break
        answered = length
    if failed is None:
        return answered, None
    if not answered and failed > _LEAST_TOKENS:
        if not answers(_LEAST_TOKENS):
            return 0, _LEAST_TOKENS
        answered = _LEAST_TOKENS
    while failed - answered > max(failed * PRECISION, 1):
        middle = (answered + failed) // 2
        if answers(middle):
            answered = middle
        else:
            failed = middle
    return answered, failed


def _first(window: int, ceiling: int) -> Iterator[int]:
    """The quarters of the window, and what is tried beyond it."""
    for part in range(1, QUARTERS + 1):
        yield max(window * part // QUARTERS, 1)
    length = window
    while length < ceiling:
        length = min(2 * length, ceiling)
        yield length


class _Trial:
    """Tries lengths, and remembers what came of them."""

    def __init__(
        self, plan: EnginePlan, predicted: Prediction | None, observe: Callable[[str], None]
    ) -> None:
        self.steps: list[Step] = []
        self.prefills: list[Timed] = []
        self.longest: tuple[int, Loaded] | None = None
        self._plan = plan
        self._predicted = predicted
        self._observe = observe

    @property
    def slope(self) -> Interval | None:
        """Bytes that a token more takes of the peak."""
        seen = [(one.tokens, _peak(one)) for one in self._answered() if _peak(one)]
        return slope([at for at, _ in seen], [peak for _, peak in seen])

    @property
    def growth(self) -> Growth | None:
        return Growth.of(
            [one.tokens for one in self.prefills], [one.seconds for one in self.prefills]
        )

    def answers(self, length: int) -> bool:
        shorter = [] if self.steps else [max(int(length * one), 2) for one in _FIRST_QUARTER]
        step, loaded = self._try(length, shorter)
        self.steps.append(step)
        if loaded is None:
            return False
        if self.longest is None or length > self.longest[0]:
            self.longest = length, loaded
        self.prefills += [
            Timed(tokens=n, seconds=took) for n, took in loaded.prefill_seconds.items()
        ]
        return True

    def check_first(self) -> None:
        """The first load of a model may do more than later ones, such as convert its file. Where it
        took more memory than a longer one, it is done again."""
        answered = self._answered()
        if len(answered) > 1 and _peak(answered[0]) > _peak(answered[1]):
            again, _ = self._try(answered[0].tokens, [])
            if again.outcome == "answered":
                self.steps[self.steps.index(answered[0])] = again

    def _answered(self) -> list[Step]:
        return [one for one in self.steps if one.outcome == "answered"]

    def _try(self, length: int, shorter: Sequence[int]) -> tuple[Step, Loaded | None]:
        growth = self.growth
        about = f", about {growth.seconds(length).value:.0f} s" if growth else ""
        self._observe(f"prompting {self._plan.entry.name} with {length:,} tokens{about}")
        loaded: Loaded | None = None
        outcome: Outcome = "answered"
        reason = ""
        try:
            loaded = load(self._plan, length, shorter)
        except MemoryLimitError as error:
            outcome, reason = "memory", str(error)
        except EngineError as error:
            outcome, reason = "failed", str(error)
        # A peak that was over before anybody looked is in the kernel's mark all the same.
        most, limit = (loaded and loaded.measured.peak_rss_bytes) or 0, self._plan.memory_limit
        if limit is not None and most > limit:
            loaded, outcome = None, "memory"
            reason = f"it took {size(most)} at its peak, more than the limit of {size(limit)}"
        step = Step(
            tokens=length,
            outcome=outcome,
            reason=reason,
            measured=loaded and loaded.measured,
            total_bytes=self._predicted and self._predicted.total_bytes(length),
        )
        return step, loaded


def _peak(step: Step) -> int:
    found = step.measured
    return (found and (found.peak_gpu_bytes or found.peak_rss_bytes)) or 0


def _check_interpreter(plan: EnginePlan) -> None:
    limit = plan.memory_limit
    try:
        check_backend(plan.target, plan.timeout_seconds, plan.log, plan.python, limit)
    except MemoryLimitError as error:
        raise EngineError(
            f"{plan.entry.name}: {size(limit or 0)} are less than the engine takes before it loads "
            f"a model: {error}",
            remedy="Raise --memory-limit.",
        ) from error
