"""What it costs to read a table with a column for each number of an embedding.

    make bench

CPU seconds go to pytest-benchmark's `extra_info`; twice the columns should take twice the time.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from harness.workload.sources import load_dataset


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("width", [1_024, 4_096, 16_384])
def test_a_wide_table(benchmark: Any, tmp_path: Path, width: int, suffix: str) -> None:
    X = np.random.default_rng(0).normal(size=(60, width)).astype(np.float32)
    columns = {f"f{at}": X[:, at] for at in range(width)}
    splits = ["train"] * 44 + ["test"] * 16
    table = pa.table({"label": ["a", "b"] * 30, "split": splits, **columns})
    path = tmp_path / f"wide.{suffix}"
    if suffix == "csv":
        csv.write_csv(table, path)
    else:
        parquet.write_table(table, path)
    cpu_seconds: list[float] = []

    def read() -> None:
        before = time.process_time()
        assert load_dataset(str(path), seed=0).X_train.shape == (44, width)
        cpu_seconds.append(time.process_time() - before)

    benchmark.pedantic(read, rounds=3, warmup_rounds=1)
    benchmark.extra_info["cpu_seconds"] = cpu_seconds
