"""Embeds with the stub, and is killed when it comes to a function for the Nth time.

ended.py IMAGES OUT MODULE:NAME N
"""

from __future__ import annotations

import operator
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

from harness.contract import EmbedderOptions
from harness.embedding import session
from harness.embedding.run import EmbedOrder, embed
from harness.engine.registry import Registered


def kill_at(place: str, count: int) -> None:
    module, _, path = place.partition(":")
    owner_path, _, name = path.rpartition(".")
    owner: Any = import_module(module)
    if owner_path:
        owner = operator.attrgetter(owner_path)(owner)
    real, left = getattr(owner, name), [count]

    def counted(*given: Any, **named: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)

    setattr(owner, name, counted)


def main(images: str, out: str, place: str, count: str) -> None:
    kill_at(place, int(count))
    with patch.object(session, "EMBEDDER", Registered("embedder", "stub_embedder")):
        embed(EmbedOrder(Path(images), Path(out), options=EmbedderOptions(batch=4)))


if __name__ == "__main__":
    main(*sys.argv[1:])
