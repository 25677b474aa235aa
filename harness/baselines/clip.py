"""CLIP on the images that the vectors were made of: zero-shot, or tuned contrastively."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.baselines.encoder import validation_accuracy
from harness.baselines.kind import Prediction, Task
from harness.baselines.pairs import pair_facts
from harness.baselines.training import Rows, Split, hold_out, train
from harness.baselines.two_towers import sentences
from harness.errors import DataError, UsageError
from harness.workload.images import ImageFile, list_images


def check_options(options: Mapping[str, Any]) -> None:
    if not options.get("model"):
        raise UsageError(
            "clip needs the weights of a CLIP model, and no package has them",
            remedy="Name a folder, or a model in the hub's cache, with --model; or fit two-towers, "
            "which stands in for it.",
        )
    if not options.get("images"):
        raise UsageError(
            "clip looks at images, and the data are vectors",
            remedy="Name the folder of {train,test}/CLASS/* images that they were made of with "
            "--images.",
        )


def predict(task: Task) -> Prediction:
    """With `epochs` 0 it is zero-shot."""
    split = hold_out(task.y_train, task.seed)
    files = images_of(Path(task.options["images"]), task, split)
    found = train(task, "clip", split, Rows(images=files), sentences(task, "photo"))
    zero_shot = task.options.get("epochs") == 0
    return found.prediction(
        {
            "training": "none (zero-shot)" if zero_shot else "contrastive fine-tuning",
            "label sentence": "a photo that is ...",
            **validation_accuracy(found.validation, task, split),
            **pair_facts(found.validation, task.y_train[split.validated], task.seed),
        }
    )


def images_of(folder: Path, task: Task, split: Split) -> list[str]:
    """The file of each row, in the order of `Rows`: by its name, wherever the row stands.

    Raises `DataError` where the data do not say it, or the folder has other images.
    """
    if not (task.images_train and task.images_queries):
        raise DataError(
            "the data do not say of which image each vector was made",
            remedy="Embed the images again with `harness embed`; or give a folder with a .npy file "
            "for each image, called like it.",
        )
    known = _by_place(list_images(folder))
    rows = np.concatenate([split.fitted, split.validated]).tolist()
    wanted = [*(task.images_train[row] for row in rows), *task.images_queries]
    found = [one for place in wanted if (one := known.get(place)) is not None]
    if lacking := [place for place in wanted if known.get(place) is None]:
        raise DataError(
            f"{folder}: {len(lacking):,} of the {len(wanted):,} images that the vectors were made "
            f"of are missing, or several files have that name; the first is {lacking[0]}",
            remedy="Name the folder that `harness embed` was given.",
        )
    for row, one in zip(rows, found, strict=False):  # of queries no baseline knows the class
        if one.label != task.classes[task.y_train[row]]:
            raise DataError(
                f"{folder}: {one.stored_place} is of another class than its vector: the data were "
                "changed since they were made",
                remedy="Embed the images again with `harness embed`.",
            )
    return [str(_path(folder, one)) for one in found]


def _by_place(images: Sequence[ImageFile]) -> Mapping[str, ImageFile | None]:
    """Each by its place, and by that without the ending; `None` where that is of several."""
    known: dict[str, ImageFile | None] = {}
    for one in images:
        short = one.stored_place.removesuffix(Path(one.name).suffix)
        known[short] = None if short in known else one
    # A folder of vectors calls what begins with a dot otherwise: such a file would be hidden.
    hidden = {
        f"{one.split}/{one.label}/_{Path(one.name).stem}": one
        for one in images
        if one.name.startswith(".")
    }
    return {**hidden, **known, **{one.stored_place: one for one in images}}


def _path(folder: Path, image: ImageFile) -> Path:
    return (folder / image.split / image.label / image.name).resolve()
