"""A request to the twin and its answer, free of any web framework, and the table that says which face answers it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from connectors.salesforce.twin.org.problems import RefusedError, not_found

if TYPE_CHECKING:
    from connectors.salesforce.twin.site import Site

JSON = "application/json;charset=UTF-8"
CSV = "text/csv"
OLDEST, NEWEST = 20, 62
"""API versions that are answered."""


@dataclass(slots=True)
class Call:
    """One request. Names in `path` are still percent-encoded, so that a slash within one is told from one between."""

    site: Site
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """By name in small letters."""
    body: bytes = b""
    upload: Path | None = None
    """Where a large body was written to."""
    user: str = ""
    token: str = ""
    version: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    """What stood in the places of the route, decoded."""
    refusal: RefusedError | None = None
    """Why there is no route for it."""
    detail: dict[str, Any] = field(default_factory=dict)
    """What the journal is to note of this call."""

    def json(self) -> Any:
        """The body as JSON. RefusedError where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, UnicodeDecodeError) as error:
            raise RefusedError("JSON_PARSER_ERROR", f"Unexpected character at [line:1, column:1]: {error}") from None

    def json_object(self) -> dict[str, Any]:
        """The body as a JSON object. RefusedError where it is none."""
        found = self.json()
        if not isinstance(found, dict):
            raise RefusedError("JSON_PARSER_ERROR", "The HTTP entity body is required to be a JSON object")
        return found

    def root(self) -> str:
        """The path that all resources of this API version begin with."""
        return f"/services/data/v{self.version}"


@dataclass(slots=True)
class Answer:
    """What is sent back: a JSON value, text as it is, or a stream of pieces."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    media: str = JSON
    pieces: Iterator[bytes] | None = None

    def content(self) -> bytes:
        """The body in bytes."""
        if self.status == 204:
            return b""
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body, ensure_ascii=False, separators=(",", ":")).encode()


Face = Callable[[Call], Answer]


@dataclass(frozen=True, slots=True)
class Route:
    """`kind` is what the journal calls it; `counted` whether Salesforce counts it; `open` needs no session."""

    method: str
    pattern: tuple[str, ...]
    face: Face
    kind: str
    counted: bool = True
    open: bool = False
    large: bool = False
    """Whether its body may be as large as an upload."""


def route(method: str, pattern: str, face: Face, kind: str, **particulars: bool) -> Route:
    """A route below `/services`; `{name}` stands for one part of the path."""
    return Route(method, tuple(pattern.strip("/").split("/")), face, kind, **particulars)


class Router:
    """Finds the route of a path. Literal parts go before places."""

    def __init__(self, routes: list[Route]) -> None:
        self._routes: dict[int, list[Route]] = {}
        for each in sorted(routes, key=lambda one: sum(part.startswith("{") for part in one.pattern)):
            self._routes.setdefault(len(each.pattern), []).append(each)

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route, and what stood in its places. RefusedError where there is none, or not for this method."""
        parts = path.strip("/").split("/")
        allowed: list[str] = []
        for each in self._routes.get(len(parts), ()):
            names = _matched(each.pattern, parts)
            if names is None:
                continue
            allowed.append(each.method)
            if each.method == method or (method == "HEAD" and each.method == "GET"):
                return each, names
        if allowed:
            heads = ["HEAD"] if "GET" in allowed else []
            words = f"HTTP Method '{method}' not allowed. Allowed are {','.join([*heads, *sorted(set(allowed))])}"
            raise RefusedError("METHOD_NOT_ALLOWED", words)
        raise not_found()


def _matched(pattern: tuple[str, ...], parts: list[str]) -> dict[str, str] | None:
    names: dict[str, str] = {}
    for want, have in zip(pattern, parts, strict=True):
        if want.startswith("{"):
            names[want[1:-1]] = unquote(have)
        elif want.startswith("v{"):
            if not have.startswith("v") or not _known_version(have[1:]):
                return None
            names["version"] = have[1:]
        elif want != have:
            return None
    return names


def _known_version(text: str) -> bool:
    whole, _, rest = text.partition(".")
    return whole.isdigit() and rest == "0" and OLDEST <= int(whole) <= NEWEST
