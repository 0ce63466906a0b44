"""`hub decisions show --at`: the receipt asked of a hub that runs, by a machine that holds nothing of it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hub.access import Scope
from hub.runs import Scoring
from tests.faces.api.conftest import ME, Site
from tests.faces.cli.conftest import Shell
from tests.faces.cli.test_start import ALWAYS, FRAMES, loaded

KEY = "00842302"
ASKED = f"decisions show patient_risk {KEY}"

Elsewhere = Callable[..., Shell]


@pytest.fixture
def elsewhere(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    """A machine with a key of these scopes, and a home of a hub that nobody ever opened."""

    def made(*scopes: Scope, mappings: list[str] | None = None) -> Shell:
        monkeypatch.setenv("HUB_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("HUB_TOKEN", site.key(*scopes, mappings=mappings))
        return Shell(tmp_path)

    return made


@pytest.fixture(scope="module", autouse=True)
def scored(site: Site) -> None:
    """The record has a receipt."""
    Scoring(site.hub).score_keys("patient_risk", [{"PATNR": KEY}], str(ME)).result(60)


def lines(text: str) -> list[str]:
    """But for what was written: JSON has no moments, and what came as text is shown as text."""
    return [each for each in text.splitlines() if not each.startswith("written: ")]


def test_it_is_the_receipt_that_the_hub_itself_shows(
    site: Site,
    elsewhere: Elsewhere,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = elsewhere(Scope.RECORDS)
    told, text = there(f"{ASKED} --at {site.url} --json").answer, there(f"{ASKED} --at {site.url}").out
    assert not (tmp_path / "home").exists()
    monkeypatch.setenv("HUB_HOME", str(site.hub.settings.home))
    monkeypatch.delenv("HUB_TOKEN")
    here = Shell(site.hub.settings.home)
    assert told == here(f"{ASKED} --json").answer
    assert lines(text) == lines(here(ASKED).out)
    assert told["decisions"][0]["outputs"]


def test_the_key_comes_from_a_file_and_its_look_is_in_the_trail_of_that_hub(
    site: Site,
    elsewhere: Elsewhere,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = elsewhere(Scope.RECORDS)
    (tmp_path / "key").write_text(os.environ["HUB_TOKEN"] + "\n")
    monkeypatch.delenv("HUB_TOKEN")
    monkeypatch.setenv("HUB_TOKEN_FILE", str(tmp_path / "key"))
    service = site.hub.access.list_tokens()[-1].name
    before = len(site.hub.audit.events(actor=f"service:{service}", limit=100))
    assert there(f"{ASKED} --at {site.url}/").code == 0
    assert len(site.hub.audit.events(actor=f"service:{service}", limit=100)) == before + 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("decisions show patient_risk 999", "answers 404: the mapping has never met this record"),
        ("decisions show patient_rsk 1", "answers 404: "),
        ("decisions show patient_risk A=1,B=2", "answers 404: the mapping has never met this record"),
    ],
)
def test_what_is_not_there_is_said_by_the_hub_that_was_asked(
    site: Site,
    elsewhere: Elsewhere,
    line: str,
    said: str,
) -> None:
    assert said in elsewhere(Scope.RECORDS)(f"{line} --at {site.url}", 1).problem


def test_who_may_not_look_is_refused_there(site: Site, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "answers 403: " in elsewhere(Scope.READ)(f"{ASKED} --at {site.url}", 1).problem
    assert "answers 404: " in elsewhere(Scope.RECORDS, mappings=["another"])(f"{ASKED} --at {site.url}", 1).problem
    there = elsewhere(Scope.RECORDS)
    monkeypatch.setenv("HUB_TOKEN", os.environ["HUB_TOKEN"][:-6] + "AAAAAA")
    assert "answers 401: " in there(f"{ASKED} --at {site.url}", 1).problem


@pytest.mark.parametrize("key", ["", "two\nlines", "é"])
def test_without_a_key_nobody_is_asked(elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    there = elsewhere(Scope.RECORDS)
    monkeypatch.setenv("HUB_TOKEN", key)
    with answering(b"") as (url, heard):
        assert "set HUB_TOKEN or HUB_TOKEN_FILE" in there(f"{ASKED} --at {url}", 1).problem
    assert heard == []


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("http://hub.example", "a key goes to hub.example over https alone"),
        ("http://127.0.0.1.example:8700", "over https alone"),
        ("hub.example", "expected the address of a hub"),
        ("ftp://hub.example", "expected the address of a hub"),
        ("https://me@hub.example", "expected the address of a hub"),
        ("https://hub.example:x", "expected the address of a hub"),
        ("https://", "expected the address of a hub"),
        ("https://hub.example/é", "expected the address of a hub"),
        ("https://hub.example/?q", "expected the address of a hub"),
    ],
)
def test_a_key_is_sent_nowhere_but_to_a_hub(elsewhere: Elsewhere, at: str, said: str) -> None:
    assert said in elsewhere(Scope.RECORDS)(f"{ASKED} --at {at}", 1).problem


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "answers 200: and nothing that a hub would say"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "answers 200: and nothing that a hub would say"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "answers 200: and nothing that a hub would say"),
        (b'HTTP/1.1 403 No\r\nContent-Length: 24\r\n\r\n{"detail": "\\u001b[31m"}', r"answers 403: \x1b[31m"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n", "answers 302: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}", "no hub answers at "),
        (b"SSH-2.0-OpenSSH\r\n", "no hub answers at "),
        (b"", "no hub answers at "),
    ],
)
def test_what_is_no_hub_is_told_as_such(elsewhere: Elsewhere, answer: bytes, said: str) -> None:
    there = elsewhere(Scope.RECORDS)
    with answering(answer) as (url, _):
        assert said in there(f"{ASKED} --at {url}", 1).problem
    assert "no hub answers at " in there(f"{ASKED} --at {url}", 1).problem


def test_a_certificate_that_nobody_vouches_for_is_not_sent_a_key(elsewhere: Elsewhere) -> None:
    there = elsewhere(Scope.RECORDS)
    with answering(b"") as (url, heard):
        assert "no hub answers at " in there(f"{ASKED} --at {url.replace('http', 'https')}", 1).problem
    assert not any(os.environ["HUB_TOKEN"].encode() in each for each in heard)


def test_it_imports_no_library_that_only_a_hub_needs(site: Site, elsewhere: Elsewhere, tmp_path: Path) -> None:
    elsewhere(Scope.RECORDS)
    home = tmp_path / "home"
    code, names = loaded(*ASKED.split(), "--at", site.url, home=home, HUB_TOKEN=os.environ["HUB_TOKEN"])
    assert code == 0
    assert names & (ALWAYS | FRAMES | {"pydantic_settings", "httpx", "hub.settings", "hub.database"}) == set()


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that says this to the first who asks, and what it heard."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def once() -> None:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            with link:
                heard.append(link.recv(65_536))
                link.sendall(answer)

        thread = threading.Thread(target=once, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", heard
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            assert not thread.is_alive()
