"""A server that answers nothing but its health, for tests of those that we start.

plain_server.py PORT [no-health] [slow] [memory] [children] [deaf] [wordy] [fails]
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

MEMORY_MIB = 200
LINES = 30_000


def main(port: str, *ways: str) -> None:
    print("loading \x1b[1mthe model", flush=True)  # noqa: T201 - what a server prints is the point
    if "fails" in ways:
        print("error: the model is not there\n\n", file=sys.stderr)  # noqa: T201
        sys.exit(7)
    if "deaf" in ways:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "children" in ways:
        subprocess.Popen(["sleep", "600"])
    if "wordy" in ways:
        print("\n".join(f"line {number} {'x' * 60}" for number in range(LINES)))  # noqa: T201
    if "slow" in ways:
        time.sleep(1.0)
    held = b"x" * (MEMORY_MIB * 2**20) if "memory" in ways else b""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_ready = self.path == ("/v1/models" if "no-health" in ways else "/health")
            self.send_response(200 if is_ready else 404)
            self.end_headers()

    HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
    del held


if __name__ == "__main__":
    main(*sys.argv[1:])
