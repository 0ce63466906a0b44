"""What bounds a request before any of it is understood: bytes, depth, compression, time and headers."""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hub.api.problems import MEDIA_TYPE, ProblemError

MOST_BYTES = 2_000_000
"""Bytes of a request's body."""
FORM = b"application/x-www-form-urlencoded"
MOST_DEPTH = 16
"""Arrays and objects inside each other."""
BODY_SECONDS = 20.0
"""Time for a body to arrive."""
MOST_HEADER_BYTES = 32_768
"""Bytes of a request's address and headers together."""
HEADER_SECONDS = 10.0
"""Time for the headers to arrive."""

CLOSED = {"Connection": "close"}
"""What is left of a refused body is not read."""

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_ODD = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


class Bodies:
    """Reads a body whole before the application sees it, so that what is too large, deep or slow costs no parsing."""

    def __init__(self, app: ASGIApp, *, most_bytes: int = MOST_BYTES, seconds: float = BODY_SECONDS) -> None:
        self._app = app
        self._most_bytes = most_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            if "\x00" in scope["path"] or b"%00" in scope["query_string"]:
                raise _malformed()
            body = await self._read(scope, receive)
        except ProblemError as problem:
            await problem.response()(scope, receive, send)
            return
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        headers = dict(scope["headers"])
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
            raise ProblemError(415, "compressed", "the body is compressed; send it as it is", headers=CLOSED)
        stated = headers.get(b"content-length", b"")
        if stated.isdigit() and int(stated) > self._most_bytes:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await receive()
                    body += message.get("body", b"")
                    if len(body) > self._most_bytes:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise ProblemError(408, "slow", "the body took too long to arrive", headers=CLOSED) from None
        if FORM not in headers.get(b"content-type", b"").lower() and not is_text(body):
            raise _malformed()
        if is_deep(body):
            raise ProblemError(400, "deep", f"the body nests arrays or objects more than {MOST_DEPTH} deep")
        return bytes(body)

    def _too_large(self) -> ProblemError:
        detail = f"the body is larger than {self._most_bytes} bytes; send fewer records at a time"
        return ProblemError(413, "too_large", detail, headers=CLOSED)


def _malformed() -> ProblemError:
    detail = "the request holds a NUL or half of a surrogate pair, which stand for no character, or is not in UTF-8"
    return ProblemError(400, "malformed", detail)


def is_text(body: bytes | bytearray) -> bool:
    """Whether JSON is in UTF-8, without NUL and without halves of surrogate pairs, written out or escaped.

    Python reads all of these, and UTF-16 as well, in which brackets hide from `is_deep`. PostgreSQL keeps no text with
    NUL, no database and no frame one with half of a pair.
    """
    if b"\x00" in body:
        return False
    try:
        if not body.isascii():
            body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    if not _ODD.search(body):
        return True
    begun = -1
    for match in _ESCAPE.finditer(body):
        code = int(match[1], 16) if match[1] else -1
        second = 0xDC00 <= code < 0xE000
        if code == 0 or second != (begun == match.start()) or (begun >= 0 and not second):
            return False
        begun = match.end() if 0xD800 <= code < 0xDC00 else -1
    return begun < 0


def is_deep(body: bytes | bytearray, most: int = MOST_DEPTH) -> bool:
    """Whether JSON nests deeper than `most`, in one pass over its brackets; texts do not count."""
    if body.count(b"[") + body.count(b"{") <= most:
        return False
    depth = 0
    for match in _TOKEN.finditer(body):
        first = match[0][:1]
        if first in b"[{":
            depth += 1
            if depth > most:
                return True
        elif first in b"]}":
            depth -= 1
    return False


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with what it lacks: caps on the headers' size and time, and problems instead of plain text."""

    _waiting: asyncio.TimerHandle | None = None
    _came = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._came += len(data)
        super().data_received(data)
        if self._waiting is not None and self._came > MOST_HEADER_BYTES:
            self._refuse_headers()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_headers()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MOST_HEADER_BYTES:
            self._refuse_headers()
        if not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.transport.is_closing():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(ProblemError(400, "malformed", msg))

    def _await_headers(self) -> None:
        self._stop_waiting()
        self._waiting = self.loop.call_later(HEADER_SECONDS, self._refuse_slow)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting, self._came = None, 0

    def _refuse_slow(self) -> None:
        self._refuse(ProblemError(408, "slow", "the headers took too long to arrive"))

    def _refuse_headers(self) -> None:
        self._refuse(ProblemError(431, "headers", f"address and headers are larger than {MOST_HEADER_BYTES} bytes"))

    def _refuse(self, problem: ProblemError) -> None:
        if self.transport.is_closing():
            return
        body = bytes(problem.response().body)
        head = f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
        head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
