"""Answering prompts with vLLM's engine.

Prompts go in as token ids, in the order of their prefix tree and in waves that one step of the
engine evaluates: then automatic prefix caching finds in each prompt all whole blocks that an
earlier one has, of the same step too. Whole blocks are all that vLLM shares.

Labels of several tokens are scored as a tree: behind the prompt, and behind each beginning of a
label, a request wants the log-probabilities of the tokens that can come next.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from vllm import EngineArgs, SamplingParams
from vllm.platforms import current_platform
from vllm.sampling_params import MAX_LOGPROB_TOKEN_IDS, RequestOutputKind
from vllm.v1.engine.llm_engine import LLMEngine

from backends.api import (
    Allocated,
    BackendError,
    Batch,
    Decoding,
    Event,
    Options,
    Progress,
    Prompt,
    Reply,
    SessionInfo,
    Started,
    TokenIds,
)
from backends.hf.tokenizer import HfTokenizer
from backends.rules import NOT_FINITE, TRUST_REMOTE_CODE, refuse
from backends.sharing.generation import prompt_entropy
from backends.sharing.prefix_tree import Leaf, in_whole_blocks, walk
from backends.vllm.backend import (
    BLOCK_SIZE,
    CONCURRENCY,
    CPU_BLOCK_TOKENS,
    CPU_KV_CACHE_GIB,
    DTYPE,
    ENFORCE_EAGER,
    GPU_MEMORY_UTILIZATION,
    KV_CACHE_DTYPE,
    KV_CACHE_GIB,
    TENSOR_PARALLEL_SIZE,
)
from backends.vllm.causes import cause

_WARM_UP_TOKENS = CPU_BLOCK_TOKENS - 1  # not a whole block: it leaves nothing to share

Label: TypeAlias = tuple[int, ...]
_Key: TypeAlias = tuple[int, Label]  # a prompt's index, the beginning of a label behind it
_Request: TypeAlias = tuple[list[int], Any]  # token ids and vLLM's SamplingParams
_Outputs: TypeAlias = dict[_Key, Any]  # vLLM's RequestOutput of each request


class VllmEngine:
    """The model in `folder`, which the user calls `name`, loaded for prompts and replies of
    `longest` tokens.

    Raises `BackendError` where vLLM refuses the model or an option.
    """

    def __init__(self, folder: str, name: str, options: Options, longest: int) -> None:
        self._folder, self._options, self._longest = folder, options, longest
        self._is_cpu = current_platform.is_cpu()
        self.device = "cpu" if self._is_cpu else str(current_platform.device_name)
        self.threads = int(os.environ["OMP_NUM_THREADS"])
        if self._is_cpu:
            # In this process: vLLM's own would leave one core of two to its scheduler, and both
            # processes would have to import all of it.
            os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        # A prompt may fill the model's whole context where nothing is generated; vLLM wants room
        # for a token behind it. The caller has checked the length.
        os.environ["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = "1"
        try:
            self.engine = LLMEngine.from_engine_args(self._arguments())
        except BackendError:
            raise
        except Exception as error:  # whatever vLLM and what it stands on raise
            raise BackendError(
                f"vLLM could not load {name}: {cause(error).replace(folder, name)}",
                "Change the option or the model it names; the engine's log has the rest.",
            ) from error
        found = self.engine.vllm_config
        # What vLLM has settled on, which may differ from what was given.
        self.block_tokens = int(found.cache_config.block_size)
        self.vocabulary_size = int(found.model_config.get_vocab_size())
        self.step_tokens = int(found.scheduler_config.max_num_batched_tokens)
        self.most_prompts = int(found.scheduler_config.max_num_seqs)
        self.cache_bytes = self._cache_bytes()
        dtype = str(found.model_config.dtype).removeprefix("torch.")
        self.description = f"{found.model_config.hf_config.model_type} {dtype}"

    def _arguments(self) -> Any:
        given = {}
        share = GPU_MEMORY_UTILIZATION.given(self._options)
        if share is not None:
            given["gpu_memory_utilization"] = share
        gib = KV_CACHE_GIB.given(self._options) or (CPU_KV_CACHE_GIB if self._is_cpu else None)
        if gib is not None:
            given["kv_cache_memory_bytes"] = int(gib * 2**30)
        concurrency = CONCURRENCY.given(self._options)
        if concurrency is not None:
            given["max_num_seqs"] = concurrency
        block = BLOCK_SIZE.given(self._options) or (CPU_BLOCK_TOKENS if self._is_cpu else None)
        return EngineArgs(
            model=self._folder,
            max_model_len=self._longest + 1,
            block_size=block,
            enable_prefix_caching=True,
            disable_log_stats=False,  # without them, no times
            load_format="safetensors",  # never a pickle
            trust_remote_code=TRUST_REMOTE_CODE.of(self._options),
            enforce_eager=ENFORCE_EAGER.of(self._options),
            dtype=DTYPE.of(self._options),
            kv_cache_dtype=KV_CACHE_DTYPE.of(self._options),
            tensor_parallel_size=TENSOR_PARALLEL_SIZE.of(self._options),
            **given,
        )

    def _cache_bytes(self) -> int | None:
        """What it has taken for its KV cache; known in this process only. The tensors of all layers
        lie in one allocation, of which each of them has the size."""
        if not self._is_cpu:
            return None
        core: Any = self.engine.engine_core
        try:
            tensors = core.engine_core.scheduler.kv_cache_config.kv_cache_tensors
            return max((int(one.size) for one in tensors), default=None)
        except AttributeError:  # another version of vLLM: its figure is wanted, and not needed
            return None


@dataclass(frozen=True, slots=True)
class _Clock:
    """The engine's own times of a wave's prompts, in its seconds."""

    began: float
    scheduled: float
    first_token: float
    last_token: float

    # vLLM's clock is not `time.perf_counter`: only differences of its times are used.
    @staticmethod
    def of(outputs: Collection[Any]) -> _Clock:
        times = [output.metrics for output in outputs]
        return _Clock(
            began=min(one.queued_ts for one in times),
            scheduled=min(one.scheduled_ts for one in times),
            first_token=max(one.first_token_ts for one in times),
            last_token=max(one.last_token_ts for one in times),
        )


class VllmSession:
    """A `backends.api.Session` over a loaded engine."""

    def __init__(self, engine: VllmEngine, tokenizer: HfTokenizer, info: SessionInfo) -> None:
        self.info = info
        self._engine = engine.engine
        self._cache_bytes = engine.cache_bytes
        self._tokenizer = tokenizer
        self._step_tokens = engine.step_tokens
        self._most_prompts = engine.most_prompts
        self._warm_up()

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self._tokenizer.tokenize(texts)

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        return self._tokenizer.token_texts(token_ids)

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[Event]:
        _check_labels(decoding)
        refused, accepted = refuse(prompts, decoding, self.info.allocated_context)
        if refused:
            now = time.perf_counter()
            yield Batch(refused, now, now, 0, 0.0, 0, 0.0)
        leaves = walk({index: prompts[index].token_ids for index in accepted})
        while leaves:
            size = self._wave_size(leaves, prompts)
            wave, leaves = leaves[:size], leaves[size:]
            yield Started(tuple(leaf.prompt for leaf in wave))
            yield from self._answer({leaf.prompt: prompts[leaf.prompt] for leaf in wave}, decoding)

    def forget(self) -> None:
        """Raises `BackendError` where vLLM still holds blocks for a request."""
        if not self._engine.reset_prefix_cache():
            raise BackendError(
                "vLLM did not drop its prefix cache", "See the engine's log: a block is in use."
            )

    def allocated(self) -> Allocated:
        return Allocated(cache_bytes=self._cache_bytes)

    def close(self) -> None:
        self._engine.engine_core.shutdown()

    def _warm_up(self) -> None:
        """The first step takes memory and builds kernels; that is loading, not speed."""
        warm_up = {0: Prompt([0] * _WARM_UP_TOKENS)}
        list(self._serve(_requests(warm_up, Decoding("score", ()), ())))

    def _wave_size(self, leaves: Sequence[Leaf], prompts: Sequence[Prompt]) -> int:
        """How many of the next leaves one step of the engine evaluates; one at least."""
        room = self._step_tokens
        for size, leaf in enumerate(leaves[: self._most_prompts]):
            length = len(prompts[leaf.prompt].token_ids)
            room -= length - in_whole_blocks(leaf.shared, length, self.info.shared_block_tokens)
            if room < 0 and size:
                return size
        return min(len(leaves), self._most_prompts)

    def _answer(self, wave: Mapping[int, Prompt], decoding: Decoding) -> Iterator[Event]:
        began = time.perf_counter()
        outputs = yield from self._serve(_requests(wave, decoding, ()))
        clock = _Clock.of(outputs.values())
        # After the wave, not with it: the wave's times are those of the prompts alone, and their
        # whole blocks are in the cache by then.
        for beginning in _beginnings(decoding.labels):
            outputs |= yield from self._serve(_requests(wave, decoding, beginning))
        replies = [self._reply(index, decoding, outputs, clock) for index in wave]
        computed = sum(_evaluated(outputs[index, ()]) for index in wave)
        # a label's later tokens are not decoded but chosen among what was scored
        free = decoding.mode == "free"
        written = [len(reply.token_ids) for reply in replies if reply.token_ids]
        decode_tokens = sum(written) - len(written) if free else 0
        yield Batch(
            replies=tuple(replies),
            began=began,
            ended=time.perf_counter(),
            prefill_tokens=computed,
            prefill_seconds=clock.first_token - clock.scheduled,
            decode_tokens=decode_tokens,
            decode_seconds=clock.last_token - clock.first_token if decode_tokens else 0.0,
        )

    def _serve(self, requests: Mapping[_Key, _Request]) -> Generator[Progress, None, _Outputs]:
        """Puts requests to the engine; returns its replies when all have ended."""
        # vLLM names requests by texts.
        keys = {str(number): key for number, key in enumerate(requests)}
        for number, (prompt, parameters) in zip(keys, requests.values(), strict=True):
            self._engine.add_request(number, {"prompt_token_ids": prompt}, parameters)
        outputs: _Outputs = {}
        try:
            while self._engine.has_unfinished_requests():
                ended = self._engine.step()
                outputs.update((keys[output.request_id], output) for output in ended)
                yield Progress(sum(_evaluated(output) for output in ended))
        finally:  # a caller that goes away leaves nothing that would be taken for the next one's
            if left := [number for number, key in keys.items() if key not in outputs]:
                self._engine.abort_request(left)
        return outputs

    def _reply(self, index: int, decoding: Decoding, outputs: _Outputs, clock: _Clock) -> Reply:
        output = outputs[index, ()]
        if not _are_finite(outputs[key] for key in outputs if key[0] == index):
            length, cached = len(output.prompt_token_ids), output.num_cached_tokens
            return Reply(index, "failed", length, cached, NOT_FINITE)
        scored = Reply(
            prompt=index,
            finish="scored",
            prompt_tokens=len(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens,
            label_logprobs=_label_logprobs(index, decoding, outputs),
        )
        if decoding.mode == "score":
            return scored
        times = output.metrics
        answered = replace(
            scored, time_to_first_token_ms=1000 * (times.first_token_ts - clock.began)
        )
        if decoding.mode == "choice":
            label = _chosen(index, decoding, outputs)
            text = self._tokenizer.detokenize(label)
            return replace(answered, finish="label", token_ids=label, text=text)
        [completion] = output.outputs
        later = len(completion.token_ids) - 1
        seconds = times.last_token_ts - times.first_token_ts
        return replace(
            answered,
            finish="stop" if completion.finish_reason == "stop" else "length",
            token_ids=tuple(completion.token_ids),
            text=completion.text,
            time_per_output_token_ms=1000 * seconds / later if later else None,
        )


def _check_labels(decoding: Decoding) -> None:
    """Raises `BackendError` for more labels than vLLM reports the log-probabilities of at once."""
    beginnings = [(), *_beginnings(decoding.labels)]
    if max(len(_following(decoding.labels, one)) for one in beginnings) > MAX_LOGPROB_TOKEN_IDS:
        raise BackendError(
            f"vLLM distinguishes at most {MAX_LOGPROB_TOKEN_IDS} labels by one token",
            "Use fewer classes, or another engine.",
        )


def _requests(
    wave: Mapping[int, Prompt], decoding: Decoding, beginning: Label
) -> dict[_Key, _Request]:
    """A request for each prompt with this beginning of a label behind it."""
    return {
        (index, beginning): _request(
            [*prompt.token_ids, *beginning], prompt.attempt, decoding, beginning
        )
        for index, prompt in wave.items()
    }


def _request(token_ids: list[int], attempt: int, decoding: Decoding, beginning: Label) -> _Request:
    following = _following(decoding.labels, beginning)
    writes = decoding.mode == "free" and not beginning
    seed = None
    if decoding.temperature > 0:
        # vLLM stores a seed as int64, and the hash has 256 bits.
        seed = prompt_entropy(decoding.seed, token_ids, attempt) % 2**63
    # Log-probabilities are over the whole vocabulary in every mode: by vLLM's default
    # `logprobs_mode`, they are computed before `allowed_token_ids` and the temperature.
    parameters = SamplingParams(
        temperature=0 if decoding.mode == "score" else decoding.temperature,
        seed=seed,
        # 0 is refused. What the one token is does not matter in "score".
        max_tokens=decoding.max_tokens if writes else 1,
        stop=list(decoding.stop) if writes else None,
        ignore_eos=decoding.ignore_end,
        allowed_token_ids=following if decoding.mode == "choice" else None,
        logprob_token_ids=following or None,
        detokenize=writes,  # stop strings need the text; else we make it
        output_kind=RequestOutputKind.FINAL_ONLY,  # `step` gives a request once, when it has ended
    )
    return token_ids, parameters


def _beginnings(labels: Sequence[Label]) -> list[Label]:
    """Of each label all but its last token, and shorter; the empty one is left out."""
    return sorted({label[:depth] for label in labels for depth in range(1, len(label))})


def _following(labels: Sequence[Label], beginning: Label) -> list[int]:
    """The tokens that can come behind this beginning of a label."""
    depth = len(beginning)
    return sorted({label[depth] for label in labels if label[:depth] == beginning})


def _label_logprobs(index: int, decoding: Decoding, outputs: _Outputs) -> tuple[float, ...] | None:
    """The log-probability of each label: the sum over its tokens, each behind those before it."""
    return (
        tuple(
            sum(
                outputs[index, label[:depth]].outputs[0].logprobs[0][token].logprob
                for depth, token in enumerate(label)
            )
            for label in decoding.labels
        )
        or None
    )


def _are_finite(outputs: Iterable[Any]) -> bool:
    """Whether probabilities came out of the logits: minus infinity is a token that cannot be. A
    request without log-probabilities has none."""
    return all(
        known.logprob < math.inf  # NaN is not
        for output in outputs
        for step in output.outputs[0].logprobs or ()
        for known in step.values()
    )


def _chosen(index: int, decoding: Decoding, outputs: _Outputs) -> Label:
    """The label that comes of taking, behind each beginning, the token that the engine took."""
    chosen: Label = ()
    # No label begins another, so the first one reached is the one that was chosen.
    while chosen not in decoding.labels:
        chosen = (*chosen, outputs[index, chosen].outputs[0].token_ids[0])
    return chosen


def _evaluated(output: Any) -> int:
    """The prompt tokens that were evaluated for a request."""
    return len(output.prompt_token_ids) - int(output.num_cached_tokens)
