"""Hygiene: secrets and record values stay where they belong, sockets are given back, nothing is taken from around."""

from __future__ import annotations

import copy
import logging
import os
import sys
import traceback
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote

import psutil
import pytest
import structlog

from hub.sdk import Config, Connector, ConnectorError, Context, FieldType, Mode, Secret, Selection
from hub.sdk.testing.harness import Fault, Harness
from hub.sdk.testing.records import Change, changes, key_of, records
from hub.sdk.testing.suite.steps import (
    JournalInMemory,
    everything_once,
    frame_of,
    lacks,
    needs_source,
    opened,
    pages,
    raising,
    readable,
    reading,
    rows,
    seed,
    selection,
)

MARK = "Zq7Vb-planted-value"
"""Seeded into the first text field: a record value that must be seen in records only."""

POISON = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"),
    **dict.fromkeys(("PGHOST", "PGHOSTADDR", "MYSQL_HOST"), "127.0.0.254"),
    **dict.fromkeys(("PGPORT", "MYSQL_TCP_PORT"), "9"),
    **dict.fromkeys(("PGUSER", "PGPASSWORD", "PGDATABASE", "MYSQL_PWD", "PGSERVICE"), "poisoned"),
    **dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NETRC", "ODBCINI"), "/nonexistent"),
}
_THROUGH = ("os", "_collections_abc", "collections.abc")
_TESTING = str(Path(__file__).parents[1])


class Overheard:
    """All that a connection said while it was listened to."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.tracebacks: list[str] = []
        self.log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
            logging.getLogger("hub.conformance"), [self._logged], structlog.stdlib.BoundLogger
        )

    def _logged(self, _: Any, __: str, event: Any) -> Any:
        self.texts.append(repr(event))
        if event.get("exc_info"):
            self.texts.append(traceback.format_exc())
        raise structlog.DropEvent

    def tell(self, error: BaseException) -> None:
        """Keeps an error as people and logs would see it; the frames of the suite itself are not the connector's."""
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_TESTING):
            frames = frames.tb_next
        self.texts += [str(error), repr(error), repr(error.args), repr(getattr(error, "detail", ""))]
        plain = traceback.TracebackException(type(error), error, frames)
        full = traceback.TracebackException(type(error), error, frames, capture_locals=True)
        self.texts.append("".join(plain.format()))
        self.tracebacks.append("".join(full.format()))


@contextmanager
def listening() -> Iterator[Overheard]:
    """Hears the injected log, the standard library's, warnings and both streams."""
    heard, out, err = Overheard(), StringIO(), StringIO()
    stream = StringIO()
    root, handler = logging.getLogger(), logging.StreamHandler(stream)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with warnings.catch_warnings(record=True) as warned, redirect_stdout(out), redirect_stderr(err):
            warnings.simplefilter("always")
            yield heard
        heard.texts += [str(each.message) for each in warned]
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        heard.texts += [stream.getvalue(), out.getvalue(), err.getvalue()]


