"""What transformers' backend promises beyond the contract: it asks no network."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

needs_hf = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="pip install 'llm-backend-harness[hf]'"
)

OPEN = """
from backends.hf import backend as hf
from backends.api import BackendError, ModelRef
try:
    hf.open_session(ModelRef("x", "hf", "nobody/nothing"), {"max_model_len": 64})
except BackendError as error:
    import huggingface_hub.constants
    print(huggingface_hub.constants.HF_HUB_OFFLINE, "is not on this machine" in str(error))
"""


@needs_hf
def test_a_model_that_is_not_here_is_an_error_and_not_a_download(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    done = subprocess.run([sys.executable, "-c", OPEN], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["True", "True"]
