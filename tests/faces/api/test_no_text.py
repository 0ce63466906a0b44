"""What JSON can write and no text is, a NUL or half of a surrogate pair: refused at the door, on either database."""

from __future__ import annotations

import httpx
import pytest

from hub.api.limits import is_text
from tests.faces.api.conftest import serving
from tests.system.small import Small


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return Small(tmp_path_factory.mktemp("small"), ("create table T (id text primary key)",), api_port=0)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/runs/%00", None),
        ("GET", "/v1/runs?mapping=a%00b", None),
        ("GET", "/v1/decisions?mapping=small&key=%00", None),
        ("POST", "/v1/score/a%00", b'{"keys": [{"id": "1"}]}'),
        ("POST", "/v1/score/small", rb'{"keys": [{"id": "\u0000"}]}'),
        ("POST", "/v1/score/small", rb'{"keys": [{"id": "\\\u0000"}]}'),
        ("POST", "/v1/runs", rb'{"mapping": "a\u0000"}'),
        ("POST", "/v1/runs", '{"mapping": "small"}'.encode("utf-16")),
        ("POST", "/v1/runs", ('["\u2200", ' + "[" * 500 + "]" * 501).encode("utf-16-le")),
        ("POST", "/v1/runs", b"\x00"),
        ("POST", "/login/password", rb'{"name": "\u0000", "password": "x", "code": "y"}'),
    ],
)
def test_a_nul_is_refused_before_anybody_looks_at_it(small: Small, method: str, path: str, body: bytes | None) -> None:
    headers = {"Content-Type": "application/json"}
    with serving(small.hub) as url:
        told = httpx.request(method, url + path, content=body, headers=headers, trust_env=False)
    assert (told.status_code, told.json()["code"]) == (400, "malformed")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (rb'{"a": "\\u0000", "b": "\ud83d\ude00"}', True),
        ('{"a": "\U0001f600 \u00e9", "b": "\\\\ud800"}'.encode(), True),
        (rb'"\uD83D\uDE00\uD83D\uDE00 \u00e9"', True),
        (b"", True),
        (rb'"\ud800"', False),
        (rb'"\udc00"', False),
        (rb'"\ud800x\udc00"', False),
        (rb'"\ud800\ud800\udc00"', False),
        (rb'"\ud800\udc00\udc00"', False),
        (rb'"\ud800\n"', False),
        (rb'{"\udfff": 1}', False),
        (rb'"\\\ud800"', False),
        (rb'"\u0000"', False),
        (b'"\xed\xa0\x80"', False),
        (b'"\xff"', False),
        ('{"a": 1}'.encode("utf-16"), False),
        ('{"a": 1}'.encode("utf-32"), False),
    ],
)
def test_what_is_text_is_told_from_what_is_none(body: bytes, text: bool) -> None:
    assert is_text(body) is text


def test_a_text_that_only_speaks_of_it_is_none(small: Small) -> None:
    with serving(small.hub) as url:
        body = rb'{"keys": [{"id": "\\u0000"}]}'
        headers = {"Content-Type": "application/json"}
        told = httpx.post(f"{url}/v1/score/small", content=body, headers=headers, trust_env=False)
    assert told.status_code == 401
