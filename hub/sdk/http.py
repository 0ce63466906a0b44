"""The HTTP client of a connection: pinned hosts, one deadline, a retry budget, capped answers, nothing taken on trust.

It follows no redirect, takes nothing from the environment and keeps cookies only where told to. Whom a name resolves to
is looked at once, and that very address is connected to: no second answer of the resolver counts (OWASP ASVS, 1.3.6).
"""

from __future__ import annotations

import email.utils
import random
import re
import ssl
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Self

import httpx

from hub.sdk.connector import Context
from hub.sdk.errors import UnavailableError, UnexpectedError
from hub.sdk.network.transport import pinned_transport
from hub.sdk.shared import Happening

MEBIBYTE = 1024**2
RETRIED = frozenset({429, 502, 503, 504})
CONNECT_COST, ANSWER_COST = 5, 10
"""What a repeat takes out of the retry bucket: a refused connection, and an answer that never came."""
MOST_TRIES = 4
LONGEST_WAIT = 60.0
"""Seconds waited inside a call; a longer wait is the caller's affair."""


PROVES = re.compile(r"auth|cookie|credential|key|pass|secret|session|sig|token", re.IGNORECASE)
"""In the name of a header: its value proves who asks."""
STRUCK = "***"

_OF_THE_WIRE = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class LostAnswerError(UnavailableError):
    """The request was sent and no answer came: it may have been carried out."""


class UntrustedError(UnavailableError):
    """The server cannot prove who it is: nothing was sent, and another try at once proves no more."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one call may take: seconds to connect and between two pieces, bytes of an answer, unpacked."""

    connect_seconds: float = 10.0
    read_seconds: float = 60.0
    most_bytes: int = 64 * MEBIBYTE


