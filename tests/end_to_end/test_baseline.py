"""`harness baseline` as its users meet it: a command, its answer, and what the other commands make
of what it stored."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import psutil
import pytest
from PIL import Image

from harness.errors import StoreError
from harness.store.runs import Results, has_results
from tests.end_to_end.inside import environment, inside
from tests.tiny_models import BAD, GOOD, save_clip, save_encoder

HARNESS = (sys.executable, "-m", "harness")
SCHEMA = Path(__file__).parents[2] / "docs" / "run.schema.json"
QUERIES = "60"
SMALL = (
    *("--voters", "2", "--calibration-queries", "4", "--max-model-len", "300"),
    *("--reducer", "plsda:1", "--max-tokens", "4", "--quiet"),
)
# On a slow machine, the progress of even so little is a line.
THIRTY = ("--queries", "30", "--quiet")
PATIENCE_SECONDS = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_data: str) -> Path:
    """With a run of the mock called "engines" and one of baselines called "alone"."""
    folder = tmp_path_factory.mktemp("baseline")
    data = ("--data", small_data, "--queries", QUERIES)
    for command in (
        ("run", "--backend", "mock", "--name", "engines", *data, *SMALL),
        ("baseline", "random-forest", "most-frequent", "--name", "alone", *data, "--quiet"),
    ):
        done = inside(folder, *command)
        assert (done.returncode, done.stderr) == (0, "")
    return folder


def asked(folder: Path, *arguments: str) -> str:
    done = inside(folder, *arguments, COLUMNS="140")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def as_json(folder: Path, *arguments: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(asked(folder, *arguments, "--json"))
    return answer


def test_a_command_prints_its_answer_and_nothing_else(tmp_path: Path, small_data: str) -> None:
    done = subprocess.run(
        [*HARNESS, "baseline", "logistic", "knn", "--data", small_data, *THIRTY],
        cwd=tmp_path,
        env=environment(COLUMNS="80"),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "vectors of 12 numbers, 160 train, 160 test" in " ".join(" ".join(lines[:2]).split())
    assert any(line.startswith("Best baseline, ") for line in lines)
    assert any(line.startswith("logistic regression,") for line in lines)
    assert "neighbours 15" in done.stdout
    assert "baselines; 30 queries; seed 0" in " ".join(done.stdout.split())
    assert all(len(line) <= 80 for line in lines)


def test_show_prints_the_same_and_its_json_fits_the_schema(folder: Path) -> None:
    assert asked(folder, "show", "latest") == asked(folder, "show", "alone", "--recompute")
    answer = as_json(folder, "show", "alone")
    jsonschema.validate(answer, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert answer["spec"]["baseline"] == ["random-forest", "most-frequent"]
    assert answer["runs"] == []
    assert [one["kind"] for one in answer["baselines"]] == answer["spec"]["baseline"]
    assert len(answer["queries"]["rows"]) == int(QUERIES)


def test_list_has_a_row_for_it(folder: Path) -> None:
    alone, engines = as_json(folder, "list")["runs"]
    assert (alone["name"], alone["state"], alone["queries"]) == ("alone", "done", int(QUERIES))
    assert list(alone["accuracy"]) == ["random-forest", "most-frequent"]
    assert engines["backends"] == ["mock"]
    assert "random-forest 0." in asked(folder, "list")
    rows = list(csv.DictReader(io.StringIO(asked(folder, "list", "--format", "csv"))))
    assert [row["entry"] for row in rows] == ["random-forest", "most-frequent", "mock"]


def test_compare_shows_engines_and_baselines_in_one_table(folder: Path) -> None:
    text = asked(folder, "compare", "engines", "alone")
    table = text.split("Run ")[0]
    assert all(name in table for name in ("mock", "random-forest", "most-frequent", "alone"))
    assert "accuracy (random-forest +" in text  # a sentence says what is shown, and what is not
    answer = as_json(folder, "compare", "engines", "alone")
    first, second = answer["against_first"]
    assert first["differences"][0]["paired"]
    assert second["differences"][0]["p_adjusted"] is not None
    flips = asked(folder, "compare", "engines", "alone:random-forest", "--flips")
    assert "queries became right" in flips


def test_a_table_of_baselines_alone_is_compared_too(folder: Path) -> None:
    text = asked(folder, "compare", "alone")
    assert "random-forest" in text
    assert "prefill" not in text


def test_export_has_a_row_for_each_query_and_baseline(folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(asked(folder, "export", "alone", "--format", "csv"))))
    assert len(rows) == 2 * int(QUERIES)
    run = Results(folder / "results").run("alone")
    for name, baseline in run.fitted.items():
        own = [row for row in rows if row["baseline"] == name]
        assert [int(row["row"]) for row in own] == run.queries.rows
        right = sum(row["verdict"] == "right" for row in own) / len(own)
        assert right == baseline.record.estimate.value


def test_the_line_that_repeats_it_is_shown(folder: Path, small_data: str) -> None:
    line = asked(folder, "show", "alone", "--command").strip()
    assert line == (
        f"harness baseline random-forest most-frequent --data {small_data} --queries {QUERIES}"
    )


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("show", "alone", "--replies"), "is of baselines: nothing was prompted in it"),
        (("show", "alone", "--prompt", "0:0"), "is of baselines"),
        (("run", "--resume", "alone"), "is of baselines"),
        (("run", "--backend", "mock", "--prompts-from", "alone"), "is of baselines"),
        (("show", "alone:knn"), "names one entry"),
        (("compare", "engines", "alone:knn"), "has no entry or baseline 'knn'"),
    ],
)
def test_what_needs_prompts_says_that_there_are_none(
    folder: Path, command: tuple[str, ...], said: str
) -> None:
    done = inside(folder, *command)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "try: " in done.stderr


def test_history_leaves_it_out(folder: Path) -> None:
    assert "random-forest" not in asked(folder, "history", "--all")


def test_passed_on_as_an_archive_it_is_the_same_and_it_can_be_deleted(
    folder: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "run.zip"
    assert inside(folder, "export", "alone", "-o", str(archive)).returncode == 0
    assert inside(tmp_path, "import", str(archive)).returncode == 0
    there, here = (as_json(place, "show", "alone") for place in (folder, tmp_path))
    assert there["baselines"] == here["baselines"]
    assert there["queries"] == here["queries"]
    assert inside(tmp_path, "delete", "alone", "--yes").returncode == 0
    assert list(Results(tmp_path / "results")) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("rndom-forest",), "Did you mean random-forest?"),
        (("tfidf-words",), "For vectors there are: random-forest"),
        (("knn", "--queries", "0"), "--queries is 0"),
        (("knn", "--voters", "3"), "there is no option --voters"),
        ((), "NAME is missing"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_right(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = inside(tmp_path, "baseline", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_ctrl_c_leaves_what_is_finished(tmp_path: Path) -> None:
    # a shell starts background jobs with Ctrl-C ignored, which this test would hand on
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*HARNESS, "baseline", "most-frequent", "hist-gradient-boosting"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, handler)
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not _is_stored(tmp_path) and time.monotonic() < give_up:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out) == (130, "")
    assert "Interrupted. What was fitted is stored; the same command goes on" in said
    [run] = Results(tmp_path / "results")
    assert [one.kind for one in run.summary.baselines] == ["most-frequent"]
    assert "Not fitted: hist-gradient-boosting." in asked(tmp_path, "show", "latest")
    listed = as_json(tmp_path, "list")["runs"][0]
    assert (listed["state"], list(listed["accuracy"])) == ("unfinished", ["most-frequent"])


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    """Images of two colours, and vectors of them in another order than that of their names."""
    rng = np.random.default_rng(3)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 60), ("test", 40)):
        places = []
        for row in range(count):
            label = ("cold", "warm")[row % 2]
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True, exist_ok=True)
            colour = (*rng.integers(0, 256, 2), 255) if row % 2 else (*rng.integers(0, 256, 2), 0)
            Image.new("RGB", (20, 20), tuple(map(int, colour))).save(folder / f"{row}.png")
            places.append(f"{split}/{label}/{row}.png")
        order = rng.permutation(count)
        arrays[f"images_{split}"] = np.array(places)[order]
        arrays[f"y_{split}"] = np.array([place.split("/")[1] for place in places])[order]
        arrays[f"X_{split}"] = rng.normal(size=(count, 4)).astype(np.float32)
    np.savez(tmp_path / "coloured.npz", **arrays)
    return tmp_path


def test_clip_is_zero_shot_or_tuned_on_the_image_of_each_row(coloured: Path) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model = save_clip(coloured / "clip", seed=8)
    given = ("--model", "clip", "--images", "images", "--data", "coloured.npz")
    found = {}
    for epochs in ("0", "2"):
        done = inside(
            *(coloured, "baseline", "clip", *given, "--queries", "40", "--epochs", epochs),
            *("--threads", "1", "--device", "cpu", "--json", "--quiet"),
        )
        assert (done.returncode, done.stderr) == (0, "")
        found[epochs] = json.loads(done.stdout)
    [zero], [tuned] = (one["baselines"] for one in found.values())
    assert zero["facts"]["training"] == "none (zero-shot)"
    assert zero["facts"]["epochs"] == 0
    assert tuned["facts"]["training"] == "contrastive fine-tuning"
    assert tuned["facts"]["epochs"] == 2
    for one in (zero, tuned):
        assert one["facts"]["weights"] == "pretrained"
        assert one["facts"]["model"] == "clip"
        # Pair accuracy is of the validation rows, label accuracy of the queries.
        assert one["facts"]["validation rows"] == 6
        pairs = one["facts"]["pair accuracy in batches of 4"]
        assert 0 <= pairs <= 1
        assert one["facts"]["pair accuracy ceiling"] == pytest.approx(0.4688, abs=1e-4)

    # What the same weights say of the very image of each query.
    network = transformers.CLIPModel.from_pretrained(model)
    processor = transformers.CLIPImageProcessorPil.from_pretrained(model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    tokens = tokenizer(["a photo that is cold", "a photo that is warm"], return_tensors="pt")
    queries = found["0"]["queries"]
    with np.load(coloured / "coloured.npz") as arrays:
        places = arrays["images_test"][queries["rows"]]
    images = [Image.open(coloured / "images" / place) for place in places]
    pixels = processor(images=images, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        logits = network(pixel_values=pixels, **tokens).logits_per_image
    expected = logits.argmax(dim=1).tolist()
    assert len(set(expected)) == 2
    assert zero["predictions"] == expected
    labels = [place.split("/")[1] for place in places]
    assert [queries["classes"][label] for label in queries["labels"]] == labels
    right = np.mean(np.array(zero["predictions"]) == np.array(queries["labels"]))
    assert zero["estimate"]["value"] == pytest.approx(float(right))


def test_what_was_killed_goes_on_and_gives_what_an_undisturbed_command_gives(
    tmp_path: Path,
) -> None:
    pytest.importorskip("torch")
    save_encoder(tmp_path / "encoder")
    rows = [
        f"{split},{label},a {word} film"
        for split, count in (("train", 20), ("test", 10))
        for number in range(count)
        for label, words in (("good", GOOD), ("bad", BAD))
        for word in words[number % 4 :][:1]
    ]
    (tmp_path / "texts.csv").write_text("\n".join(["split,label,text", *rows]))
    command = [
        *("baseline", "tfidf-words", "distilbert", "--data", "texts.csv", "--model", "encoder"),
        *("--queries", "20", "--epochs", "60", "--threads", "1", "--device", "cpu", "--quiet"),
    ]
    whole = as_json(tmp_path, *command, "--results", "whole")
    checkpoints = tmp_path / "results" / "checkpoints"

    # While a checkpoint is written, and behind one.
    for wanted in ("*/checkpoint-*", "*/checkpoint-*/trainer_state.json"):
        process = subprocess.Popen(
            [*HARNESS, *command], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        before = set(checkpoints.glob(wanted))
        while not set(checkpoints.glob(wanted)) - before:
            assert process.poll() is None
            time.sleep(0.001)
        # With its worker, which would go on for some ms: the training is as short as that.
        root = psutil.Process(process.pid)
        for one in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.communicate()
    [listed] = as_json(tmp_path, "list")["runs"]
    assert (listed["state"], list(listed["accuracy"])) == ("unfinished", ["tfidf-words"])
    [unfinished] = Results(tmp_path / "results")
    answer = as_json(tmp_path, *command)
    assert answer["run_id"] == unfinished.run_id
    assert answer["baselines"][0]["seconds"] == unfinished.summary.baselines[0].seconds
    trained, undisturbed = (one["baselines"][1] for one in (answer, whole))
    assert trained["facts"].pop("resumed at step") > 0
    assert trained["facts"] == undisturbed["facts"]
    assert trained["predictions"] == undisturbed["predictions"]
    assert not checkpoints.exists()


def _is_stored(folder: Path) -> bool:
    results = folder / "results"
    try:
        return has_results(results) and any(run.is_finished for run in Results(results))
    except StoreError:  # it is just being made
        return False
