"""The flags of `harness embed` that engines have too: one definition, with its bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.app import app
from harness.cli.flags import of_options
from harness.engine.registry import EMBEDDER
from harness.errors import UsageError


@pytest.mark.parametrize(
    ("flag", "value", "remedy"),
    [
        ("--threads", "9999", "Use a whole number from 1 to 512."),
        ("--threads", "many", "Use a whole number from 1 to 512."),
        ("--dtype", "int4", "Use one of: auto, float32, bfloat16, float16."),
    ],
)
def test_what_an_engine_refuses_the_embedder_refuses(
    tmp_path: Path, flag: str, value: str, remedy: str
) -> None:
    arguments = ["embed", str(tmp_path), "-o", str(tmp_path / "out.npz"), flag, value]
    with pytest.raises(UsageError) as refused:
        app(arguments, standalone_mode=False)
    assert refused.value.remedy == remedy


def test_numbers_are_float32_where_nothing_else_is_said() -> None:
    found = {one.name: one for one in of_options(EMBEDDER.load().OPTIONS)}
    assert list(found) == ["threads", "device", "dtype"]
    assert (found["dtype"].default, found["threads"].flag) == ("float32", "--threads")
    assert not any("For " in one.text for one in found.values())
