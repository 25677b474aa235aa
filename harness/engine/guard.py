"""What ends a worker's processes when the harness is killed, and nothing of ours can run any more.

No signal that follows a parent's death reaches the children that a worker has started, and no
thread of a worker runs while its engine keeps Python's lock. So it is a process of its own that
waits: a shell that reads from a pipe whose other end only the harness holds.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from harness.errors import EngineError

# The part in braces goes on in the background, as nobody's child, when the shell has ended. To read
# a line is to be released; where the pipe ends without one, the harness has ended without a word.
# The second is for processes that have not quite ended, and could put files into the folder.
_WAIT = """
exec 3<&0
{ read -r line || { kill -s KILL -- "-$1"; sleep 1; rm -r -f -- "$2"; }; } <&3 &
"""


class Guard:
    """Kills a process group when this process ends, however it does, and then removes its temporary
    folder, unless it is released.

    Raises `EngineError` where it cannot be started.
    """

    def __init__(self, group: int, folder: Path) -> None:
        theirs, self._ours = os.pipe()
        try:
            subprocess.run(  # noqa: S603 - a number and a folder of ours are all we add
                ["/bin/sh", "-c", _WAIT, "sh", str(group), str(folder)],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # what a terminal sends does not reach it
                check=True,
            )
        except BaseException as error:
            os.close(self._ours)
            if not isinstance(error, OSError | subprocess.SubprocessError):
                raise
            raise EngineError(
                f"the shell that ends an engine when the harness is killed did not start: {error}",
                remedy="See that /bin/sh can be run.",
            ) from error
        finally:
            os.close(theirs)

    def release(self) -> None:
        """The group has ended. Does nothing the second time."""
        if self._ours < 0:
            return
        with suppress(BrokenPipeError):
            os.write(self._ours, b"\n")
        ours, self._ours = self._ours, -1
        os.close(ours)
