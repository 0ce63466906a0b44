"""Checkpoints sent over HTTPS: to a webhook (a SIEM, a customer's own log), and to a time-stamping authority."""

from __future__ import annotations

import secrets
import ssl
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from hub.audit.anchors import timestamp
from hub.audit.anchors.types import AnchorError
from hub.audit.merkle.note import Checkpoint
from hub.sdk import ConnectorError, Context
from hub.sdk.http import Bounds, Http

SECONDS = 30.0
MOST_BYTES = 1024 * 1024


class Wire:
    """One address of an anchor. `private` lets it stand in the house's own network, where the settings say so."""

    def __init__(self, url: str, authorities: Path | None = None, *, private: bool = False) -> None:
        self.url = url
        self._private = private
        self._trust = ssl.create_default_context(cafile=str(authorities) if authorities is not None else None)

    def post(self, content: bytes, kind: str) -> httpx.Response:
        """The answer with status 200 to 299. AnchorError otherwise."""
        parts = urlsplit(self.url)
        context = Context()
        context.deadline = context.clock.monotonic() + SECONDS
        bounds = Bounds(read_seconds=SECONDS, most_bytes=MOST_BYTES)
        host = f"{parts.hostname}:{parts.port or 443}"
        try:
            with Http(context, [host], bounds=bounds, trust=self._trust, private=self._private) as http:
                answer = http.send("POST", self.url, content=content, headers={"Content-Type": kind}, repeatable=True)
        except ConnectorError as error:
            raise AnchorError(f"{parts.hostname} did not take the checkpoint: {error}") from error
        if not answer.is_success:
            raise AnchorError(f"{parts.hostname} did not take the checkpoint: status {answer.status_code}")
        return answer


class WebhookAnchor:
    """Posts each note as text. It proves itself: whoever receives it verifies the signature in it."""

    name = "webhook"

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def put(self, checkpoint: Checkpoint) -> bytes:
        """The receipt is the digest of what was answered."""
        return sha256(self._wire.post(checkpoint.note.encode("utf-8"), "text/plain; charset=utf-8").content).digest()

    def kept(self) -> list[str]:
        """What a webhook takes is not read back."""
        return []


class TimestampAnchor:
    """Has a time-stamping authority (RFC 3161) sign that the note existed; the token is the receipt."""

    name = "timestamp"

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def put(self, checkpoint: Checkpoint) -> bytes:
        """The authority's whole answer, which `openssl ts -verify` takes together with the note."""
        digest, nonce = sha256(checkpoint.note.encode("utf-8")).digest(), secrets.randbits(63) | 1
        request = timestamp.request(digest, nonce)
        answer = self._wire.post(request, "application/timestamp-query").content
        timestamp.check(answer, digest, nonce)
        return answer

    def kept(self) -> list[str]:
        """An authority keeps nothing."""
        return []
