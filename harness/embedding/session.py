"""The parent's side of an embedder's worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from harness.contract import (
    Embedded,
    EmbedderInfo,
    EmbedderOptions,
    ModelRef,
    decode_embedded,
    decode_info,
    wire,
)
from harness.engine.interpreters import find_interpreter
from harness.engine.process import ProcessTransport
from harness.engine.registry import EMBEDDER
from harness.engine.transport import WorkerFailedError
from harness.errors import EngineError


class EmbedderSession:
    """A loaded vision model in a process of its own: in the embedder's own environment where there
    is one, else in our interpreter. Raises `EngineError` where it cannot be loaded."""

    def __init__(
        self, model: ModelRef, options: EmbedderOptions, log: Path, timeout_seconds: float
    ) -> None:
        python = find_interpreter(EMBEDDER.name, None)
        self._transport = ProcessTransport(EMBEDDER.target, timeout_seconds, log, python)
        try:
            self._transport.request(
                {
                    "do": "open_embedder",
                    "backend": EMBEDDER.target,
                    "model": asdict(model),
                    "options": asdict(options),
                }
            )
            self.info: EmbedderInfo = decode_info(self._transport.answer().get("result"))
        except (WorkerFailedError, wire.WireError) as error:
            self._transport.kill()
            raise EngineError(
                f"the model could not be loaded: {error}", remedy=f"See {log}."
            ) from error
        except BaseException:
            self._transport.kill()
            raise

    @property
    def peak_rss_mib(self) -> float | None:
        return self._transport.peak.rss_mib

    def embed(self, files: Sequence[Path]) -> Iterator[Sequence[Embedded]]:
        """Of the files in their order, a batch at a time. Raises `WorkerFailedError`, and
        `EngineError` where the worker reports one."""
        self._transport.request({"do": "embed", "files": list(map(str, files))})
        left = len(files)
        while True:
            message = self._transport.answer()
            if "event" not in message:
                break
            try:
                batch = decode_embedded(message, left, self.info.dimensions)
            except wire.WireError as error:
                self._transport.kill()
                reason = f"it sent what makes no sense: {error}"
                raise WorkerFailedError(reason, "nonsense") from error
            left -= len(batch)
            yield batch
        if left:
            self._transport.kill()
            raise WorkerFailedError(f"it left {left} files out", "nonsense")

    def close(self) -> None:
        self._transport.close()
