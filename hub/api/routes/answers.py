"""What the routes answer with: JSON bytes made once, and the errors that OpenAPI tells of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi.responses import Response

from hub.api.problems import MEDIA_TYPE
from hub.decisions.plain import plain


def answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The content as JSON. NaN and infinity never come out of the hub: a score that is none is invalid."""
    body = json.dumps(content, default=plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(body, status, dict(headers or {}), "application/json")


_TOLD = {
    400: "the body is no JSON or nests too deep",
    401: "no API key, or none that opens the door",
    403: "the caller does not hold the scope",
    404: "unknown, or not visible to this API key",
    409: "not as things stand: paused, preflight, another run",
    413: "the body is too large",
    415: "the body is compressed",
    422: "the request is not as described; names the field, never the value",
    429: "too often; see Retry-After",
    502: "the far system refused",
    503: "the far system or the hub's database does not answer; see Retry-After",
}

ALWAYS = (401, 413, 415, 429)

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "for programs; stable"},
        "detail": {"type": "string", "description": "one sentence for people"},
    },
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route for its description; what is asked of every request is on every one."""
    content = {MEDIA_TYPE: {"schema": _PROBLEM}}
    return {each: {"description": _TOLD[each], "content": content} for each in sorted({*ALWAYS, *statuses})}
