"""JSON over HTTPS to one service that the operator named in the settings, so it may stand in the house's network."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from hub.sdk import Context, UnavailableError, UnexpectedError
from hub.sdk.http import Bounds, Http

SECONDS = 15.0
MOST_BYTES = 1024 * 1024


class Answer(NamedTuple):
    """Status, and the JSON object of the body; empty where there is none."""

    status: int
    body: Mapping[str, Any]


def call(
    method: str,
    url: str,
    *,
    authorities: Path | None,
    headers: Mapping[str, str] | None = None,
    json_body: Mapping[str, Any] | None = None,
    form: Mapping[str, str] | None = None,
) -> Answer:
    """What the service answers. UnavailableError where it is away or fails, UnexpectedError where it speaks no JSON."""
    parts = urlsplit(url)
    context = Context()
    context.deadline = context.clock.monotonic() + SECONDS
    trust = ssl.create_default_context(cafile=str(authorities) if authorities is not None else None)
    bounds = Bounds(connect_seconds=5.0, read_seconds=SECONDS, most_bytes=MOST_BYTES)
    host = f"{parts.hostname}:{parts.port or 443}"
    with Http(context, [host], bounds=bounds, trust=trust, private=True) as http:
        answer = http.send(method, url, headers=headers, json=json_body, form=form, repeatable=True)
    if answer.status_code >= 500:
        raise UnavailableError(f"{parts.hostname} fails", detail=f"status {answer.status_code}")
    try:
        body = json.loads(answer.content) if answer.content else {}
    except ValueError:
        body = None
    if not isinstance(body, dict):
        if answer.status_code >= 400:
            body = {}
        else:
            raise UnexpectedError(f"{parts.hostname} answered with something other than a JSON object")
    return Answer(answer.status_code, body)
