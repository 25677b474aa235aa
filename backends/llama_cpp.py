"""llama.cpp through llama-cpp-python's low-level API.

All sequences share one KV cache, in which a token is evaluated once and belongs to any number of
sequences. A group of prompts is answered together: the beginning that all of them share goes in
once and is copied by reference into a sequence each; their ends go in as one batch, in which a
token that several ends share belongs to all of these; replies are decoded one token of every prompt
at a time. Sequence 0 keeps the last prompt between groups and between calls, so that whatever the
next group shares with it is there already.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backends.api import (
    Availability,
    BackendError,
    Batch,
    Decoding,
    Event,
    ModelRef,
    Options,
    Progress,
    Reply,
    SessionInfo,
    Started,
    TokenIds,
)
from backends.prefix_tree import Leaf, common_prefix_length, walk
from backends.rules import refuse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from backends.generation import Draft, Picker
    from backends.llama_context import Step

    Logits = NDArray[np.float32]

FORMATS = ("gguf",)
OPTIONS: Mapping[str, str] = {
    "threads": "CPU threads (default: the cores this process may use)",
    "n_gpu_layers": "layers kept on the GPU (default: all, where llama.cpp was built for one)",
    "flash_attn": "flash attention: auto, on or off (default: off on a CPU, auto on a GPU)",
    "cache_type_k": "KV cache type of the keys: f32, f16, q8_0, q4_0",
    "cache_type_v": "KV cache type of the values: f32, f16, q8_0, q4_0",
}

_KEPT = 0  # the sequence that holds the last prompt
_BRANCHES = 64  # prompts answered together, in sequences 1 to 64
_SPARE = range(65, 97)  # sequences for the labels of several tokens
_BRANCH_CELLS = 2048  # KV cells for the ends and replies of a group, beside the longest prompt
_LONG_END = 128  # a prompt that adds more tokens than this begins a new group ...
_SMALL_GROUP = 8  # ... unless that left a group smaller than this


def check() -> Availability:
    if importlib.util.find_spec("llama_cpp") is None:
        return Availability(
            False,
            reason="llama-cpp-python is not installed",
            remedy="pip install 'llm-harness[llama-cpp]'",
        )
    return Availability(True, version=importlib.metadata.version("llama-cpp-python"))


def open_session(model: ModelRef, options: Options) -> LlamaCppSession:
    availability = check()
    if not availability.available:
        raise BackendError(availability.reason, availability.remedy)
    return LlamaCppSession(model, options, availability.version)


@dataclass(slots=True)
class _Branch:
    """One prompt of a group, in a sequence of its own.

    `shared`: tokens in common with the branch before. `cached`: tokens it need not evaluate.
    `logits`: those behind the prompt. Times are in seconds from the group's begin.
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
    first_token_seconds: float | None = None
    last_token_seconds: float | None = None


