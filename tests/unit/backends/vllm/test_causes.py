from __future__ import annotations

import pydantic
import pytest

from backends.vllm.causes import cause, cause_in

LOG = """\
INFO 11-26 10:00:00 [core.py:1] a line
(EngineCore pid=7) ERROR 11-26 10:00:01 [core.py:9] EngineCore failed to start.
(EngineCore pid=7) ERROR 11-26 10:00:01 [core.py:9] Traceback (most recent call last):
(EngineCore pid=7) ERROR 11-26 10:00:01 [core.py:9]   File "core.py", line 8, in __init__
(EngineCore pid=7) ERROR 11-26 10:00:01 [core.py:9] ValueError: Free memory is less than wanted.
(EngineCore pid=7) Traceback (most recent call last):
(EngineCore pid=7) torch.OutOfMemoryError: CUDA out of memory.
Exception: WorkerProc failed. See stack trace for root cause.
"""


class Config(pydantic.BaseModel):
    block_size: int
    dtype: str

    @pydantic.field_validator("dtype")
    @classmethod
    def check(cls, value: str) -> str:
        raise ValueError(f"{value} is not supported on this platform.\nSee the pages.")


def test_a_validation_error_says_what_is_wrong_and_not_only_that_something_is() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        Config(block_size="many", dtype="fp4")
    said = cause(caught.value)
    assert "block_size: Input should be a valid integer" in said
    assert said.endswith("; dtype: fp4 is not supported on this platform")


def test_of_errors_that_led_to_others_the_first_is_the_cause() -> None:
    error = RuntimeError("the engine did not start")
    error.__cause__ = OSError("no space left")
    assert cause(error) == "no space left"


def test_what_another_process_wrote_is_found_in_the_log() -> None:
    assert cause_in(LOG) == "CUDA out of memory."
    assert cause_in("INFO all is well\n") == ""


def test_without_a_log_the_error_itself_is_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("Engine core initialization failed. See root cause above. Failed: {}")
    monkeypatch.setattr("backends.vllm.causes._log", lambda: "")
    assert cause(error) == str(error)
    monkeypatch.setattr("backends.vllm.causes._log", lambda: LOG)
    assert cause(error) == "CUDA out of memory"
