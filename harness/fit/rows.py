"""What `harness fit` answers: a row for each combination."""

from __future__ import annotations

from typing import Literal, TypeAlias

from harness.fit.memory import Measured, Memory
from harness.fit.shares import Shares
from harness.record import Record

HelpKind: TypeAlias = Literal["shots", "encoding", "reducer", "max_model_len"]


class Help(Record):
    """A change of one flag with which what does not fit would fit, or with which more would.

    With it `examples` fit, and the longest prompt and reply take `tokens`. `is_exact`: counted, not
    computed from the tokens of a number.
    """

    flag: HelpKind
    value: str
    examples: int
    tokens: int
    is_exact: bool


class FitRow(Record):
    """One model, dataset, template, way of writing and length.

    Numbers of tokens are those of prompt and reply together, of the voter that needs most.
    `reducer`, `encoding` and `feature_fraction` are `None` for texts. `is_beyond_model`: the length
    is more than the `declared_context` that the model was made for.

    `examples_wanted` are --shots, or all that a voter may show; `fits` says whether every voter
    shows them all, and a query behind them. `examples_that_fit` are the most with which the prompts
    of every voter fit; `examples_per_voter` is what each shows, which may be less where it has no
    more. `tokens_needed` is for all that are wanted, `tokens_over` how many of these are too many.
    `fill_ratio` is `prompt_tokens` and the reply's `reserve` over the length, as in a run.

    `kv_bytes_per_token` and `memory` are predicted, and `None` where the backend cannot know.
    `measured` is there with --load, for a length that the model was made for.
    """

    entry: str
    backend: str
    model: str
    data: str
    prompt: str
    reducer: str | None
    feature_fraction: float | None
    encoding: str | None
    max_model_len: int
    declared_context: int
    is_beyond_model: bool
    fits: bool
    examples_wanted: int
    examples_that_fit: int
    examples_per_voter: list[int]
    examples_left_over: int
    tokens_needed: int
    tokens_over: int
    prompt_tokens: int
    reserve: int
    fill_ratio: float
    tokens_per_example: float
    shares: Shares
    helps: list[Help]
    kv_bytes_per_token: int | None
    memory: Memory | None
    measured: Measured | None
