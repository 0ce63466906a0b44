"""The HTTP client against a server that drips, breaks off, redirects, asks to wait and answers too much."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from email.utils import formatdate
from pathlib import Path

import pytest

from hub.sdk import Context, UnavailableError, UnexpectedError
from hub.sdk.http import Bounds, Http, LostAnswerError
from hub.sdk.shared import RETRIES, LocalShared
from hub.sdk.testing.tls import Certificates, make_certificates

Answer = Callable[[socket.socket, bytes], None]


class Server:
    """Speaks TLS on a free port; each request is given to the next of its answers, the last one again and again."""

    def __init__(self, certificates: Certificates) -> None:
        self.seen: list[bytes] = []
        self.answers: list[Answer] = [said(b"HTTP/1.1 200 OK", b"fine")]
        self._trust = certificates.server()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"localhost:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(plain,), daemon=True).start()

    def _answer(self, plain: socket.socket) -> None:
        try:
            with closing(self._trust.wrap_socket(plain, server_side=True)) as link:
                request = b""
                while b"\r\n\r\n" not in request and (piece := link.recv(65_536)):
                    request += piece
                if request:
                    self.seen.append(request)
                    answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
                    answer(link, request)
        except OSError:
            plain.close()

    def close(self) -> None:
        self._listener.close()


def said(status: bytes, body: bytes = b"", *headers: bytes) -> Answer:
    head = b"\r\n".join([status, b"Content-Length: %d" % len(body), b"Connection: close", *headers])
    return lambda link, _: link.sendall(head + b"\r\n\r\n" + body)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(certificates: Certificates) -> Iterator[Server]:
    made = Server(certificates)
    yield made
    made.close()


@pytest.fixture
def waits() -> list[float]:
    """The seconds that the client waited, which it does not really do here."""
    return []


@pytest.fixture
def http(server: Server, certificates: Certificates, waits: list[float]) -> Iterator[Http]:
    now = [0.0]

    def pause(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    from datetime import UTC, datetime, timedelta

    shared = LocalShared(lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=now[0]))
    with Http(Context(pause=pause, shared=shared), [server.host], trust=certificates.client(), private=True) as made:
        yield made


def test_an_answer_comes_whole_and_unpacked(server: Server, http: Http) -> None:
    server.answers = [said(b"HTTP/1.1 200 OK", gzip.compress(b"x" * 9000), b"Content-Encoding: gzip")]
    answer = http.send("GET", f"https://{server.host}/a", params={"q": "a b&c"})
    assert (answer.status_code, answer.content) == (200, b"x" * 9000)
    assert server.seen[0].startswith(b"GET /a?q=a+b%26c HTTP/1.1\r\n")


def test_only_the_hosts_of_the_connection_are_called(server: Server, http: Http) -> None:
    port = server.host.partition(":")[2]
    for url in (
        f"https://127.0.0.1:{port}/",
        f"http://{server.host}/",
        f"https://a:b@{server.host}/",
        "https://localhost/",
    ):
        with pytest.raises(UnexpectedError):
            http.send("GET", url)
    assert server.seen == []


def test_a_redirect_is_an_answer_and_is_not_followed(server: Server, http: Http) -> None:
    server.answers = [said(b"HTTP/1.1 302 Found", b"", b"Location: https://elsewhere.example/")]
    assert http.send("GET", f"https://{server.host}/").status_code == 302


def test_a_private_address_is_refused_where_the_connection_does_not_allow_one(
    server: Server, certificates: Certificates
) -> None:
    with (
        Http(Context(), [server.host], trust=certificates.client()) as http,
        pytest.raises(UnexpectedError, match="private network"),
    ):
        http.send("GET", f"https://{server.host}/")
    assert server.seen == []


def test_a_certificate_of_an_authority_that_is_not_trusted_is_refused(server: Server) -> None:
    with Http(Context(), [server.host], private=True) as http, pytest.raises(UnavailableError):
        http.send("POST", f"https://{server.host}/", json={})
    assert server.seen == []


def test_proxies_of_the_environment_are_not_taken(server: Server, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert http.send("GET", f"https://{server.host}/").status_code == 200


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_wait_that_is_asked_for_is_kept_in_both_forms(
    form: str, server: Server, http: Http, waits: list[float]
) -> None:
    now = time.time() + 3600  # the far side's clock is an hour off
    told = b"7" if form == "seconds" else formatdate(now + 7, usegmt=True).encode()
    busy = said(b"HTTP/1.1 429 Slow", b"", b"Retry-After: " + told, b"Date: " + formatdate(now, usegmt=True).encode())
    server.answers = [busy, said(b"HTTP/1.1 200 OK", b"fine")]
    assert http.send("GET", f"https://{server.host}/").content == b"fine"
    assert [round(each) for each in waits] == [7]


def test_a_long_wait_is_handed_to_the_caller_and_kept_by_the_next_call(server: Server, http: Http) -> None:
    server.answers = [said(b"HTTP/1.1 503 Away", b"", b"Retry-After: 600"), said(b"HTTP/1.1 200 OK")]
    for _ in range(2):
        with pytest.raises(UnavailableError) as caught:
            http.send("GET", f"https://{server.host}/")
        assert caught.value.retry_after == pytest.approx(600)
    assert len(server.seen) == 1


def test_a_lost_answer_is_asked_for_again_only_where_that_does_no_harm(server: Server, http: Http) -> None:
    cut: Answer = lambda link, _: link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")  # noqa: E731
    server.answers = [cut, said(b"HTTP/1.1 200 OK", b"whole")]
    assert http.send("GET", f"https://{server.host}/").content == b"whole"
    server.answers = [cut, said(b"HTTP/1.1 200 OK", b"whole")]
    with pytest.raises(LostAnswerError):
        http.send("POST", f"https://{server.host}/", json={"a": 1})
    assert len(server.seen) == 3


def test_repeats_end_when_the_bucket_is_empty(server: Server, http: Http, certificates: Certificates) -> None:
    shared = LocalShared()
    assert shared.may_retry(RETRIES - 5)
    server.answers = [said(b"HTTP/1.1 503 Away")]
    with (
        Http(
            Context(pause=lambda _: None, shared=shared), [server.host], trust=certificates.client(), private=True
        ) as spent,
        pytest.raises(UnavailableError),
    ):
        spent.send("GET", f"https://{server.host}/")
    assert len(server.seen) == 2  # the call, and the one repeat that was left


def test_a_slow_drip_ends_at_the_deadline(server: Server, certificates: Certificates) -> None:
    released = threading.Event()

    def drip(link: socket.socket, _: bytes) -> None:
        for piece in (b"HTTP/1.1 200 OK\r\n", *[b"X-Slow: 1\r\n"] * 200):
            link.sendall(piece)
            if released.wait(0.05):
                return

    server.answers = [drip]
    context = Context()
    with Http(context, [server.host], trust=certificates.client(), private=True) as http:
        begun = context.clock.monotonic()
        context.deadline = begun + 0.4
        with pytest.raises(UnavailableError):
            http.send("GET", f"https://{server.host}/")
    released.set()
    assert context.clock.monotonic() - begun < 5  # the whole drip would take ten


def test_an_answer_above_the_cap_is_not_taken_in(server: Server, certificates: Certificates) -> None:
    server.answers = [said(b"HTTP/1.1 200 OK", gzip.compress(bytes(50_000_000)), b"Content-Encoding: gzip")]
    bounds = Bounds(most_bytes=1_000_000)
    with (
        Http(Context(), [server.host], bounds=bounds, trust=certificates.client(), private=True) as http,
        pytest.raises(UnexpectedError, match="larger"),
    ):
        http.send("GET", f"https://{server.host}/")


@pytest.mark.parametrize("told", [[b"Content-Encoding: gzip, gzip"], [b"Content-Encoding: gzip"] * 2])
def test_an_answer_that_is_packed_more_than_once_is_not_unpacked(
    server: Server, http: Http, told: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zlib.decompressobj", None)
    server.answers = [said(b"HTTP/1.1 200 OK", gzip.compress(gzip.compress(bytes(50_000_000))), *told)]
    with pytest.raises(UnexpectedError, match="packed more than once"):
        http.send("GET", f"https://{server.host}/")
    with pytest.raises(UnexpectedError, match="packed more than once"), http.stream("GET", f"https://{server.host}/"):
        raise AssertionError


def test_cookies_are_kept_only_where_told_to(server: Server, http: Http, certificates: Certificates) -> None:
    server.answers = [said(b"HTTP/1.1 200 OK", b"", b"Set-Cookie: a=b; Path=/")]
    url = f"https://{server.host}/"
    http.send("GET", url)
    http.send("GET", url)
    with Http(Context(), [server.host], trust=certificates.client(), private=True, cookies=True) as keeping:
        keeping.send("GET", url)
        keeping.send("GET", url)
    assert [b"Cookie: a=b" in each for each in server.seen] == [False, False, False, True]


def test_the_folder_of_certificates_is_the_only_trust(tmp_path: Path, server: Server) -> None:
    other = make_certificates(tmp_path)
    with Http(Context(), [server.host], trust=other.client(), private=True) as http, pytest.raises(UnavailableError):
        http.send("POST", f"https://{server.host}/")
