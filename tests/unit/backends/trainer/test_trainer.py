"""Tiny models, trained on planted texts, vectors and images: what they learn, what is refused."""

from __future__ import annotations

import json
import shutil
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from backends.api import BackendError, ModelRef
from backends.trainer import encoder
from backends.trainer.api import Trained, TrainOrder, TrainStep
from backends.trainer.backend import train
from backends.trainer.lesson import is_over
from backends.trainer.towers import contrastive_loss
from tests.tiny_models import save_clip, save_tokenizer

from .conftest import MakeOrder, planted

TRUTH = planted(84, 0)[1][64:]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny models know nothing: they learn at another rate than real ones."""
    rate = {"pretrained": 3e-3, "fresh": 3e-3}
    monkeypatch.setattr(encoder, "_LEARNING_RATE", rate)
    monkeypatch.setattr(encoder, "_BATCH", 16)


def reference(folder: Path) -> ModelRef:
    return ModelRef("tiny", "hf", str(folder))


def run(order: TrainOrder, folder: Path | None, tell: Any = lambda _: None) -> Trained:
    return train(reference(folder) if folder else None, order, tell)


def right(found: array[int], classes: int = 2) -> float:
    scores = np.frombuffer(found, dtype=np.float32).reshape(-1, classes)
    return float((scores.argmax(axis=1) == TRUTH).mean())


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few validation rows end a training at random."""
    monkeypatch.setattr("backends.trainer.lesson._PATIENCE", 100)


@pytest.mark.usefixtures("patient")
def test_an_encoder_learns_planted_texts_and_a_seed_repeats(
    make_order: MakeOrder, encoder_folder: Path
) -> None:
    steps: list[TrainStep] = []
    given = {"epochs": 20, "seed": 3}
    first = run(make_order(place="one", **given), encoder_folder, steps.append)
    assert right(first.queries) == 1.0
    assert (first.info.weights, first.info.model, first.info.cut) == ("pretrained", "tiny", 0)
    assert first.info.best_epoch > 0
    assert steps[0].stage.startswith("importing")
    again = run(make_order(place="two", **given), encoder_folder)
    assert (again.queries, again.validation) == (first.queries, first.validation)


def test_a_training_that_was_killed_goes_on_to_the_same_scores(
    make_order: MakeOrder, encoder_folder: Path
) -> None:
    whole = run(make_order(place="whole"), encoder_folder)
    order = make_order(place="killed")

    class KilledError(Exception):
        pass

    def kill(step: TrainStep) -> None:
        if len(list(Path(order.folder).glob("checkpoint-*/trainer_state.json"))) > 1:
            raise KilledError

    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        patched.setattr("backends.trainer.lesson._SECONDS_BETWEEN_SIGNS", 0.0)
        with pytest.raises(KilledError):
            run(order, encoder_folder, kill)
    # The last checkpoint is half written: the one before it is taken.
    last = max(Path(order.folder).glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    (last / "trainer_state.json").write_text("{")
    resumed = run(order, encoder_folder)
    assert resumed.info.resumed_at > 0
    assert (resumed.queries, resumed.validation) == (whole.queries, whole.validation)
    # Once more, with all of it done.
    assert run(order, encoder_folder).queries == whole.queries
    # Another seed is another plan, and begins.
    assert run(make_order(place="killed", seed=9, epochs=1), encoder_folder).info.resumed_at == 0


def test_validation_losses_that_grow_end_the_training() -> None:
    def losses(*values: float) -> bool:
        return is_over([{"eval_loss": value} for value in values] + [{"loss": 0.0}])

    assert not losses()
    assert not losses(0.5, 0.6)
    assert losses(0.5, 0.6, 0.5)
    assert not losses(0.5, 0.6, 0.4)


def test_a_fresh_encoder_says_so_and_long_texts_are_counted(
    make_order: MakeOrder, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "_PACKAGE", "no_such_package")
    texts = make_order().texts
    fresh = run(make_order(epochs=6, place="fresh"), None)
    assert (fresh.info.weights, fresh.info.model) == ("fresh", "small DistilBERT")
    assert right(fresh.queries) == 1.0
    longer = (f"{texts[0]} {'great ' * 20}", *texts[1:])
    found = run(make_order(epochs=1, texts=longer), encoder_folder)
    assert (found.info.cut, found.info.longest) == (1, 16)


def copied(source: Path, target: Path, **config: Any) -> Path:
    shutil.copytree(source, target)
    path = target / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return target


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("no weights", "holds no safetensors"),
        ("pickles", "are pickles"),
        ("remote code", "running code that came with it"),
        ("decoder", "not an encoder of texts"),
        ("no tokenizer", "no usable tokenizer"),
        ("damaged weights", "could not load tiny"),
        ("other tokenizer", "has 100 tokens, and the model"),
        ("no config", "there is no config.json"),
    ],
)
def test_a_model_that_cannot_be_trained_is_one_clear_error(
    make_order: MakeOrder, encoder_folder: Path, tmp_path: Path, case: str, reason: str
) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "remote code": {"model_type": "own", "auto_map": {"AutoModel": "code.Own"}},
        "decoder": {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]},
    }
    folder = copied(encoder_folder, tmp_path / "model", **kinds.get(case, {}))
    weights = folder / "model.safetensors"
    if case in ("no weights", "pickles"):
        weights.unlink()
    if case == "pickles":
        (folder / "pytorch_model.bin").write_bytes(b"x")
    if case == "no tokenizer":
        for path in folder.glob("tokenizer*"):
            path.unlink()
    if case == "damaged weights":
        weights.write_bytes(weights.read_bytes()[:2000])
    if case == "other tokenizer":
        save_tokenizer(folder, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *map(str, range(96))))
    if case == "no config":
        (folder / "config.json").unlink()
    with pytest.raises(BackendError, match=reason):
        run(make_order(), folder)


