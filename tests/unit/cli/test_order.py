from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import harness.cli.order
from backends import mock
from backends.api import Option
from harness.cli.options import Format
from harness.cli.order import read_order
from harness.cli.output import Output
from harness.errors import UsageError
from harness.spec import EngineOption, RunSpec, entries_of, read_toml


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "bench.toml"
    path.write_text(
        'backend = "mock"\nvoters = 3\nresults = "kept"\nquiet = true\n[engine]\nthreads = 2\n'
        "delay_ms = 5\n[backends.mock]\nbatch = 4\n"
    )
    return path


def test_no_flags_are_the_default_spec() -> None:
    order = read_order({})
    assert order.what == RunSpec()
    assert order.output == Output()


def test_file_gives_spec_and_output(config: Path) -> None:
    order = read_order({"config": config})
    assert order.what == RunSpec(
        backend=("mock",),
        voters=3,
        engine={"threads": 2, "delay_ms": 5},
        backends={"mock": {"batch": 4}},
    )
    assert order.output == Output(results=Path("kept"), quiet=True)


def test_named_entries_of_the_file_are_entries_of_the_spec(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    path.write_text(
        'voters = 2\n[entries.fast]\nbackend = "mock"\nbatch = 8\n'
        '[entries.other]\nbackend = "mock"\nmodel = "tiny"\n'
    )
    order = read_order({"config": path})
    assert isinstance(order.what, RunSpec)
    assert [(one.name, one.model, dict(one.options)) for one in entries_of(order.what)] == [
        ("fast", "smollm2-135m", {"batch": 8}),
        ("other", "tiny", {}),
    ]
    beside = read_order({"config": path, "backend": ["llama-cpp"]}).what
    assert isinstance(beside, RunSpec)
    assert [one.name for one in entries_of(beside)] == ["llama-cpp", "fast", "other"]


def test_flags_win_over_the_file(config: Path) -> None:
    flags = {
        "config": config,
        "voters": 4,
        "threads": 8,
        "engine_option": ["batch=2"],
        "results": Path("other"),
        "quiet": False,
        "json": True,
    }
    order = read_order(flags)
    assert isinstance(order.what, RunSpec)
    assert order.what.voters == 4
    assert order.what.backend == ("mock",)
    assert order.what.engine == {"threads": 8, "delay_ms": 5, "batch": 2}
    assert order.output == Output(results=Path("other"), format=Format.JSON, quiet=False)


ENGINE_KEYS = """
threads = 2
n_gpu_layers = 3
flash_attn = "on"
cache_type_k = "q8_0"
cache_type_v = "f16"
"""


def engine_of(path: Path, text: str, **flags: object) -> dict[str, EngineOption]:
    path.write_text(text)
    order = read_order({"config": path, **flags})
    assert isinstance(order.what, RunSpec)
    return order.what.engine


def test_flags_of_the_engine_are_keys_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    expected = {
        "threads": 2,
        "n_gpu_layers": 3,
        "flash_attn": "on",
        "cache_type_k": "q8_0",
        "cache_type_v": "f16",
    }
    assert engine_of(path, ENGINE_KEYS) == expected
    assert engine_of(path, ENGINE_KEYS, threads=8) == {**expected, "threads": 8}
    assert engine_of(path, f"{ENGINE_KEYS}[engine]\nthreads = 1\nbatch = 4\n") == {
        **expected,
        "batch": 4,
    }


FILE_OF_TABLES = """
threads = 1
[engine]
threads = 2
batch = 2
[backends.mock]
threads = 3
batch = 3
[entries.one]
backend = "mock"
threads = 4
"""


def test_a_flag_wins_over_every_table_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    path.write_text(FILE_OF_TABLES)
    plain = read_order({"config": path}).what
    assert isinstance(plain, RunSpec)
    assert plain.engine == {"threads": 1, "batch": 2}
    assert entries_of(plain)[0].options == {"threads": 4, "batch": 3}
    flags = read_order({"config": path, "threads": 8, "engine_option": ["batch=9"]}).what
    assert isinstance(flags, RunSpec)
    assert flags.engine == {"threads": 8, "batch": 9}
    assert entries_of(flags)[0].options == {}


def test_an_option_that_backends_define_with_other_types_is_read_as_in_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = Option("device", int, "A number.", least=0)
    monkeypatch.setattr(mock, "OPTIONS", (*mock.OPTIONS, other))
    for text, value in (("4", 4), ("cuda", "cuda")):
        order = read_order({"device": text})
        assert isinstance(order.what, RunSpec)
        assert order.what.engine == {"device": value}


def test_a_model_that_no_entry_would_use_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    path.write_text('[entries.one]\nbackend = "mock"\nmodel = "own"\n')
    with pytest.raises(UsageError, match="--model is used by no entry"):
        read_order({"config": path, "model": ["other"]})
    with path.open("a") as file:
        file.write('[entries.two]\nbackend = "mock"\n')
    spec = read_order({"config": path, "model": ["a", "b"]}).what
    assert isinstance(spec, RunSpec)
    assert [one.name for one in entries_of(spec)] == ["one", "two@a", "two@b"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"threads": 8, "engine_option": ["threads=8"]}, "by --threads and by --engine-option"),
        ({"engine_option": ["batch=1", "batch=2"]}, "--engine-option batch is given twice"),
    ],
)
def test_an_option_of_an_engine_is_given_once(flags: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_order(flags)


def test_resume_takes_the_run_and_the_output() -> None:
    order = read_order({"resume": "latest", "json": True})
    assert order.what == "latest"
    assert order.output == Output(format=Format.JSON)


@pytest.mark.parametrize("flags", [{"voters": 3}, {"config": Path("x.toml")}, {"seed": 0}])
def test_resume_takes_no_spec(flags: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="--resume"):
        read_order({"resume": "latest", **flags})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("voter = 3", "voter"),
        ("resume = 'latest'", "resume"),
        ("config = 'x'", "config"),
        ("json = true", 'json is format = "json" now'),
        ("engine_option = ['a=1']", r"engine_option is the table \[engine\] now"),
        ("format = 'xml'", "format is 'xml': use one of: table, json, csv, md"),
        ("quiet = 'loud'", "quiet is 'loud': use true or false"),
        ("results = 1", "results is 1: use a path, as text"),
        ("results = ''", "results is '': use a path, as text"),
        ("output = 'json'", "output is 'json', and names a file now"),
        ("voters = ", "bench.toml"),
        ("threads = []", "engine.threads"),
    ],
)
def test_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "bench.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=named) as caught:
        read_order({"config": path})
    assert str(path) in str(caught.value)


def test_json_is_the_short_form_of_a_format_and_excludes_another() -> None:
    assert read_order({"json": True, "format": "json"}).output.format is Format.JSON
    with pytest.raises(UsageError, match="--json and --format differ"):
        read_order({"json": True, "format": "csv"})


def test_a_flag_of_an_earlier_version_names_the_one_of_now() -> None:
    with pytest.raises(UsageError, match="--no-json is --format table now"):
        read_order({"no_json": True})


def test_the_file_is_read_once(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def noted(path: Path) -> dict[str, Any]:
        read.append(path)
        return read_toml(path)

    monkeypatch.setattr(harness.cli.order, "read_toml", noted)
    read_order({"config": config})
    assert read == [config]


def test_a_name_belongs_to_the_run_and_not_to_its_spec() -> None:
    order = read_order({"name": "mine"})
    assert (order.name, order.what) == ("mine", RunSpec())
    with pytest.raises(UsageError, match="--resume completes a run as it was begun"):
        read_order({"name": "mine", "resume": "latest"})
