"""What the org refuses, by the code and in the words that Salesforce uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

STATUS = {
    "API_DISABLED_FOR_ORG": 403,
    "ENTITY_IS_DELETED": 404,
    "INSUFFICIENT_ACCESS": 403,
    "INSUFFICIENT_ACCESS_OR_READONLY": 403,
    "INVALID_SESSION_ID": 401,
    "METHOD_NOT_ALLOWED": 405,
    "NOT_FOUND": 404,
    "REQUEST_LIMIT_EXCEEDED": 403,
    "SERVER_UNAVAILABLE": 503,
    "UNSUPPORTED_MEDIA_TYPE": 415,
}
"""The HTTP status of a code where it is not 400."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one record was refused."""

    code: str
    message: str
    fields: tuple[str, ...] = ()
    more: tuple[tuple[str, Any], ...] = ()
    """Members that only some codes have."""

    def in_collection(self) -> dict[str, Any]:
        """As a collections answer shows it."""
        return {"statusCode": self.code, "message": self.message, "fields": list(self.fields)}

    def in_file(self) -> str:
        """As a result file of a bulk job shows it."""
        return f"{self.code}:{self.message}:{','.join(self.fields)} --"


class RefusedError(Exception):
    """The whole call is refused."""

    def __init__(
        self, code: str, message: str, *, status: int | None = None, fields: Sequence[str] | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status or STATUS.get(code, 400)
        self._fields = fields
        self._more: dict[str, Any] = {}

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """The call was about one record, and this is why that one is refused."""
        made = cls(problem.code, problem.message, fields=problem.fields)
        made._more = dict(problem.more)
        return made

    def body(self) -> list[dict[str, Any]]:
        """The answer's body."""
        shown: dict[str, Any] = {**self._more, "message": self.message, "errorCode": self.code}
        return [shown if self._fields is None else {**shown, "fields": list(self._fields)}]


def not_found() -> RefusedError:
    """There is nothing at that address, or the user may not know of it."""
    return RefusedError("NOT_FOUND", "The requested resource does not exist")


def session_ended() -> RefusedError:
    """The token is unknown, expired or revoked."""
    return RefusedError("INVALID_SESSION_ID", "Session expired or invalid")


def no_such_column(name: str, kind: str) -> RefusedError:
    """A write names a field that is not there, or that the user cannot see."""
    return RefusedError("INVALID_FIELD", f"No such column '{name}' on sobject of type {kind}")
