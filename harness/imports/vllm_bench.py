"""`vllm bench serve --save-result`, `vllm bench throughput` and `latency` with `--output-json`.

The field names and units are those of vllm/benchmarks/serve.py, throughput.py and latency.py. None
of the three files states the version of vLLM or the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, TypeAlias

from pydantic import Field, TypeAdapter

from harness.imports.records import (
    Document,
    Figure,
    Imported,
    Positive,
    Reader,
    Stated,
    conditions,
    finite,
    model_name,
)

_MS, _SECONDS, _SPEED, _REQUESTS = "ms", "s", "tokens/s", "requests/s"
_TOOL, _SERVED_TEST = "vllm bench", "serve"
_Names: TypeAlias = Mapping[str, tuple[str, str]]  # a field's metric and unit

# Times are medians, as ours are; the tool's means have names that say so. They are those of its
# client, so they have the names of our requests' times.
_SERVE: _Names = {
    "median_ttft_ms": ("request_time_to_first_token_ms", _MS),
    "mean_ttft_ms": ("mean_request_time_to_first_token_ms", _MS),
    "median_tpot_ms": ("request_time_per_output_token_ms", _MS),
    "mean_tpot_ms": ("mean_request_time_per_output_token_ms", _MS),
    "median_itl_ms": ("inter_token_latency_ms", _MS),
    "mean_itl_ms": ("mean_inter_token_latency_ms", _MS),
    "median_e2el_ms": ("request_seconds", _SECONDS),
    "mean_e2el_ms": ("mean_request_seconds", _SECONDS),
    "output_throughput": ("output_tokens_per_second", _SPEED),
    "total_token_throughput": ("total_tokens_per_second", _SPEED),
    "request_throughput": ("requests_per_second", _REQUESTS),
}
_EARLIER: Mapping[str, str] = {
    "time_to_first_token_ms": "request_time_to_first_token_ms",
    "mean_time_to_first_token_ms": "mean_request_time_to_first_token_ms",
    "time_per_output_token_ms": "request_time_per_output_token_ms",
    "mean_time_per_output_token_ms": "mean_request_time_per_output_token_ms",
    "end_to_end_latency_ms": "request_seconds",
    "mean_end_to_end_latency_ms": "mean_request_seconds",
}
"""What earlier versions called the times of requests: as if they were an engine's own."""
_THROUGHPUT: _Names = {
    "tokens_per_second": ("total_tokens_per_second", _SPEED),
    "requests_per_second": ("requests_per_second", _REQUESTS),
}
_SERVED = ("num_prompts", "completed", "failed", "total_input_tokens", "total_output_tokens")
_TRAFFIC = ("request_rate", "burstiness", "max_concurrency", "label", "date")
_AMOUNTS = ("num_requests", "total_num_tokens", "elapsed_time")
_NUMBERS = TypeAdapter(dict[str, Annotated[Positive, Field(strict=True)]])


class _Serve(Stated):
    """`ttfts` and `latencies` are seconds, of requests in order; 0 of one that failed. Without
    `--save-detailed` there are none."""

    model_id: str
    backend: str = ""
    completed: Annotated[int, Field(ge=0)]
    ttfts: list[Annotated[float, Field(ge=0)]] = Field(default=[])
    latencies: list[Annotated[float, Field(ge=0)]] = Field(default=[])


class _Throughput(Stated):
    model_id: str
    num_requests: Annotated[int, Field(ge=0)]


class _Latency(Stated):
    """Seconds for one batch; `percentiles` by their number as text."""

    model_id: str
    avg_latency: Positive
    latencies: Annotated[list[Positive], Field(min_length=1)]
    percentiles: dict[str, Positive] = Field(default={})


def read_serve(document: Document) -> list[Imported]:
    """`backend` is the kind of the server's interface: "openai" may be any server."""
    stated = _Serve.model_validate(document)
    figures = _figures(document, _SERVE, stated.completed)
    # Seconds in the lists, milliseconds in the figures beside them.
    sampled = {
        "request_time_to_first_token_ms": tuple(1000 * one for one in stated.ttfts if one),
        "request_seconds": tuple(one for one in stated.latencies if one),
    }
    return _imported(
        _SERVED_TEST,
        stated.backend,
        stated.model_id,
        [one.model_copy(update={"samples": sampled.get(one.metric, ())}) for one in figures],
        conditions(document, (*_SERVED, *_TRAFFIC)),
    )


def as_of_now(imported: Imported) -> Imported:
    """What an earlier version stored, under the names of now."""
    if (imported.tool, imported.test) != (_TOOL, _SERVED_TEST):
        return imported
    return imported.model_copy(update={"figures": tuple(map(_renamed, imported.figures))})


def _renamed(figure: Figure) -> Figure:
    if figure.metric not in _EARLIER:
        return figure
    name = _EARLIER[figure.metric]
    if not name.endswith("_seconds"):
        return figure.model_copy(update={"metric": name})
    return figure.model_copy(
        update={"metric": name, "unit": _SECONDS, "value": figure.value / 1000}
    )


def read_throughput(document: Document) -> list[Imported]:
    """The file does not state the engine: transformers can be timed with it too."""
    stated = _Throughput.model_validate(document)
    figures = _figures(document, _THROUGHPUT, stated.num_requests)
    return _imported("throughput", "", stated.model_id, figures, conditions(document, _AMOUNTS))


def read_latency(document: Document) -> list[Imported]:
    """The file does not state the sizes of the batch."""
    stated = _Latency.model_validate(document)
    seconds = {"mean_batch_latency_ms": stated.avg_latency}
    if median := stated.percentiles.get("50"):
        seconds = {"batch_latency_ms": median, **seconds}
    samples = tuple(1000 * one for one in stated.latencies)
    figures = [
        Figure(metric=metric, unit=_MS, value=1000 * value, count=len(samples), samples=samples)
        for metric, value in seconds.items()
    ]
    return _imported("latency", "vllm", stated.model_id, figures, {})


def _figures(document: Document, names: _Names, count: int) -> list[Figure]:
    """vLLM writes 0 for what it has not measured: such as times of a server that does not stream,
    or everything if all requests failed."""
    stated = {name: document[name] for name in names if _is_stated(document.get(name))}
    numbers = _NUMBERS.validate_python(stated)
    return [
        Figure(
            metric=metric,
            unit=unit,
            value=numbers[name] / 1000 if unit == _SECONDS else numbers[name],
            count=count,
        )
        for name, (metric, unit) in names.items()
        if name in numbers
    ]


def _is_stated(value: object) -> bool:
    # What is no number passes: `_NUMBERS` then refuses the file and names the field.
    return value is not None and finite(value) != 0


def _imported(
    test: str, engine: str, model: str, figures: Sequence[Figure], stated: dict[str, str]
) -> list[Imported]:
    """One import, or none where nothing was measured."""
    if not figures:
        return []
    return [
        Imported(
            tool=_TOOL,
            tool_version="",
            engine=engine,
            model=model_name(model),
            test=test,
            figures=tuple(figures),
            conditions=stated,
        )
    ]


READERS = (
    Reader(frozenset({"model_id", "request_throughput", "completed"}), read_serve),
    Reader(frozenset({"model_id", "requests_per_second", "tokens_per_second"}), read_throughput),
    Reader(frozenset({"model_id", "avg_latency", "latencies"}), read_latency),
)
