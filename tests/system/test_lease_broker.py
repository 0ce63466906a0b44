"""The lease broker as a process: it has the key and nobody else, and everything else goes on without."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from hub.access import DeniedError, Scope
from hub.access.leases import (
    BorrowedRing,
    BrokerAwayError,
    BrokerClient,
    Holder,
    LeaseError,
    Office,
    Part,
    Server,
    live_leases,
)
from hub.access.leases.sealing import key_identity
from hub.access.leases.store import sealing_key
from hub.access.store import SecretRow
from hub.keys import KeyringError, open_ring
from hub.keys.store import load_root
from hub.runs import RunKind, RunState, serving_leases
from hub.runs.installation import permitted
from hub.sdk import Grant, Secret
from hub.settings import Settings
from hub.worker.supervisor import _variables
from tests.hub.runs.site import IN_PLACE, ME, Site
from tests.system.drill import Make, lone_worker, until

PLANTED = "pl4nted-s3cret"


class Apart:
    """A site whose key only a broker process can read."""

    def __init__(self, site: Site, socket_path: Path) -> None:
        self.site = site
        self.key_file = site.hub.settings.key_file.rename(site.hub.settings.home / "broker-only.json")
        self.settings: Settings = site.hub.settings.model_copy(update={"lease_socket": socket_path})
        self.client = BrokerClient(socket_path, {})

    @contextmanager
    def broker(self, **more: str) -> Iterator[subprocess.Popen[bytes]]:
        environment = {**os.environ, **_variables(self.settings), "HUB_KEY_FILE": str(self.key_file), **more}
        process = subprocess.Popen([sys.executable, "-m", "hub.cli", "broker"], env=environment)
        try:
            until(self.answers, 30)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0

    def answers(self) -> bool:
        try:
            return bool(self.client.ask("version"))
        except BrokerAwayError:
            return False


@pytest.fixture
def apart(make_site: Make, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    site = make_site(12, page_rows=5, lease_seconds=20)
    # The path of a socket may not be long.
    made = Apart(site, tmp_path_factory.mktemp("b") / "s")
    yield made
    made.client.hang_up()


@contextmanager
def api(apart: Apart) -> Iterator[str]:
    """The API in a process of its own; its address."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    environment = {**os.environ, **_variables(apart.settings)}
    command = [sys.executable, "-m", "hub.cli", "serve", "--no-worker", "--port", str(port)]
    process = subprocess.Popen(command, env=environment)
    address = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return httpx.get(f"{address}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(ready, 60)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(40)


def stored(site: Site) -> list[tuple[str, int, str, bytes]]:
    with site.hub.database.read() as session:
        rows = session.query(SecretRow).order_by(SecretRow.name, SecretRow.version).all()
        return [(row.name, row.version, row.kind, row.sealed or b"") for row in rows]


def test_the_api_starts_without_a_key_takes_a_secret_and_cannot_open_it(apart: Apart) -> None:
    site = apart.site
    _, key = site.hub.access.create_token("ops", owner="anna", scopes=[Scope.CONNECTIONS], actor=ME)
    headers = {"Authorization": f"Bearer {key.reveal()}"}
    with pytest.raises(KeyringError):
        open_ring(apart.settings, site.hub.database)
    own = str(apart.settings.home / "w")
    with (
        apart.broker(HUB_LEASE_API_SOCKET=str(apart.settings.lease_socket), HUB_LEASE_SOCKET=own),
        api(apart) as address,
    ):
        sent = {"secrets": {"password": PLANTED}}
        told = httpx.put(f"{address}/v1/connections/far/secrets", json=sent, headers=headers, trust_env=False)
        assert (told.status_code, told.json()) == (202, {"connection": "far", "sealed": ["password"]})
        ((name, version, kind, sealed),) = until(lambda: stored(site), 20)
        assert PLANTED not in repr(sealed)
        ring = BorrowedRing(apart.client)
        identity = {"table": "access_secret", "name": name, "version": str(version), "kind": kind}
        with pytest.raises(DeniedError, match="not opened for anybody"):
            ring.open(sealed, identity)
        with site.hub.database.read() as session:
            pair, root = sealing_key(session), load_root(session)
        assert pair is not None
        assert root is not None
        for withheld, bound in (
            (pair.sealed, key_identity(pair.public)),
            (root.sealed, {"kind": "root", "format": "1"}),
        ):
            with pytest.raises(DeniedError):
                ring.open(withheld, bound)
        with pytest.raises(DeniedError, match="where a credential goes"):
            ring.derive("connection")
        unknown = httpx.put(f"{address}/v1/connections/nix/secrets", json=sent, headers=headers, trust_env=False)
        assert unknown.status_code == 404
        wrong = {"secrets": {"password": {"a": PLANTED}}}
        echoed = httpx.put(f"{address}/v1/connections/far/secrets", json=wrong, headers=headers, trust_env=False)
        assert echoed.status_code == 422
        assert PLANTED not in echoed.text
    opened = site.hub.keys.open(sealed, identity)
    assert opened == PLANTED.encode()


def test_a_worker_without_a_key_carries_a_run_and_outlives_its_broker(apart: Apart) -> None:
    site = apart.site
    run = site.order(RunKind.FULL)
    variables = {**_variables(apart.settings), "HUB_LEASE_SOCKET": str(apart.settings.lease_socket)}
    with lone_worker(site, **variables) as child, apart.broker():
        assert child.wait(60) == 0
    assert site.look(run).state is RunState.DONE
    assert site.writes() == 12


@pytest.fixture
def office(make_site: Make, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Server, BrokerClient]]:
    """A broker in this process, over a real socket."""
    site, path = make_site(12), tmp_path_factory.mktemp("b") / "s"
    desk = Office(site.hub.keys, site.hub.connections.leases.broker, partial(permitted, site.hub))
    with Server(path, desk, Part.API, {os.getuid()}) as server:
        server.start()
        client = BrokerClient(path, {})
        yield site, server, client
        client.hang_up()
        server.shutdown()


