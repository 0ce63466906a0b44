"""What goes wrong is a problem with a code: no echo of what was sent, no trace, and bounds before any parsing."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from hub.access import Scope
from hub.access.leases import BrokerAwayError
from hub.api import limits, problems
from hub.api.limits import MOST_BYTES, MOST_DEPTH, MOST_HEADER_BYTES, is_deep
from hub.api.problems import problem_of
from hub.logs import Log
from hub.runs import Scoring
from hub.sdk import UnauthorizedError, UnavailableError, UnexpectedError
from tests.faces.api.conftest import Opens, Site, serving

URL = "/v1/score/patient_risk"


def _problem(answered: httpx.Response) -> tuple[int, str]:
    assert answered.headers["content-type"] == "application/problem+json"
    told = answered.json()
    assert told["status"] == answered.status_code
    assert {"type", "title", "detail"} <= set(told)
    return answered.status_code, told["code"]


@pytest.mark.parametrize(
    "body",
    [
        {"records": [{"PATNR": {"s3cret": 1}}]},
        {"records": [{"PATNR": ["s3cret"]}]},
        {"records": "s3cret"},
        {"records": []},
        {"records": [{"PATNR": "1"}] * 1001},
        {"keys": [{"PATNR": "1"}], "write": "s3cret"},
        {"keys": [{"PATNR": "1"}], "records": [{"PATNR": "1"}]},
        {"keys": [{"PATNR": "1"}], "surplus": "s3cret"},
        {},
        ["s3cret"],
        None,
    ],
)
def test_a_request_of_the_wrong_shape_is_refused_without_an_echo(client: Opens, body: Any) -> None:
    answered = client(Scope.SCORE).post(URL, json=body)
    assert _problem(answered) == (422, "invalid")
    assert "s3cret" not in answered.text
    assert all(set(each) == {"loc", "type", "msg"} for each in answered.json()["errors"])


@pytest.mark.parametrize(
    "body", [b"{", b'{"records": [{"PATNR": s3cret}]}', b"\xff\xfe", b'{"keys": [' + b"1" * 5000 + b"]}"]
)
def test_a_body_that_is_no_json_is_refused_without_an_echo(client: Opens, body: bytes) -> None:
    answered = client(Scope.SCORE).post(URL, content=body, headers={"Content-Type": "application/json"})
    status, _ = _problem(answered)
    assert status in (400, 422)
    assert "s3cret" not in answered.text


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_json_does_not_have_is_refused(client: Opens, number: str) -> None:
    body = f'{{"records": [{{"PATNR": "1", "CLINIC": {number}}}]}}'
    answered = client(Scope.SCORE).post(URL, content=body, headers={"Content-Type": "application/json"})
    assert _problem(answered) == (422, "invalid")


def test_a_large_body_is_refused_before_it_is_read_or_parsed(client: Opens) -> None:
    opened = client(Scope.SCORE)
    assert _problem(opened.post(URL, content=b" " * (MOST_BYTES + 1))) == (413, "too_large")

    def pieces() -> Iterator[bytes]:
        for _ in range(MOST_BYTES // 100_000 + 1):
            yield b" " * 100_000

    assert _problem(opened.post(URL, content=pieces())) == (413, "too_large")


def test_a_deep_body_is_refused_before_it_is_parsed(client: Opens) -> None:
    body = '{"records": ' + "[" * 100_000 + "]" * 100_000 + "}"
    answered = client(Scope.SCORE).post(URL, content=body, headers={"Content-Type": "application/json"})
    assert _problem(answered) == (400, "deep")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='[]{}"\\a', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='[{"\\', max_size=3), inner, max_size=3)
    ),
    max_leaves=30,
)


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


@given(json_values, st.integers(1, 6))
def test_depth_is_that_of_the_parsed_value(value: Any, most: int) -> None:
    assert is_deep(json.dumps(value).encode(), most) == (_depth(value) > most)


def test_texts_without_end_cost_one_pass() -> None:
    assert not is_deep(b'["' + b'\\"' * 500_000 + b"[[" * (MOST_DEPTH + 1))


def test_unknown_addresses_and_methods_are_problems(site: Site) -> None:
    with httpx.Client(base_url=site.url, trust_env=False) as caller:
        assert _problem(caller.get("/v1/nothing")) == (404, "not_found")
        refused = caller.put("/healthz")
        assert _problem(refused) == (405, "method_not_allowed")
        assert refused.headers["allow"] == "GET"
        assert _problem(caller.get("/docs")) == (404, "not_found")


def test_what_nobody_foresaw_is_an_id_in_the_answer_and_in_the_log(
    client: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("select s3cret from /etc/hub where PATNR = 4711")

    monkeypatch.setattr(Scoring, "score_keys", fails)
    with structlog.testing.capture_logs() as logged:
        answered = client(Scope.SCORE).post(URL, json={"keys": [{"PATNR": "1"}]})
    assert _problem(answered) == (500, "internal")
    (entry,) = [each for each in logged if each["event"] == "request failed"]
    assert entry["id"] == answered.json()["id"]
    assert entry["error"] == "ZeroDivisionError"
    assert any("score.py" in each for each in entry["at"])
    for text in (answered.text, str(entry)):
        assert "s3cret" not in text
        assert "4711" not in text
    assert "hub/" not in answered.text


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("crm.bank.internal cannot be reached"),
        UnauthorizedError("crm.bank.internal refused the login HUB_USER"),
        UnexpectedError("crm.bank.internal is not a host of this connection"),
        BrokerAwayError("the lease broker at /run/crm.bank.internal/broker does not answer"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_failure_beyond_the_hub_is_named_in_the_log_and_not_in_the_answer(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    structlog.reset_defaults()  # whoever ran before may have asked for errors alone, and a log keeps what it began with
    monkeypatch.setattr(problems, "log", Log("hub.api.problems"))
    with structlog.testing.capture_logs() as logged:
        told = problem_of(error).response()
    assert told.status_code in (502, 503)
    assert b"bank" not in bytes(told.body)
    assert "crm.bank.internal" in str(logged)


def test_answers_are_not_kept_nor_guessed_at(client: Opens) -> None:
    for answered in (client(Scope.READ).get("/v1/runs"), client(Scope.READ).get("/v1/runs/x")):
        assert answered.headers["cache-control"] == "no-store"
        assert answered.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answered.headers


@contextmanager
def _raw(url: str) -> Iterator[socket.socket]:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as opened:
        yield opened


def _rest(opened: socket.socket) -> bytes:
    parts = []
    try:
        while part := opened.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_headers_have_a_size_whether_one_or_many(site: Site) -> None:
    for head in (
        b"GET /healthz HTTP/1.1\r\nX-A: " + b"a" * 300_000,
        b"GET /healthz HTTP/1.1\r\nHost: h\r\nX-A: " + b"a" * (MOST_HEADER_BYTES + 1) + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"".join(b"X-%d: b\r\n" % at for at in range(5000)) + b"\r\n",
        b"GET /" + b"a" * (MOST_HEADER_BYTES + 1) + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    ):
        with _raw(site.url) as opened:
            opened.sendall(head)
            answered = _rest(opened)
        assert answered.startswith(b"HTTP/1.1 431 "), answered[:100]
        assert b"application/problem+json" in answered
    assert httpx.get(f"{site.url}/healthz", trust_env=False).status_code == 200


def test_what_is_not_http_is_a_problem_too(site: Site) -> None:
    with _raw(site.url) as opened:
        opened.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        answered = _rest(opened)
    assert answered.startswith(b"HTTP/1.1 400 ")
    assert b'"code": "malformed"' in answered


def test_a_caller_that_never_finishes_is_let_go(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEADER_SECONDS", 0.2)
    monkeypatch.setattr(limits.Bodies.__init__, "__kwdefaults__", {"most_bytes": MOST_BYTES, "seconds": 0.2})
    with serving(site.hub) as url:
        for sent in (b"", b"GET /healthz HTTP/1.1\r\nX-A: b\r\n"):
            with _raw(url) as opened:
                opened.sendall(sent)
                assert _rest(opened).startswith(b"HTTP/1.1 408 ")
        with _raw(url) as opened:
            opened.sendall(b"POST /v1/runs HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n{")
            assert _rest(opened).startswith(b"HTTP/1.1 408 ")
