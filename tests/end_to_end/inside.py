"""The command line without a process of its own, which would take a second to start."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from unittest.mock import patch

from harness.cli import main


def environment(**more: str) -> dict[str, str]:
    """Ours without what makes rich take a pipe for a terminal."""
    unset = {"FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS"}
    return {key: value for key, value in os.environ.items() if key not in unset} | more


def inside(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """As `harness` of `test_cli.py`: for what a process of its own would not show better."""
    out, said = (TextIOWrapper(BytesIO(), "utf-8") for _ in range(2))
    command = ["harness", *arguments]
    code: object = 0
    with (
        chdir(folder),
        patch.object(sys, "argv", command),
        patch.dict(os.environ, environment(**more), clear=True),
        redirect_stdout(out),
        redirect_stderr(said),
    ):
        try:
            main()
        except SystemExit as ending:
            code = ending.code
    texts = []
    for stream in (out, said):
        stream.seek(0)
        texts.append(stream.read())
    assert code is None or isinstance(code, int)
    return subprocess.CompletedProcess(command, code or 0, *texts)
