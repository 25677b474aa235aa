"""Every baseline. Adding one means adding one line to `KINDS`."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from harness.baselines.kind import BaselineKind
from harness.errors import UsageError
from harness.workload.dataset import Kind

_VECTORS: tuple[Kind, ...] = ("vectors",)
_TEXTS: tuple[Kind, ...] = ("text",)

KINDS: tuple[BaselineKind, ...] = (
    BaselineKind(
        "logistic-same-numbers",
        "logistic regression, same numbers",
        _VECTORS,
        "logistic:predict_by_same_numbers",
        in_runs=True,
        needs_voters=True,
    ),
    BaselineKind(
        "random-forest",
        "random forest, all features",
        _VECTORS,
        "random_forest:predict",
        in_runs=True,
    ),
    BaselineKind(
        "logistic",
        "logistic regression, all features",
        _VECTORS,
        "logistic:predict_by_all_features",
        in_runs=True,
    ),
    BaselineKind("knn", "nearest neighbours", _VECTORS, "knn:predict"),
    BaselineKind(
        "hist-gradient-boosting", "gradient-boosted trees", _VECTORS, "gradient_boosting:predict"
    ),
    BaselineKind("probe", "linear probe", _VECTORS, "probe:predict"),
    BaselineKind(
        "tfidf-same-examples",
        "TF-IDF words, same examples",
        _TEXTS,
        "tfidf:predict_by_same_examples",
        in_runs=True,
        needs_voters=True,
    ),
    BaselineKind(
        "tfidf-words", "TF-IDF words, all texts", _TEXTS, "tfidf:predict_by_words", in_runs=True
    ),
    BaselineKind(
        "tfidf-characters",
        "TF-IDF characters, all texts",
        _TEXTS,
        "tfidf:predict_by_characters",
        in_runs=True,
    ),
    BaselineKind(
        "distilbert",
        "fine-tuned text encoder",
        (*_VECTORS, *_TEXTS),
        "encoder:predict",
        takes=("model", "epochs", "device", "threads", "reducer", "encoding"),
        check="encoder:check_options",
    ),
    BaselineKind(
        "two-towers",
        "two towers, vectors and label sentences",
        (*_VECTORS, *_TEXTS),
        "two_towers:predict",
        takes=("model", "epochs", "device", "threads"),
        check="two_towers:check_options",
    ),
    BaselineKind(
        "clip",
        "CLIP, images and label sentences",
        _VECTORS,
        "clip:predict",
        takes=("model", "images", "epochs", "device", "threads"),
        check="clip:check_options",
    ),
    BaselineKind(
        "most-frequent",
        "the most frequent class",
        (*_VECTORS, *_TEXTS),
        "most_frequent:predict",
        in_runs=True,
    ),
)
"""In the order in which they are shown."""

ALONE: tuple[BaselineKind, ...] = tuple(one for one in KINDS if not one.needs_voters)
"""Those of `harness baseline`."""


def kinds_in_runs(data: Kind) -> tuple[BaselineKind, ...]:
    """Those that every run over this kind of data fits."""
    return tuple(one for one in KINDS if one.in_runs and data in one.data)


def names_for(data: Kind) -> str:
    """Those of `harness baseline` that work on this kind of data."""
    return ", ".join(one.name for one in ALONE if data in one.data)


def find_kinds(names: Sequence[str]) -> list[BaselineKind]:
    """The baselines of these names. Raises `UsageError`."""
    known = {one.name: one for one in ALONE}
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            meant = f"Did you mean {near[0]}? " if near else ""
            raise UsageError(
                f"there is no baseline {name!r}",
                remedy=f"{meant}There are: {', '.join(known)}.",
            )
        if names.count(name) > 1:
            raise UsageError(f"the baseline {name} is named twice", remedy="Name each once.")
    return [known[name] for name in names]


def check_data(kinds: Sequence[BaselineKind], data: Kind, source: str) -> None:
    """Raises `UsageError` where one of them does not work on this kind of data."""
    if unlike := [one.name for one in kinds if data not in one.data]:
        held = "texts" if data == "text" else "vectors"
        raise UsageError(
            f"{source} holds {held}, and these baselines do not work on them: {', '.join(unlike)}",
            remedy=f"For {held} there are: {names_for(data)}.",
        )
