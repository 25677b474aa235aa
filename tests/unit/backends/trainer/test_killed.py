"""A worker that trains is killed, and the same command goes on from its last checkpoint."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from harness.baselines import encoder
from harness.baselines.kind import Task
from harness.errors import EngineError


def test_an_encoder_that_is_killed_goes_on_in_a_worker(
    tmp_path: Path, encoder_folder: Path
) -> None:
    options = {"model": str(encoder_folder), "epochs": 40, "device": "cpu", "threads": 1}
    work = tmp_path / "work"
    wanted = Task(
        X_train=np.array(["a one", "b two"] * 20, dtype=np.object_),
        y_train=np.arange(40) % 2,
        X_queries=np.array(["b", "a", "b"], dtype=np.object_),
        classes=("bad", "good"),
        shown=(),
        seed=0,
        options=options,
        folder=work,
    )

    def kill() -> None:
        while not list(work.glob("checkpoint-*/trainer_state.json")):
            time.sleep(0.01)
        for child in psutil.Process().children():
            if any("worker.py" in word for word in child.cmdline()):
                child.kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(EngineError, match="killed"):
        encoder.predict(wanted)
    killer.join()
    resumed = encoder.predict(wanted)
    assert float(resumed.facts["resumed at step"]) > 0
    assert resumed.facts["weights"] == "pretrained"
    whole = encoder.predict(replace(wanted, folder=tmp_path / "whole"))
    assert resumed.labels.tolist() == whole.labels.tolist()
    assert resumed.facts["best epoch"] == whole.facts["best epoch"]
