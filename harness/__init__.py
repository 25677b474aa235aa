"""A benchmark of local LLM engines on long many-shot prompts.

The commands as functions, for notebooks and scripts:

    import harness

    summary = harness.benchmark(backend="mock", voters=2, queries=8)
    for run in harness.open_results("results"):      # the newest first
        print(run.run_id, run.frame().groupby("entry").status.value_counts())
    compared = harness.compare("latest:llama-cpp", "latest:hf")

What goes wrong in a way that can be fixed is a `harness.errors.HarnessError`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.report.notebook import ShownComparison, ShownSummary
    from harness.store.runs import Results, StoredRun

__all__ = ("__version__", "benchmark", "compare", "open_results")

__version__: str


def benchmark(
    results: Path | str = "results", name: str | None = None, **spec: object
) -> ShownSummary:
    """Runs a spec, given as the fields of `RunSpec`, and stores it in the folder `results`, under
    a `name` if you give one.

    A notebook shows how far it is, and then the summary as its table. Raises `HarnessError`; a
    field that is wrong is a `UsageError`.
    """
    from harness.machine.platforms import check_platform

    check_platform()
    from harness.pipeline.run import run
    from harness.report.notebook import shown_summary
    from harness.report.progress import Watch, notebook_outlet
    from harness.spec import parse_spec

    given = parse_spec(spec, where="benchmark()")
    with Watch(notebook_outlet()) as watch:
        summary = run(given, Path(results), watch, name)
    return shown_summary(open_results(results).run(summary.run_id), summary)


def open_results(path: Path | str = "results") -> Results:
    """The runs of a results folder: iterating gives each as a `StoredRun`, the newest first.

    `Results.run("latest")` and more find one of them. It may be used in a `with` statement, and
    need not be. In a notebook, a `StoredRun` is shown as its table. Raises `StoreError` where the
    folder holds no results.
    """
    from harness.store.runs import Results

    # Only there: what makes tables takes longer to import than a script should wait for its runs.
    if "IPython" in sys.modules:
        from harness.report.notebook import show_stored_runs

        show_stored_runs(sys.modules["IPython"])
    return Results(path)


def compare(
    first: StoredRun | str,
    other: StoredRun | str,
    *more: StoredRun | str,
    results: Path | str = "results",
) -> ShownComparison:
    """What `harness compare --json` prints: how every entry differs from the first one.

    A name is `RUN`, `RUN:ENTRY` or the id of an import, and is read from the folder `results`.
    Raises `StoreError` where it is not there, or where a run is not finished.
    """
    from harness.comparison.compare import compare as compare_sides
    from harness.report.notebook import shown_comparison
    from harness.store.runs import sides

    wanted = (first, other, *more)
    has_names = any(isinstance(one, str) for one in wanted)
    read_from = open_results(results) if has_names else None
    found = sides(wanted, read_from)
    return shown_comparison(found, compare_sides(found))


def __getattr__(name: str) -> str:
    """The version is looked up when it is used: the look-up costs more than this package."""
    if name == "__version__":
        from importlib.metadata import version

        return version("llm-backend-harness")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