def test_memory_that_runs_out_is_a_clear_error(
    make_order: MakeOrder, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1 TB")

    monkeypatch.setattr("backends.trainer.lesson._scores", fail)
    with pytest.raises(BackendError, match="no memory is left") as caught:
        run(make_order(epochs=1), encoder_folder)
    assert "goes on from the last checkpoint" in caught.value.remedy


def test_a_device_that_the_trainer_would_not_use_is_refused(
    make_order: MakeOrder, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second CPU stands for a second GPU, of which transformers knows as little."""
    monkeypatch.setattr("backends.hf.devices.device", lambda _: torch.device("cpu:1"))
    with pytest.raises(BackendError, match="cannot be on cpu:1: transformers would use cpu") as e:
        run(make_order(epochs=1), encoder_folder)
    assert "CUDA_VISIBLE_DEVICES=1" in e.value.remedy


def test_rows_of_one_class_are_no_rivals() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    perfect = torch.tensor([[50.0, 0.0], [50.0, 0.0], [0.0, 50.0], [0.0, 50.0]])
    # No row can tell its own text from the equal one: the loss of a perfect model is log 2.
    assert contrastive_loss(perfect, labels).item() == pytest.approx(np.log(2), abs=1e-6)
    assert contrastive_loss(-perfect, labels).item() > 10
    # In a batch of one class it is the same for right and wrong (`training.hold_out`).
    for row in ([50.0, 0.0], [0.0, 50.0]):
        loss = contrastive_loss(torch.tensor([row] * 4), torch.zeros(4, dtype=torch.long)).item()
        assert loss == pytest.approx(np.log(4), abs=1e-6)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("kind", ["vectors", "texts"])
def test_two_towers_learn(
    make_order: MakeOrder, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    given: dict[str, Any] = {"method": "two-towers", "epochs": 30}
    given["classes"] = ("a film that is awful", "a film that is great")
    monkeypatch.setattr("backends.trainer.towers._LEARNING_RATE", 1e-2)
    if kind == "vectors":
        labels = np.array(planted(84, 0)[1])
        X = np.random.default_rng(0).normal(size=(84, 12)).astype(np.float32)
        X[:, :6] += 4 * labels[:, None]
        order = make_order(**given, texts=())
        path = Path(order.folder) / "vectors.npy"
        np.save(path, X)
        order = make_order(**given, texts=(), vectors=str(path))
    else:
        order = make_order(**given)
    assert right(run(order, encoder_folder).queries) >= 0.95


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


def test_clip_is_zero_shot_without_epochs_and_learns_with_them(
    make_order: MakeOrder, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backends.trainer.clip._LEARNING_RATE", 3e-3)
    labels = planted(84, 0)[1]
    files = []
    for row, label in enumerate(labels):
        path = tmp_path / f"{row}.png"
        Image.new("RGB", (20, 20), (220, 40, row) if label else (20, 60, 200 - row)).save(path)
        files.append(str(path))
    given: dict[str, Any] = {
        "method": "clip",
        "texts": (),
        "images": tuple(files),
        "classes": ("that is cold", "that is warm"),
    }
    zero = run(make_order(place="zero", epochs=0, **given), clip_folder)
    assert zero.info.epochs == 0
    tuned = run(make_order(place="tuned", epochs=6, **given), clip_folder)
    assert right(tuned.queries) == 1.0
    assert tuned.info.weights == "pretrained"
    Path(files[0]).write_bytes(b"no image")
    with pytest.raises(BackendError, match=r"0\.png cannot be read as an image"):
        run(make_order(place="damaged", epochs=1, **given), clip_folder)


def test_a_tokenizer_of_another_clip_is_refused(
    make_order: MakeOrder, clip_folder: Path, tmp_path: Path
) -> None:
    folder = copied(clip_folder, tmp_path / "model")
    # "great" has number 100, and the model knows 17 tokens.
    save_tokenizer(folder, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *map(str, range(96)), "great"))
    order = make_order(method="clip", texts=(), images=("x",), classes=("great", "awful"))
    with pytest.raises(BackendError, match="more tokens than the 17 of the model"):
        run(order, folder)


def test_what_is_no_clip_is_refused(make_order: MakeOrder, encoder_folder: Path) -> None:
    with pytest.raises(BackendError, match="a distilbert model, and no CLIP"):
        run(make_order(method="clip", texts=(), images=("x",)), encoder_folder)
