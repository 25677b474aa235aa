"""The HTTP client: whom it trusts, which way its requests go, over which connections."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from backends.api import BackendError
from backends.server import backend
from backends.server.client import Client
from tests.fakes.server import MODEL, Fake, running
from tests.unit.backends.server.conftest import BYTES

FAR = "far.example:8000"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """One that signed itself, for 127.0.0.1, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    file, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(file)),
        ],
        check=True,
        capture_output=True,
    )
    return file, key


def test_a_certificate_that_signed_itself_is_refused_by_name(
    certificate: tuple[Path, Path],
) -> None:
    with running(Fake("vllm"), certificate) as server:
        with pytest.raises(BackendError) as refused:
            backend.open_session(BYTES, {"url": server.url, "max_model_len": 600})
        assert f"the certificate of 127.0.0.1:{server.port} is not to be trusted" in str(
            refused.value
        )
        assert "SSL_CERT_FILE" in refused.value.remedy
        assert not server.fake.asked


def test_a_certificate_is_trusted_where_its_authority_is_named(
    certificate: tuple[Path, Path],
) -> None:
    """As the remedy says. In a process of its own: certificates are read once."""
    code = (
        "import sys; from backends.api import ModelRef; from backends.server import backend\n"
        "options = {'url': sys.argv[1], 'max_model_len': 600}\n"
        "session = backend.open_session(ModelRef('bytes', 'none', ''), options)\n"
        "print(session.info.weights); session.close()"
    )
    with running(Fake("vllm"), certificate) as server:
        done = subprocess.run(
            [sys.executable, "-c", code, server.url],
            env={**os.environ, "SSL_CERT_FILE": str(certificate[0])},
            check=False,
            capture_output=True,
            text=True,
        )
    assert (done.stdout.strip(), done.stderr) == (f"served as {MODEL}", "")


class Proxy(BaseHTTPRequestHandler):
    """Answers everything itself."""

    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.path)
        body = json.dumps({"from": "the proxy"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a proxy was sent that the environment names for every host."""
    seen: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Seen", (Proxy,), {"seen": seen}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    yield seen
    server.shutdown()
    thread.join()
    server.server_close()


def got(url: str, path: str) -> Any:
    async def get() -> Any:
        client = Client(url)
        try:
            return await client.get(path)
        finally:
            await client.close()

    return asyncio.run(get())


def test_a_proxy_of_the_environment_is_used_for_another_host(proxied: list[str]) -> None:
    assert got(f"http://{FAR}", "/v1/models") == {"from": "the proxy"}
    assert proxied == [f"http://{FAR}/v1/models"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_is_used_for_this_machine(proxied: list[str], host: str) -> None:
    with running(Fake("vllm")) as server:
        listed = got(f"http://{host}:{server.port}", "/v1/models")
    assert [one["id"] for one in listed["data"]] == [MODEL]
    assert proxied == []


def test_no_proxy_is_used_for_a_host_that_is_excepted(
    proxied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "far.example")
    with pytest.raises(BackendError, match="cannot be reached"):
        got("http://far.example:1", "/v1/models")
    assert proxied == []


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(("end", "connections"), [(b"0\r\n\r\n", 1), (b"", 3)])
def test_a_connection_is_used_again_though_the_end_of_a_body_comes_late(
    end: bytes, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or not at all, which costs the connection and not the reply."""
    if end:
        # A machine may stand still for longer than is waited.
        monkeypatch.setattr("backends.server.client._END_SECONDS", 30.0)
    answering: list[asyncio.Task[Any] | None] = []
    taken: list[object] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.append(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"{}"):
                writer.write(STREAM)
                for chunk in (b'data: {"text": "a"}\n\n', b"data: [DONE]\n\n"):
                    writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                await writer.drain()
                await asyncio.sleep(0.02)
                writer.write(end)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def whole() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = Client(f"http://127.0.0.1:{port}")
        for _ in range(3):
            await client.stream("/", b"{}", lambda piece, at: taken.append(piece))
        await client.close()
        await asyncio.gather(*filter(None, answering))
        server.close()

    asyncio.run(whole())
    assert (taken, len(answering)) == ([{"text": "a"}] * 3, connections)
