"""One HTTP client for every server: deadlines, bounded bodies, retries, streams, named reasons.

aiohttp, because it takes a quarter of the processor time of the others (DECISIONS.md). What comes
back is not trusted: a body and each of its lines are bounded, text is UTF-8 or refused, and a
redirect to another host is not followed. The API key stands in a header and nowhere else: whatever
is said of an error is scrubbed of it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import random
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp
import msgspec

from backends.api import BackendError

MOST_BODY = 64 * 2**20  # a whole vocabulary with its log-probabilities is about 30 MiB
MOST_REPLY_WORDS = 200  # characters of a server's own words in a reason
MOST_WAIT_SECONDS = 20.0  # whatever Retry-After says
MOST_TRIES = 6
_FIRST_WAIT_SECONDS = 0.25
_CONNECT_SECONDS = 10.0
_END_SECONDS = 0.2  # between the last piece of a reply and the end of its body
_KEEP_SECONDS = 4.0  # servers close a connection that nobody uses after 5 s
_MOST_REDIRECTS = 3
_BUSY = (429, 503)
_REDIRECTS = (301, 302, 303, 307, 308)
_SAME_METHOD = (307, 308)  # the others turn a POST into a GET

_Got = TypeVar("_Got")
Take: TypeAlias = Callable[[dict[str, Any], float], None]
"""Is given a piece of a reply, an object of JSON, and when it came by `time.perf_counter`."""


class ReplyError(Exception):
    """No answer to one request, for a reason that another request need not have.

    `status` is that of HTTP where the server answered with an error, else 0.
    """

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class _LostError(Exception):
    """The connection could not be made, or `was_open` and ended before anything came: to be tried
    again."""

    def __init__(self, reason: str, was_open: bool = False) -> None:
        super().__init__(reason)
        self.was_open = was_open


class Client:
    """Requests to one server. `retries` and `waited_seconds` are those for a server that was busy.

    Made, used and closed within one event loop.
    """

    def __init__(self, url: str, key: str = "", read_seconds: float = 240.0, most: int = 1) -> None:
        self.url = url
        self.retries = 0
        self.waited_seconds = 0.0
        self._key = key
        self._read_seconds = read_seconds
        self._proxy = None if is_loopback(url) else _proxy_of(url)
        # `trust_env` would read proxies, and passwords out of ~/.netrc too.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=most, keepalive_timeout=_KEEP_SECONDS),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_SECONDS, sock_read=read_seconds
            ),
            headers={
                "Accept-Encoding": "identity",  # a small packed reply could be a huge one
                **({"Authorization": f"Bearer {key}"} if key else {}),
            },
            auto_decompress=False,
        )

    async def close(self) -> None:
        await self._session.close()

    async def get(self, path: str) -> Any:
        """The JSON at a path, `None` where there is nothing of the kind. Raises `BackendError`."""
        return await self._found("GET", path, None, _json)

    async def text(self, path: str) -> str:
        """The text at a path, an empty one where there is nothing of the kind."""
        return await self._found("GET", path, None, _text) or ""

    async def post(self, path: str, body: object) -> Any:
        """The JSON that answers, `None` where the server has no such thing."""
        return await self._found("POST", path, body, _json)

    async def _found(
        self, method: str, path: str, body: object, read: Callable[[bytes], _Got]
    ) -> _Got | None:
        data = None if body is None else encoded(body)
        for attempt in range(MOST_TRIES):
            try:
                return read(await self._answer(method, path, data, attempt, _whole))
            except _BusyError as busy:
                await self._wait(attempt, busy.seconds)
            except _LostError as error:
                # Servers close a connection that was idle for some seconds, perhaps just now.
                if attempt:
                    raise self._gone(error) from error
            except ReplyError as error:
                if error.status not in _BUSY:
                    return None
                # One that is busy has it all the same: without it, it would be taken for another.
                raise BackendError(f"{self.host}: {error}", "Try again later.") from error
        return None

    async def stream(self, path: str, data: bytes, take: Take) -> None:
        """Gives the pieces of a reply to `take` as they come; one, where it is not streamed.

        A server that is busy, or not there for a moment, is tried again while nothing has come.
        Raises `ReplyError`, and `BackendError` where the server is gone or refuses the key.
        """
        read = partial(self._take_pieces, take)
        for attempt in range(MOST_TRIES):
            try:
                await self._answer("POST", path, data, attempt, read)
                return
            except _BusyError as busy:
                await self._wait(attempt, busy.seconds)
            except _LostError as error:
                if attempt == MOST_TRIES - 1:
                    raise self._gone(error) from error
                # At first it may be a connection that the server has closed meanwhile, as it may.
                if attempt or not error.was_open:
                    await self._wait(attempt, None)

    async def _wait(self, attempt: int, wanted: float | None) -> None:
        """By Retry-After, else longer each time; not all that wait come back at once."""
        seconds = _FIRST_WAIT_SECONDS * 2**attempt if wanted is None else wanted
        # Not before the time that the server named.
        seconds = min(seconds, MOST_WAIT_SECONDS) * random.uniform(1.0, 1.25)  # noqa: S311 - no secret
        self.retries += 1
        self.waited_seconds += seconds
        await asyncio.sleep(seconds)

    async def _answer(
        self,
        method: str,
        path: str,
        data: bytes | None,
        attempt: int,
        read: Callable[[aiohttp.ClientResponse], Awaitable[_Got]],
    ) -> _Got:
        """What is read of a response that is no error. Raises `ReplyError`, `_LostError`,
        `BackendError`; and `_BusyError` unless this was the last attempt."""
        url = self.url + path
        began = False
        try:
            for _ in range(_MOST_REDIRECTS + 1):
                async with self._session.request(
                    method,
                    url,
                    data=data,
                    headers={} if data is None else {"Content-Type": "application/json"},
                    allow_redirects=False,
                    proxy=self._proxy,
                ) as response:
                    began = True
                    if response.status in _REDIRECTS:
                        url = self._redirected(method, url, response)
                        continue
                    await self._refuse_errors(response, attempt)
                    return await read(response)
            raise ReplyError("the server redirects again and again")
        except TimeoutError as error:  # `aiohttp.ServerTimeoutError` is one, too
            if not began and "connect" in str(error).lower():
                raise _LostError(f"no connection within {_CONNECT_SECONDS:g} s") from error
            raise ReplyError(f"the server sent nothing for {self._read_seconds:g} s") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise BackendError(
                f"the certificate of {self.host} is not to be trusted: {_words(str(error))}",
                "Give the host that the certificate names, or have its authority in this system's "
                "store (SSL_CERT_FILE names a file of authorities).",
            ) from error
        except aiohttp.ClientPayloadError as error:
            raise ReplyError("the connection ended in the middle of the reply") from error
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            if began:
                raise ReplyError("the connection ended in the middle of the reply") from error
            was_open = not isinstance(error, aiohttp.ClientConnectorError)
            raise _LostError(_why_lost(error), was_open) from error
        except aiohttp.ClientError as error:
            said = self._scrubbed(_words(str(error)))
            raise ReplyError(f"what came is no HTTP: {said or type(error).__name__}") from error

    def _redirected(self, method: str, url: str, response: aiohttp.ClientResponse) -> str:
        target = urljoin(url, response.headers.get("Location", ""))
        if _origin(target) != _origin(self.url):
            host = self._scrubbed(urlsplit(target).hostname or "nowhere")
            raise ReplyError(f"the server redirects to another host ({host})", response.status)
        if method == "POST" and response.status not in _SAME_METHOD:
            raise ReplyError("the server redirects a request, and drops its body", response.status)
        return target

    async def _refuse_errors(self, response: aiohttp.ClientResponse, attempt: int) -> None:
        status = response.status
        if status < 400:
            return
        if status in (401, 403):
            has_key = "the API key" if self._key else "a request without an API key"
            raise BackendError(
                f"{self.host} refuses {has_key} ({status})",
                "Name the environment variable that holds the key: api_key_variable = NAME.",
            )
        if status in _BUSY and attempt < MOST_TRIES - 1:
            raise _BusyError(_retry_after(response.headers.get("Retry-After")))
        said = self._scrubbed(_error_words(await _whole(response)))
        what = {404: "there is no such thing", 429: "it was too busy", 503: "it was too busy"}
        known = what.get(status, "the server answered with an error")
        again = f", {attempt + 1} times" if status in _BUSY and attempt else ""
        raise ReplyError(f"{known} ({status}{again})" + (f": {said}" if said else ""), status)

    async def _take_pieces(self, take: Take, response: aiohttp.ClientResponse) -> None:
        kind = response.content_type
        if kind == "text/html":
            raise ReplyError("a page of HTML came, and no reply: a proxy may stand in between")
        is_lines = kind in ("application/x-ndjson", "application/jsonl")
        if kind != "text/event-stream" and not is_lines:
            take(self._object(await _whole(response)), time.perf_counter())
            return
        async for at, lines in _lines(response):
            for line in lines:
                piece = line.strip() if is_lines else self._data_of(line)
                if piece == b"[DONE]":
                    await _read_to_end(response)
                    return
                if piece:
                    take(self._object(piece), at)

    def _data_of(self, line: bytes) -> bytes:
        """A piece of a reply in a line of an event; nothing where there is none."""
        name, _, value = line.partition(b":")
        # A comment keeps the connection open; other fields of an event say nothing to us.
        if name == b"error":  # llama-server's name for a piece that is none
            raise ReplyError(f"the server broke off: {self._scrubbed(_error_words(value))}")
        return value.strip() if name == b"data" else b""

    def _object(self, data: bytes) -> dict[str, Any]:
        found = _json(data)
        if not isinstance(found, dict):
            raise ReplyError("the reply is JSON, and no object")
        if found.get("error"):
            raise ReplyError(f"the server broke off: {self._scrubbed(_error_words(data))}")
        return found

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def _gone(self, error: Exception) -> BackendError:
        return BackendError(
            f"{self.host} cannot be reached: {error}",
            "Start the server, or give the url that it listens on.",
        )

    def _scrubbed(self, text: str) -> str:
        """A server may repeat the key that it refuses."""
        return text.replace(self._key, "***") if self._key else text


class _BusyError(Exception):
    """To be tried again, after so many seconds where the server says so."""

    def __init__(self, seconds: float | None) -> None:
        super().__init__()
        self.seconds = seconds


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def key_of(variable: str) -> str:
    """The API key in an environment variable. Raises `BackendError`, without the value."""
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key or not (key.isascii() and key.isprintable()):
        state = "is not set" if not key else "holds what can be no key"
        raise BackendError(
            f"the environment variable {variable} {state}",
            "Set it to the server's API key, or leave api_key_variable out.",
        )
    return key


def _proxy_of(url: str) -> str | None:
    """By the environment, as curl has it."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.netloc):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    return parts.scheme, parts.hostname, port or {"http": 80, "https": 443}.get(parts.scheme)


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MOST_BODY:
            raise ReplyError(f"the reply is longer than {MOST_BODY // 2**20} MiB")
    if response.content_type == "text/html":
        raise ReplyError("a page of HTML came, and no reply: a proxy may stand in between")
    return bytes(body)


