from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import DataError, UsageError
from harness.imports import files
from harness.imports.files import read_content, read_file
from harness.imports.records import model_name
from tests.unit.imports.conftest import DOCUMENTS, LLAMA_BENCH, LM_EVAL, SERVE

TOOLS = ("llama-bench", "harness bench", "vllm bench", "vllm bench", "vllm bench", "lm-eval")
GENERATED = {**LLAMA_BENCH, "n_prompt": 0, "n_gen": 16}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def written(value: object) -> bytes:
    return json.dumps(value).encode()


def refusal(content: bytes) -> str:
    with pytest.raises(DataError) as caught:
        read_content(content, "some.json")
    assert str(caught.value).startswith("some.json: ")
    assert "llama-bench" in caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize(("document", "tool"), list(zip(DOCUMENTS, TOOLS, strict=True)))
def test_a_file_is_known_by_its_content(document: dict[str, Any], tool: str) -> None:
    assert {test.tool for test in read_content(written(document), "x")} == {tool}


def test_lists_lines_and_appended_results_are_rows() -> None:
    rows = [LLAMA_BENCH, GENERATED]
    lines = b"\n".join(map(written, rows)) + b"\n"
    expected = ["pp64", "tg16"]
    for content in (written(rows), lines, b"\n\n" + written(rows[:1]) + b" " + written(rows[1])):
        assert [test.test for test in read_content(content, "x")] == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_shell_may_have_encoded_it(encoding: str) -> None:
    content = json.dumps(SERVE).encode(encoding)
    assert read_content(content, "x") == read_content(written(SERVE), "x")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "there are no figures in it"),
        (b"[]", "there are no figures in it"),
        (b"build: 5 (abc)", "this is no JSON"),
        (b'[{"n_prompt": 512,', "this is no JSON"),
        (b"\xff\xfe\x00", "this is no JSON"),
        (b"[" * 100_000, "this is no JSON"),
        (b"1" * 5000, "a number of 5000 digits"),
        (b'{"results": {}}', "of no tool that is known here"),
        (b"7", "of no tool that is known here"),
        (written([LLAMA_BENCH, {"n_prompt": 4}]), "of no tool that is known here"),
        (written({**LLAMA_BENCH, "avg_ts": "fast"}), "avg_ts: Input should be a valid number"),
        (written({**LM_EVAL, "results": {}}), "there are no figures in it"),
    ],
)
def test_anything_else_is_one_clear_error(content: bytes, said: str) -> None:
    assert said in refusal(content)


def test_of_many_errors_the_first_are_reported() -> None:
    said = refusal(written({**LLAMA_BENCH, "samples_ts": ["x"] * 1000}))
    assert "samples_ts.0: " in said
    assert said.endswith("and 997 more")


@given(JSON)
def test_any_json_is_refused_in_words(value: object) -> None:
    refusal(written(value))


@given(st.sampled_from(DOCUMENTS), st.data())
def test_any_value_in_any_place_is_read_or_refused(
    document: dict[str, Any], data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(sorted(document)))
    changed = {**document, key: data.draw(JSON)}
    try:
        tests = read_content(written(changed), "some.json")
    except DataError as error:
        assert str(error).startswith("some.json: ")
    else:
        assert all(test.figures for test in tests)


@given(st.binary(max_size=50))
def test_any_bytes_are_refused_in_words(content: bytes) -> None:
    refusal(content)


def test_a_file_is_reported_by_its_name_and_hash(tmp_path: Path) -> None:
    content = written(SERVE)
    (tmp_path / "serve.json").write_bytes(content)
    read = read_file(tmp_path / "serve.json")
    assert (read.name, read.sha256) == ("serve.json", sha256(content).hexdigest())
    assert [test.test for test in read.tests] == ["serve"]


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing.json", tmp_path, tmp_path / "pipe"):
        with pytest.raises(UsageError, match=f"{path.name}: there is no such file"):
            read_file(path)


def test_a_file_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 10)
    (tmp_path / "large.json").write_bytes(written(SERVE))
    with pytest.raises(DataError, match=r"large\.json: more than"):
        read_file(tmp_path / "large.json")


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("org/model", "org/model"),
        ("/home/someone/model/", "model"),
        ("~/models/x.gguf", "x.gguf"),
        ("./x.gguf", "x.gguf"),
        (r"C:\models\x.gguf", "x.gguf"),
        ("", ""),
    ],
)
def test_models_are_named_without_folders(stated: str, name: str) -> None:
    assert model_name(stated) == name
