"""The lease broker as its peers see it: the same interface over a socket, and a key ring that holds no key."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from hub.access.leases.types import (
    BrokerAwayError,
    Credential,
    Ending,
    Handed,
    Holder,
    LeaseEndedError,
    LeaseError,
    LeaseRevokedError,
    WorkerRevokedError,
)
from hub.access.types import AccessError, DeniedError, VaultError
from hub.keys import KeyRing, SealedError
from hub.logs import conceal
from hub.sdk import Grant, Secret, Token, UnauthorizedError, UnavailableError, UnexpectedError

KNOWN: Mapping[str, type[Exception]] = {
    each.__name__: each
    for each in (
        AccessError,
        BrokerAwayError,
        DeniedError,
        LeaseEndedError,
        LeaseError,
        LeaseRevokedError,
        SealedError,
        UnauthorizedError,
        UnexpectedError,
        VaultError,
        WorkerRevokedError,
    )
}
"""Errors that come back as they are."""
PATIENCE = 150.0
"""Seconds for one answer: a login at the far side may be behind it."""


class BrokerClient:
    """`Broker` at the other end of a Unix socket; safe to share between threads.

    `errors` are those of the hub's rooms that may come back, by the name of their class.
    """

    def __init__(self, path: Path, errors: Mapping[str, type[Exception]]) -> None:
        self._path = path
        self._errors = errors
        self._idle: list[socket.socket] = []
        self._lock = threading.Lock()

    def open(self, holder: Holder, connection: str, grant: Grant) -> Handed:
        """As `Broker.open`."""
        told = self.ask("open", holder=_plain(holder), connection=connection, grant=grant.to_json())
        secrets = {
            name: Secret.withheld() if each is None else conceal(Secret(each)) for name, each in told["secrets"].items()
        }
        credential = Credential(told["connector"], told["settings"], secrets, told["minted"])
        return Handed(told["id"], told["seconds"], credential)

    def turn(self, lease: str, holder: Holder, counts: Mapping[str, int]) -> tuple[str, float]:
        """As `Broker.turn`."""
        fresh, seconds = self.ask("turn", lease=lease, holder=_plain(holder), counts=dict(counts))
        return fresh, seconds

    def renew(self, leases: Collection[str]) -> Mapping[str, float]:
        """As `Broker.renew`."""
        left: dict[str, float] = self.ask("renew", leases=list(leases))
        return left

    def look(self, leases: Collection[str]) -> Mapping[str, Ending]:
        """As `Broker.look`."""
        return {name: Ending(each) for name, each in self.ask("look", leases=list(leases)).items()}

    def close(self, lease: str, counts: Mapping[str, int]) -> None:
        """As `Broker.close`."""
        self.ask("close", lease=lease, counts=dict(counts))

    def token(self, lease: str, refused: str | None, seconds: float | None) -> Token:
        """As `Broker.token`."""
        told = self.ask("token", lease=lease, refused=refused, seconds=seconds)
        ends = None if told["ends_at"] is None else datetime.fromisoformat(told["ends_at"])
        return Token(conceal(Secret(told["value"])), ends, told["facts"])

    def ask(self, verb: str, **asked: Any) -> Any:
        """The answer to one message. BrokerAwayError where nobody answers; the broker's own errors as they are."""
        message = json.dumps({"do": verb, **asked}).encode() + b"\n"
        with self._lock:
            known = self._idle.pop() if self._idle else None
        answer = self._exchanged(known, message) if known is not None else None
        if answer is None:  # the broker may have been started anew since it was last asked
            answer = self._exchanged(self._connected(), message)
        if answer is None:
            raise BrokerAwayError(f"the lease broker at {self._path} hung up; is this process's user among its peers?")
        if "error" in answer:
            raise self._raised(*answer["error"])
        return answer["ok"]

    def hang_up(self) -> None:
        """Gives back every socket."""
        with self._lock:
            idle, self._idle = self._idle, []
        for each in idle:
            each.close()

    def _connected(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(PATIENCE)
        try:
            made.connect(str(self._path))
        except OSError as error:
            made.close()
            raise BrokerAwayError(f"the lease broker at {self._path} does not answer: {error.strerror}") from None
        return made

    def _exchanged(self, peer: socket.socket, message: bytes) -> dict[str, Any] | None:
        try:
            peer.sendall(message)
            answer = _line(peer)
        except OSError:
            answer = b""
        if not answer.endswith(b"\n"):
            peer.close()
            return None
        with self._lock:
            self._idle.append(peer)
        found: dict[str, Any] = json.loads(answer)
        return found

    def _raised(self, kind: str, message: str, after: float | None = None) -> Exception:
        if kind == UnavailableError.__name__:
            return UnavailableError(message, retry_after=after)
        return {**KNOWN, **self._errors}.get(kind, AccessError)(message)


class BorrowedRing(KeyRing):
    """A key ring whose keys stay with the broker: it seals and opens there, and is given keys of digests alone."""

    def __init__(self, client: BrokerClient) -> None:
        self._client = client
        self._derived = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "BorrowedRing(…)"

    @property
    def version(self) -> int:
        """As `KeyRing.version`."""
        version: int = self._client.ask("version")
        return version

    def seal(self, plain: bytes, identity: Mapping[str, str], **more: bool) -> bytes:
        """As `KeyRing.seal`."""
        return _bytes(self._client.ask("seal", plain=_text(plain), identity=dict(identity), more=more))

    def open(self, sealed: bytes, identity: Mapping[str, str], **more: bool) -> bytes:
        """As `KeyRing.open`. DeniedError for what the broker opens for nobody."""
        return _bytes(self._client.ask("unseal", sealed=_text(sealed), identity=dict(identity), more=more))

    def rewrap(self, sealed: bytes, identity: Mapping[str, str]) -> bytes:  # noqa: ARG002
        """Not here: keys are rotated where they are."""
        raise DeniedError("keys are rotated where the lease broker runs; unset HUB_LEASE_SOCKET there")

    def derive(self, purpose: str) -> bytes:
        """As `KeyRing.derive`. DeniedError for a purpose that is not this process's."""
        with self._lock:
            if purpose not in self._derived:
                self._derived[purpose] = _bytes(self._client.ask("derive", purpose=purpose))
            return self._derived[purpose]


def _line(peer: socket.socket) -> bytes:
    pieces = []
    while piece := peer.recv(1 << 16):
        pieces.append(piece)
        if piece.endswith(b"\n"):
            break
    return b"".join(pieces)


def _plain(holder: Holder) -> list[Any]:
    return [holder.worker, holder.run, holder.slice, holder.epoch]


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
