"""The lease broker as a process of its own: JSON lines over a Unix socket, each peer known by what the kernel says.

It alone holds the key-encryption key. Whoever asks may seal and open what its part is: nobody a private key that is the
broker's, a key of values, or the root of all digests; and nobody opens a secret.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from hub.access.leases.types import Broker, Holder, LeaseError
from hub.access.types import AccessError, DeniedError
from hub.keys import KeyRing, SealedError
from hub.logs import Log
from hub.sdk import ConnectorError, Grant, Token, UnavailableError

MOST_BYTES = 256 * 1024 * 1024
"""Of one message: what is sealed through the broker is at most a block of the standing or a piece of a model."""

log = Log(__name__)


class Part(StrEnum):
    """What the peers at one socket are: they answer requests, or carry runs."""

    API = "api"
    WORKER = "worker"


WITHHELD = {"root", "sealing-key", "working-key"}
"""Kinds of sealed values that no peer is given."""
WITHHELD_FROM_API = {"access_token"}
AUDIT_KEY = "audit-log"
"""The signing key of the trail is for those who seal it."""
MACS_OF_WORKERS = {"connection"}
"""Purposes of keyed digests that bind where a password goes: whoever answers requests cannot make them."""


Permits = Callable[[Holder, str, Grant], bool]
"""Whether a holder may be lent a connection for a grant: peers say themselves what they want to do with it."""


class Office:
    """What the broker does for its peers, whatever carries the messages."""

    def __init__(self, keys: KeyRing, broker: Broker, permits: Permits, *, lends_to_api: bool = False) -> None:
        self._keys = keys
        self._broker = broker
        self._permits = permits
        self._lends = lends_to_api

    def answer(self, part: Part, asked: Mapping[str, Any]) -> Any:
        """The answer to one message. DeniedError where it is not the peer's to ask."""
        verb = cast("Callable[[Part, Mapping[str, Any]], Any] | None", getattr(self, f"_do_{asked.get('do')}", None))
        if verb is None:
            raise DeniedError("the lease broker knows no such message")
        return verb(part, asked)

    def _do_open(self, part: Part, asked: Mapping[str, Any]) -> Any:
        holder, connection, grant = Holder(*asked["holder"]), asked["connection"], Grant.from_json(asked["grant"])
        if not self._permits(holder, connection, grant):
            raise DeniedError(
                f"connection {connection} is lent for what a version of a mapping was granted, and this is no such"
                " grant; hand the version in by `hub mappings submit`, or do it where the lease broker runs, without"
                " HUB_LEASE_SOCKET"
            )
        handed = self._broker.open(holder, connection, grant)
        given = handed.credential
        if part is Part.API and not given.minted and given.secrets and not self._lends:
            self._broker.close(handed.id, {})
            raise LeaseError(
                f"connection {connection} lends its secrets to workers alone; HUB_LEASE_TO_API=true for `hub broker`"
                " lends them to whoever answers requests, too"
            )
        secrets = {name: None if given.minted else each.reveal() for name, each in given.secrets.items()}
        told = {"connector": given.connector, "settings": dict(given.settings), "minted": given.minted}
        return {"id": handed.id, "seconds": handed.seconds, "secrets": secrets, **told}

    def _do_turn(self, _part: Part, asked: Mapping[str, Any]) -> Any:
        return self._broker.turn(asked["lease"], Holder(*asked["holder"]), asked["counts"])

    def _do_renew(self, _part: Part, asked: Mapping[str, Any]) -> Any:
        return dict(self._broker.renew(asked["leases"]))

    def _do_look(self, _part: Part, asked: Mapping[str, Any]) -> Any:
        return {name: each.value for name, each in self._broker.look(asked["leases"]).items()}

    def _do_close(self, _part: Part, asked: Mapping[str, Any]) -> Any:
        return self._broker.close(asked["lease"], asked["counts"])

    def _do_token(self, _part: Part, asked: Mapping[str, Any]) -> Any:
        return token_json(self._broker.token(asked["lease"], asked["refused"], asked["seconds"]))

    def _do_seal(self, part: Part, asked: Mapping[str, Any]) -> Any:
        if not _may_seal(part, asked["identity"]):
            raise DeniedError("this is made by nobody but the lease broker")
        return _text(self._keys.seal(_bytes(asked["plain"]), asked["identity"], **asked["more"]))

    def _do_unseal(self, part: Part, asked: Mapping[str, Any]) -> Any:
        if not _may_open(part, asked["identity"]):
            raise DeniedError("this is not opened for anybody but the lease broker")
        return _text(self._keys.open(_bytes(asked["sealed"]), asked["identity"], **asked["more"]))

    def _do_derive(self, part: Part, asked: Mapping[str, Any]) -> Any:
        if part is Part.API and asked["purpose"] in MACS_OF_WORKERS:
            raise DeniedError("who answers requests cannot say where a credential goes")
        return _text(self._keys.derive(asked["purpose"]))

    def _do_version(self, _part: Part, _asked: Mapping[str, Any]) -> Any:
        return self._keys.version


