"""Where a session will run, without torch: to import it takes seconds.

What decides in the end is `backends.hf.devices.device`.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

from backends.api import Options
from backends.gpus import has_nvidia
from backends.hf.backend import DEVICE

# As torch/version.py says it: `cuda: Optional[str] = '12.8'`.
_BUILT_FOR = re.compile(r"^(cuda|hip)\b[^=\n]*=\s*['\"]", re.MULTILINE)


def is_on_gpu(options: Options) -> bool | None:
    """`None` where that is not known, and for a device of which it is not known what it takes."""
    wanted = DEVICE.given(options)
    if wanted is not None:
        return {"cpu": False, "cuda": True}.get(wanted.partition(":")[0])
    kind = _built_for()
    if kind == "cuda":
        return has_nvidia() and not _is_hidden()
    return False if kind == "cpu" else None  # ROCm calls its devices cuda, too


def _built_for() -> str | None:
    """cuda, hip, or cpu for any other: without --device, those run on the CPU."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    try:
        text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    kind = _BUILT_FOR.search(text)
    return kind[1] if kind else "cpu"


def _is_hidden() -> bool:
    """Whether CUDA_VISIBLE_DEVICES leaves no GPU; CUDA reads it up to the first that is none."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    return not (first.isdigit() or first.startswith(("GPU-", "MIG-")))
