"""A twin for each module of tests, and clients that other people wrote, led to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from simple_salesforce import Salesforce

from connectors.salesforce.twin import Twin


class Leading(HTTPAdapter):
    """Leads every `*.salesforce.com` to the twin, as a name server of one's own would."""

    def __init__(self, twin: Twin) -> None:
        self._url = twin.url
        super().__init__()

    def send(self, request: Any, *args: Any, **options: Any) -> requests.Response:
        """Sends the request to the twin."""
        host = request.url.split("/", 3)[2]
        if host.endswith(".salesforce.com"):
            request.url = request.url.replace(f"https://{host}", self._url, 1)
        return super().send(request, *args, **options)


def session_to(twin: Twin) -> requests.Session:
    """A session that trusts the twin's authority alone."""
    made = requests.Session()
    made.trust_env = False
    made.verify = str(twin.authority)
    made.mount("https://", Leading(twin))
    return made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    """A twin with some records, for the tests of one module."""
    with Twin(tmp_path_factory.mktemp("twin"), records=300) as made:
        made.control.add_field("Lead", "Score__c double 3,0")
        made.control.add_field("Lead", "Band__c picklist restricted =Hot|Warm|Cold")
        made.control.add_field("Lead", "Key__c string 40 external unique")
        made.control.add_field("Account", "Key__c string 40 external unique")
        yield made


@pytest.fixture
def twin(shared: Twin) -> Iterator[Twin]:
    """The module's twin, with nothing wrong and a full budget."""
    yield shared
    shared.control.calm()
    shared.control.forget_calls()


@pytest.fixture
def login(twin: Twin) -> Callable[..., Salesforce]:
    """simple-salesforce on the twin, logged in as the integration user by client credentials."""

    def made(version: str = "59.0") -> Salesforce:
        told = twin.control.credentials()
        return Salesforce(
            consumer_key=told["consumer_key"],
            consumer_secret=told["consumer_secret"],
            domain="twin.my",
            version=version,
            session=session_to(twin),
        )

    return made


@pytest.fixture
def salesforce(login: Callable[..., Salesforce]) -> Salesforce:
    """The same, once."""
    return login()


class Rest:
    """Plain calls below `/services/data/v59.0`."""

    def __init__(self, twin: Twin, version: str = "59.0", user: str = "integration") -> None:
        self._twin = twin
        self._session = session_to(twin)
        self._session.headers["Authorization"] = f"Bearer {twin.site.sessions.give(user)}"
        self._root = f"{twin.url}/services/data/v{version}"

    def __call__(self, method: str, path: str, **given: Any) -> requests.Response:
        """The answer, whatever its status."""
        where = self._twin.url + path if path.startswith("/services") else f"{self._root}/{path}"
        return self._session.request(method, where, timeout=30, **given)

    def refused(self, method: str, path: str, **given: Any) -> tuple[int, str]:
        """Status and error code of a call that is refused."""
        answer = self(method, path, **given)
        assert answer.status_code >= 400, answer.text
        return answer.status_code, answer.json()[0]["errorCode"]


@pytest.fixture
def rest(twin: Twin) -> Rest:
    """Plain calls as the integration user."""
    return Rest(twin)


@pytest.fixture
def lead(twin: Twin) -> str:
    """A lead of the test's own."""
    return twin.control.create("Lead", [{"LastName": "Own", "Company": "Test"}])[0]


@pytest.fixture
def contracts(shared_data: Path) -> Path:
    """The recorded documents."""
    return shared_data / "contracts" / "salesforce"
