"""Whether transformers has loaded a model whole: what it does not find it makes up at random."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from backends.api import BackendError
from backends.rules import first_line

_NAMED = 3  # tensors that an error names
_REMEDY = "Fetch the model's files again, all of them from one place."


def load_whole(name: str, **given: Any) -> Any:
    """The causal language model of a file or folder called `name`. Raises `BackendError`, and
    whatever transformers raises for a damaged one."""
    from transformers import AutoModelForCausalLM

    plain: Any = AutoModelForCausalLM
    model, info = plain.from_pretrained(
        **given,
        ignore_mismatched_sizes=True,  # `check_loaded` names them
        output_loading_info=True,
    )
    check_loaded(model, info, name)
    return model


def load_untrusted(
    kind: Any, folder: Path, name: str, remedy: str, **given: Any
) -> tuple[Any, Mapping[str, Any]]:
    """The model in a folder that is called `name`, as a class of transformers such as `AutoModel`,
    and what `check_loaded` takes beside it. No pickle is read, and none of the folder's code is
    run. Raises `BackendError` with this remedy.
    """
    try:
        model, info = kind.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,  # never a pickle
            ignore_mismatched_sizes=True,  # `check_loaded` names them
            output_loading_info=True,
            **given,
        )
    except Exception as error:  # whatever a damaged folder makes transformers raise
        said = first_line(error).replace(str(folder), name)
        raise BackendError(f"transformers could not load {name}: {said}", remedy) from error
    return model, info


def check_loaded(model: Any, info: Mapping[str, Any], name: str) -> None:
    """Raises `BackendError` for weights that are not those of the file or folder called `name`.

    `info` is what `from_pretrained` returns with `output_loading_info`. Weights that are tied to
    others are not in it. Buffers are computed, not read, and a head that the model does not have is
    left alone; any other tensor that is left over is part of what should be computed.
    """
    weights = {key for key, _ in model.named_parameters(remove_duplicate=False)}
    if missing := weights & set(info["missing_keys"]):
        raise BackendError(
            f"{name} lacks weights that a {_kind(model)} needs ({_listed(missing)})", _REMEDY
        )
    if mismatched := list(info["mismatched_keys"]):
        key, found, wanted = min(mismatched)
        more = f", and {len(mismatched) - 1} more" if len(mismatched) > 1 else ""
        raise BackendError(
            f"weights in {name} have another shape than its configuration says: {key} is "
            f"{_shape(found)} and not {_shape(wanted)}{more}",
            _REMEDY,
        )
    unexpected = set(info["unexpected_keys"])
    left_over = {key for key in unexpected if _is_part(key, weights)}
    if not left_over and len(unexpected) > len(weights):
        left_over = unexpected
    if left_over:
        raise BackendError(
            f"{name} holds weights that a {_kind(model)} of its configuration has no use for "
            f"({_listed(left_over)})",
            "Check that config.json belongs to the weights.",
        )


def _is_part(key: str, weights: Iterable[str]) -> bool:
    """Whether a tensor is of one more layer or expert of the model, or changes a weight it has."""
    module, _, kind = key.rpartition(".")
    # `weight_scale` and its like belong to quantized weights.
    if (kind == "bias" or kind.startswith("weight_")) and f"{module}.weight" in weights:
        return True
    return _unnumbered(key) in {_unnumbered(weight) for weight in weights}


def _unnumbered(key: str) -> str:
    return re.sub(r"\d+", "N", key)


def _kind(model: Any) -> str:
    return f"{model.config.model_type} model"


def _listed(keys: Iterable[str]) -> str:
    """How many, and the first of them."""
    every = sorted(keys)
    return f"{len(every)}: {', '.join(every[:_NAMED])}{', ...' if len(every) > _NAMED else ''}"


def _shape(sizes: Iterable[int]) -> str:
    return " x ".join(map(str, sizes)) or "one number"
