"""A small TCP proxy in a thread that does to a connection what networks do: delay, silence, half answers, cuts.

For the harness of a connector that speaks over plain sockets: the connector is configured with the proxy's port, and
`behave` says what happens from now on. It sees bytes, so the far side must not speak TLS through it.
"""

from __future__ import annotations

import selectors
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self

CHUNK = 65_536
TICK = 0.05
"""Seconds between two looks at whether the proxy is being closed."""


@dataclass(frozen=True)
class Behaviour:
    """What happens to connections; the default is nothing at all.

    `latency` is in seconds for each piece in either direction. `refuse` resets whoever connects; `silent` accepts and
    never answers. `half_open` keeps from each side that the other has gone, as a router that lost its memory does: what
    is sent from then on vanishes. `truncate` lets so many bytes of answers through, counted from when the behaviour
    began, and ends the connection in good order. `garble` turns over every bit of every answer. `cut_at` resets the
    connection when the client sends these bytes: before the far side sees them, or with `answered`, once its answer to
    them has come back and been thrown away; `skip` so many occurrences first.
    """

    latency: float = 0.0
    refuse: bool = False
    silent: bool = False
    half_open: bool = False
    truncate: int | None = None
    garble: bool = False
    cut_at: bytes | None = None
    answered: bool = True
    skip: int = 0


class _CutError(Exception):
    """This connection is to be reset now."""


class _EndedError(Exception):
    """This connection is to be closed in good order."""


class FaultProxy:
    """Listens on a free port of 127.0.0.1 and passes connections on to `host` and `port`."""

    def __init__(self, host: str, port: int, *, behaviour: Behaviour | None = None) -> None:
        self._target = (host, port)
        self._behaviour = behaviour or Behaviour()
        self._lock = Lock()
        self._links: set[_Link] = set()
        self._closing = Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(TICK)
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        """How many connections were reset because of `cut_at`: the proof that a fault did happen."""
        self._thread = Thread(target=self._accept, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()

    def behave(self, behaviour: Behaviour) -> None:
        """From now on, for connections that stand and those to come; counts begin anew."""
        with self._lock:
            self._behaviour = behaviour
            for each in self._links:
                each.begin(behaviour)

    def reset(self) -> None:
        """Cuts every connection that stands."""
        with self._lock:
            standing = list(self._links)
        for each in standing:
            each.stop.set()
            each.thread.join()

    def close(self) -> None:
        """Cuts every connection and listens no more; harmless when repeated."""
        self._closing.set()
        self._thread.join()
        self._listener.close()
        self.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            with suppress(TimeoutError):
                client, _ = self._listener.accept()
                self._welcome(client)

    def _welcome(self, client: socket.socket) -> None:
        try:
            if self._behaviour.refuse:
                raise ConnectionRefusedError
            far = socket.create_connection(self._target, timeout=10.0)
        except OSError:
            _reset(client)
            return
        with self._lock:  # together with `behave`, which may have been called since the connection came
            link = _Link(self, client, far, self._behaviour)
            self._links.add(link)
        link.thread.start()

    def _cut(self) -> None:
        with self._lock:
            self.cuts += 1

    def _gone(self, link: _Link) -> None:
        with self._lock:
            self._links.discard(link)


class _Link:
    """One connection through the proxy, in a thread of its own."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, far: socket.socket, behaviour: Behaviour) -> None:
        self._proxy = proxy
        self._client = client
        self._far = far
        self.stop = Event()
        self.thread = Thread(target=self._run, name=f"proxy-{proxy.port}-link", daemon=True)
        self.begin(behaviour)

    def begin(self, behaviour: Behaviour) -> None:
        """Takes on a behaviour, its counts at zero."""
        self._answers = 0
        self._occurrences = 0
        self._tail = b""
        self._armed = False
        self._alone = False
        self._behaviour = behaviour

    def _run(self) -> None:
        try:
            self._pump()
        except _EndedError:
            self._client.close()
        except _CutError:
            self._proxy._cut()
        except OSError:
            pass  # whichever side went first, both are given back below
        finally:
            _reset(self._client)
            self._far.close()
            self._proxy._gone(self)

    def _pump(self) -> None:
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._client, selectors.EVENT_READ, self._up)
            waiting.register(self._far, selectors.EVENT_READ, self._down)
            while not self.stop.is_set():
                for key, _ in waiting.select(TICK):
                    piece = key.fileobj.recv(CHUNK)  # type: ignore[union-attr]
                    if not piece and self._behaviour.half_open:
                        waiting.unregister(key.fileobj)
                        self._alone = True
                        continue
                    if not piece:
                        raise _EndedError
                    if self._behaviour.latency:
                        self.stop.wait(self._behaviour.latency)
                    key.data(piece)

    def _up(self, piece: bytes) -> None:
        behaviour = self._behaviour
        if behaviour.silent or self._alone:
            return
        if behaviour.cut_at is not None and self._seen(piece, behaviour.cut_at) > behaviour.skip:
            if not behaviour.answered:
                raise _CutError
            self._armed = True
        self._far.sendall(piece)

    def _seen(self, piece: bytes, wanted: bytes) -> int:
        """How often the bytes have come so far, also when two pieces share them."""
        text = self._tail + piece
        self._occurrences += text.count(wanted)
        self._tail = text[-(len(wanted) - 1) :] if len(wanted) > 1 else b""
        return self._occurrences

    def _down(self, piece: bytes) -> None:
        behaviour = self._behaviour
        if behaviour.silent or self._alone:
            return
        if self._armed:
            raise _CutError
        if behaviour.garble:
            piece = bytes(each ^ 0xFF for each in piece)
        if behaviour.truncate is not None:
            piece = piece[: max(0, behaviour.truncate - self._answers)]
        self._answers += len(piece)
        self._client.sendall(piece)
        if behaviour.truncate is not None and self._answers >= behaviour.truncate:
            raise _EndedError


def _reset(one: socket.socket) -> None:
    """Closes so that the other side is told at once, and not politely."""
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()
