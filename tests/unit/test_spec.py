"""The run spec: files, flags, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.errors import UsageError
from harness.spec import (
    Entry,
    RunSpec,
    entries_of,
    merge_spec,
    parse_spec,
    prompt_fields,
    read_toml,
    replay_spec,
    safe_name,
    short_names,
)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "spec.toml"
    path.write_text(
        'backend = "mock"\nvoters = 3\nengine = {threads = 1, batch = 2}\n'
        "[backends.mock]\ncontext = 50\n",
        encoding="utf-8",
    )
    return path


def test_nothing_given_is_the_default() -> None:
    assert merge_spec({}, {}, "here") == RunSpec()


def test_a_file_is_read(toml: Path) -> None:
    spec = merge_spec(read_toml(toml), {}, str(toml))
    assert (spec.backend, spec.voters, spec.queries) == (("mock",), 3, RunSpec().queries)
    assert spec.backends == {"mock": {"context": 50}}


@pytest.mark.parametrize(
    "value",
    ["9" * 5000, "0x" + "9" * 5000, "[" * 5000 + "]" * 5000],
    ids=["more digits than Python reads", "more digits than it writes", "deep"],
)
def test_a_file_that_python_cannot_hold_is_one_error(tmp_path: Path, value: str) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(f"voters = {value}")
    with pytest.raises(UsageError, match=r"odd\.toml is no TOML file: it is nested too deeply, or"):
        read_toml(path)


def test_flags_go_over_the_file_and_tables_are_merged(toml: Path) -> None:
    spec = merge_spec(
        read_toml(toml), {"voters": 1, "queries": 2, "engine": {"batch": 9}}, str(toml)
    )
    assert (spec.voters, spec.queries) == (1, 2)
    assert spec.engine == {"threads": 1, "batch": 9}


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunSpec().voters = 2  # type: ignore[misc]


def test_an_unknown_key_is_named(toml: Path) -> None:
    with toml.open("a") as file:
        file.write("[no_such_thing]\n")
    with pytest.raises(UsageError, match=r"spec\.toml: there is no table \[no_such_thing\]"):
        merge_spec(read_toml(toml), {}, str(toml))


def test_every_key_that_is_wrong_is_told() -> None:
    with pytest.raises(UsageError) as caught:
        merge_spec({}, {"voters": 0, "decoding": "beam", "engine": {"threads": [1]}}, "the flags")
    for key in ("--voters", "--decoding", "--engine is "):
        assert key in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"backend": []},
        {"backend": ["mock", "mock"]},
        {"model": []},
        {"model": ["a", "a"]},
        {"voters": 1001},
        {"seed": -1},
        {"seed": 2**32},
        {"feature_fraction": 0},
        {"feature_fraction": 1.1},
        {"temperature": -1},
        {"temperature": float("inf")},
        {"timeout_seconds": float("inf")},
        {"engine": {"delay_ms": float("nan")}},
        {"backends": {"mock": {"delay_ms": float("inf")}}},
        {"attempts": 0},
        {"max_model_len": 1},
        {"timeout_seconds": 0},
        {"shots": -1},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        parse_spec(wrong, where="here")


@pytest.mark.parametrize("content", [b"voters = ", b"\xff", b"a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_told_by_name(toml: Path, content: bytes) -> None:
    toml.write_bytes(content)
    with pytest.raises(UsageError, match=r"spec\.toml"):
        read_toml(toml)


def test_a_file_that_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(UsageError, match=path.name) as caught:
            read_toml(path)
        assert caught.value.remedy


def test_what_is_wrong_in_a_file_is_an_error_although_a_flag_wins_over_it() -> None:
    for wrong in ({"voters": 0}, {"backend": {"mock": {"batch": 1}}}):
        flags = {"voters": 2, "backend": ["mock"]}
        with pytest.raises(UsageError, match=r"^x\.toml: "):
            merge_spec(wrong, flags, "x.toml")


def test_an_entry_without_a_backend_is_named_with_what_it_has() -> None:
    with pytest.raises(UsageError, match=r"\[entries\.x\] .*; it has bakend"):
        parse_spec({"entries": {"x": {"bakend": "mock"}}}, where="here")


OPTIONS = st.dictionaries(
    st.text(max_size=5),
    st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    max_size=3,
)


NAMES = st.lists(st.text("abc-", min_size=1), min_size=1, max_size=3, unique_by=safe_name)


@given(
    st.builds(
        RunSpec,
        seed=st.integers(0, 2**32 - 1),
        backend=st.lists(
            st.text("abc-", min_size=1), min_size=1, max_size=3, unique_by=safe_name
        ).map(tuple),
        shots=st.none() | st.integers(0, 100),
        temperature=st.floats(0, 10),
        engine=OPTIONS,
        backends=st.dictionaries(st.text(max_size=5), OPTIONS, max_size=2),
    )
)
def test_what_is_saved_with_a_run_is_read_again_as_it_was(spec: RunSpec) -> None:
    again = parse_spec(json.loads(spec.model_dump_json()), where="a run")
    assert again == spec
    assert repr(again.engine) == repr(spec.engine)


EARLIER = RunSpec(
    backend="mock",
    model="mine",
    models={"mine": {"gguf": "a.gguf"}},
    engine={"batch": 2},
    voters=3,
    decoding="score",
    timeout_seconds=5.0,
)


def test_a_replay_takes_all_but_the_engines_from_the_earlier_run() -> None:
    given = RunSpec(prompts_from="latest", backend="hf", engine={"threads": 2})
    assert replay_spec(given, EARLIER, "a") == RunSpec(
        prompts_from="a",
        backend="hf",
        engine={"threads": 2},
        model="mine",
        models={"mine": {"gguf": "a.gguf"}},
        voters=3,
        decoding="score",
    )


def test_a_replay_may_be_of_another_model() -> None:
    own = {"other": {"hf": "folder"}}
    spec = replay_spec(RunSpec(model="other", models=own), EARLIER, "a")
    assert (spec.model, spec.models) == (("other",), own)


def test_a_replay_refuses_what_changes_the_prompts_and_names_it() -> None:
    with pytest.raises(UsageError, match=r"^--seed, --max-tokens: .* prompts of run a"):
        replay_spec(RunSpec(seed=1, voters=3, max_tokens=9), EARLIER, "a")
    with pytest.raises(UsageError, match=r"^--preset ece209 \(--queries, .*--voters"):
        replay_spec(RunSpec(preset="ece209", voters=2), EARLIER, "a")


def test_the_same_value_once_more_changes_nothing() -> None:
    assert replay_spec(RunSpec(voters=3, seed=0), EARLIER, "a").voters == 3


def test_prompt_fields_is_all_but_the_engines() -> None:
    asked = prompt_fields(RunSpec(voters=3))
    assert asked["voters"] == 3
    assert asked == prompt_fields(
        RunSpec(voters=3, backend="hf", model="m", engine={"threads": 1}, prompts_from="run")
    )
    assert set(RunSpec.model_fields) - set(asked) == {
        "backend",
        "model",
        "models",
        "timeout_seconds",
        "load_timeout_seconds",
        "engine",
        "backends",
        "entries",
        "force",
        "memory_limit",
        "baselines",
        "preset",
        "prompts_from",
    }


def test_an_unnamed_entry_is_called_after_its_backend() -> None:
    spec = RunSpec(backend=("mock", "hf"), backends={"hf": {"dtype": "float32"}})
    assert entries_of(spec) == (
        Entry("mock", "mock", spec.model[0], {}),
        Entry("hf", "hf", spec.model[0], {"dtype": "float32"}),
    )


def test_named_entries_have_options_of_their_own_over_their_backends(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(
        "[backends.mock]\nbatch = 2\ncontext = 50\n"
        '[entries.small]\nbackend = "mock"\nmodel = "other"\nbatch = 1\n'
        '[entries.large]\nbackend = "mock"\n',
        encoding="utf-8",
    )
    spec = merge_spec(read_toml(path), {}, "here")
    assert spec.backend == ()
    assert entries_of(spec) == (
        Entry("small", "mock", "other", {"batch": 1, "context": 50}),
        Entry("large", "mock", spec.model[0], {"batch": 2, "context": 50}),
    )
    both = merge_spec(read_toml(path), {"backend": ["hf"]}, "here")
    assert [entry.name for entry in entries_of(both)] == ["hf", "small", "large"]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("llama-cpp", "llama-cpp"),
        ("server:http://127.0.0.1:8080", "server-http-127.0.0.1-8080"),
        ("hf@a/b", "hf@a-b"),
        ("../../etc/passwd", "etc-passwd"),
        ("\N{BULLET}", "entry"),
    ],
)
def test_names_are_safe_for_files(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"entries": {"one": {}}}, "has to name its backend"),
        ({"entries": {"one": {"backend": 3}}}, "has to name its backend"),
        ({"entries": {"A": {"backend": "mock"}, "a": {"backend": "mock"}}}, "called a"),
        ({"entries": {"x" * 101: {"backend": "mock"}}}, "longer than 100"),
        ({"entries": {"a b": {"backend": "mock"}, "a/b": {"backend": "mock"}}}, "called a-b"),
    ],
)
def test_entries_that_cannot_be_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_spec(wrong, where="here")


def test_several_models_are_an_entry_each_for_each_backend_and_named_entry() -> None:
    spec = RunSpec(
        backend=("mock", "hf"),
        model=("one", "dir/two.gguf"),
        entries={"own": {"backend": "mock", "model": "three"}, "all": {"backend": "hf", "a": 1}},
    )
    assert [(one.name, one.backend, one.model, one.series) for one in entries_of(spec)] == [
        ("mock@one", "mock", "one", "mock"),
        ("mock@two", "mock", "dir/two.gguf", "mock"),
        ("hf@one", "hf", "one", "hf"),
        ("hf@two", "hf", "dir/two.gguf", "hf"),
        ("own", "mock", "three", "own"),
        ("all@one", "hf", "one", "all"),
        ("all@two", "hf", "dir/two.gguf", "all"),
    ]


@pytest.mark.parametrize(
    ("models", "short"),
    [
        (["smollm2-135m", "org/Name"], ["smollm2-135m", "Name"]),
        (["a/m.gguf", "b/m.gguf"], ["a-m", "b-m"]),
        (["m", "M"], ["m-1", "M-2"]),
        (["a/b", "a-b"], ["b", "a-b"]),
        (
            ["x" * 60 + "Q4.gguf", "x" * 60 + "Q8.gguf"],
            [f"{'x' * 19}--{'x' * 17}Q{n}" for n in "48"],
        ),
        (["..", "/"], ["entry-1", "entry-2"]),
    ],
)
def test_short_names_of_models_differ(models: list[str], short: list[str]) -> None:
    assert short_names(models) == short


@given(st.lists(st.text(max_size=50), min_size=1, max_size=4, unique=True))
def test_entries_of_any_models_have_names_that_are_safe_short_and_different(
    models: list[str],
) -> None:
    names = [one.name for one in entries_of(RunSpec(model=tuple(models)))]
    assert len({name.casefold() for name in names}) == len(models)
    assert all(name == safe_name(name) and len(name) <= 60 for name in names)


def test_a_spec_of_an_earlier_version_has_its_model_as_text() -> None:
    stored = json.loads(RunSpec(model=("mine",)).model_dump_json()) | {"model": "mine"}
    assert RunSpec.model_validate_json(json.dumps(stored)) == RunSpec(model=("mine",))


def test_numbers_of_numpy_are_numbers() -> None:
    spec = parse_spec({"voters": np.int64(3), "temperature": np.float32(0.5)}, "here")
    assert (spec.voters, spec.temperature) == (3, 0.5)


def test_a_named_entry_keeps_its_name_beside_an_unnamed_one() -> None:
    spec = RunSpec(backend=("mock",), model="a/b.gguf", entries={"mock": {"backend": "hf"}})
    assert [(one.name, one.backend) for one in entries_of(spec)] == [
        ("mock@a-b.gguf", "mock"),
        ("mock", "hf"),
    ]


def test_a_preset_stands_below_what_is_given() -> None:
    spec = RunSpec(preset="ece209", attempts=5)
    assert (spec.preset, spec.attempts, spec.temperature) == ("ece209", 5, 1.0)
    assert (spec.reducer, spec.encoding, spec.bootstrap) == ("top:20", "decimal:10", False)
    merged = merge_spec({"preset": "ece209", "voters": 2}, {"queries": 7}, "run.toml")
    assert (merged.voters, merged.queries, merged.prompt) == (2, 7, "ece209")
    assert RunSpec.model_validate_json(merged.model_dump_json()) == merged


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="--preset is 'ece29': use ece209"):
        merge_spec({}, {"preset": "ece29"}, "the flags")
    with pytest.raises(UsageError, match="use one of: ece209"):
        merge_spec({}, {"preset": "x"}, "the flags")


def test_what_stands_behind_a_backend_and_a_colon_is_its_argument() -> None:
    spec = RunSpec(
        backend=("server:http://127.0.0.1:8080", "server:https://host/v1"),
        entries={"mine": {"backend": "server:http://127.0.0.1:9", "served_model": "x"}},
        backends={"server": {"concurrency": 2}},
    )
    found = {one.name: one for one in entries_of(spec)}
    assert [*found] == ["server-127.0.0.1-8080", "server-host-v1", "mine"]
    assert {one.backend for one in found.values()} == {"server"}
    assert found["mine"].argument == "http://127.0.0.1:9"
    assert found["mine"].options == {"concurrency": 2, "served_model": "x"}


@pytest.mark.parametrize(
    "table",
    [
        {"backend": "server:http://me:secret@host"},
        {"engine": {"url": "http://secret@host"}},
        {"entries": {"a": {"backend": "server", "url": "https://me:secret@host/v1"}}},
    ],
)
def test_a_url_with_a_password_is_refused_and_not_shown(table: dict[str, object]) -> None:
    with pytest.raises(UsageError) as refused:
        parse_spec(table, "run.toml")
    assert "a url with a user or a password is refused" in str(refused.value)
    assert "secret" not in str(refused.value)
