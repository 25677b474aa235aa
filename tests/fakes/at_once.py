"""A fake of vLLM's server that costs next to nothing: for timings of clients.

    python tests/fakes/at_once.py PORT DELAY_MS

It speaks no more of HTTP than the client of the backend `server` does. It reports no
log-probabilities; its one token depends on the whole prompt.
"""

from __future__ import annotations

import asyncio
import json
import sys
import zlib
from typing import Any

MODEL = "fake-model"
_ABOUT = {
    "/v1/models": {"data": [{"id": MODEL, "owned_by": "vllm", "max_model_len": 4096}]},
    "/version": {"version": "0.fake"},
}


class AtOnce(asyncio.Protocol):
    delay_seconds = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, ended, body = self._data.partition(b"\r\n\r\n")
        _, named, length = head.lower().partition(b"content-length:")
        size = int(length.split(b"\r\n")[0]) if named else 0
        if not ended or len(body) < size:
            return
        self._data = b""
        method, path, _ = head.split(b" ", 2)
        answer = _answer(path.decode(), body)
        if method == b"POST" and self.delay_seconds:
            asyncio.get_running_loop().call_later(self.delay_seconds, self._send, answer)
        else:
            self._send(answer)

    def _send(self, answer: bytes) -> None:
        self._transport.write(answer)


def _answer(path: str, body: bytes) -> bytes:
    if path != "/v1/completions":
        asked = json.loads(body) if body else {}
        text = asked.get("prompt", "")
        found = _ABOUT.get(path, {"tokens": list(text.encode())})
        return _response("200 OK" if path in {*_ABOUT, "/tokenize"} else "404 no", found)
    count = body.split(b'"prompt":', 1)[1].split(b"]", 1)[0].count(b",") + 1
    choice = {"text": f" {zlib.crc32(body)}", "token_ids": [65], "finish_reason": "length"}
    usage = {"prompt_tokens": count, "completion_tokens": 1}
    events = [{"model": MODEL, "choices": [choice]}, {"model": MODEL, "usage": usage}]
    lines = "".join(f"data: {json.dumps(one)}\n\n" for one in events) + "data: [DONE]\n\n"
    return _response("200 OK", lines, "text/event-stream")


def _response(status: str, content: object, kind: str = "application/json") -> bytes:
    text = content if isinstance(content, str) else json.dumps(content)
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\n\r\n"
    return (head + text).encode()


async def main(port: int, delay_ms: float) -> None:
    AtOnce.delay_seconds = delay_ms / 1000
    server = await asyncio.get_running_loop().create_server(AtOnce, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