class Http:
    """HTTP to the hosts of one connection; belongs to one thread. Hosts are `name` or `name:port`."""

    def __init__(
        self,
        context: Context,
        hosts: Collection[str],
        *,
        bounds: Bounds | None = None,
        trust: ssl.SSLContext | None = None,
        private: bool = False,
        cookies: bool = False,
        asks_to_wait: Callable[[httpx.Response], float | None] | None = None,
        admit: Callable[[httpx.URL], None] | None = None,
    ) -> None:
        """`private` lets a host stand in a private range, `cookies` keeps those that the far side sets.

        `admit` is asked before every call, a repeated one too, and raises where it must not be made.

        `asks_to_wait` reads the far side's own way to say so: given an answer of status 400 or above, its body read,
        it tells the seconds to wait, or None.
        """
        self._context = context
        self._hosts = {each.lower() for each in hosts}
        self._bounds = bounds or Bounds()
        self._cookies = cookies
        self._asks_to_wait = asks_to_wait or retry_after
        self._admit = admit
        transport = pinned_transport(context, trust or ssl.create_default_context(), private=private)
        self._client = httpx.Client(transport=transport, trust_env=False, follow_redirects=False)

    def allow(self, host: str) -> None:
        """One more host, such as the one that a login answered with."""
        self._hosts.add(host.lower())

    def send(
        self,
        method: str,
        url: str,
        *,
        repeatable: bool | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        content: bytes | Iterable[bytes] | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """The answer, its body read. `repeatable` (default: the method says) lets a lost call be made again.

        UnavailableError where the far side is away or asks to come back later, LostAnswerError where it may have acted.
        """
        request = self._built(method, url, headers=headers, params=params, content=content, json=json, data=form)
        again = method.upper() in {"GET", "HEAD", "OPTIONS"} if repeatable is None else repeatable
        for number in range(1, MOST_TRIES + 1):
            try:
                with self._answered(request) as response:
                    return self._read(response)
            except UnavailableError as error:
                sent = isinstance(error, LostAnswerError)
                if (sent and not again) or number == MOST_TRIES or not self._worth_another(error, number, sent=sent):
                    raise
                self._context.tally.add(Happening.REPEATED)
        raise AssertionError("unreachable")

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Iterator[httpx.Response]:
        """The answer with its body still to come, by `pieces`; errors as `send`, but nothing is repeated."""
        request = self._built(method, url, headers=headers, params=params)
        with self._answered(request) as response:
            yield response

    def pieces(self, response: httpx.Response, most_bytes: int | None = None) -> Iterator[bytes]:
        """The body of a streamed answer. UnexpectedError above the cap, LostAnswerError where it breaks off."""
        most, size = self._bounds.most_bytes if most_bytes is None else most_bytes, 0
        try:
            for piece in response.iter_bytes(65_536):
                size += len(piece)
                if size > most:
                    raise UnexpectedError(f"the answer is larger than {most // MEBIBYTE} MiB")
                yield piece
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise LostAnswerError("the answer broke off", detail=type(error).__name__) from error

    def close(self) -> None:
        """Gives back every socket."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _built(self, method: str, url: str, **parts: Any) -> httpx.Request:
        try:
            return self._client.build_request(method, url, **parts)
        except httpx.InvalidURL as error:
            raise UnexpectedError("the address to call is no URL", detail=str(error)) from None

    @contextmanager
    def _answered(self, request: httpx.Request) -> Iterator[httpx.Response]:
        self._check(request.url)
        self._keep_wait()
        seconds = self._context.seconds_left(self._bounds.read_seconds)
        if seconds <= 0:
            raise UnavailableError("no time is left for another call")
        if self._admit is not None:
            self._admit(request.url)
        request.extensions["timeout"] = {
            "connect": min(seconds, self._bounds.connect_seconds),
            "read": seconds,
            "write": seconds,
            "pool": seconds,
        }
        response = self._sent(request)
        response.request = told_of(request)
        try:
            # What is packed twice becomes a million times as much in one piece, before any cap is looked at.
            if len(response.headers.get_list("content-encoding", split_commas=True)) > 1:
                raise UnexpectedError("the answer is packed more than once")
            if response.status_code >= 400:
                response = self._read(response)
                self._note_wait(response)
            self._context.shared.succeeded()
            if not self._cookies:
                self._client.cookies.clear()
            yield response
        finally:
            response.close()

    def _sent(self, request: httpx.Request) -> httpx.Response:
        where = request.url.host
        try:
            return self._client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            if of_tls(error):
                self._context.distrusted(where)
                raise UntrustedError(f"{where} cannot prove who it is: its certificate does not hold") from error
            raise UnavailableError(f"{where} cannot be reached", detail=type(error).__name__) from error
        except httpx.TransportError as error:
            raise LostAnswerError(f"{where} gave no answer", detail=type(error).__name__) from error

    def _read(self, response: httpx.Response) -> httpx.Response:
        """The same answer with its body in memory, unpacked: httpx has no cap of its own."""
        if response.is_stream_consumed:
            return response
        content = b"".join(self.pieces(response))
        response.close()
        kept = [(name, value) for name, value in response.headers.multi_items() if name not in _OF_THE_WIRE]
        return httpx.Response(response.status_code, headers=kept, content=content, request=response.request)

    def _check(self, url: httpx.URL) -> None:
        named = url.host.lower()
        if url.scheme != "https" or url.userinfo:
            raise UnexpectedError("only https addresses without a login in them are called")
        if not {named, f"{named}:{url.port or 443}"} & self._hosts:
            raise UnexpectedError(f"{named} is not a host of this connection")

    def _keep_wait(self) -> None:
        seconds = self._context.shared.wait()
        if seconds <= 0:
            return
        if seconds > min(LONGEST_WAIT, self._context.seconds_left(LONGEST_WAIT)):
            raise UnavailableError("the far side asked to wait", retry_after=seconds)
        self._context.pause(seconds)
        self._context.tally.add(Happening.WAITED, seconds)

    def _note_wait(self, response: httpx.Response) -> None:
        seconds = self._asks_to_wait(response)
        if seconds is not None:
            self._context.shared.hold_off(seconds)
            raise UnavailableError("the far side asked to wait", retry_after=seconds)
        if response.status_code in RETRIED:
            # A gateway that gave up says nothing of the system behind it, which may have acted.
            kind = LostAnswerError if response.status_code in {502, 504} else UnavailableError
            raise kind(f"{response.url.host} is busy", detail=f"status {response.status_code}")

    def _worth_another(self, error: UnavailableError, number: int, *, sent: bool) -> bool:
        """Waits for the next try; False where there is no time or nothing left in the bucket."""
        if isinstance(error, UntrustedError):
            return False
        asked = error.retry_after
        if asked is not None and asked > min(LONGEST_WAIT, self._context.seconds_left(LONGEST_WAIT)):
            return False
        if not self._context.shared.may_retry(ANSWER_COST if sent else CONNECT_COST):
            return False
        if asked is not None:
            return True
        seconds = random.uniform(0, min(LONGEST_WAIT, 0.2 * 2.0**number))  # noqa: S311  (full jitter)
        if seconds >= self._context.seconds_left(LONGEST_WAIT):
            return False
        self._context.pause(seconds)
        return True


def of_tls(error: BaseException | None) -> bool:
    """Whether TLS is what led to an error: a certificate that does not hold, or no TLS at the other end."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def told_of(request: httpx.Request) -> httpx.Request:
    """The request as an answer may keep it: headers that prove who asks are struck out, however they are called.

    httpx masks `Authorization` where it shows headers, and neither `X-Api-Key` nor the like.
    """
    headers = [(name, STRUCK if PROVES.search(name) else value) for name, value in request.headers.multi_items()]
    return httpx.Request(request.method, request.url, headers=headers)


def retry_after(response: httpx.Response, *, longest: float = 3600.0) -> float | None:
    """The seconds that a 429 or 503 asks for, given in either form of RFC 9110, 10.2.3; at most `longest`."""
    return wait_told(response, longest=longest) if response.status_code in RETRIED else None


def wait_told(response: httpx.Response, *, longest: float = 3600.0) -> float | None:
    """As `retry_after`, of an answer that is known to ask for a wait, whatever its status."""
    told = response.headers.get("Retry-After")
    if told is None:
        return None
    try:
        return min(longest, max(0.0, float(told)))
    except ValueError:
        pass
    try:
        moment = email.utils.parsedate_to_datetime(told)
        answered = email.utils.parsedate_to_datetime(response.headers["Date"])
    except (KeyError, TypeError, ValueError):
        return None
    # By the far side's own clock, where it tells it: ours may be an hour off.
    return min(longest, max(0.0, (moment.astimezone(UTC) - answered.astimezone(UTC)).total_seconds()))
