"""The contract of engines, as the harness uses it: out of our own `backends`, and no other.

A user's folder may hold a `backends` too, beside a notebook or a test. Which of the two Python
finds under that name depends on the path and on what was imported before. So nothing in the harness
imports `backends` but this module, and backends are loaded within `own_backends`.

Where the name is free, or is ours already, our modules have it like any others. Where it is
someone else's, ours are loaded as `harness.backends`, and the name is lent to them only while they
or a third party's backend are imported. Then it is again whose it was.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from threading import RLock
from types import ModuleType

from harness.errors import EngineError, ended_in

BACKENDS = Path(__file__).parents[1] / "backends"
_NAME = "backends"
_ALIAS = "harness.backends"
_lock = RLock()


class _Lender(MetaPathFinder, Loader):
    """Finds `backends.x` as the module `harness.backends.x`, which is loaded once."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        return ModuleSpec(fullname, self) if fullname.partition(".")[0] == _NAME else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return import_module(_ALIAS + spec.name.removeprefix(_NAME))

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: it was run when it was imported under its own name."""


@contextmanager
def own_backends() -> Iterator[None]:
    """Within it, `import backends` gives ours."""
    with _lock:
        if _has_own_name():
            yield
            return
        if _ALIAS not in sys.modules:
            spec = ModuleSpec(_ALIAS, None, is_package=True)
            spec.submodule_search_locations = [str(BACKENDS)]
            sys.modules[_ALIAS] = module_from_spec(spec)
        theirs = _taken_out()
        lender = _Lender()
        # First in the list: the finder of the path would find the user's folder.
        sys.meta_path.insert(0, lender)
        try:
            yield
        finally:
            # Only the lent names go: the modules stay as `harness.backends.x`, so there is one
            # copy.
            sys.meta_path.remove(lender)
            _taken_out()
            sys.modules.update(theirs)


def _has_own_name() -> bool:
    """Whether `backends` is ours now, or would be once it is imported."""
    if _NAME in sys.modules:
        return _is_ours(getattr(sys.modules[_NAME], "__path__", ()))
    if _ALIAS in sys.modules:  # one copy of our modules is enough
        return False
    spec = find_spec(_NAME)
    return spec is not None and _is_ours(spec.submodule_search_locations or ())


def _is_ours(folders: Sequence[str]) -> bool:
    """Of several, as folders without an `__init__.py` can share a name, the first wins."""
    return [Path(folder).resolve() for folder in folders][:1] == [BACKENDS.resolve()]


def _taken_out() -> dict[str, ModuleType]:
    """The modules under the name, which are no longer there."""
    names = [name for name in sys.modules if name.partition(".")[0] == _NAME]
    return {name: sys.modules.pop(name) for name in names}


with own_backends():
    from backends import records, wire
    from backends.api import (
        ENTRY_POINT_GROUP,
        NO_FILES,
        Allocated,
        Availability,
        Backend,
        BackendError,
        Batch,
        Capabilities,
        Decoding,
        DecodingMode,
        Event,
        Finding,
        Finish,
        MemoryPlan,
        ModelRef,
        Option,
        Options,
        OptionValue,
        Progress,
        Prompt,
        Reply,
        Requirements,
        SessionInfo,
        Started,
        TokenIds,
        TokenizerInfo,
        written,
    )
    from backends.embedder.api import DEFAULT_MODEL as DEFAULT_EMBEDDER
    from backends.embedder.api import (
        LAST,
        PACKAGE,
        Embedded,
        EmbedderInfo,
        EmbedderOptions,
        Pooling,
        decode_embedded,
        decode_info,
    )
    from backends.gguf import check_file, check_model, parts_of, read_beginning
    from backends.gpus import has_nvidia
    from backends.in_use import free, hold, mark_of
    from backends.remedies import DISTRIBUTION, install_environment, install_extra
    from backends.rules import (
        BEYOND_MODEL,
        LOGPROB_ROUNDING,
        MODEL_FILES,
        reply_reserve,
        usable_cpus,
        vocabulary_sha256,
        why_no_text,
    )
    from backends.sharing.prefix_tree import (
        common_prefix_length,
        in_whole_blocks,
        minimum_tokens,
    )
    from backends.trainer.api import (
        Method,
        Trained,
        TrainInfo,
        TrainOrder,
        TrainStep,
        decode_step,
        decode_trained,
        encode_order,
    )


def requirements_of(backend: Backend, has_gpu: bool) -> Requirements:
    """What a backend needs; it may import `backends` only when it says so.

    Raises `EngineError` where it does not say.
    """
    try:
        with own_backends():
            needed: object = backend.requirements(has_gpu)
    except (Exception, SystemExit) as error:
        if (ended := ended_in(error)) is not None:
            raise ended from None
        raise _not_said(f"{type(error).__name__}: {error}") from error
    if not isinstance(needed, Requirements):
        raise _not_said(f"{needed!r:.80} is none of backends.api.Requirements")
    return needed


def _not_said(why: str) -> EngineError:
    return EngineError(
        f"a backend does not say what packages it needs: {why}",
        remedy="Update the package that registers it, or remove it.",
    )


__all__ = (
    "BACKENDS",
    "BEYOND_MODEL",
    "DEFAULT_EMBEDDER",
    "DISTRIBUTION",
    "ENTRY_POINT_GROUP",
    "LAST",
    "LOGPROB_ROUNDING",
    "MODEL_FILES",
    "NO_FILES",
    "PACKAGE",
    "Allocated",
    "Availability",
    "Backend",
    "BackendError",
    "Batch",
    "Capabilities",
    "Decoding",
    "DecodingMode",
    "Embedded",
    "EmbedderInfo",
    "EmbedderOptions",
    "Event",
    "Finding",
    "Finish",
    "MemoryPlan",
    "Method",
    "ModelRef",
    "Option",
    "OptionValue",
    "Options",
    "Pooling",
    "Progress",
    "Prompt",
    "Reply",
    "Requirements",
    "SessionInfo",
    "Started",
    "TokenIds",
    "TokenizerInfo",
    "TrainInfo",
    "TrainOrder",
    "TrainStep",
    "Trained",
    "check_file",
    "check_model",
    "common_prefix_length",
    "decode_embedded",
    "decode_info",
    "decode_step",
    "decode_trained",
    "encode_order",
    "free",
    "has_nvidia",
    "hold",
    "in_whole_blocks",
    "install_environment",
    "install_extra",
    "mark_of",
    "minimum_tokens",
    "own_backends",
    "parts_of",
    "read_beginning",
    "records",
    "reply_reserve",
    "requirements_of",
    "usable_cpus",
    "vocabulary_sha256",
    "why_no_text",
    "wire",
    "written",
)