class LlamaCppSession:
    """One loaded GGUF model."""

    def __init__(self, model: ModelRef, options: Options, version: str) -> None:
        from backends.llama_context import LlamaContext

        longest = int(options["max_model_len"])
        self._context = context = LlamaContext(
            model, options, longest, longest + _BRANCH_CELLS, _SPARE.stop
        )
        self._kept: TokenIds = ()
        self._kept_logits = context.no_logits
        self.info = SessionInfo(
            engine="llama.cpp",
            engine_version=f"llama-cpp-python {version}",
            model=model.name,
            weights=f"{context.description} GGUF",
            device="gpu" if context.uses_gpu else "cpu",
            threads=context.threads,
            declared_context=context.declared_context,
            allocated_context=longest,
            vocabulary_sha256=context.vocabulary_sha256(),
            bos_id=context.bos_id,
            bos_text=context.bos_text,
            eos_text=context.eos_text,
            chat_template=context.chat_template,
        )

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._context.tokenize(text) for text in texts]

    def generate(self, prompts: Sequence[TokenIds], decoding: Decoding) -> Iterator[Event]:
        refused, accepted = refuse(prompts, decoding, self.info.allocated_context)
        if refused:
            yield Batch(refused, 0.0, 0, 0.0, 0, 0.0)
        leaves = walk({index: prompts[index] for index in accepted})
        while leaves:
            size = self._group_size(leaves, prompts, decoding)
            group, leaves = leaves[:size], leaves[size:]
            yield Started(tuple(leaf.prompt for leaf in group))
            yield from self._answer(self._branch(group, prompts, decoding), decoding)

    def close(self) -> None:
        self._context.close()

    def _group_size(
        self, leaves: Sequence[Leaf], prompts: Sequence[TokenIds], decoding: Decoding
    ) -> int:
        """How many of the next leaves fit into the KV cache together."""
        longest_label = max(map(len, decoding.labels), default=1)
        reply = decoding.max_tokens if decoding.mode == "free" else 0
        room = self._context.cells - len(_SPARE) * (longest_label - 1)
        room -= len(prompts[leaves[0].prompt]) + reply
        for size, leaf in enumerate(leaves[1:_BRANCHES], start=1):
            added = len(prompts[leaf.prompt]) - leaf.shared
            room -= added + reply
            if room < 0 or (added > _LONG_END and size >= _SMALL_GROUP):
                return size
        return min(len(leaves), _BRANCHES)

    def _branch(
        self, group: Sequence[Leaf], prompts: Sequence[TokenIds], decoding: Decoding
    ) -> list[_Branch]:
        """A sequence for each leaf, holding what it shares with the kept prompt."""
        from backends.generation import Draft, Picker

        kept = self._shared_with_kept(prompts[group[0].prompt])
        # What the group does not share makes room for what it adds.
        self._context.truncate(_KEPT, kept)
        self._kept = self._kept[:kept]
        branches: list[_Branch] = []
        for sequence, leaf in enumerate(group, start=1):
            prompt = prompts[leaf.prompt]
            shared = leaf.shared if branches and self._context.shares_prefixes else 0
            kept = min(kept, shared) if branches else kept
            self._context.copy(_KEPT, sequence, kept)
            branches.append(
                _Branch(
                    index=leaf.prompt,
                    prompt=prompt,
                    sequence=sequence,
                    shared=shared,
                    cached=shared if branches else kept,
                    picker=Picker(decoding, prompt),
                    draft=Draft(decoding),
                    logits=self._kept_logits,
                )
            )
        return branches

    def _shared_with_kept(self, prompt: TokenIds) -> int:
        if not self._context.shares_prefixes:
            return 0
        shared = common_prefix_length(self._kept, prompt)
        # A prompt that ends within the kept one has to evaluate its last token again: logits are
        # kept of the kept prompt's end only.
        return shared - 1 if shared == len(prompt) < len(self._kept) else shared

    def _answer(self, branches: Sequence[_Branch], decoding: Decoding) -> Iterator[Event]:
        """Evaluates, scores and decodes one group."""
        began = time.perf_counter()
        prefill_tokens = 0
        for count in self._prefill(branches):
            prefill_tokens += count
            yield Progress(count)
        prefill_seconds = time.perf_counter() - began
        if decoding.mode == "free":
            self._take_tokens(branches, [branch.logits for branch in branches], began)
        self._score_labels(branches, decoding)
        if decoding.mode == "choice":
            self._choose_labels(branches, decoding, began)
        decode_began = time.perf_counter()
        decode_tokens = self._decode(branches, began) if decoding.mode == "free" else 0
        decode_seconds = time.perf_counter() - decode_began if decode_tokens else 0.0
        self._keep(branches)
        yield Batch(
            replies=tuple(_reply(branch, decoding) for branch in branches),
            engine_seconds=time.perf_counter() - began,
            prefill_tokens=prefill_tokens,
            prefill_seconds=prefill_seconds,
            decode_tokens=decode_tokens,
            decode_seconds=decode_seconds,
        )

    def _prefill(self, branches: Sequence[_Branch]) -> Iterator[int]:
        """Evaluates each node of the group's prefix tree once; yields tokens as they are done."""
        rows: list[Logits] = []
        for count, logits in self._context.evaluate(_tree_steps(branches)):
            rows.extend(logits)
            yield count
        left = iter(rows)
        known = self._kept_logits
        for branch in branches:
            # A branch that adds no token is equal to the prompt before it.
            known = next(left) if branch.cached < len(branch.prompt) else known
            branch.logits = known

    def _keep(self, branches: Sequence[_Branch]) -> None:
        last = branches[-1]
        self._context.copy(last.sequence, _KEPT, len(last.prompt))
        self._kept, self._kept_logits = last.prompt, last.logits
        for branch in branches:
            self._context.drop(branch.sequence)

    def _take_tokens(
        self, branches: Sequence[_Branch], logits: Sequence[Logits], began: float
    ) -> None:
        """Picks the next token of each branch."""
        for branch, row in zip(branches, logits, strict=True):
            token = branch.picker.pick(row)
            branch.draft.add(token, self._context.piece(token), self._context.is_end(token))
        now = time.perf_counter() - began
        for branch in branches:
            branch.last_token_seconds = now
            if branch.first_token_seconds is None:
                branch.first_token_seconds = now

    def _decode(self, branches: Sequence[_Branch], began: float) -> int:
        """Extends the drafts to their ends, all together; returns how many tokens that took."""
        from backends.llama_context import Step

        decoded = 0
        while live := [branch for branch in branches if branch.draft.finish is None]:
            steps = [
                Step(
                    branch.draft.token_ids[-1],
                    len(branch.prompt) + len(branch.draft.token_ids) - 1,
                    (branch.sequence,),
                    wants_logits=True,
                )
                for branch in live
            ]
            self._take_tokens(live, self._context.all_logits(steps), began)
            decoded += len(live)
        return decoded

    def _score_labels(self, branches: Sequence[_Branch], decoding: Decoding) -> None:
        """The log-probability of every token of every label, behind each prompt."""
        from backends.generation import log_softmax

        unfinished = []
        for branch in branches:
            first = log_softmax(branch.logits)
            branch.label_logprobs = [[float(first[label[0]])] for label in decoding.labels]
            unfinished += [(branch, i) for i, label in enumerate(decoding.labels) if len(label) > 1]
        for start in range(0, len(unfinished), len(_SPARE)):
            self._finish_labels(unfinished[start : start + len(_SPARE)], decoding)

    def _finish_labels(self, jobs: Sequence[tuple[_Branch, int]], decoding: Decoding) -> None:
        """The same for the later tokens of labels of several, each in a spare sequence."""
        from backends.generation import log_softmax
        from backends.llama_context import Step

        steps: list[Step] = []
        for sequence, (branch, label) in zip(_SPARE, jobs, strict=False):
            position = len(branch.prompt)
            self._context.copy(branch.sequence, sequence, position)
            steps += [
                Step(token, position + depth, (sequence,), wants_logits=True)
                for depth, token in enumerate(decoding.labels[label][:-1])
            ]
        rows = iter(self._context.all_logits(steps))
        for sequence, (branch, label) in zip(_SPARE, jobs, strict=False):
            for token in decoding.labels[label][1:]:
                branch.label_logprobs[label].append(float(log_softmax(next(rows))[token]))
            self._context.drop(sequence)

    def _choose_labels(self, branches: Sequence[_Branch], decoding: Decoding, began: float) -> None:
        from backends.generation import choose_label

        for branch in branches:
            chosen = choose_label(decoding.labels, branch.label_logprobs, branch.picker)
            for token in decoding.labels[chosen]:
                branch.draft.add(token, self._context.piece(token), is_end=False)
            branch.draft.finish = "label"
            branch.first_token_seconds = time.perf_counter() - began


def _tree_steps(branches: Sequence[_Branch]) -> list[Step]:
    """The tokens that the branches add to the prefix tree, parents before children.

    A token belongs to the branch that adds it and to all that share it.
    """
    from backends.llama_context import Step

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
