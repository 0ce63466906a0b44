"""A hub that runs, asked over its API instead of opening the hub's database here.

Only the standard library: what opens an installation takes longer to import than the answer takes.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Collection, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit

import typer

from hub.cli.caller import VARIABLE, token
from hub.cli.output import RefusedError, shown

SECONDS = 60.0
"""For one answer."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Where a key may be sent without TLS: it leaves the machine nowhere."""

At = Annotated[
    str | None,
    typer.Option(
        help=f"Ask the hub that runs at this address, such as https://hub.example, with the key in {VARIABLE}; nothing"
        " of this machine's own hub is opened."
    ),
]


def ask(at: str, path: str, query: Sequence[tuple[str, str]], expected: Collection[str]) -> dict[str, Any]:
    """The JSON object, with the names `expected`, that the hub at `at` answers.

    RefusedError with what it says, or why it cannot be asked.
    """
    text = token()
    if not text or not text.isascii() or not text.isprintable():
        raise RefusedError(f"a hub elsewhere is asked with an API key: set {VARIABLE} or {VARIABLE}_FILE to one")
    connection, prefix = _connection(at)
    try:
        connection.request("GET", f"{prefix}{path}?{urlencode(query)}", headers={"Authorization": f"Bearer {text}"})
        with connection.getresponse() as answer:
            status, body = answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise RefusedError(f"--at: no hub answers at {at}: {error or type(error).__name__}") from None
    finally:
        connection.close()
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    if status != http.client.OK or not isinstance(told, dict) or not told.keys() >= set(expected):
        detail = told.get("detail") if isinstance(told, dict) else None
        raise RefusedError(f"the hub at {at} answers {status}: {shown(detail or 'and nothing that a hub would say')}")
    return told


def _connection(at: str) -> tuple[http.client.HTTPConnection, str]:
    try:
        place = urlsplit(at)
        host, port = place.hostname, place.port
    except ValueError:
        host, port = None, None
    odd = not at.isascii() or place.username or place.query or place.fragment
    if odd or not host or place.scheme not in ("http", "https"):
        raise RefusedError("--at: expected the address of a hub, such as https://hub.example")
    prefix = place.path.rstrip("/")
    if place.scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=SECONDS, context=ssl.create_default_context()), prefix
    if host not in LOOPBACK:
        raise RefusedError(f"--at: a key goes to {host} over https alone")
    return http.client.HTTPConnection(host, port, timeout=SECONDS), prefix
