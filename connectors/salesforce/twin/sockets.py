"""The twin's HTTPS: requests to the site and answers back, on loopback alone; connections cut where a fault says so."""

from __future__ import annotations

import asyncio
import gzip
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl

import uvicorn
from starlette.concurrency import iterate_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from connectors.salesforce.twin.faces.bulk import MOST_UPLOAD
from connectors.salesforce.twin.faces.call import Answer, Call, Route
from connectors.salesforce.twin.faults import Fault
from connectors.salesforce.twin.org.problems import RefusedError
from connectors.salesforce.twin.site import UNKNOWN, Site, refused

LOOPBACK = "127.0.0.1"
MOST_HEAD = 16_384
"""Bytes of the address and the headers together."""
MOST_BODY = 50 * 1024**2
WORTH_PACKING = 2048
"""Bytes from which on an answer is packed, for whoever takes it so."""
START_SECONDS = 20.0


class CuttingProtocol(HttpToolsProtocol):
    """HTTP/1.1 that hands its transport to the application, which may have to cut the connection."""

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)["twin.transport"] = self.transport

    def shutdown(self) -> None:
        """The server ends: a connection at rest is dropped, for TLS would wait for the client to say goodbye."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
        else:
            super().shutdown()


class TooLargeError(Exception):
    """The body is larger than what is taken."""


class Door:
    """The application: one request in, one answer out."""

    def __init__(self, site: Site, folder: Path) -> None:
        self._site = site
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        request = Request(scope, receive)
        too_long = _too_long(scope)
        if too_long:
            await _send(send, too_long)
            return
        call, found = self._read(request)
        try:
            call.body, call.upload = await self._body(request, large=found.large)
        except TooLargeError:
            words = "The request body is larger than what is taken"
            await _send(send, refused(RefusedError("REQUEST_ENTITY_TOO_LARGE", words, status=413)))
            return
        except ClientDisconnect:
            return
        answer, fault = await asyncio.to_thread(self._site.answer, found, call)
        await self._reply(scope, receive, send, answer, fault)

    def _read(self, request: Request) -> tuple[Call, Route]:
        """The call without its body, and its route."""
        scope = request.scope
        path, refusal = scope["raw_path"].decode("latin-1"), None
        try:
            found, names = self._site.route(request.method, path)
        except RefusedError as error:
            found, names, refusal = UNKNOWN, {}, error
        call = Call(
            site=self._site,
            method=request.method,
            path=path,
            query=dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
            headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
            version=names.get("version", ""),
            names=names,
            refusal=refusal,
        )
        return call, found

    async def _body(self, request: Request, *, large: bool) -> tuple[bytes, Path | None]:
        most = MOST_UPLOAD if large else MOST_BODY
        if not large:
            pieces, size = [], 0
            async for piece in request.stream():
                size += len(piece)
                if size > most:
                    raise TooLargeError
                pieces.append(piece)
            return b"".join(pieces), None
        with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".part", delete=False) as file:
            path, size = Path(file.name), 0
            try:
                async for piece in request.stream():
                    size += len(piece)
                    if size > most:
                        raise TooLargeError
                    file.write(piece)
            except (TooLargeError, ClientDisconnect):
                path.unlink()
                raise
        return b"", path

    async def _reply(self, scope: Scope, receive: Receive, send: Send, answer: Answer, fault: Fault | None) -> None:
        if fault and fault.what in {"cut", "cut_after"}:
            await _cut(scope, receive)
        elif fault and fault.what == "half":
            await _half(send, answer)
            await _cut(scope, receive)
        elif answer.pieces is not None:
            await _stream(send, answer)
        else:
            await _send(send, answer, packed=b"gzip" in dict(scope["headers"]).get(b"accept-encoding", b""))


async def _cut(scope: Scope, receive: Receive) -> None:
    scope["twin.transport"].abort()
    while (await receive())["type"] != "http.disconnect":
        pass


async def _half(send: Send, answer: Answer) -> None:
    content = answer.content() if answer.pieces is None else next(answer.pieces, b"")
    await send({"type": "http.response.start", "status": answer.status, "headers": _headers(answer, len(content) + 1)})
    await send({"type": "http.response.body", "body": content[: len(content) // 2], "more_body": True})
    # What was written must have left before the connection is cut.
    await asyncio.sleep(0)


async def _send(send: Send, answer: Answer, *, packed: bool = False) -> None:
    content = answer.content()
    if packed and len(content) > WORTH_PACKING:
        content = await asyncio.to_thread(gzip.compress, content, 1)
        answer.headers["Content-Encoding"] = "gzip"
    size = None if answer.status == 204 else len(content)
    await send({"type": "http.response.start", "status": answer.status, "headers": _headers(answer, size)})
    await send({"type": "http.response.body", "body": content})


async def _stream(send: Send, answer: Answer) -> None:
    assert answer.pieces is not None
    pieces: AsyncIterator[bytes] = iterate_in_threadpool(answer.pieces)
    await send({"type": "http.response.start", "status": answer.status, "headers": _headers(answer, None)})
    async for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _headers(answer: Answer, size: int | None) -> list[tuple[bytes, bytes]]:
    made = {"Cache-Control": "no-cache,must-revalidate,max-age=0,no-store,private", **answer.headers}
    if answer.status != 204:
        made["Content-Type"] = answer.media
    if size is not None:
        made["Content-Length"] = str(size)
    return [(name.lower().encode(), value.encode()) for name, value in made.items()]


def _too_long(scope: Scope) -> Answer | None:
    address = len(scope["raw_path"]) + len(scope["query_string"]) + 1
    if address > MOST_HEAD:
        return Answer(b"URI Too Long", 414, media="text/html")
    head = address + sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    if head > MOST_HEAD:
        return Answer(b"Request Header Fields Too Large", 431, media="text/html")
    return None


class Serving:
    """One server in a thread of its own, on a port of loopback."""

    def __init__(self, app: Any, port: int, *, certificate: Path | None = None, key: Path | None = None) -> None:
        self._socket = socket.create_server((LOOPBACK, port), backlog=128)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            http=CuttingProtocol,
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            timeout_graceful_shutdown=3,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name=f"twin on {self.port}", daemon=True
        )

    def start(self) -> None:
        """Returns when it answers. TimeoutError where it does not come up."""
        self._thread.start()
        end = time.monotonic() + START_SECONDS
        while not self._server.started:
            if time.monotonic() > end or not self._thread.is_alive():
                raise TimeoutError(f"the twin does not answer on port {self.port}")
            time.sleep(0.005)

    def stop(self) -> None:
        """Ends after the answers at hand."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()
