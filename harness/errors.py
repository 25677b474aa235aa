"""The errors a user can meet, as one small tree, and the exit code of each.

    HarnessError            1   an expected failure: the message names cause and remedy
    |-- UsageError          2   what was wanted makes no sense, or names what is not there: a flag,
    |                           a model, data, a template, a file; but for a RUN it is a StoreError,
    |                           as only the store knows
    |-- DataError           1   a dataset, or a file of results, cannot be used
    |-- TemplateError       1   a prompt template cannot be used
    |-- EngineError         1   an engine or model cannot be opened
    `-- StoreError          1   results cannot be read or written

Anything else that escapes is a bug (exit code 3). `EndedBySignal` is no error: Ctrl-C is 130.
"""

from __future__ import annotations


class HarnessError(Exception):
    """An expected failure. `remedy` is what the user can do, in a sentence."""

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class UsageError(HarnessError):
    exit_code = 2


class DataError(HarnessError):
    """A dataset, or a file of results, cannot be used; the message names the file."""


class TemplateError(HarnessError):
    """A prompt template or a model's chat template cannot be used."""


class EngineError(HarnessError):
    """An engine or a model cannot be opened."""


class StoreError(HarnessError):
    """Results cannot be read or written."""


class EndedBySignal(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP. `code` is what shells report for a program that a signal ended.

    No `SystemExit`: where a foreign module is imported, that one is an error of the module.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def ended_in(error: BaseException | None) -> EndedBySignal | None:
    """The signal that an error was made of: Python 3.11 makes a `RuntimeError` of whatever a
    class's `__set_name__` raises, and libraries make errors of their own."""
    while error is not None and not isinstance(error, EndedBySignal):
        error = error.__cause__ or error.__context__
    return error
