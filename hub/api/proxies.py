"""Where a request came from, and with which certificate: a proxy is believed on both, and nobody else on either.

Policy: the headers of a proxy count only from an address in HUB_API_PROXIES or over the API's own Unix socket; from
anybody else they are taken off before a route can see them. A certificate counts in the one header that
HUB_API_CERTIFICATE names: a proxy that sets one form of it lets the other through as the caller has sent it.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.types import ASGIApp, Receive, Scope, Send

FORWARDED_FOR = b"x-forwarded-for"
CERTIFICATES = (b"client-cert", b"x-ssl-client-cert")
"""RFC 9440, and nginx's `$ssl_client_escaped_cert`, which counts only beside its `$ssl_client_verify`."""
VERIFIED = b"x-ssl-client-verify"
TAKEN_OFF = {*CERTIFICATES, b"client-cert-chain", b"forwarded", b"x-real-ip", VERIFIED}
MOST_CERTIFICATE = 16_384


class Proxies:
    """Sets the caller's address, and `scope["hub.certificate"]` (DER or None), from whoever may tell them."""

    def __init__(
        self, app: ASGIApp, *, trusted: Iterable[str] = (), socket: bool = False, certificate: str | None = None
    ) -> None:
        self._app = app
        self._trusted = [ip_network(each) for each in trusted]
        self._socket = socket
        self._header = certificate.encode("ascii") if certificate is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = scope["headers"]
        certificate = None
        client = scope.get("client")
        if (client is None and self._socket) or (client is not None and self._is_proxy(client[0])):
            certificate = _certificate(told, self._header) if self._header is not None else None
            if (address := self._before(told)) is not None:
                client = (address, 0)
        headers = [each for each in told if each[0] not in TAKEN_OFF and not each[0].startswith(b"x-forwarded-")]
        await self._app({**scope, "headers": headers, "client": client, "hub.certificate": certificate}, receive, send)

    def _is_proxy(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in each for each in self._trusted)

    def _before(self, headers: list[tuple[bytes, bytes]]) -> str | None:
        """The last address of X-Forwarded-For that is no proxy of ours: what stands before it anybody may have sent."""
        listed = b",".join(value for name, value in headers if name == FORWARDED_FOR).decode("latin-1").split(",")
        for each in reversed([one.strip() for one in listed]):
            try:
                ip_address(each)
            except ValueError:
                return None
            if not self._is_proxy(each):
                return each
        return None


def _certificate(headers: list[tuple[bytes, bytes]], header: bytes) -> bytes | None:
    """The one certificate that a proxy verified and handed on; None where there is none, or more than one."""
    found = [value for name, value in headers if name == header]
    if len(found) != 1 or not 0 < len(found[0]) <= MOST_CERTIFICATE:
        return None
    value = found[0]
    if header != CERTIFICATES[0] and [each for name, each in headers if name == VERIFIED] != [b"SUCCESS"]:
        return None
    try:
        made: Any
        if header == CERTIFICATES[0]:
            made = x509.load_der_x509_certificate(b64decode(value.strip().strip(b":"), validate=True))
        else:
            made = x509.load_pem_x509_certificate(unquote_to_bytes(value))
        return bytes(made.public_bytes(Encoding.DER))
    except (ValueError, binascii.Error):
        return None
