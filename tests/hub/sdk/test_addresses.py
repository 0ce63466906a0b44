"""No spelling of an address, no resolver and no redirect has the hub call what it must not: a canary listens there."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from hub.sdk import ConnectorError, Context, UnavailableError, UnexpectedError
from hub.sdk.http import Http
from hub.sdk.network.addresses import resolve
from tests.canaries import canary
from tests.hub.sdk.test_http import Server, certificates, said

__all__ = ["canary", "certificates"]

PUBLIC = "93.184.216.34"
LOCAL = (
    "127.0.0.1",
    "localhost",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "127.1",
    "0177.0.0.1",
    "127.000.000.001",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
)
PRIVATE = ("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fc00::1", "::ffff:10.0.0.1", "0xa000001", "10.1")
NEVER = (
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.170.2",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "0.0.0.0",
    "0",
    "::",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "240.0.0.1",
)


def _url(host: str, port: int) -> str:
    return f"https://[{host}]:{port}/" if ":" in host else f"https://{host}:{port}/"


@pytest.mark.parametrize("host", [*LOCAL, *PRIVATE, *NEVER])
def test_what_is_not_public_is_not_called(host: str, canary: tuple[int, list[Any]]) -> None:
    port, seen = canary
    with Http(Context(), [host, f"{host}:{port}"]) as http, pytest.raises((UnexpectedError, UnavailableError)):
        http.send("GET", _url(host, port))
    assert seen == []


@pytest.mark.parametrize("host", NEVER)
def test_metadata_and_link_local_are_not_called_where_private_hosts_are(
    host: str, canary: tuple[int, list[Any]]
) -> None:
    port, seen = canary
    with Http(Context(), [host, f"{host}:{port}"], private=True) as http, pytest.raises(ConnectorError):
        http.send("GET", _url(host, port))
    with pytest.raises(UnexpectedError, match="never calls"):
        resolve(host, port, private=True)
    assert seen == []


@pytest.mark.parametrize("host", [*LOCAL, *PRIVATE])
def test_a_private_host_is_found_where_that_is_said(host: str) -> None:
    with pytest.raises(UnexpectedError, match="private network"):
        resolve(host, 443, private=False)
    assert resolve(host, 443, private=True)


def test_a_public_host_is_found() -> None:
    assert resolve(PUBLIC, 443, private=False) == [PUBLIC]
    assert resolve("2606:2800:220:1:248:1893:25c8:1946", 443, private=False) != []


def _answers(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Has the resolver give these answers, one a look, and notes the looks."""
    looks: list[str] = []

    def look(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        if host[0].isdigit():  # an address is itself, whoever answers for names
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]
        looks.append(host)
        found = answers[min(len(looks), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", look)
    return looks


def test_a_name_that_is_bound_anew_leads_to_what_was_judged(
    canary: tuple[int, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, seen = canary
    looks = _answers(monkeypatch, [PUBLIC], ["127.0.0.1"])
    called: list[Any] = []

    def refuse(_link: socket.socket, address: Any) -> None:
        called.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with Http(Context(), ["far.example"]) as http, pytest.raises(ConnectorError):
        http.send("POST", f"https://far.example:{port}/")
    assert [each[:2] for each in called] == [(PUBLIC, port)]
    assert len(looks) <= 2  # the second is that of a repeat, and is judged anew
    assert seen == []


def test_a_name_with_one_address_inside_is_refused_whole(
    canary: tuple[int, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, seen = canary
    _answers(monkeypatch, [PUBLIC, "127.0.0.1"])
    with Http(Context(), ["far.example"]) as http, pytest.raises(UnexpectedError, match="private network"):
        http.send("GET", f"https://far.example:{port}/")
    assert seen == []


def test_a_redirect_to_an_address_inside_is_not_followed(certificates: Any, canary: tuple[int, list[Any]]) -> None:
    port, seen = canary
    server = Server(certificates)
    server.answers = [said(b"HTTP/1.1 307 Temporary Redirect", b"", b"Location: https://127.0.0.1:%d/" % port)]
    with Http(Context(), [server.host], trust=certificates.client(), private=True) as http:
        assert http.send("GET", f"https://{server.host}/").status_code == 307
    server.close()
    assert seen == []
