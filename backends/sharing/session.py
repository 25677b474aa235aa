"""Answering prompts with a KV cache that many sequences share, each token evaluated once.

A batch of prompts is answered together. The batch's part of the prefix tree is evaluated as one
run of tokens, in which a token that several prompts share belongs to the sequences of all of these;
then replies are decoded one token of every prompt at a time. Sequence 0 holds the last prompt
between batches and between calls: whatever the next batch shares with it is there already.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from backends.api import (
    Allocated,
    BackendError,
    Batch,
    Decoding,
    Event,
    Progress,
    Prompt,
    Reply,
    SessionInfo,
    Started,
    TokenIds,
)
from backends.rules import NOT_FINITE, refuse
from backends.sharing.generation import (
    Draft,
    Logits,
    Picker,
    are_finite,
    choose_label,
    log_softmax,
)
from backends.sharing.prefix_tree import Leaf, common_prefix_length, walk

BRANCH_SLOTS = 2048  # KV slots for the ends and replies of a batch, beside the longest prompt

_HELD = 0  # the sequence that holds the last prompt
_BRANCHES = 64  # prompts answered together, in sequences 1 to 64
_SPARE = range(65, 97)  # sequences for the labels of several tokens
SEQUENCES = _SPARE.stop
_LONG_END = 128  # a prompt that adds more tokens than this begins a new batch ...
_WARM_UP_TOKENS = 32
_SMALL_BATCH = 8  # ... unless that left a batch smaller than this


@dataclass(frozen=True, slots=True)
class Step:
    """One token to evaluate, for all `sequences` it belongs to."""

    token: int
    position: int
    sequences: tuple[int, ...]
    wants_logits: bool


class SharedCache(Protocol):
    """What an engine offers for it: a model with one KV cache for all of `SEQUENCES` sequences.

    `slots`: how many tokens the cache can hold. `vocabulary_size`: tokens from this one on have no
    embedding. `shares_prefixes`: whether a sequence can be cut and branched (recurrent models
    cannot). `short_length`: where it is not `None`, a sequence of more tokens is computed in
    another way from its first token on, and shares nothing with a shorter one. `allocated`: what
    the engine says that it has allocated. A sequence that is cut or dropped gives its tokens back,
    unless another one holds them too.
    """

    slots: int
    vocabulary_size: int
    shares_prefixes: bool
    short_length: int | None
    allocated: Allocated

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]: ...

    def token_texts(self, token_ids: TokenIds) -> list[str]: ...

    def detokenize(self, token_ids: TokenIds) -> str:
        """The text of a reply so far; special tokens have none."""
        ...

    def is_end(self, token: int) -> bool: ...

    def expect(self, is_long: bool) -> None:
        """What is evaluated from now on is of sequences of more than `short_length` tokens, or of
        others."""
        ...

    def evaluate(
        self, steps: Sequence[Step], alike: bool = True
    ) -> Iterator[tuple[int, list[Logits]]]:
        """Evaluates tokens in order; yields, after each call into the engine, how many tokens it
        was and the logits (vocabulary,) of those of its steps that want them: the engine's own
        memory, which holds them until the next call. `alike`: logits should not depend on what is
        evaluated with a token, if the engine can help it, even where that is slower."""
        ...

    def copy(self, source: int, target: int, length: int) -> None:
        """`target` becomes the first `length` tokens of `source`, by reference."""
        ...

    def truncate(self, sequence: int, length: int) -> None:
        """Keeps the first `length` tokens of a sequence."""
        ...

    def close(self) -> None: ...


@dataclass(slots=True)
class _Branch:
    """One prompt of a batch, in a sequence of its own.

    `shared`: tokens in common with the branch before. `cached`: tokens it need not evaluate.
    `logits`: those behind the prompt. It has failed where any are not finite. Times are in seconds
    from the batch's begin.
    """

    index: int
    prompt: TokenIds
    sequence: int
    shared: int
    cached: int
    picker: Picker
    draft: Draft
    logits: Logits
    label_logprobs: list[list[float]] = field(default_factory=list)
    has_failed: bool = False
    first_token_seconds: float | None = None
    last_token_seconds: float | None = None

    @property
    def is_growing(self) -> bool:
        return bool(self.draft.token_ids) and self.draft.finish is None and not self.has_failed


class SharedCacheSession:
    """A `backends.api.Session` over a shared cache."""

    def __init__(self, cache: SharedCache, info: SessionInfo) -> None:
        self._cache = cache
        self.info = info
        self._held: TokenIds = ()
        self._held_logits: Logits = np.empty(0, np.float32)
        self._is_long = False
        self._warm_up()

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self._cache.tokenize(texts)

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        return self._cache.token_texts(token_ids)

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[Event]:
        refused, fitting = refuse(prompts, decoding, self.info.allocated_context)
        unknown, accepted = self._refuse_unknown(prompts, fitting)
        if refused := (*refused, *unknown):
            now = time.perf_counter()
            yield Batch(refused, now, now, 0, 0.0, 0, 0.0)
        for some in self._of_one_kind(accepted, prompts, decoding):
            leaves = walk({index: prompts[index].token_ids for index in some})
            while leaves:
                size = self._batch_size(leaves, prompts, decoding)
                batch, leaves = leaves[:size], leaves[size:]
                yield Started(tuple(leaf.prompt for leaf in batch))
                yield from self._answer(batch, prompts, decoding)

    def _refuse_unknown(
        self, prompts: Sequence[Prompt], indices: Sequence[int]
    ) -> tuple[list[Reply], list[int]]:
        """Replies to the prompts with a token that the model has no embedding for (tokenizers have
        special tokens that a model was not made for), and the indices of the others."""
        refused: list[Reply] = []
        known: list[int] = []
        for index in indices:
            token_ids = prompts[index].token_ids
            if (largest := max(token_ids)) < self._cache.vocabulary_size:
                known.append(index)
            else:
                reason = f"the model has no embedding for token {largest} of the prompt"
                refused.append(Reply(index, "failed", len(token_ids), text=reason))
        return refused, known

    def _of_one_kind(
        self, indices: Sequence[int], prompts: Sequence[Prompt], decoding: Decoding
    ) -> Iterator[list[int]]:
        """Prompts that can share, one kind after the other; the cache is made ready for each.

        A prompt is as long as it gets with its reply: of both, all tokens but the last are
        evaluated.
        """
        turn = self._cache.short_length
        if turn is None:
            yield list(indices)
            return
        added = max(
            _longest_end(decoding), decoding.max_tokens - 1 if decoding.mode == "free" else 0
        )
        long = {index for index in indices if len(prompts[index].token_ids) + added > turn}
        # The kind of the held prompt first: the cache is dropped between the two.
        for is_long in (self._is_long, not self._is_long):
            if some := [index for index in indices if (index in long) is is_long]:
                if is_long is not self._is_long:
                    self.forget()
                self._is_long = is_long
                self._cache.expect(is_long)
                yield some

    def forget(self) -> None:
        self._cache.truncate(_HELD, 0)
        self._held = ()

    def allocated(self) -> Allocated:
        return self._cache.allocated

    def close(self) -> None:
        self._cache.close()

    def _warm_up(self) -> None:
        """The first evaluation reads weights and takes memory; that is loading, not speed."""
        # tokens from all over the vocabulary: the first may be for padding, and say nothing
        stride = max(1, self._cache.vocabulary_size // _WARM_UP_TOKENS)
        tokens = range(stride // 2, stride * _WARM_UP_TOKENS, stride)
        last = len(tokens) - 1
        [row] = self._logits(
            [
                Step(token % self._cache.vocabulary_size, i, (_HELD,), i == last)
                for i, token in enumerate(tokens)
            ]
        )
        self._cache.truncate(_HELD, 0)
        if row.min() == row.max():
            raise BackendError(
                f"{self.info.model} finds every token of its vocabulary equally likely: its "
                "weights are damaged, or it has no language head",
                "Fetch the model again, or give a causal language model.",
            )

    def _batch_size(
        self, leaves: Sequence[Leaf], prompts: Sequence[Prompt], decoding: Decoding
    ) -> int:
        """How many of the next leaves fit into the KV cache together."""
        # In "choice", the reply is one of the labels, which are scored in the spare sequences.
        reply = decoding.max_tokens if decoding.mode == "free" else 0
        room = self._cache.slots - len(_spare(decoding)) * _longest_end(decoding)
        room -= len(prompts[leaves[0].prompt].token_ids) + reply
        for size, leaf in enumerate(leaves[1:_BRANCHES], start=1):
            added = len(prompts[leaf.prompt].token_ids) - leaf.shared
            room -= added + reply
            if room < 0 or (added > _LONG_END and size >= _SMALL_BATCH):
                return size
        return min(len(leaves), _BRANCHES)

    def _branch(
        self, batch: Sequence[Leaf], prompts: Sequence[Prompt], decoding: Decoding
    ) -> list[_Branch]:
        """A sequence for each leaf, holding what it shares with the held prompt."""
        held = self._shared_with_held(prompts[batch[0].prompt].token_ids)
        # What the batch does not share makes room for what it adds.
        self._cache.truncate(_HELD, held)
        self._held = ()  # until the batch is answered: what ends before that is not relied on
        branches: list[_Branch] = []
        for sequence, leaf in enumerate(batch, start=1):
            prompt = prompts[leaf.prompt]
            shared = leaf.shared if branches and self._cache.shares_prefixes else 0
            held = min(held, shared) if branches else held
            # What it shares with other prompts of the batch beyond that is evaluated once, for the
            # sequences of all of them (`_tree_steps`).
            self._cache.copy(_HELD, sequence, held)
            branches.append(
                _Branch(
                    index=leaf.prompt,
                    prompt=prompt.token_ids,
                    sequence=sequence,
                    shared=shared,
                    cached=shared if branches else held,
                    picker=Picker(decoding, prompt),
                    draft=Draft(decoding),
                    logits=self._held_logits,
                )
            )
        return branches

    def _shared_with_held(self, prompt: TokenIds) -> int:
        if not self._cache.shares_prefixes:
            return 0
        shared = common_prefix_length(self._held, prompt)
        # A prompt that ends within the held one has to evaluate its last token again: there are
        # logits of the held prompt's end only.
        return shared - 1 if shared == len(prompt) < len(self._held) else shared

    def _answer(
        self, batch: Sequence[Leaf], prompts: Sequence[Prompt], decoding: Decoding
    ) -> Iterator[Event]:
        """Evaluates, scores and decodes one batch."""
        began = time.perf_counter()
        branches = self._branch(batch, prompts, decoding)
        prefill_tokens = 0
        for count in self._prefill(branches):
            prefill_tokens += count
            yield Progress(count)
        prefill_seconds = time.perf_counter() - began
        sound = [branch for branch in branches if not branch.has_failed]
        if decoding.mode == "free":
            tokens = [branch.picker.pick(branch.logits) for branch in sound]
            self._take_tokens(sound, tokens, began)
        # In neither of the two times, because its tokens are not counted as prefill or decoding
        # either (docs/METRICS.md).
        yield from self._score_labels(sound, decoding)
        if decoding.mode == "choice":
            self._choose_labels(sound, decoding, began)
        decode_began = time.perf_counter()
        decode_tokens = 0
        for count in self._decode(branches, began):
            decode_tokens += count
            yield Progress(0)
        decode_seconds = time.perf_counter() - decode_began if decode_tokens else 0.0
        self._keep(branches)
        if len(batch) > 1 and any(branch.has_failed for branch in branches):
            # What is not finite spoils what lies beside it, though that does not see it.
            self.forget()
            for leaf in batch:
                yield from self._answer([leaf], prompts, decoding)
            return
        yield Batch(
            replies=tuple(_reply(branch, decoding) for branch in branches),
            began=began,
            ended=time.perf_counter(),
            prefill_tokens=prefill_tokens,
            prefill_seconds=prefill_seconds,
            decode_tokens=decode_tokens,
            decode_seconds=decode_seconds,
        )

    def _prefill(self, branches: Sequence[_Branch]) -> Iterator[int]:
        """Evaluates each node of the batch's prefix tree once; yields tokens as they are done."""
        rows: list[Logits] = []
        for count, logits in self._cache.evaluate(_tree_steps(branches)):
            # The rows are the engine's own memory, until its next call.
            rows.extend(row.copy() for row in logits)
            yield count
        left = iter(rows)
        known = self._held_logits
        for branch in branches:
            # A branch that adds no token is equal to the prompt before it.
            known = next(left) if branch.cached < len(branch.prompt) else known
            branch.logits = known
            branch.has_failed = not are_finite(known)

    def _keep(self, branches: Sequence[_Branch]) -> None:
        last = branches[-1]
        self._cache.copy(last.sequence, _HELD, len(last.prompt))
        self._held, self._held_logits = last.prompt, last.logits
        for branch in branches:
            self._cache.truncate(branch.sequence, 0)

    def _take_tokens(
        self, branches: Sequence[_Branch], tokens: Sequence[int], began: float
    ) -> None:
        """Adds its next token to each branch."""
        for branch, token in zip(branches, tokens, strict=True):
            branch.draft.add(token, self._cache.is_end(token), self._cache.detokenize)
        # One time for all: one call has evaluated them together.
        now = time.perf_counter() - began
        for branch in branches:
            branch.last_token_seconds = now
            if branch.first_token_seconds is None:
                branch.first_token_seconds = now

    def _decode(self, branches: Sequence[_Branch], began: float) -> Iterator[int]:
        """Extends begun drafts to their ends, all together; yields how many tokens that took."""
        while live := [branch for branch in branches if branch.is_growing]:
            steps = [
                Step(
                    branch.draft.token_ids[-1],
                    len(branch.prompt) + len(branch.draft.token_ids) - 1,
                    (branch.sequence,),
                    wants_logits=True,
                )
                for branch in live
            ]
            # A difference in the last bits hardly ever changes a token, and never a probability
            # that is stored: those come of prompts and labels.
            rows = (row for _, rows in self._cache.evaluate(steps, alike=False) for row in rows)
            # Picked as they come: to copy logits first takes longer than to pick from them.
            tokens: list[int] = []
            for branch, row in zip(live, rows, strict=True):
                branch.has_failed = not are_finite(row)
                if not branch.has_failed:
                    tokens.append(branch.picker.pick(row))
            self._take_tokens([one for one in live if not one.has_failed], tokens, began)
            yield len(live)

    def _score_labels(self, branches: Sequence[_Branch], decoding: Decoding) -> Iterator[Progress]:
        """The log-probability of every token of every label, behind each prompt."""
        unfinished = []
        for branch in branches:
            first = log_softmax(branch.logits)
            branch.label_logprobs = [[float(first[label[0]])] for label in decoding.labels]
            unfinished += [(branch, i) for i, label in enumerate(decoding.labels) if len(label) > 1]
        spare = _spare(decoding)
        for start in range(0, len(unfinished), len(spare)):
            self._finish_labels(unfinished[start : start + len(spare)], decoding)
            yield Progress(0)

    def _finish_labels(self, jobs: Sequence[tuple[_Branch, int]], decoding: Decoding) -> None:
        """The same for the later tokens of longer labels, each label in a spare sequence."""
        steps: list[Step] = []
        for sequence, (branch, label) in zip(_SPARE, jobs, strict=False):
            position = len(branch.prompt)
            self._cache.copy(branch.sequence, sequence, position)
            steps += [
                Step(token, position + depth, (sequence,), wants_logits=True)
                for depth, token in enumerate(decoding.labels[label][:-1])
            ]
        rows = iter(self._logits(steps))
        for sequence, (branch, label) in zip(_SPARE, jobs, strict=False):
            for token in decoding.labels[label][1:]:
                row = next(rows)
                branch.has_failed |= not are_finite(row)
                known = -math.inf if branch.has_failed else float(log_softmax(row)[token])
                branch.label_logprobs[label].append(known)
            self._cache.truncate(sequence, 0)

    def _choose_labels(self, branches: Sequence[_Branch], decoding: Decoding, began: float) -> None:
        for branch in branches:
            if branch.has_failed:  # at a label's later token
                continue
            chosen = choose_label(decoding.labels, branch.label_logprobs, branch.picker)
            branch.draft.take_label(decoding.labels[chosen], self._cache.detokenize)
            branch.first_token_seconds = time.perf_counter() - began

    def _logits(self, steps: Sequence[Step]) -> list[Logits]:
        """Evaluates tokens and returns the logits of all that want them."""
        return [row.copy() for _, rows in self._cache.evaluate(steps) for row in rows]