def test_a_secret_is_not_lent_to_who_answers_requests_where_that_is_said(
    office: tuple[Site, Server, BrokerClient],
) -> None:
    site, server, client = office
    assert client.open(Holder("api/1/requests"), "far", Grant()).credential.settings["dialect"] == "sqlite"
    site.hub.connections.put_secrets("far", {"password": Secret(PLANTED)}, ME)
    with pytest.raises(LeaseError, match="to workers alone"):
        client.open(Holder("api/1/requests"), "far", Grant())
    server.part = Part.WORKER
    assert client.open(Holder("w/1/default"), "far", Grant()).credential.secrets["password"].reveal() == PLANTED


def test_a_grant_that_no_version_was_given_is_not_lent(office: tuple[Site, Server, BrokerClient]) -> None:
    site, server, client = office
    server.part = Part.WORKER
    granted = site.hub.mappings.grants("risk")["far"]
    wider = granted | Grant(reads={"PERSON": frozenset({"SSN"})})
    narrower = Grant(reads=granted.reads)
    asking = Holder("w/1/requests")
    assert client.open(asking, "far", granted).seconds > 0
    for each in (wider, narrower, granted | Grant(writes={"WARD": frozenset({"NAME"})})):
        with pytest.raises(DeniedError, match="this is no such grant"):
            client.open(asking, "far", each)
    assert {each.grant for each in live_leases(site.hub.database)} <= {granted.digest(), Grant().digest()}


def test_a_run_is_lent_what_its_own_version_was_granted(office: tuple[Site, Server, BrokerClient]) -> None:
    site, server, client = office
    server.part = Part.WORKER
    first = site.hub.mappings.grants("risk")["far"]
    run = site.order(RunKind.FULL)
    site.publish(write=IN_PLACE.replace(", BAND: band", ""))
    second = site.hub.mappings.grants("risk")["far"]
    assert first != second
    with site.hub.database.begin() as session:
        claim = site.hub.ledger.claim(session, "default", "w/1", 60.0)
    assert claim is not None
    mine = Holder("w/1", run, claim.number, claim.epoch)
    for each in (second, Grant()):
        with pytest.raises(DeniedError, match="this is no such grant"):
            client.open(mine, "far", each)
    with pytest.raises(DeniedError, match="this is no such grant"):
        client.open(Holder("w/1", "20000101-000000-000000", 0, 1), "far", first)
    assert client.open(mine, "far", first).seconds > 0


def test_a_broker_lends_no_secret_to_who_answers_requests_unless_it_is_told_to(
    make_site: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for told, lends in (({}, False), ({"lease_to_api": True}, True)):
        folder = tmp_path_factory.mktemp("b")
        site = make_site(1, lease_api_socket=folder / "a", **told)
        site.hub.connections.put_secrets("far", {"password": Secret(PLANTED)}, ME)
        with serving_leases(site.hub, folder / "w"):
            at_api, at_worker = BrokerClient(folder / "a", {}), BrokerClient(folder / "w", {})
            if lends:
                given = at_api.open(Holder("api/1/requests"), "far", Grant()).credential
                assert given.secrets["password"].reveal() == PLANTED
            else:
                with pytest.raises(LeaseError, match="HUB_LEASE_TO_API=true"):
                    at_api.open(Holder("api/1/requests"), "far", Grant())
            given = at_worker.open(Holder("w/1/requests"), "far", Grant()).credential
            assert given.secrets["password"].reveal() == PLANTED
            at_api.hang_up()
            at_worker.hang_up()


def test_a_user_who_is_not_named_is_not_answered(office: tuple[Site, Server, BrokerClient]) -> None:
    _, server, client = office
    server.users = {os.getuid() + 1}
    with pytest.raises(BrokerAwayError, match="hung up"):
        client.ask("version")


def test_what_is_no_message_breaks_nothing(office: tuple[Site, Server, BrokerClient]) -> None:
    _, _, client = office
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(str(client._path))
    for sent in (b"{", b'{"do": "open"}', b'{"do": "__init__"}', b"[]", b'{"do": "unseal", "sealed": 7}'):
        peer.sendall(sent + b"\n")
        assert "error" in json.loads(peer.recv(1 << 16))
    peer.close()
    assert client.ask("version") >= 1


def test_many_ask_at_once(office: tuple[Site, Server, BrokerClient]) -> None:
    _, _, client = office
    ring, opened = BorrowedRing(client), []

    def work(number: int) -> None:
        for at in range(25):
            plain = f"{number}/{at}".encode()
            identity = {"kind": "probe", "at": str(at)}
            opened.append(ring.open(ring.seal(plain, identity), identity) == plain)

    threads = [threading.Thread(target=work, args=(each,)) for each in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert opened == [True] * 200


def test_a_large_value_passes(office: tuple[Site, Server, BrokerClient]) -> None:
    ring = BorrowedRing(office[2])
    plain = base64.b64encode(os.urandom(3_000_000))
    assert ring.open(ring.seal(plain, {"kind": "probe"}), {"kind": "probe"}) == plain
