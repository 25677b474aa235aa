from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator

import pytest

import harness
import harness.cli.app
from harness.cli import main
from harness.errors import EngineError, HarnessError, StoreError, UsageError

Ending = Callable[[Callable[[], object]], tuple[int, str, str]]


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ending:
    """Exit code, stdout and stderr of a program whose command does so."""

    def end(command: Callable[[], object]) -> tuple[int, str, str]:
        monkeypatch.setattr(harness.cli.app, "app", command)
        with pytest.raises(SystemExit) as caught:
            main()
        assert isinstance(caught.value.code, int)
        return caught.value.code, *capsys.readouterr()

    return end


@pytest.fixture(autouse=True)
def same_handlers() -> Iterator[None]:
    """Whatever happens, a program that calls `main` gets its own handlers back.

    A shell starts background jobs with Ctrl-C ignored; these tests begin with it heard.
    """
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in ending]
    yield
    assert [signal.getsignal(number) for number in ending] == before
    signal.signal(signal.SIGINT, outside)


def raising(error: BaseException) -> Callable[[], object]:
    def command() -> object:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HarnessError("cause", "remedy"), 1),
        (StoreError("cause", "remedy"), 1),
        (EngineError("cause", "remedy"), 1),
        (UsageError("cause", "remedy"), 2),
    ],
)
def test_expected_errors_say_cause_and_remedy(
    ending: Ending, error: HarnessError, code: int
) -> None:
    assert ending(raising(error)) == (code, "", "error: cause\ntry: remedy\n")


def test_windows_is_named_as_not_supported(ending: Ending, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    code, out, said = ending(raising(AssertionError("no command runs")))
    assert (code, out) == (1, "")
    assert said.startswith("error: the harness does not run on Windows\ntry: Use Linux")
    with pytest.raises(HarnessError, match="Windows"):
        harness.benchmark()


def test_no_remedy_no_advice(ending: Ending) -> None:
    assert ending(raising(HarnessError("cause"))) == (1, "", "error: cause\n")


def test_errors_are_neither_markup_nor_commands_nor_broken(ending: Ending) -> None:
    path = "/a" * 100
    _, _, said = ending(raising(HarnessError(f"[red]x[/] \x1b[2J{path}")))
    assert said == f"error: [red]x[/] [2J{path}\n"


def test_an_error_names_no_home_folder_and_a_remedy_is_typed_as_it_stands(ending: Ending) -> None:
    error = HarnessError("no model '/home/ada/a.gguf'", "Try '/home/ada/my env/bin/python'.")
    said = "error: no model '~/a.gguf'\ntry: Try '/home/ada/my env/bin/python'.\n"
    assert ending(raising(error)) == (1, "", said)


def test_the_traceback_of_a_bug_names_no_home_folder(ending: Ending) -> None:
    _, _, said = ending(raising(ZeroDivisionError("in /home/ada/venv/a.py")))
    assert "ZeroDivisionError: in ~/venv/a.py" in said


def test_anything_else_is_a_bug_with_its_traceback(ending: Ending) -> None:
    code, out, said = ending(raising(ZeroDivisionError("by nought")))
    assert (code, out) == (3, "")
    assert "Traceback" in said
    assert "ZeroDivisionError: by nought" in said
    assert "this is a bug" in said


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_end_in_order(ending: Ending, number: signal.Signals, code: int) -> None:
    cleaned = []
    before = signal.signal(number, signal.SIG_DFL)  # under nohup, the tests have one ignored

    def command() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            cleaned.append(True)

    try:
        assert ending(command) == (code, "", "")
    finally:
        signal.signal(number, before)
    assert cleaned


def test_a_signal_that_became_an_error_is_no_bug(ending: Ending) -> None:
    """Python 3.11 makes an error of what ends a class while it is made."""

    class Interrupted:
        def __set_name__(self, owner: type, name: str) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    def command() -> None:
        type("Model", (), {"field": Interrupted()})

    assert ending(command) == (143, "", "")


def test_ignored_signals_stay_ignored(ending: Ending) -> None:
    def command() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise SystemExit(0)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert ending(command) == (0, "", "")
    finally:
        signal.signal(signal.SIGINT, before)