def _longest_end(decoding: Decoding) -> int:
    """KV slots that scoring a label takes: its last token need not be evaluated."""
    return max((len(label) - 1 for label in decoding.labels), default=0)


def _spare(decoding: Decoding) -> range:
    """The spare sequences that the slots of a batch have room for."""
    return _SPARE[: max(1, BRANCH_SLOTS // max(1, _longest_end(decoding)))]


def _tree_steps(branches: Sequence[_Branch]) -> list[Step]:
    """The tokens that the branches add to the prefix tree, parents before children.

    A token belongs to the branch that adds it and to all that share it.
    """
    steps: list[Step] = []
    for number, branch in enumerate(branches):
        sharers = _sharers(branches, number)
        sequences = (branch.sequence, *(sequence for _, sequence in sharers))
        for position in range(branch.cached, len(branch.prompt)):
            while sharers and sharers[-1][0] <= position:
                sharers.pop()
                sequences = sequences[:-1]
            is_last = position == len(branch.prompt) - 1
            steps.append(Step(branch.prompt[position], position, sequences, is_last))
    return steps


def _sharers(branches: Sequence[_Branch], number: int) -> list[tuple[int, int]]:
    """Later branches that begin like this one: how far, and in which sequence; longest first."""
    found: list[tuple[int, int]] = []
    shared = len(branches[number].prompt)
    for later in branches[number + 1 :]:
        shared = min(shared, later.shared)
        if shared <= branches[number].cached:
            break
        found.append((shared, later.sequence))
    return found


def _reply(branch: _Branch, decoding: Decoding) -> Reply:
    if branch.has_failed:
        return Reply(branch.index, "failed", len(branch.prompt), branch.cached, NOT_FINITE)
    token_ids = branch.draft.token_ids
    first, last = branch.first_token_seconds, branch.last_token_seconds
    per_token = None
    if first is not None and last is not None and len(token_ids) > 1:
        per_token = 1000 * (last - first) / (len(token_ids) - 1)
    return Reply(
        prompt=branch.index,
        finish=branch.draft.finish or "scored",
        prompt_tokens=len(branch.prompt),
        cached_tokens=branch.cached,
        text=branch.draft.text,
        token_ids=tuple(token_ids),
        label_logprobs=tuple(map(sum, branch.label_logprobs)) if decoding.labels else None,
        time_to_first_token_ms=None if first is None else 1000 * first,
        time_per_output_token_ms=per_token,
    )
