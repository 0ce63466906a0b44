"""A database's host is judged before anything connects: a canary on this machine sees nobody."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from connectors.sql.config import SqlConfig
from connectors.sql.connector import SqlConnector
from hub.sdk import Context, UnavailableError, UnexpectedError
from tests.canaries import canary

__all__ = ["canary"]


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"])
@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("127.0.0.1", False),
        ("localhost", False),
        ("2130706433", False),
        ("0x7f000001", False),
        ("::ffff:127.0.0.1", False),
        ("10.0.0.1", False),
        ("169.254.169.254", True),
        ("0xa9fea9fe", True),
        ("0.0.0.0", True),
    ],
)
def test_a_host_that_may_not_be_called_is_not(
    dialect: str, host: str, private: bool, canary: tuple[int, list[Any]]
) -> None:
    port, seen = canary
    config = SqlConfig(dialect=dialect, host=host, port=port, database="d", user="u", tls="off", private=private)
    connector = SqlConnector(config, Context())
    with pytest.raises(UnexpectedError, match=r"private network|never calls"):
        connector.check()
    connector.close()
    assert seen == []


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb"])
def test_a_name_is_looked_up_once_and_that_address_is_connected_to(
    dialect: str, canary: tuple[int, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, seen = canary
    looks: list[Any] = []

    def look(host: str, *_: Any, **__: Any) -> list[Any]:
        looks.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    config = SqlConfig(dialect=dialect, host="far.example", port=port, database="d", user="u", tls="off", private=True)
    connector = SqlConnector(config, Context())
    monkeypatch.setattr(socket, "getaddrinfo", look)
    with pytest.raises(UnavailableError):
        connector.check()
    connector.close()
    assert "far.example" in looks
    assert len(seen) >= 1
