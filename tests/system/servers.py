"""Servers of a test's own, which it may flush, stop and kill: Redis and PostgreSQL, each on a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

START_SECONDS = 60.0
"""What a server may take to answer after its start, on a machine with other things to do."""

MISSING = "HUB_TEST_REQUIRE_SERVICES"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program(name: str, *places: str) -> str:
    """Where a server's program is. Skips the test where it is not installed, unless services are required."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *places]))
    if found is None:
        if os.environ.get(MISSING) == "1":
            pytest.fail(f"{name} is not installed, and {MISSING}=1", pytrace=False)
        pytest.skip(f"{name} is not installed")
    return found


class Server:
    """One server process in a folder of its own; `start` and `end` as often as wanted, on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        assert self._process is None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log, **self._as_user())
        until = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until, (self.folder / "log").read_text()
            threading.Event().wait(0.02)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Ends the server at once; harmless where it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(START_SECONDS)

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _as_user(self) -> dict[str, Any]:
        return {}

    def _answers(self) -> bool:
        raise NotImplementedError


class RedisServer(Server):
    """A Redis that keeps nothing: started again, it is empty."""

    @property
    def url(self) -> str:
        """For the hub as its broker."""
        return f"redis://127.0.0.1:{self.port}/0"

    def flush(self) -> None:
        """Empties it."""
        with self._client() as client:
            client.flushall()

    def _client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=10)

    def _command(self) -> list[str]:
        place = ["--dir", str(self.folder), "--bind", "127.0.0.1", "--port", str(self.port)]
        return [program("redis-server"), *place, "--save", "", "--appendonly", "no"]

    def _answers(self) -> bool:
        try:
            with self._client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


class PostgresqlServer(Server):
    """A PostgreSQL cluster with fsync on, run by a user without rights: it refuses to run as root."""

    def make(self) -> None:
        """Makes the cluster's files."""
        if os.geteuid() == 0:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        made = [self._program("initdb"), "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*made, "--locale=C", "--no-sync"], check=True, stdout=subprocess.DEVNULL, **self._as_user())

    def url(self, database: str = "postgres", port: int | None = None) -> str:
        """For the hub as its database, or for a client of the test."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{port or self.port}/{database}"

    def kill(self) -> None:
        """What `pg_ctl stop -m immediate` does: every backend dies where it stands, and the log is replayed later."""
        self.end(signal.SIGQUIT)

    def execute(self, statement: str) -> None:
        """One statement outside of a transaction."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute(statement)

    @property
    def _dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres connect_timeout=5"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _user(self) -> pwd.struct_passwd:
        names = {each.pw_name: each for each in pwd.getpwall()}
        return names.get("postgres") or names["nobody"]

    def _program(self, name: str) -> str:
        return program(name, *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)))

    def _command(self) -> list[str]:
        own = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "fsync": "on",
            "shared_buffers": "16MB",
        }
        options = [part for name, value in own.items() for part in ("-c", f"{name}={value}")]
        return [self._program("postgres"), "-D", str(self._data), *options]

    def _as_user(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": [], "cwd": self.folder}

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._dsn).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def own_redis() -> Iterator[RedisServer]:
    """A running Redis, ended with the block."""
    with _folder() as folder:
        server = RedisServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.end()


@contextmanager
def own_postgresql() -> Iterator[PostgresqlServer]:
    """A running cluster, ended with the block."""
    with _folder() as folder:
        server = PostgresqlServer(folder)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def _folder() -> Iterator[Path]:
    """Not pytest's own, which no other user may enter."""
    with tempfile.TemporaryDirectory(prefix="hub-test-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def again_and_again(what: Callable[[], object], seconds: float) -> Iterator[list[float]]:
    """While open, does this every so many seconds from a thread; yields the moments at which it was done."""
    over, done = threading.Event(), []

    def run() -> None:
        while not over.wait(seconds):
            what()
            done.append(time.monotonic())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()