class HygieneGroup:
    """Runs for every connector; what needs a role is left out where the type lacks it."""

    def test_the_planted_secret_is_never_seen(self, harness: Harness) -> None:
        heard = _a_day_in_the_life(harness, _planted(harness))
        for form in _forms(harness.secret):
            assert not any(form in text for text in heard.texts), "the planted secret was seen"
            assert not any(form in text for text in heard.tracebacks), "the planted secret is in a traceback's locals"

    def test_seeded_values_are_in_no_log_or_error(self, harness: Harness) -> None:
        heard = _a_day_in_the_life(harness, harness.config())
        assert not any(MARK in text for text in heard.texts), "a record value was seen outside a record"

    def test_the_config_shows_no_secret(self, harness: Harness) -> None:
        config = _planted(harness)
        shown = [repr(config), str(config), config.model_dump_json(), repr(config.model_dump(mode="json")), f"{config}"]
        shown += [repr(config.model_dump()), repr(config.model_json_schema(mode="serialization"))]
        for form in _forms(harness.secret):
            assert not any(form in text for text in shown), "the planted secret is in a dump of the config"

    def test_the_config_refuses_to_be_pickled_or_copied(self, harness: Harness) -> None:
        config = _planted(harness)
        with raising(TypeError):
            copy.deepcopy(config)
        for each in _held(config):
            for protocol in range(6):
                with raising(TypeError):
                    each.__reduce_ex__(protocol)  # what pickle asks of a value, without importing it

    def test_sockets_and_files_are_given_back(self, harness: Harness) -> None:
        seed(harness, records(harness, 5))
        with opened(harness) as connector:
            _speak(harness, connector)
        held = _descriptors(harness)
        connector = harness.open()
        _speak(harness, connector)
        connector.close()
        _until(lambda: not _descriptors(harness) - held)
        left = _descriptors(harness) - held
        assert not left, f"{len(left)} descriptors are still open: {sorted(left)[:3]}"

    def test_a_read_left_half_way_gives_its_socket_back(self, harness: Harness) -> None:
        needs_source(harness)
        seed(harness, records(harness, 12))
        with opened(harness) as connector:
            _speak(harness, connector)
        held = _descriptors(harness)
        with reading(harness) as source:
            stream = iter(source.read(selection(harness)))
            assert next(stream).frame.height
        _until(lambda: not _descriptors(harness) - held)
        assert not _descriptors(harness) - held, "a read that was left keeps its connection"

    def test_closing_twice_is_harmless(self, harness: Harness) -> None:
        with opened(harness) as connector:
            connector.check()
            connector.close()
            connector.close()
        harness.open().close()
        with opened(harness) as connector:
            assert connector.check().identity, "closing one connection spoiled the next"

    def test_nothing_is_taken_from_environment_or_home(
        self, harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = seed(harness, records(harness, 3))
        config = harness.config()
        for name in (".pgpass", ".my.cnf", ".netrc", ".odbc.ini", ".pg_service.conf"):
            (tmp_path / name).write_text("127.0.0.1:9:poisoned:poisoned:poisoned\n", encoding="utf-8")
            (tmp_path / name).chmod(0o600)
        for name, value in {**POISON, **harness.environment, "HOME": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        package = harness.spec.factory.partition(":")[0].rpartition(".")[0]
        with _asked(package) as asked, opened(_Fixed(harness, config)) as connector:
            assert connector.check().identity
            if "source" in harness.spec.roles:
                source = connector.source()
                assert source is not None
                everything_once(harness.entity, made, rows(pages(source, selection(harness))))
        assert not asked, f"the connector asked the environment for {sorted(set(asked))}"


class _Fixed(Harness):
    """A harness whose configuration was made before, as a stand-in itself may use the environment."""

    def __init__(self, harness: Harness, config: Config) -> None:
        super().__init__(harness.folder)
        self.spec = harness.spec  # type: ignore[misc]
        self._config = config

    def config(self, fault: Fault | None = None) -> Config:
        return self._config

    def seed(self, entity: str, records: Any) -> None:
        raise NotImplementedError


@contextmanager
def _asked(package: str) -> Iterator[list[str]]:
    """Hears which variables the modules of one package ask the environment for, however they came by it."""
    asked: list[str] = []
    plain = type(os.environ)

    class Heard(plain):  # type: ignore[valid-type, misc]
        def __getitem__(self, name: str) -> str:
            frame = sys._getframe(1)
            while frame.f_back is not None and frame.f_globals.get("__name__") in _THROUGH:
                frame = frame.f_back
            if str(frame.f_globals.get("__name__", "")).startswith(package):
                asked.append(name)
            value: str = super().__getitem__(name)
            return value

    os.environ.__class__ = Heard
    try:
        yield asked
    finally:
        os.environ.__class__ = plain


def _planted(harness: Harness) -> Config:
    """The configuration, after making sure that the secret really is in it."""
    assert harness.secret, "a login here needs no secret: declare a gap with the reason"
    assert len(harness.secret) >= 12, "plant a secret of at least twelve characters, or chance will find it"
    config = harness.config()
    assert any(harness.secret in each.reveal() for each in _held(config)), (
        "the planted secret is in no Secret of the config"
    )
    return config


def _held(config: Config) -> list[Secret]:
    values = [getattr(config, name) for name in type(config).model_fields]
    return [each for each in values if isinstance(each, Secret)]


def _forms(secret: str) -> tuple[str, ...]:
    return secret, b64encode(secret.encode()).decode().rstrip("="), quote(secret, safe="")


def _descriptors(harness: Harness) -> set[str]:
    """Sockets, pipes and files that this process holds, each told apart from any other."""
    folder = Path("/proc/self/fd")
    if folder.is_dir():
        found = set()
        for each in folder.iterdir():
            try:
                found.add(f"{each.name} {each.readlink()}")
            except FileNotFoundError:
                continue
        return {each for each in found if "/fd" not in each and not _is_theirs(harness, each)}
    process = psutil.Process()
    found = {str(each) for each in (*process.net_connections(kind="all"), *process.open_files())}
    return {each for each in found if not _is_theirs(harness, each)}


def _is_theirs(harness: Harness, descriptor: str) -> bool:
    return harness.theirs is not None and str(harness.theirs) in descriptor


def _until(true: Callable[[], bool], tries: int = 100) -> None:
    """Waits, briefly, for a peer in another thread to notice that the connection ended."""
    never = Event()
    while not true() and tries:
        never.wait(0.02)
        tries -= 1


def _speak(harness: Harness, connector: Connector) -> None:
    connector.check()
    connector.entities()
    source = connector.source()
    if source is not None:
        pages(source, selection(harness))


def _a_day_in_the_life(harness: Harness, config: Config) -> Overheard:
    """All that a connection does, well and badly, overheard."""
    field = readable(harness, FieldType.TEXT)
    made = seed(harness, [{**each, field.name: MARK[: field.length]} for each in records(harness, 6)])
    if field.length is not None and field.length < len(MARK):
        lacks(f"the entity's type has room for {field.length} characters only")
    with listening() as heard:
        heard.texts += [repr(config), str(config)]
        for fault in (None, *sorted(harness.faults - {Fault.HANG})):
            for act in (_look, _read, _fail, _write):
                _overhear(harness, heard, fault, act, made)
    assert any(heard.texts), "nothing was heard"
    return heard


def _overhear(harness: Harness, heard: Overheard, fault: Fault | None, act: Any, made: Any) -> None:
    """One act on a connection of its own: its errors are told, whatever they are, and the others go on."""
    try:
        with opened(harness, fault, context=Context(log=heard.log)) as connector:
            heard.texts += [repr(connector), str(connector)]
            act(harness, connector, heard, made)
    except ConnectorError as error:
        heard.tell(error)


def _look(harness: Harness, connector: Connector, heard: Overheard, made: Any) -> None:
    heard.texts += [repr(connector.check()), repr(connector.entities()), repr(harness.spec)]


def _read(harness: Harness, connector: Connector, heard: Overheard, made: Any) -> None:
    source = connector.source()
    if source is None:
        return
    heard.texts += [repr(source), *(repr(page) for page in source.read(selection(harness)))]
    match = frame_of(harness.entity, harness.entity.key, made)
    heard.texts += [repr(page) for page in source.lookup(selection(harness), match)]


def _fail(harness: Harness, connector: Connector, heard: Overheard, made: Any) -> None:
    source = connector.source()
    if source is not None:
        pages(source, Selection(harness.entity.name, ("no_such_field",)))


def _write(harness: Harness, connector: Connector, heard: Overheard, made: Any) -> None:
    destination = connector.destination()
    if destination is None or Mode.UPDATE not in harness.entity.modes:
        return
    bad: Mapping[str, Any] = dict([harness.bad]) if harness.bad else {}
    marks = {
        each.name: MARK
        for each in harness.entity.fields
        if each.writable and each.type is FieldType.TEXT and not each.values and (each.length or 99) >= len(MARK)
    }
    batch = [Change(key_of(harness.entity, each), {**marks, **(bad if n == 1 else {})}) for n, each in enumerate(made)]
    results = destination.write(changes(harness.entity, sorted({*marks, *bad}), batch), journal=JournalInMemory())
    heard.texts += [repr(destination), repr(results), *results.frame["reason"].drop_nulls().to_list()]
