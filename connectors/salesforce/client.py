"""The wire: one org, called through simple-salesforce over the connection's own HTTP client."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, TypeVar

import httpx
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceError

from connectors.salesforce.bridge import REPEATABLE, bridged
from connectors.salesforce.config import SalesforceConfig
from connectors.salesforce.described import Described
from connectors.salesforce.login import HOST, Login
from connectors.salesforce.problems import SessionEndedError, asks_to_wait, raised
from hub.sdk import Budget, Context, Happening, Token, UnauthorizedError, UnavailableError, UnexpectedError
from hub.sdk.http import Bounds, Http, retry_after, wait_told

LIMIT_INFO = "Sforce-Limit-Info"
COUNTED = ("/services/data/", "/services/oauth2/userinfo")
"""Where the addresses begin whose calls are of the day's; a login is none of them."""
MOST_BYTES = 128 * 1024 * 1024
RENEWALS = 4
"""New sessions that one call is worth: that in hand may have ended long ago, and so may the one that another worker got
meanwhile; and twice a session may die on its way to its first use."""
T = TypeVar("T")


class Client:
    """One org for one thread; logs in when it is first called. Nothing of it is put into errors or logs."""

    def __init__(self, config: SalesforceConfig, context: Context) -> None:
        self.config = config
        self.context = context
        bounds = Bounds(config.connect_seconds, config.call_seconds, MOST_BYTES)
        trust = ssl.create_default_context(cafile=config.authority) if config.authority else None
        self._http = Http(
            context,
            [config.host],
            bounds=bounds,
            trust=trust,
            private=config.private,
            asks_to_wait=self._told,
            admit=self._spend,
        )
        self.described = Described(context)
        self._login = Login(config, context, self._http)
        self._token: Token | None = None
        self._session: Salesforce | None = None

    def call(
        self,
        method: str,
        path: str,
        what: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        repeatable: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The JSON that a path below `/services/data/vNN.0/` answers; None where it has no body. `what` is for errors.

        Numbers are Decimal, as the far side wrote them.
        """
        more = {**(headers or {}), **({} if repeatable is None else {REPEATABLE: "yes" if repeatable else "no"})}
        sent = None if body is None else json.dumps(body, allow_nan=False)
        return self._calling(
            what, lambda sf: sf.restful(path, params=dict(params or {}), method=method, data=sent, headers=more)
        )

    def query(self, soql: str, *, deleted: bool = False) -> Any:
        """The first part of a query's answer; `deleted` includes what is in the recycle bin."""
        return self._calling("read", lambda sf: sf.query(soql, include_deleted=deleted))

    def query_more(self, url: str) -> Any:
        """The next part, by the address that the part before gave. LocatorGoneError where it is no longer kept."""
        return self._calling("read", lambda sf: sf.query_more(url, identifier_is_url=True))

    def identity(self, *, named: bool = False) -> Mapping[str, Any]:
        """Who we are, by the ids that the login told; `named` asks for the name too, which costs a call."""
        token = self.session()
        if not named:
            return token.facts
        return {**token.facts, **self._login.owner(str(token.facts[HOST]), token.value.reveal())}

    def look_at_limits(self) -> None:
        """Learns from `/limits` how many calls of the day are left; a login that may not view the setup learns nothing.

        Each answer tells the same and costs no call, unless a proxy takes the header away.
        """
        try:
            told = self.call("GET", "limits", "read the limits")["DailyApiRequests"]
        except UnauthorizedError:
            return
        most = int(told["Max"])
        self.context.shared.learn(Budget(most=most, used=most - int(told["Remaining"])))

    def upload(self, path: str, content: bytes) -> None:
        """CSV for a bulk job."""
        self._raw("write", "PUT", path, content)

    @contextmanager
    def download(self, path: str, params: Mapping[str, str]) -> Iterator[tuple[httpx.Headers, Iterator[bytes]]]:
        """CSV of a bulk job, piece by piece, never whole in memory."""
        for number in range(RENEWALS + 1):
            headers = {**self._headers(), "Accept": "text/csv"}
            with self._http.stream("GET", self._address(path), params=dict(params), headers=headers) as answer:
                self._learn(answer)
                if answer.status_code < httpx.codes.BAD_REQUEST:
                    yield answer.headers, self._http.pieces(answer, 4 * 1024**3)
                    return
                self._refused(answer, "read the results of a job", last=number == RENEWALS)

    def session(self) -> Token:
        """The token that calls are made with now."""
        self._opened()
        assert self._token is not None
        return self._token

    def renew(self, *, last: bool) -> None:
        """After a refused token: a new one for everybody. UnauthorizedError where the `last` one is refused too."""
        if last:
            raise UnauthorizedError("Salesforce refuses the sessions that it grants this login")
        self.context.tally.add(Happening.LOGGED_IN)
        self._open(self.context.shared.token(self._login.mint, refused=self._token))

    def log_in(self) -> Token:
        """A new session, for whoever keeps the credentials. UnauthorizedError in Salesforce's own words."""
        return self._login.mint()

    def budget(self) -> Budget | None:
        """The org's daily calls, as it last told."""
        return self.context.shared.budget()

    def close(self) -> None:
        """Gives back every socket. The session lives on: it is other workers' too."""
        self._http.close()

    def _raw(self, what: str, method: str, path: str, content: bytes) -> None:
        for number in range(RENEWALS + 1):
            headers = {**self._headers(), "Content-Type": "text/csv; charset=UTF-8", "Accept": "application/json"}
            answer = self._http.send(method, self._address(path), content=content, headers=headers, repeatable=False)
            self._learn(answer)
            if answer.status_code < httpx.codes.BAD_REQUEST:
                return
            self._refused(answer, what, last=number == RENEWALS)

    def _refused(self, answer: httpx.Response, what: str, *, last: bool) -> None:
        """Raises what an answer means; returns where the call is to be made once more, with a new token."""
        try:
            raise raised(answer.status_code, _content(answer), what)
        except SessionEndedError:
            self.renew(last=last)

    def _calling(self, what: str, do: Callable[[Salesforce], T]) -> T:
        for number in range(RENEWALS + 1):
            try:
                return do(self._opened())
            except SalesforceError as error:
                try:
                    raise raised(error.status, error.content, what) from None
                except SessionEndedError:
                    self.renew(last=number == RENEWALS)
            except ValueError as error:  # JSON that is none
                raise UnexpectedError("the answer is no JSON", detail=type(error).__name__) from None
        raise AssertionError("unreachable")

    def _opened(self) -> Salesforce:
        if self._session is None:
            self._open(self.context.shared.token(self._login.mint))
        assert self._session is not None
        return self._session

    def _open(self, token: Token) -> None:
        host = token.facts[HOST]
        self._http.allow(host)
        self._token = token
        session = bridged(self._http)
        session.hooks["response"] = [lambda answer, *_, **__: self._learn(answer)]
        self._session = Salesforce(
            instance_url=f"https://{host}",
            session_id=token.value.reveal(),
            version=self.config.api_version,
            session=session,
            parse_float=Decimal,
            object_pairs_hook=None,
        )

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.session().value.reveal()}"}

    def _address(self, path: str) -> str:
        assert self._token is not None
        return f"https://{self._token.facts[HOST]}/services/data/v{self.config.api_version}/{path}"

    def _spend(self, address: httpx.URL) -> None:
        """One call of the day, or none where the reserve would be touched: the org's other integrations need it."""
        if not address.path.startswith(COUNTED):
            return
        if self.context.shared.spend(1, reserve_percent=self.config.reserve_percent):
            return
        budget = self.context.shared.budget()
        used = "too many" if budget is None else f"{budget.used} of the org's {budget.most}"
        raise UnavailableError(
            f"{used} calls of the day are used; the last {self.config.reserve_percent} % are kept for others, and a few"
            " above them to look once an hour whether calls have come back",
            retry_after=900.0,
        )

    def _learn(self, answer: Any) -> None:
        told = answer.headers.get(LIMIT_INFO)
        usage = Salesforce.parse_api_usage(told).get("api-usage") if told else None
        if usage is not None:
            self.context.shared.learn(Budget(most=usage.total, used=usage.used))

    @staticmethod
    def _told(answer: httpx.Response) -> float | None:
        by_code = asks_to_wait(answer.status_code, _content(answer))
        asked = retry_after(answer) if by_code is None else wait_told(answer)
        return asked if asked is not None else by_code


def _content(answer: httpx.Response) -> object:
    try:
        return answer.json()
    except ValueError:
        return None
