"""How the connector comes to a session: three ways, one session for all, renewed once, at the version that is set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from typing import Any

import pytest

from connectors.salesforce.config import SalesforceConfig
from connectors.salesforce.connector import SalesforceConnector
from connectors.salesforce.twin import Twin
from connectors.salesforce.twin.faces import oauth
from hub.sdk import Context, LocalShared, Secret, Selection, UnauthorizedError
from tests.connectors.salesforce.orgs import key_pair

LEADS = 5
TOGETHER = 4


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    with Twin(tmp_path_factory.mktemp("twin"), records=LEADS) as made:
        yield made


@pytest.fixture
def twin(shared: Twin) -> Twin:
    """The module's twin, with a journal of the test's own."""
    shared.control.forget_calls()
    return shared


def by_key(twin: Twin, private: str) -> dict[str, Any]:
    told = twin.described()
    return {
        "login": "jwt",
        "client_id": told["consumer_key"],
        "username": told["username"],
        "private_key": Secret(private),
    }


def by_app(twin: Twin) -> dict[str, Any]:
    told = twin.described()
    return {
        "login": "client_credentials",
        "client_id": told["consumer_key"],
        "client_secret": Secret(told["consumer_secret"]),
    }


def by_password(twin: Twin, password: str | None = None) -> dict[str, Any]:
    told = twin.described()
    return {
        "login": "password",
        "username": told["username"],
        "password": Secret(password or told["password"]),
        "security_token": Secret(told["security_token"]),
    }


def connector(twin: Twin, way: dict[str, Any], *, among: LocalShared | None = None) -> SalesforceConnector:
    config = SalesforceConfig(
        host=twin.host, authority=str(twin.authority), private=True, objects=("Lead",), reads="rest", **way
    )
    return SalesforceConnector(config, Context() if among is None else Context(shared=among))


def count(one: SalesforceConnector) -> int:
    return sum(page.frame.height for page in one.source().read(Selection("Lead", ("Id",))))


@pytest.mark.parametrize("way", ["jwt", "client_credentials", "password"])
def test_each_way_leads_to_a_session_of_its_user_at_the_version_that_is_set(twin: Twin, way: str) -> None:
    private, public = key_pair()
    twin.control.certificate(public)
    ways = {"jwt": by_key(twin, private), "client_credentials": by_app(twin), "password": by_password(twin)}

    with connector(twin, {**ways[way], "api_version": "61.0"}) as one:
        assert count(one) == LEADS
        told = one.check()

    assert told.identity == twin.described()["username"]
    calls = twin.control.calls()
    logins = [each["kind"] for each in calls if each["kind"] in {"login.oauth", "login.soap"}]
    assert logins == ["login.soap" if way == "password" else "login.oauth"]
    data = [each["path"] for each in calls if not each["kind"].startswith("login")]
    assert data
    assert all("/data/v61.0/" in f"/{each.lstrip('/')}" for each in data), data


def test_an_assertion_for_a_sandbox_is_for_the_judge_of_sandboxes(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = key_pair()
    twin.control.certificate(public)
    monkeypatch.setattr(oauth, "AUDIENCES", ("https://test.salesforce.com",))
    with connector(twin, {**by_key(twin, private), "sandbox": True}) as one:
        assert count(one) == LEADS
    with connector(twin, by_key(twin, private)) as one, pytest.raises(UnauthorizedError, match="audience is invalid"):
        count(one)


def test_what_is_no_login_is_said_in_salesforces_words_and_not_tried_again(twin: Twin) -> None:
    twin.control.certificate(key_pair()[1])
    other = key_pair()[0]
    for way, words in (
        (by_key(twin, other), "invalid assertion"),
        (by_key(twin, "no key at all"), "no RSA key in PEM form"),
        ({**by_app(twin), "client_secret": Secret("wrong")}, "invalid client credentials"),
        (by_password(twin, "wrong"), "the login was refused"),
    ):
        with connector(twin, way) as one, pytest.raises(UnauthorizedError, match=words) as raised:
            count(one)
        assert other not in repr(raised.value)
    assert len(twin.control.calls(kind="login")) == 3  # the key that is none was not sent anywhere


def test_of_many_that_meet_a_dead_session_one_logs_in_and_each_call_is_made_once_more(twin: Twin) -> None:
    among, start = LocalShared(), Barrier(TOGETHER)

    def again(one: SalesforceConnector) -> int:
        start.wait()
        return count(one)

    with ExitStack() as stack, ThreadPoolExecutor(TOGETHER) as pool:
        many = [stack.enter_context(connector(twin, by_app(twin), among=among)) for _ in range(TOGETHER)]
        assert [count(each) for each in many] == [LEADS] * TOGETHER
        assert len(twin.control.calls(kind="login")) == 1
        twin.control.forget_calls()
        twin.control.kill_tokens()
        assert list(pool.map(again, many)) == [LEADS] * TOGETHER

    assert [each["kind"] for each in twin.control.calls(kind="login")] == ["login.oauth"]
    asked = Counter(each["status"] for each in twin.control.calls(kind="query"))
    assert asked == {401: TOGETHER, 200: TOGETHER}
