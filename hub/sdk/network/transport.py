"""The network under the HTTP client: the address that was looked at is the one connected to, and waits end in time."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

from hub.sdk.connector import Context
from hub.sdk.errors import UnavailableError
from hub.sdk.network.addresses import resolve


def pinned_transport(context: Context, trust: ssl.SSLContext, *, private: bool) -> httpx.BaseTransport:
    """httpx's transport over a network that resolves a name once and ends every wait at the context's deadline.

    Unless `private`, a name that has an address in a private, local or reserved range is refused.
    """
    pool = httpcore.ConnectionPool(trust, network_backend=_PinnedNetwork(context, private=private))
    return _PoolTransport(pool)


class _PoolTransport(httpx.BaseTransport):
    """httpx over a pool whose network we choose, which its own transport does not let us."""

    def __init__(self, pool: httpcore.ConnectionPool) -> None:
        self._pool = pool

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        assert isinstance(request.stream, httpx.SyncByteStream)
        sent = httpcore.Request(
            method=request.method,
            url=url,
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _translated():
            answer = self._pool.handle_request(sent)
        assert isinstance(answer.stream, Iterable)
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer.stream), extensions=answer.extensions
        )

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        with _translated():
            yield from self._stream

    def close(self) -> None:
        self._stream.close()


@contextmanager
def _translated() -> Iterator[None]:
    """httpcore's errors as httpx's of the same name."""
    try:
        yield
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
        raise getattr(httpx, type(error).__name__, httpx.TransportError)(str(error)) from error


class _PinnedNetwork(httpcore.NetworkBackend):
    """Connects to the address it looked at, and ends every wait at the deadline of the call, however slow the drip."""

    def __init__(self, context: Context, *, private: bool) -> None:
        self._context = context
        self._private = private
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        error: Exception | None = None
        for address in self._addresses(host, port):
            try:
                stream = self._sockets.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
            else:
                return _TimedStream(stream, self._context)
        raise error or httpcore.ConnectError(f"{host} has no address")

    def _addresses(self, host: str, port: int) -> list[str]:
        try:
            return resolve(host, port, private=self._private)
        except UnavailableError as error:
            raise httpcore.ConnectError(f"{host} has no address") from error


class _TimedStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, context: Context) -> None:
        self._stream = stream
        self._context = context

    def _left(self, timeout: float | None) -> float:
        left = self._context.seconds_left(timeout if timeout is not None else 3600.0)
        if left <= 0:
            raise httpcore.ReadTimeout("the deadline of the call has passed")
        return left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, self._left(timeout)), self._context)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
