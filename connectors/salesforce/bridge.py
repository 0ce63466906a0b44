"""The session that simple-salesforce is given: each of its calls goes through the connection's own HTTP client."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from hub.sdk.http import Http
from hub.sdk.xml import judge_xml

REPEATABLE = "X-Hub-Repeatable"
"""A header of ours, taken off before the call is sent: whether a lost call may be made again."""


def bridged(http: Http, *, stands_for: tuple[str, str] | None = None, soap: bool = False) -> requests.Session:
    """A session without proxies, redirects or environment. `stands_for` sends the calls for one host to another.

    Answers are XML with `soap`, and UnexpectedError where it is XML that simple-salesforce should not read.
    """
    session = requests.Session()
    session.trust_env = False
    session.max_redirects = 0
    session.adapters.clear()
    session.mount("https://", _Bridge(http, stands_for, soap=soap))
    return session


class _Bridge(BaseAdapter):
    def __init__(self, http: Http, stands_for: tuple[str, str] | None, *, soap: bool) -> None:
        super().__init__()
        self._soap = soap
        self._http = http
        self._stands_for = stands_for

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: ARG002  (the body is always read: what is large is streamed elsewhere)
        timeout: float | tuple[float | None, float | None] | None = None,  # noqa: ARG002
        verify: bool | str = True,  # noqa: ARG002
        cert: Any = None,  # noqa: ARG002
        proxies: Mapping[str, str] | None = None,  # noqa: ARG002
    ) -> requests.Response:
        assert request.url is not None
        assert request.method is not None
        headers = {name: str(value) for name, value in request.headers.items()}
        # The length is the client's to say, and the encoding it can undo.
        for name in ("Content-Length", "Accept-Encoding", "Connection", "User-Agent"):
            headers.pop(name, None)
        told = headers.pop(REPEATABLE, None)
        body = request.body
        assert body is None or isinstance(body, str | bytes)
        answer = self._http.send(
            request.method,
            self._address(request.url),
            headers=headers,
            content=body.encode() if isinstance(body, str) else body,
            repeatable=None if told is None else told == "yes",
        )
        if self._soap:
            judge_xml(answer.content)
        made = requests.Response()
        made.status_code = answer.status_code
        made.headers = CaseInsensitiveDict(answer.headers)
        made.raw = io.BytesIO(answer.content)
        made.url, made.request, made.encoding = request.url, request, "utf-8"
        return made

    def _address(self, url: str) -> str:
        if self._stands_for is None:
            return url
        was, now = self._stands_for
        parts = urlsplit(url)
        return parts._replace(netloc=now).geturl() if parts.netloc == was else url

    def close(self) -> None:
        """The client is closed by whoever made it."""
