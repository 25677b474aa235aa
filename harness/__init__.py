"""A benchmark of local LLM engines on long many-shot prompts.

`benchmark` is `harness run` as a function, for notebooks and scripts:

    from harness import benchmark
    summary = benchmark(backend="mock", voters=2, queries=8)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.summary import Summary

__all__ = ["__version__", "benchmark"]

__version__: str


def benchmark(results: Path | str = "results", **spec: object) -> Summary:
    """Runs a spec, given as the fields of `RunSpec`, and keeps it in the folder `results`.

    Raises `HarnessError`; a field that is wrong is a `UsageError`.
    """
    from harness.pipeline.run import run
    from harness.spec import parse_spec

    return run(parse_spec(spec, where="benchmark()"), Path(results))


def __getattr__(name: str) -> str:
    """The version is looked up when it is asked for: the look-up costs more than this package."""
    if name == "__version__":
        from importlib.metadata import version

        return version("llm-harness")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
