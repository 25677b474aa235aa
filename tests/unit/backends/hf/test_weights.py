"""Which folder transformers is given: converted once, whole, and never one that runs code."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from backends.api import BackendError, ModelRef
from backends.hf import conversion as hf_conversion
from backends.hf import weights as hf_weights
from backends.hf.weights import folder_of, is_whole, tokenizer_folder_of
from backends.in_use import free, mark_of

Spoil: TypeAlias = Callable[[Path], object]

HEAD = b"GGUF" + bytes(20)  # no tensors, no values

needs_hf = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="pip install 'llm-backend-harness[hf]'"
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "small.gguf"
    path.write_bytes(HEAD)
    return path


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each conversion there was, of a tokenizer or of weights; it only copies the file."""
    every: list[str] = []

    def write_tokenizer(source: Path, target: Path) -> None:
        every.append("tokenizer")
        target.mkdir()
        (target / "tokenizer.json").write_bytes(source.read_bytes())

    def write_weights(source: Path, target: Path) -> None:
        every.append("weights")
        (target / "config.json").write_text("{}")
        (target / "model.safetensors").write_bytes(source.read_bytes())

    monkeypatch.setattr(hf_weights, "convert_tokenizer", write_tokenizer)
    monkeypatch.setattr(hf_weights, "convert", write_weights)
    return every


def reference(source: Path) -> ModelRef:
    return ModelRef("small", "gguf", str(source), str(source.parent / "cache"))


def converted(source: Path) -> Path:
    return Path(folder_of(reference(source)))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_converted_once(source: Path, made: list[str]) -> None:
    folder = converted(source)
    assert (folder / "model.safetensors").read_bytes() == source.read_bytes()
    assert is_whole(folder)
    assert converted(source) == folder
    assert made == ["tokenizer", "weights"]


def test_a_tokenizer_is_made_without_weights_and_only_once(source: Path, made: list[str]) -> None:
    folder = Path(tokenizer_folder_of(reference(source)))
    assert is_whole(folder)
    assert names(folder) == ["manifest.json", "tokenizer.json"]
    assert tokenizer_folder_of(reference(source)) == str(folder)
    assert made == ["tokenizer"]
    whole = converted(source)
    assert names(whole) == ["config.json", "manifest.json", "model.safetensors", "tokenizer.json"]
    assert made == ["tokenizer", "weights"]


