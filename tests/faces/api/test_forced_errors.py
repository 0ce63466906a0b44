"""Whatever fails below a route, at any of the named points: its answer shows no stack, SQL, path, host or value."""

from __future__ import annotations

import gc
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hub.access import Scope
from hub.access.types import PERSONAL
from hub.faults import VARIABLE
from tests.faces.api.conftest import ME, Opens, Site
from tests.faces.api.test_access import BODIES, ROUTES

# What fails before it is closed stays open until it is collected, and says so then.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SECRETS = ("PUT", "/v1/connections/spare/secrets")
OURS = {route: scope for route, scope in ROUTES.items() if scope not in PERSONAL}
"""Those that a program may hold; a person's are met with a person's login, in the tests of pages."""
SCOPES = {**OURS, SECRETS: Scope.CONNECTIONS, ("GET", "/readyz"): Scope.READ}
ASKED = {
    **{each: BODIES.get(each[1].split("?")[0]) for each in SCOPES},
    ("POST", "/v1/runs"): {"mapping": "patient_risk"},
    SECRETS: {"secrets": {"password": "pl4nted-s3cret"}},
}
SHOWN = re.compile(
    r"Traceback|File \"|\.py\b|FaultError|OSError|sqlalchemy|sqlite|psycopg|Errno|No space left"
    r"|\b(select|insert|update|delete)\s+[\w.*\"]+(\s|,).*\b(from|into|set|where|values)\b",
    re.IGNORECASE,
)
ACTIONS = ("raise", "full", "away")


def points(client: httpx.Client, method: str, path: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The named points that a request reaches."""
    monkeypatch.setenv(VARIABLE, f"note:{file}")
    client.request(method, path, json=ASKED[method, path] if method != "GET" else None)
    monkeypatch.delenv(VARIABLE)
    return sorted(set(file.read_text().splitlines())) if file.exists() else []


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """What was left open is collected while that is expected, and not in the middle of somebody else's test."""
    yield
    gc.collect()


@pytest.fixture(scope="module", autouse=True)
def spare(site: Site) -> None:
    """A connection that nothing else needs."""
    site.hub.connections.create("spare", "sql", {"dialect": "sqlite", "path": str(site.clinic)}, {}, ME)


@pytest.fixture
def hidden(site: Site) -> list[str]:
    """What an answer has no business to show: places of this machine, its name, what was planted."""
    settings = site.hub.settings
    return [str(settings.home), str(site.clinic), str(Path.cwd()), socket.gethostname(), "127.0.0.1", "pl4nted-s3cret"]


@pytest.mark.parametrize(("method", "path"), ASKED)
def test_an_error_at_any_point_shows_nothing_of_the_inside(
    site: Site,
    client: Opens,
    method: str,
    path: str,
    hidden: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caller, body = client(SCOPES[method, path]), ASKED[method, path] if method != "GET" else None
    for number, point in enumerate(points(caller, method, path, tmp_path / "points", monkeypatch)):
        for action in ACTIONS:
            monkeypatch.setenv(VARIABLE, f"{action}:{point}")
            told = caller.request(method, path, json=body)
            monkeypatch.delenv(VARIABLE)
            where = f"{number}: {action} {point}: {told.status_code} {told.text[:300]}"
            if told.status_code >= 500:
                assert told.headers["content-type"] == "application/problem+json", where
            assert not SHOWN.search(told.text), where
            assert not [each for each in hidden if each in told.text], where
            assert not [each for each in hidden if any(each in value for value in told.headers.values())], where


def test_the_points_are_reached_and_errors_come_of_them(
    site: Site, client: Opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without this the test above would pass with nothing armed."""
    caller = client(Scope.RUN)
    found = points(caller, "POST", "/v1/runs", tmp_path / "points", monkeypatch)
    assert any("commit" in each for each in found)
    assert any(each == "before open" for each in found)
    failed = set()
    for point in found:
        monkeypatch.setenv(VARIABLE, f"raise:{point}")
        failed.add(client(Scope.RUN).post("/v1/runs", json={"mapping": "patient_risk"}).status_code)
        monkeypatch.delenv(VARIABLE)
    assert 500 in failed