async def _read_to_end(response: aiohttp.ClientResponse) -> None:
    """The end of a body often comes by itself; without it, the connection could not be used
    again. What a server does in place of it is no matter any more."""
    with suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(_END_SECONDS):
            async for _ in response.content.iter_any():
                pass


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[float, list[bytes]]]:
    """The lines of a stream that came together, with their time. One without an end is one too."""
    left, size = b"", 0
    async for chunk in response.content.iter_any():
        at = time.perf_counter()
        size += len(chunk)
        if size > MOST_BODY:
            raise ReplyError(f"the reply is longer than {MOST_BODY // 2**20} MiB")
        *lines, left = (left + chunk).split(b"\n")
        yield at, lines
    if left:
        yield time.perf_counter(), [left]


def encoded(body: object) -> bytes:
    """As JSON. Half of a surrogate pair has no UTF-8, and is the question mark that our tokenizers
    make of it."""
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        return json.dumps(body, ensure_ascii=False).encode("utf-8", errors="replace")


def _json(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ReplyError("the reply is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise ReplyError("the reply is no JSON") from error


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


def _error_words(data: bytes) -> str:
    """What a server says of an error, wherever in its JSON."""
    text = _text(data)
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return _words(text)
    for _ in range(3):
        if not isinstance(found, dict):
            break
        found = next((found[key] for key in ("error", "message", "detail") if key in found), found)
    return _words(found if isinstance(found, str) else json.dumps(found))


def _words(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MOST_REPLY_WORDS else f"{line[:MOST_REPLY_WORDS]}..."


def _why_lost(error: Exception) -> str:
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection"
    cause = getattr(error, "os_error", None) or error
    said = getattr(cause, "strerror", None)
    return _words(said or str(cause) or type(cause).__name__)


def _retry_after(value: str | None) -> float | None:
    """In seconds; a date is not looked at, and the wait is ours then."""
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


class Apart:
    """A client with a loop in a thread of its own, so that it can be used from within another
    loop, and waited for."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._loop = asyncio.new_event_loop()

        async def connected() -> Client:
            return connect()

        try:
            self.client = self.run(connected())
        except BaseException:
            self._end()
            raise

    def run(self, what: Coroutine[Any, Any, _Got]) -> _Got:
        return self._thread.submit(self._loop.run_until_complete, what).result()

    def close(self) -> None:
        self.run(self.client.close())
        self._end()

    def _end(self) -> None:
        self._thread.shutdown()
        self._loop.close()