def test_another_file_of_that_name_has_other_folders(source: Path, made: list[str]) -> None:
    first = converted(source)
    source.write_bytes(HEAD + b"and something else")
    assert converted(source) != first
    assert made == ["tokenizer", "weights"] * 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "model.safetensors").write_bytes(b"other"),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "extra.json").write_text("{}"),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
    ],
    ids=["changed", "without a file", "with a file more", "no manifest", "half a manifest"],
)
def test_a_folder_that_is_not_as_it_was_made_is_made_again(
    source: Path, made: list[str], spoil: Spoil, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = converted(source)
    spoil(folder)
    assert not is_whole(folder)
    assert converted(source) == folder
    assert is_whole(folder)
    assert names(folder) == ["config.json", "manifest.json", "model.safetensors", "tokenizer.json"]
    assert made == ["tokenizer", "weights", "weights"]
    assert "it is not as it was made" in capsys.readouterr().err


def test_two_versions_of_the_conversion_share_a_cache(
    source: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has folders of its own: none makes again, or takes away, what the other made."""
    first = converted(source)
    with monkeypatch.context() as patched:
        patched.setattr(hf_weights, "VERSION", hf_conversion.VERSION + 1)
        assert is_whole(converted(source))
    assert is_whole(first)
    assert converted(source) == first
    assert made == ["tokenizer", "weights"] * 2


def test_what_a_killed_run_left_is_swept_away(source: Path, made: list[str]) -> None:
    folder = converted(source)
    left = folder.rename(folder.with_name(f".{folder.name}"))
    (left / "half").write_text("of something")
    assert is_whole(converted(source))
    assert not left.exists()


def test_a_conversion_that_fails_leaves_nothing(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, target: Path) -> None:
        target.mkdir()
        raise ValueError("GGUF model with architecture odd is not supported yet.\nmore")

    monkeypatch.setattr(hf_weights, "convert_tokenizer", fail)
    for convert in (folder_of, tokenizer_folder_of):
        with pytest.raises(
            BackendError, match=r"^small could .* odd is not supported yet\.$"
        ) as caught:
            convert(reference(source))
        assert "[models.NAME]" in caught.value.remedy
    assert [path for path in (source.parent / "cache").iterdir() if path.is_dir()] == []


TOGETHER = """
import sys, time
from pathlib import Path
from backends.hf import weights as hf_weights
from backends.api import ModelRef

def slowly(source, target):
    target.mkdir(exist_ok=True)
    for name in ("one", "two"):
        (target / name).write_text(name)
        time.sleep(0.3)
    with Path(sys.argv[3]).open("a") as log:
        log.write("made\\n")

hf_weights.convert = hf_weights.convert_tokenizer = slowly
folder = hf_weights.folder_of(ModelRef("small", "gguf", sys.argv[1], sys.argv[2]))
print(sorted(path.name for path in Path(folder).iterdir()))
"""


def test_two_that_start_together_make_it_once(source: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", TOGETHER, str(source), str(tmp_path / "cache"), str(log)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    seen = [process.communicate(timeout=60)[0].strip() for process in both]
    assert seen == ["['manifest.json', 'one', 'two']"] * 2
    assert log.read_text() == "made\n" * 2  # the tokenizer and the weights


def test_what_was_converted_is_in_use_as_long_as_the_process_lives(
    source: Path, made: list[str]
) -> None:
    folder = converted(source)
    with free(mark_of(folder)) as is_free:
        assert not is_free


def folder_with(folder: Path, *names: str, **config: object) -> ModelRef:
    for name in names:
        (folder / name).write_bytes(b"some weights")
    (folder / "config.json").write_text(json.dumps(config))
    return ModelRef("mine", "hf", str(folder))


@needs_hf
def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    model = folder_with(tmp_path, "model.safetensors", "model.bin", model_type="llama")
    assert folder_of(model) == str(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["pytorch_model.bin"], r"are pickles \(pytorch_model\.bin\).* never loaded"),
        (["model.pth", "a.pt"], r"are pickles \(a\.pt\)"),
        ([], "holds no safetensors"),
    ],
)
def test_a_folder_without_safetensors_is_refused(
    tmp_path: Path, names: list[str], message: str
) -> None:
    with pytest.raises(BackendError, match=message):
        folder_of(folder_with(tmp_path, *names, model_type="llama"))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    for find in (folder_of, tokenizer_folder_of):
        with pytest.raises(BackendError, match=r"there is no config\.json"):
            find(ModelRef("mine", "hf", str(tmp_path)))


@needs_hf
def test_code_of_a_model_is_run_only_where_it_is_trusted(tmp_path: Path) -> None:
    own_code = {"AutoConfig": "configuration_odd.OddConfig"}
    odd = folder_with(tmp_path, "model.safetensors", model_type="odd", auto_map=own_code)
    for find in (folder_of, tokenizer_folder_of):
        with pytest.raises(BackendError, match="running code that came with it") as caught:
            find(odd)
        assert "--trust-remote-code" in caught.value.remedy
        assert find(odd, trusted=True) == str(tmp_path)


@needs_hf
def test_code_that_nobody_needs_is_no_hindrance(tmp_path: Path) -> None:
    own_code = {"AutoConfig": "configuration_llama.LlamaConfig"}
    known = folder_with(tmp_path, "model.safetensors", model_type="llama", auto_map=own_code)
    assert folder_of(known) == str(tmp_path)


HUB = """
import sys
from backends.api import ModelRef
from backends.hf.weights import folder_of
print(folder_of(ModelRef("tiny", "hf", "me/tiny")))
"""


@needs_hf
def test_a_hub_name_is_found_in_the_hubs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    repository = tmp_path / "hub" / "models--me--tiny"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    folder_with(snapshot, "model.safetensors", model_type="llama")
    done = subprocess.run([sys.executable, "-c", HUB], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(snapshot)
