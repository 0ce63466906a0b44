"""A far side that cannot prove who it is: nothing is sent to it, and each try is one event of the trail."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from hub.access import Vault, local_caller
from hub.audit import Action, AuditLog, Outcome
from hub.connections import Connections
from hub.database import Database
from hub.keys import open_ring
from hub.sdk import ConnectorError, Secret
from hub.sdk.testing.tls import Certificates, make_certificates
from hub.settings import load_settings
from tests.system.drill import until

ME = local_caller("anna").actor
PLANTED = "pl4nted-s3cret"
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
GREETING = (
    b"\x0a11.4.0-MariaDB\x00\x01\x00\x00\x00"
    + b"a" * 8
    + b"\x00"
    + struct.pack("<H", 0xFFFF)
    + b"\x2d\x02\x00"
    + struct.pack("<H", 0xFFFF)
    + b"\x15"
    + b"\x00" * 10
    + b"b" * 12
    + b"\x00mysql_native_password\x00"
)
"""Protocol 10 with every capability, TLS among them."""


class FarSide:
    """A server that begins to speak some protocol, then TLS with whatever certificate it has."""

    def __init__(self, begin: Callable[[socket.socket], None], shown: Certificates) -> None:
        self.heard: list[bytes] = []
        self.tried = 0
        self._begin, self._trust = begin, shown.server()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                self.tried += 1
                with suppress(OSError), closing(plain):
                    plain.settimeout(20)
                    self._begin(plain)
                    with self._trust.wrap_socket(plain, server_side=True) as link:
                        if piece := link.recv(65_536):
                            self.heard.append(piece)

    def close(self) -> None:
        self._listener.close()


def postgresql(plain: socket.socket) -> None:
    assert plain.recv(8) == SSL_REQUEST
    plain.sendall(b"S")


def mariadb(plain: socket.socket) -> None:
    plain.sendall(struct.pack("<I", len(GREETING))[:3] + b"\x00" + GREETING)
    (size,) = struct.unpack("<I", plain.recv(4)[:3] + b"\x00")
    assert len(plain.recv(size)) == size


BEGIN: dict[str, Callable[[socket.socket], None]] = {
    "salesforce": lambda _plain: None,
    "postgresql": postgresql,
    "mariadb": mariadb,
}


@pytest.fixture
def connections(database: Database, tmp_path: Path) -> Connections:
    settings = load_settings(home=tmp_path / "hub")
    keys, audit = open_ring(settings, database), AuditLog(database)
    return Connections(database, keys, audit, Vault(keys, settings))


@pytest.fixture
def far(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FarSide]:
    made = FarSide(BEGIN[request.param], make_certificates(tmp_path / "theirs"))
    yield made
    made.close()


def connect(connections: Connections, kind: str, port: int, trusted: Path) -> None:
    if kind == "salesforce":
        settings = {"host": f"localhost:{port}", "login": "password", "username": "u", "authority": str(trusted)}
        connections.create("far", kind, {**settings, "private": True}, {"password": Secret(PLANTED)}, ME)
        return
    place = {"host": "localhost", "port": port, "database": "d", "user": "u", "tls_ca": str(trusted), "private": True}
    connections.create("far", "sql", {"dialect": kind, **place}, {"password": Secret(PLANTED)}, ME)


@pytest.mark.parametrize(("far", "kind"), [(each, each) for each in BEGIN], indirect=["far"])
def test_a_far_side_that_proves_nothing_is_one_event_and_hears_nothing(
    connections: Connections, database: Database, far: FarSide, kind: str, tmp_path: Path
) -> None:
    ours = make_certificates(tmp_path / "ours")
    connect(connections, kind, far.port, ours.authority)
    for times in (1, 2):
        with pytest.raises(ConnectorError) as refused:
            connections.check("far", ME)
        assert "cannot prove who it is" in str(refused.value)
        assert PLANTED not in str(refused.value)
        until(lambda times=times: far.tried >= times)
        events = [each.event for each in AuditLog(database).events(action=Action.CONNECTION_UNTRUSTED)]
        assert [(each.subject, each.outcome, each.detail) for each in events] == [
            ("connection:far", Outcome.FAILED, {"host": "localhost"})
        ] * times
        assert far.tried == times, "it is not tried again at once: it would prove no more"
    assert far.heard == []


@pytest.mark.parametrize(("far", "kind"), [(each, each) for each in BEGIN], indirect=["far"])
def test_a_far_side_that_proves_who_it_is_is_no_such_event(
    connections: Connections, database: Database, far: FarSide, kind: str, tmp_path: Path
) -> None:
    """It makes TLS, hears the login and hangs up, which is another failure."""
    connect(connections, kind, far.port, tmp_path / "theirs" / "authority.pem")
    with pytest.raises(ConnectorError):
        connections.check("far", ME)
    assert far.heard
    assert AuditLog(database).events(action=Action.CONNECTION_UNTRUSTED) == []
