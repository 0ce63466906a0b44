"""The fault proxy does what it says, on real sockets against a server that answers each line with itself."""

from __future__ import annotations

import socket
import socketserver
from collections.abc import Iterator
from threading import Thread
from time import monotonic

import pytest

from hub.sdk.testing.proxy import Behaviour, FaultProxy


class Echo(socketserver.ThreadingTCPServer):
    """Answers each line with itself and remembers it."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Line)
        self.heard: list[bytes] = []


class Line(socketserver.StreamRequestHandler):
    server: Echo

    def handle(self) -> None:
        for line in self.rfile:
            self.server.heard.append(line)
            if line == b"bye\n":
                return
            try:
                self.wfile.write(line)
            except OSError:
                return


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", echo.server_address[1]) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5.0) as client:
        yield client


def ask(client: socket.socket, line: bytes) -> bytes:
    client.sendall(line)
    return heard(client, len(line))


def heard(client: socket.socket, size: int) -> bytes:
    """Up to `size` bytes, fewer where the connection ends in good order."""
    got = b""
    while len(got) < size and (piece := client.recv(size - len(got))):
        got += piece
    return got


def connect_and_listen(proxy: FaultProxy) -> bytes:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5.0) as late:
        return late.recv(1)


def test_nothing_happens_by_default(client: socket.socket) -> None:
    large = b"x" * 300_000 + b"\n"
    assert ask(client, b"one\n") == b"one\n"
    client.sendall(large)
    assert heard(client, len(large)) == large


def test_latency_delays_each_piece(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.behave(Behaviour(latency=0.05))
    begun = monotonic()
    assert ask(client, b"one\n") == b"one\n"
    assert monotonic() - begun >= 0.1


def test_refuse_resets_whoever_connects(proxy: FaultProxy) -> None:
    proxy.behave(Behaviour(refuse=True))
    with pytest.raises(ConnectionResetError):
        connect_and_listen(proxy)


def test_a_far_side_that_is_down_resets_whoever_connects() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with FaultProxy("127.0.0.1", port) as proxy, pytest.raises(ConnectionResetError):
        connect_and_listen(proxy)


def test_silence_accepts_and_never_answers(proxy: FaultProxy, echo: Echo) -> None:
    proxy.behave(Behaviour(silent=True))
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3) as late:
        late.sendall(b"anybody\n")
        with pytest.raises(TimeoutError):
            late.recv(1)
    assert echo.heard == []


def test_a_half_open_connection_does_not_tell_that_the_far_side_has_gone(
    proxy: FaultProxy, client: socket.socket
) -> None:
    proxy.behave(Behaviour(half_open=True))
    assert ask(client, b"one\n") == b"one\n"
    client.sendall(b"bye\n")
    client.settimeout(0.5)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.sendall(b"anybody\n")
    with pytest.raises(TimeoutError):
        client.recv(1)


def test_without_it_the_end_of_the_far_side_is_told(client: socket.socket) -> None:
    assert ask(client, b"one\n") == b"one\n"
    client.sendall(b"bye\n")
    assert client.recv(1) == b""


def test_truncate_ends_in_good_order_after_so_many_bytes(proxy: FaultProxy, client: socket.socket) -> None:
    assert ask(client, b"before\n") == b"before\n"
    proxy.behave(Behaviour(truncate=3))
    assert ask(client, b"longer\n") == b"lon"


def test_garble_changes_every_answer(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.behave(Behaviour(garble=True))
    assert ask(client, b"abc\n") == bytes(each ^ 0xFF for each in b"abc\n")


def test_a_cut_before_the_answer_leaves_the_change_at_the_far_side(
    proxy: FaultProxy, client: socket.socket, echo: Echo
) -> None:
    proxy.behave(Behaviour(cut_at=b"COMMIT"))
    assert ask(client, b"UPDATE\n") == b"UPDATE\n"
    with pytest.raises(ConnectionResetError):
        ask(client, b"COMMIT\n")
    assert echo.heard == [b"UPDATE\n", b"COMMIT\n"]
    assert proxy.cuts == 1


def test_a_cut_before_the_far_side_hears_leaves_nothing_there(
    proxy: FaultProxy, client: socket.socket, echo: Echo
) -> None:
    proxy.behave(Behaviour(cut_at=b"COMMIT", answered=False))
    with pytest.raises(ConnectionResetError):
        ask(client, b"COMMIT\n")
    assert echo.heard == []


def test_a_cut_lets_the_first_ones_pass(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.behave(Behaviour(cut_at=b"COMMIT", skip=2))
    assert ask(client, b"COMMIT\n") == b"COMMIT\n"
    assert ask(client, b"COMMIT\n") == b"COMMIT\n"
    with pytest.raises(ConnectionResetError):
        ask(client, b"COMMIT\n")


def test_a_cut_sees_bytes_that_come_in_two_pieces(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.behave(Behaviour(cut_at=b"A\nB"))
    assert ask(client, b"A\n") == b"A\n"
    with pytest.raises(ConnectionResetError):
        ask(client, b"B\n")


def test_reset_cuts_what_stands_and_not_what_comes(proxy: FaultProxy, client: socket.socket) -> None:
    assert ask(client, b"one\n") == b"one\n"
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5.0) as again:
        assert ask(again, b"two\n") == b"two\n"


def test_an_end_on_one_side_ends_the_other(proxy: FaultProxy, client: socket.socket, echo: Echo) -> None:
    assert ask(client, b"one\n") == b"one\n"
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""


def test_closing_twice_is_harmless_and_frees_the_port(echo: Echo) -> None:
    proxy = FaultProxy("127.0.0.1", echo.server_address[1])
    proxy.close()
    proxy.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=5.0)
