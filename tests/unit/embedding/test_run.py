"""From a folder to a file of embeddings, with a stub in the place of the model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from harness.contract import EmbedderOptions
from harness.embedding.run import EmbedOrder, Update, embed
from harness.errors import DataError, EngineError, StoreError, UsageError
from harness.workload.sources import load_dataset

pytestmark = pytest.mark.usefixtures("stub")

FORMS = ["out.parquet", "out.npz", "out"]


def order(folder: Path, out: str = "out.parquet", **options: Any) -> EmbedOrder:
    return EmbedOrder(folder, folder.parent / out, options=EmbedderOptions(batch=4, **options))


def contents(out: Path) -> dict[str, bytes]:
    files = [out] if out.is_file() else sorted(path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out.parent)): path.read_bytes() for path in files}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_read_as_a_dataset(folder: Path, form: str) -> None:
    result = embed(order(folder, form))
    data = load_dataset(str(result.out), seed=0)
    assert data.classes == ("FAKE", "REAL")
    assert data.X_train.shape == (22, 3)
    assert sorted(data.X_train[:, 0]) == sorted(
        len(f"train{label}{n}") * (n + 1) for label in ("FAKE", "REAL") for n in range(11)
    )
    assert result.counts == [(s, c, 11) for s in ("train", "test") for c in ("FAKE", "REAL")]
    assert not result.out.with_name(f"{form}.part").exists()


def test_the_three_forms_are_one_dataset(folder: Path) -> None:
    hashes = {load_dataset(str(embed(order(folder, form)).out), 0).sha256 for form in FORMS}
    assert len(hashes) == 1


@pytest.mark.parametrize("form", FORMS)
def test_each_row_of_the_dataset_names_its_image(folder: Path, form: str) -> None:
    # Of files without an ending, those of the vectors lie in another order than the images.
    for name in ("x", "x-1"):
        (folder / "train" / "REAL" / name).write_bytes(name.encode() * 30)
    data = load_dataset(str(embed(order(folder, form)).out), 0)
    assert (len(data.images_train), len(data.images_test)) == (24, 22)
    for row, place in zip(data.X_train, data.images_train, strict=True):
        # The stub's first number is the length of the file.
        inside = (folder / place).parent.iterdir()
        [file] = [one for one in inside if one.stem == Path(place).stem]
        assert row[0] == len(file.read_bytes()), place


def test_the_metadata_says_how_the_vectors_were_made(folder: Path) -> None:
    out = embed(order(folder, layers=("1", "last"))).out
    written = parquet.read_schema(out).metadata
    found = json.loads(written[b"embedding"])
    assert found["model"] == "stub"
    assert found["layers"] == ["1", "last"]
    assert found["weights_sha256"] == "0" * 64
    assert found["skipped"] == []
    assert json.loads(written[b"images"])[0] == "train/FAKE/00 (a).jpg"
    with np.load(embed(order(folder, "out.npz")).out) as arrays:
        assert json.loads(str(arrays["embedding"]))["images_sha256"] == found["images_sha256"]


def test_what_cannot_be_read_is_counted_and_named(folder: Path) -> None:
    (folder / "train" / "REAL" / "skip me.jpg").write_bytes(b"x")
    (folder / "train" / "REAL" / "moving.gif").write_bytes(b"xyz")
    result = embed(order(folder))
    [skipped], [note] = result.skipped, result.notes
    assert (skipped.file, skipped.reason) == ("train/REAL/skip me.jpg", "damaged")
    assert (note.file, note.reason) == ("train/REAL/moving.gif", "first of 2 frames")
    assert len(load_dataset(str(result.out), 0).X_train) == 23


def test_a_file_that_ends_the_worker_costs_itself_alone(folder: Path) -> None:
    (folder / "train" / "FAKE" / "05 crash.jpg").write_bytes(b"x")
    result = embed(order(folder))
    [skipped] = result.skipped
    assert skipped.file == "train/FAKE/05 crash.jpg"
    assert "exit code 7" in skipped.reason
    assert len(load_dataset(str(result.out), 0).X_train) == 22


def test_an_embedder_that_always_fails_is_an_error(folder: Path) -> None:
    for number in range(3):
        (folder / "train" / "FAKE" / f"05 crash {number}.jpg").write_bytes(b"x")
    with pytest.raises(EngineError, match="failed on 3 images in a row"):
        embed(order(folder))


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("nan.jpg", EngineError, "train/FAKE/nan.jpg are not finite"),
        ("error.jpg", EngineError, "no memory is left"),
    ],
)
def test_what_goes_wrong_leaves_what_was_done(
    folder: Path, name: str, error: type[Exception], reason: str
) -> None:
    wrong = folder / "train" / "FAKE" / name
    wrong.write_bytes(b"x")
    with pytest.raises(error, match=reason):
        embed(order(folder))
    assert not (folder.parent / "out.parquet").exists()
    wrong.unlink()
    # The listing has changed, so what was done is no longer of this command.
    with pytest.raises(UsageError, match="different: images"):
        embed(order(folder))


def test_a_class_without_an_image_is_an_error(folder: Path) -> None:
    for path in (folder / "test" / "REAL").iterdir():
        path.rename(path.with_name(f"skip {path.name}"))
    with pytest.raises(DataError, match="no image of test/REAL can be read"):
        embed(order(folder))


def test_an_output_that_is_there_or_has_no_known_form_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.csv"):
        embed(order(folder, "out.csv"))
    (folder.parent / "out.parquet").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        embed(order(folder))


def test_an_embedder_that_cannot_be_opened_names_the_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_FAILS", "1")
    with pytest.raises(EngineError, match="it cannot be opened") as caught:
        embed(order(folder))
    assert caught.value.remedy == "Try another."


def test_a_model_that_cannot_be_opened_leaves_nothing_but_what_was_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "train" / "REAL" / "error.jpg").write_bytes(b"1")
    part = folder.parent / "out.parquet.part"
    monkeypatch.setenv("STUB_FAILS", "1")
    with pytest.raises(EngineError, match="it cannot be opened"):
        embed(order(folder))
    assert not part.exists()
    monkeypatch.delenv("STUB_FAILS")
    with pytest.raises(EngineError, match="no memory is left"):
        embed(order(folder))
    monkeypatch.setenv("STUB_FAILS", "1")
    with pytest.raises(EngineError, match="it cannot be opened"):
        embed(order(folder))
    assert (part / "plan.json").exists()


class StoppedError(Exception):
    pass


def stop_at(count: int) -> Any:
    def observe(update: Update) -> None:
        if update.done >= count:
            raise StoppedError

    return observe


@pytest.mark.parametrize("form", FORMS)
def test_what_was_stopped_goes_on_and_gives_the_same_file(folder: Path, form: str) -> None:
    (folder / "train" / "REAL" / "skip me.jpg").write_bytes(b"x")
    whole = embed(order(folder, f"whole{Path(form).suffix}")).out
    for count in (4, 8, 20):
        with pytest.raises(StoppedError):
            embed(order(folder, form), stop_at(count))
    result = embed(order(folder, form))
    assert result.embedded_now == 45 - 20
    mine, theirs = contents(result.out), contents(whole)
    assert list(mine.values()) == list(theirs.values())


def test_half_a_line_and_half_a_vector_are_cut_off(folder: Path) -> None:
    whole = embed(order(folder, "whole.parquet")).out
    with pytest.raises(StoppedError):
        embed(order(folder), stop_at(12))
    part = folder.parent / "out.parquet.part"
    with (part / "files.jsonl").open("a") as lines:
        lines.write('{"sha256": "0')
    vectors = part / "vectors.f32"
    vectors.write_bytes(vectors.read_bytes()[:-5])
    result = embed(order(folder))
    assert result.embedded_now == 44 - 8
    assert result.out.read_bytes() == whole.read_bytes()


def test_a_file_that_changed_is_embedded_again(folder: Path) -> None:
    with pytest.raises(StoppedError):
        embed(order(folder), stop_at(12))
    (folder / "train" / "FAKE" / "05 (a).jpg").write_bytes(b"another")
    result = embed(order(folder))
    assert result.embedded_now == 44 - 4
    data = load_dataset(str(result.out), 0)
    assert len(b"another") in data.X_train[:, 0]


def test_what_another_command_left_is_not_taken(folder: Path) -> None:
    with pytest.raises(StoppedError):
        embed(order(folder), stop_at(12))
    with pytest.raises(UsageError, match="different: layers"):
        embed(order(folder, layers=("1",)))


def test_two_commands_at_once_do_not_mix(folder: Path) -> None:
    def observe(_: Update) -> None:
        with pytest.raises(StoreError, match="another process embeds to"):
            embed(order(folder))
        raise StoppedError

    with pytest.raises(StoppedError):
        embed(order(folder), observe)


# In the order in which an embedding comes by: each leaves what the next one goes on with.
ENDS = (
    ("harness.embedding.session:ProcessTransport", 1),  # before there is a worker
    ("harness.embedding.session:decode_info", 1),  # the model is loaded
    ("pathlib:Path.replace", 1),  # the plan is written, and not yet named
    ("harness.embedding.partial:asdict", 1),  # vectors are stored, and no line counts them
    ("harness.embedding.partial:asdict", 7),  # in the middle of a batch
    ("harness.embedding.run:Update", 3),  # behind a batch
    ("harness.embedding.run:_check_finite", 5),  # before one
    ("harness.embedding.run:write", 1),  # everything is embedded
    ("harness.embedding.output:_parts", 1),  # the file is begun
    ("pathlib:Path.rename", 1),  # and whole, and not yet named
)


def test_killed_ten_times_it_writes_the_same_file(folder: Path) -> None:
    whole = embed(order(folder, "whole.parquet")).out
    out = folder.parent / "out.parquet"
    program = [sys.executable, str(Path(__file__).with_name("ended.py")), str(folder), str(out)]
    for place, count in ENDS:
        done = subprocess.run([*program, place, str(count)], check=False)
        assert (done.returncode, out.exists()) == (-signal.SIGKILL, False), place
    result = embed(order(folder))
    assert result.embedded_now == 0
    assert out.read_bytes() == whole.read_bytes()
    assert not out.with_name("out.parquet.part").exists()
