"""The parent's side of a trainer, with a stub in its place; and one tiny encoder, killed once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.baselines import clip, encoder, training, two_towers
from harness.baselines.kind import Task
from harness.baselines.training import hold_out, said
from harness.contract import TrainStep
from harness.engine.registry import Registered
from harness.errors import DataError, EngineError, StoreError, UsageError

TEXTS = np.array(["a one", "b two"] * 20, dtype=np.object_)
LABELS = np.arange(40) % 2


def task(**given: Any) -> Task:
    fields: dict[str, Any] = {
        "X_train": TEXTS,
        "y_train": LABELS,
        "X_queries": np.array(["b", "a", "b"], dtype=np.object_),
        "classes": ("bad", "good"),
        "shown": (),
        "seed": 0,
        "options": {},
    }
    return Task(**{**fields, **given})


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(training, "TRAINER", Registered("embedder", "stub_trainer"))


def test_validation_rows_are_a_tenth_of_each_class() -> None:
    y = np.array([0] * 60 + [1] * 30 + [2] * 2 + [3])
    split = hold_out(y, 0)
    assert np.bincount(y[split.validated], minlength=4).tolist() == [6, 3, 1, 0]
    assert sorted([*split.fitted, *split.validated]) == list(range(93))
    # Classes mixed, whatever the order of the rows: a batch of one class has no contrastive loss.
    assert split.validated.tolist() != sorted(split.validated)
    assert hold_out(y, 0).validated.tolist() == split.validated.tolist()
    assert hold_out(y, 1).validated.tolist() != split.validated.tolist()
    with pytest.raises(DataError, match="one training row only"):
        hold_out(np.array([0, 1]), 0)


def test_progress_says_where_it_is() -> None:
    assert said(TrainStep("loading the model")) == "loading the model"
    step = TrainStep("training", 30, 90, 0.97, 3, 0.4123, 2.0)
    assert said(step) == (
        "training, epoch 1.0 of 3, step 30 of 90, loss 0.412, 2.0 steps/s, 30 s left at most"
    )


@pytest.mark.usefixtures("stub")
def test_the_prediction_and_what_is_known_of_it() -> None:
    heard: list[str] = []
    found = encoder.predict(task(say=heard.append))
    assert found.labels.tolist() == [1, 0, 1]
    assert found.facts["weights"] == "fresh"
    assert found.facts["model"] == "stub"
    assert (found.facts["texts cut"], found.facts["to tokens"]) == (3, 8)
    assert found.facts["computed in"] == "float32 on cpu, 1 thread"
    assert found.facts["validation accuracy"] == 1.0
    assert found.peak_rss_mib is not None
    assert heard == [
        "training, epoch 0.5 of 2, step 1 of 4, loss 0.250, 1.5 steps/s, 2 s left at most"
    ]


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize(
    ("fault", "reason", "remedy"),
    [
        ("dies", "the training failed: the engine ended with exit code 7", "goes on from the last"),
        ("refuses", "no memory is left", "Use less."),
        ("lacks", "queries: not a score for each", "See "),
        ("counts no further", "a score is no finite number", "See "),
    ],
)
def test_a_trainer_that_fails_is_one_error(fault: str, reason: str, remedy: str) -> None:
    with pytest.raises(EngineError, match=reason) as caught:
        encoder.predict(task(classes=(fault, "good")))
    assert remedy in caught.value.remedy


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize(
    ("fault", "is_named"), [("dies", True), ("raises", True), ("refuses", False)]
)
def test_the_log_that_an_error_names_is_there(tmp_path: Path, fault: str, is_named: bool) -> None:
    folder = tmp_path / "work"
    with pytest.raises(EngineError) as caught:
        encoder.predict(task(classes=(fault, "good"), folder=folder))
    assert (str(folder / "log") in caught.value.remedy) is is_named
    assert (folder / "log").exists() is is_named


@pytest.mark.usefixtures("stub")
def test_one_process_trains_the_same_at_a_time(tmp_path: Path) -> None:
    wanted = task(folder=tmp_path / "work")
    with training._folder(wanted), pytest.raises(StoreError, match="another process trains"):
        encoder.predict(wanted)


@pytest.mark.usefixtures("stub")
def test_a_training_that_fails_leaves_no_copy_of_the_vectors(tmp_path: Path) -> None:
    X = np.zeros((43, 4), np.float32)
    work = tmp_path / "work"
    with pytest.raises(EngineError, match="not a score for each"):  # the stub reads texts
        two_towers.predict(task(X_train=X[:40], X_queries=X[40:], folder=work))
    assert sorted(path.name for path in work.iterdir()) == ["lock", "log"]


def test_vectors_are_written_by_a_reducer_that_saw_no_validation_row() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 6)).astype(np.float32)
    data = task(X_train=X, X_queries=X[:3], options={"reducer": "none", "encoding": "int:10"})
    split = hold_out(LABELS, 0)
    texts, facts = encoder.as_texts(data, split)
    assert facts == {"reducer": "none", "encoding": "int:10"}
    assert len(texts) == 43
    fitted = np.array([text.split() for text in texts[: len(split.fitted)]], dtype=int)
    assert fitted.min(axis=0).tolist() == [0] * 6
    assert fitted.max(axis=0).tolist() == [9] * 6
    # Changed values of rows held out change nothing of how the others are written.
    X[split.validated] += 100
    again, _ = encoder.as_texts(data, split)
    assert again[: len(split.fitted)] == texts[: len(split.fitted)]


@pytest.mark.parametrize("model", ["distilbert-base-uncased", "no/such/folder", "x.gguf"])
def test_a_model_that_is_not_there_is_an_error_that_says_what_there_can_be(model: str) -> None:
    with pytest.raises(UsageError, match=f"^--model: .*{model}") as caught:
        encoder.predict(task(options={"model": model}))
    assert caught.value.remedy == (
        "Give a folder with safetensors, or OWNER/MODEL as the hub calls it."
    )


def test_few_numbers_are_written_as_they_are_and_a_reducer_of_more_is_refused() -> None:
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    data = task(X_train=X, X_queries=X[:3])
    split = hold_out(LABELS, 0)
    texts, facts = encoder.as_texts(data, split)
    assert facts["reducer"] == "none"
    assert {len(text.split()) for text in texts} == {3}
    with pytest.raises(UsageError, match=r"pls:4: .* allow at most 3 numbers") as caught:
        encoder.as_texts(replace(data, options={"reducer": "pls:4"}), split)
    assert "--feature-fraction" not in caught.value.remedy  # `harness baseline` has none
    with pytest.raises(UsageError, match="'pls' is not known") as caught:
        encoder.as_texts(replace(data, options={"reducer": "pls"}), split)
    assert "pls:K" in caught.value.remedy


@pytest.mark.parametrize("option", ["reducer", "encoding"])
def test_options_of_vectors_are_refused_for_texts(option: str) -> None:
    with pytest.raises(UsageError, match=f"--{option}: this is for vectors"):
        encoder.predict(task(options={option: "none"}))


def test_what_was_never_trained_is_no_baseline() -> None:
    for check in (encoder.check_options, two_towers.check_options):
        check({"epochs": None})
        with pytest.raises(UsageError, match="--epochs 0"):
            check({"epochs": 0})


def images(folder: Path, counts: dict[str, int]) -> Path:
    for place, count in counts.items():
        (folder / place).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (4, 4)).save(folder / place / f"{number:03}.png")
    return folder


def clip_task(**given: Any) -> Task:
    """Rows in another order than that of the names of their images."""
    X = np.zeros((6, 2), np.float32)
    fields: dict[str, Any] = {
        "X_train": X,
        "y_train": np.array([0, 1, 0, 1, 0, 1]),
        "X_queries": X[:2],
        "images_train": [f"train/{('bad', 'good')[row % 2]}/{5 - row:03}.png" for row in range(6)],
        "images_queries": ["test/good/001.png", "test/bad/000.png"],
    }
    return task(**{**fields, **given})


FILES = {"train/bad": 6, "train/good": 6, "test/bad": 2, "test/good": 2}


@pytest.mark.parametrize("form", ["whole", "without ending"])
def test_clip_finds_the_image_of_each_row_by_its_name(tmp_path: Path, form: str) -> None:
    folder = images(tmp_path, FILES)
    data = clip_task()
    if form == "without ending":
        data = replace(
            data,
            images_train=[one.removesuffix(".png") for one in data.images_train],
            images_queries=[one.removesuffix(".png") for one in data.images_queries],
        )
    split = hold_out(data.y_train, 0)
    found = [Path(one).relative_to(folder.resolve()) for one in clip.images_of(folder, data, split)]
    rows = [*split.fitted.tolist(), *split.validated.tolist()]
    names = [f"train/{('bad', 'good')[row % 2]}/{5 - row:03}.png" for row in rows]
    assert list(map(str, found)) == [*names, "test/good/001.png", "test/bad/000.png"]


def test_clip_refuses_images_that_are_not_those_of_the_rows(tmp_path: Path) -> None:
    folder = images(tmp_path, FILES)
    data = clip_task()
    split = hold_out(data.y_train, 0)
    with pytest.raises(DataError, match="do not say of which image"):
        clip.images_of(folder, replace(data, images_train=()), split)
    with pytest.raises(DataError, match="is of another class than its vector"):
        clip.images_of(folder, replace(data, y_train=1 - data.y_train), split)
    (folder / "test" / "good" / "001.png").rename(folder / "test" / "good" / "001.webp")
    with pytest.raises(DataError, match=r"1 of the 8 .* missing, .*; the first is test/good/001\.png"):
        clip.images_of(folder, data, split)
    # Without an ending it is there; with two that differ in the ending, it is either.
    short = replace(data, images_queries=["test/good/001", "test/bad/000"])
    assert clip.images_of(folder, short, split)[-2].endswith("001.webp")
    (folder / "test" / "good" / "001.gif").touch()
    with pytest.raises(DataError, match="several files have that name; the first is test/good/001"):
        clip.images_of(folder, short, split)


def test_clip_needs_weights_and_images() -> None:
    with pytest.raises(UsageError, match="needs the weights of a CLIP model"):
        clip.check_options({"model": None})
    with pytest.raises(UsageError, match="looks at images"):
        clip.check_options({"model": "x", "images": None})
    clip.check_options({"model": "x", "images": "y", "epochs": 0})