def _may_open(part: Part, identity: Mapping[str, str]) -> bool:
    kind = identity.get("kind")
    if identity.get("table") == "access_secret" or kind in WITHHELD:
        return False
    if part is Part.WORKER:
        return True
    return kind not in WITHHELD_FROM_API and not (kind == "signing-key" and identity.get("purpose") == AUDIT_KEY)


def _may_seal(part: Part, identity: Mapping[str, str]) -> bool:
    """What the hub believes because it opens: a peer that made one itself would know every value sealed under it."""
    if part is Part.API:
        return _may_open(part, identity)
    return identity.get("kind") not in WITHHELD


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens at a path until it is told to stop; only these users are answered."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, path: Path, office: Office, part: Part, users: Collection[int]) -> None:
        self.office = office
        self.part = part
        self.users = users
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        path.unlink(missing_ok=True)
        super().__init__(str(path), _Peer)
        # Everybody of the machine may knock; whom it answers is for the kernel to say.
        path.chmod(0o666)

    def start(self) -> threading.Thread:
        """Serves in a thread of its own."""
        thread = threading.Thread(target=self.serve_forever, args=(0.1,), name="broker", daemon=True)
        thread.start()
        return thread


class _Peer(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        """Answers one peer until it hangs up."""
        if (user := peer_user(self.connection)) not in self.server.users:
            log.warning("a stranger knocked at the lease broker", user=user)
            return
        while line := self.rfile.readline(MOST_BYTES):
            self.wfile.write(json.dumps(self._answer(line)).encode() + b"\n")

    def _answer(self, line: bytes) -> Any:
        try:
            return {"ok": self.server.office.answer(self.server.part, json.loads(line))}
        except (ConnectorError, AccessError, SealedError) as error:
            return {"error": _told(error)}
        except Exception as error:  # the peer is told no more than that
            if type(error).__module__.startswith("hub."):
                return {"error": _told(error)}
            log.exception("the lease broker failed")
            return {"error": ["BrokerAwayError", "the lease broker failed; its log says why"]}


def peer_user(connection: socket.socket) -> int:
    """The user of whoever is at the other end, as the kernel knows it."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, user, _group = struct.unpack("3i", told)
    return int(user)


def users_of(listed: str) -> frozenset[int]:
    """The users that may ask: those listed, and the broker's own."""
    return frozenset({os.getuid(), *(int(each) for each in listed.split(",") if each)})


def token_json(token: Token) -> dict[str, Any]:
    """A token as it is told."""
    ends = None if token.ends_at is None else token.ends_at.isoformat()
    return {"value": token.value.reveal(), "ends_at": ends, "facts": dict(token.facts)}


def _told(error: Exception) -> list[Any]:
    message = error.message if isinstance(error, ConnectorError) else str(error)
    after = error.retry_after if isinstance(error, UnavailableError) else None
    return [type(error).__name__, message, after]


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
