"""CLIP on the images that the vectors were made of: zero-shot, or tuned contrastively."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.baselines.encoder import validation_accuracy
from harness.baselines.kind import Prediction, Task, labels_sha256
from harness.baselines.pairs import pair_facts
from harness.baselines.training import Rows, Split, hold_out, train
from harness.baselines.two_towers import sentences
from harness.errors import DataError, UsageError
from harness.workload.images import ImageFile, list_images


def predict(task: Task) -> Prediction:
    """With `epochs` 0 it is zero-shot."""
    if not task.options.get("model"):
        raise UsageError(
            "clip needs the weights of a CLIP model, and no package has them",
            remedy="Name a folder, or a model in the hub's cache, with --model; or fit two-towers, "
            "which stands in for it.",
        )
    if not (given := task.options.get("images")):
        raise UsageError(
            "clip looks at images, and the data are vectors",
            remedy="Name the folder of {train,test}/CLASS/* images that they were made of with "
            "--images.",
        )
    split = hold_out(task.y_train, task.seed)
    files = images_of(Path(given), task, split)
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
    """The file of each row, in the order of `Rows`.

    Rows of embeddings stand in the order of their images' names within split and class. Raises
    `DataError` where these images cannot be theirs.
    """
    every = list_images(folder)
    train_, test = ([one for one in every if one.split == name] for name in ("train", "test"))
    sha256 = labels_sha256(task.classes[label] for label in task.y_train.tolist())
    found = [labels_sha256(one.label for one in part) for part in (train_, test)]
    if found != [sha256, task.test_sha256]:
        raise DataError(
            f"{folder}: these are not the images that the vectors were made of: their number in "
            "each class of train or test is another, or their order is",
            remedy="Name the folder that `harness embed` was given, with no file more or fewer. "
            "Take out of it the files that it skipped.",
        )
    rows = np.concatenate([split.fitted, split.validated]).tolist()
    chosen = [*(train_[row] for row in rows), *(test[row] for row in task.query_rows)]
    return [str(_path(folder, one)) for one in chosen]


def _path(folder: Path, image: ImageFile) -> Path:
    return (folder / image.split / image.label / image.name).resolve()
