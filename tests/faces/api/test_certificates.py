"""Certificates of callers, at a proxy that ends TLS as the guide asks for: whose chain does not hold never gets in."""

from __future__ import annotations

import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hub.audit import Action
from hub.sdk.testing.tls import Certificates, make_certificates
from tests.faces.api.conftest import Site, serving
from tests.faces.api.test_oauth import GRANT, add, behind

NAME = "crm.example"
Key = ec.EllipticCurvePrivateKey


class Issuer(NamedTuple):
    """Who signs certificates."""

    name: x509.Name
    key: Key
    certificate: x509.Certificate


def named(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])


def signed(
    name: x509.Name, key: Key, issuer: x509.Name, by: Key, *, authority: bool, days: int = 1
) -> x509.Certificate:
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=3)).not_valid_after(now + timedelta(days=days))
    made = made.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    return made.sign(by, hashes.SHA256())


def issuer(common: str) -> Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    return Issuer(named(common), key, signed(named(common), key, named(common), key, authority=True))


def written(folder: Path, certificate: x509.Certificate, key: Key) -> tuple[str, str]:
    """The files of a certificate and its key."""
    folder.mkdir()
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")


@dataclass
class Proxy:
    """Ends TLS, verifies who calls, and says who it was: as `ssl_verify_client on` and `Client-Cert` (RFC 9440)."""

    url: str
    server: Certificates
    passed: list[str]

    def send(self, client: tuple[str, str] | None, path: str, **more: Any) -> httpx.Response:
        """A request of whoever shows that certificate."""
        trust = self.server.client()
        if client is not None:
            trust.load_cert_chain(*client)
        with httpx.Client(base_url=self.url, verify=trust, trust_env=False) as caller:
            return caller.request("POST" if "data" in more else "GET", path, **more)


@pytest.fixture
def proxy(site: Site, tmp_path: Path) -> Iterator[Callable[[Issuer], Proxy]]:
    """A proxy before the hub that trusts the callers of one authority."""
    stop: list[Callable[[], None]] = []

    def make(authority: Issuer) -> Proxy:
        made = make_certificates(tmp_path / "proxy")
        context = made.server()
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=authority.certificate.public_bytes(serialization.Encoding.PEM).decode())
        running = serving(behind(site, api_proxies="127.0.0.0/8", api_certificate="client-cert"))
        hub = urlsplit(running.__enter__())
        listener = socket.create_server(("127.0.0.1", 0))
        found = Proxy(f"https://localhost:{listener.getsockname()[1]}", made, [])

        def carry(plain: socket.socket) -> None:
            with suppress(OSError), closing(plain), context.wrap_socket(plain, server_side=True) as link:
                shown = link.getpeercert(binary_form=True)
                assert shown is not None
                head, body = b"", b""
                while b"\r\n\r\n" not in head and (piece := link.recv(65_536)):
                    head += piece
                head, _, body = head.partition(b"\r\n\r\n")
                first, *headers = head.split(b"\r\n")
                lengths = [int(each.split(b":")[1]) for each in headers if each.lower().startswith(b"content-length:")]
                while len(body) < sum(lengths):
                    body += link.recv(65_536)
                kept = [each for each in headers if not each.lower().startswith((b"client-cert", b"connection:"))]
                kept += [b"Client-Cert: :" + b64encode(shown) + b":", b"Connection: close"]
                found.passed.append(first.decode())
                with socket.create_connection((str(hub.hostname), hub.port or 0)) as there:
                    there.sendall(b"\r\n".join([first, *kept]) + b"\r\n\r\n" + body)
                    while piece := there.recv(65_536):
                        link.sendall(piece)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=carry, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        stop.extend([listener.close, lambda: running.__exit__(None, None, None)])
        return found

    yield make
    for each in stop:
        each()


def test_a_certificate_that_is_not_trusted_gets_no_further_than_the_proxy(
    site: Site, proxy: Callable[[Issuer], Proxy], tmp_path: Path
) -> None:
    ours, theirs = issuer("our authority"), issuer("our authority")
    before, key = proxy(ours), ec.generate_private_key(ec.SECP256R1())

    def shown(folder: str, by: Issuer | None, name: str = NAME, days: int = 1) -> tuple[str, str]:
        made_by = by or Issuer(named(name), key, ours.certificate)
        made = signed(named(name), key, made_by.name, made_by.key, authority=False, days=days)
        return written(tmp_path / folder, made, key)

    client, _ = add(site, subject=f"CN={NAME}")
    form = {**GRANT, "client_id": client}
    trusted = shown("trusted", ours)
    told = before.send(trusted, "/oauth/token", data=form)
    assert told.status_code == 200
    bearer = {"Authorization": f"Bearer {told.json()['access_token']}"}
    assert before.send(trusted, "/v1/runs", headers=bearer).status_code == 200
    denied = len(site.hub.audit.events(action=Action.ACCESS_DENIED, limit=10_000))
    passed = len(before.passed)
    strangers = {
        "another authority of the same name": shown("other", theirs),
        "signed by itself": shown("self", None),
        "run out": shown("old", ours, days=-1),
        "none": None,
    }
    for why, each in strangers.items():
        for path, more in (("/oauth/token", {"data": form}), ("/v1/runs", {"headers": bearer})):
            with pytest.raises(httpx.TransportError):
                pytest.fail(f"{why}: {before.send(each, path, **more)}")
    assert len(before.passed) == passed, "nothing of them reached the hub"
    # A certificate that is trusted, of somebody else: the hub itself refuses, and says so in the trail.
    other = shown("else", ours, name="else.example")
    assert before.send(other, "/oauth/token", data=form).status_code == 401
    assert before.send(other, "/v1/runs", headers=bearer).status_code == 401
    assert len(site.hub.audit.events(action=Action.ACCESS_DENIED, limit=10_000)) == denied + 2
