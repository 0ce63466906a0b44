"""Salesforce's errors as the four of the contract, told apart by their code: one status means several things there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hub.sdk import ConnectorError, UnauthorizedError, UnavailableError, UnexpectedError

SESSION_ENDED = "INVALID_SESSION_ID"
LOCKED = "UNABLE_TO_LOCK_ROW"
LOCATOR_GONE = "INVALID_QUERY_LOCATOR"
LIMIT_REACHED = "REQUEST_LIMIT_EXCEEDED"
BUSY_SECONDS = 30.0
LIMIT_SECONDS = 900.0
"""A daily limit comes back by and by over the day, and the far side does not say when: a quarter of an hour a look."""

_WAIT = frozenset({LIMIT_REACHED, "SERVER_UNAVAILABLE", "CONCURRENT_REQUESTS_LIMIT_EXCEEDED", "TXN_SECURITY_METERING"})
_RIGHTS: Mapping[str, str] = {
    "API_CURRENTLY_DISABLED": "API Enabled",
    "API_DISABLED_FOR_ORG": "API Enabled",
    "INSUFFICIENT_ACCESS": "access to the object",
    "INSUFFICIENT_ACCESS_OR_READONLY": "access to the object",
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY": "access to the object referred to",
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY": "access to the object",
}
_CHANGED = frozenset(
    {"INVALID_FIELD", "INVALID_TYPE", "NOT_FOUND", "MALFORMED_QUERY", "INVALID_FIELD_FOR_INSERT_UPDATE"}
)

FIXES: Mapping[str, str] = {
    "STRING_TOO_LONG": "the text is longer than the field; shorten the expression or lengthen the field",
    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST": "the picklist lacks this value; add it, or map to one that it has",
    "FIELD_CUSTOM_VALIDATION_EXCEPTION": "a validation rule of the org refuses the record",
    "DUPLICATES_DETECTED": "a duplicate rule of the org blocks the record",
    "REQUIRED_FIELD_MISSING": "the record lacks a field that the org requires",
    "ENTITY_IS_DELETED": "the record is deleted",
    "INVALID_CROSS_REFERENCE_KEY": "there is no record with this key, or the login may not see it",
    "MALFORMED_ID": "the key is no id of Salesforce",
    "INSUFFICIENT_ACCESS_OR_READONLY": "the login may not edit this record",
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY": "the login may not use a record that this one refers to",
    "INVALID_FIELD_FOR_INSERT_UPDATE": "the login may not write this field",
    "NUMBER_OUTSIDE_VALID_RANGE": "the number does not fit into the field",
    "INVALID_NUMBER": "the field takes no such number",
    "INVALID_EMAIL_ADDRESS": "this is no e-mail address",
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY": "a trigger of the org refuses the record",
    "CANNOT_EXECUTE_FLOW_TRIGGER": "a flow of the org failed on the record",
    "DUPLICATE_VALUE": "another record has this value in a field that must be unique",
    "STORAGE_LIMIT_EXCEEDED": "the org has no storage left",
    LOCKED: "the record stayed locked by somebody else's transaction",
}
"""What a person can do about a refused record, by code; the org's own text may hold record values."""


class SessionEndedError(Exception):
    """The token is no longer taken: a new login, and the call again."""


class LocatorGoneError(Exception):
    """The rest of a query is no longer kept: the read goes on by key."""


def code_of(content: object) -> str:
    """The error code of an answer in either form: `[{"errorCode": …}]`, or one object."""
    first: Any = content[0] if isinstance(content, Sequence) and not isinstance(content, str) and content else content
    if isinstance(first, Mapping):
        return str(first.get("errorCode") or first.get("exceptionCode") or first.get("error") or "")
    return ""


def explained(code: str, fields: Sequence[str] = ()) -> str:
    """Why a record was refused, for a person: the code, and what to do about it."""
    where = f" ({', '.join(fields)})" if fields else ""
    return f"{code}{where}: {FIXES.get(code, 'the org refused the record')}"


def asks_to_wait(status: int, content: object) -> float | None:
    """The seconds that an answer without a Retry-After header asks for by its code: 403 means limits and rights."""
    code = code_of(content)
    if status in {403, 429, 500, 503} and code in _WAIT:
        return LIMIT_SECONDS if code == LIMIT_REACHED else BUSY_SECONDS
    return None


def raised(status: int, content: object, what: str) -> ConnectorError:
    """The error of an answer to `what`. SessionEndedError and LocatorGoneError are raised instead of returned."""
    code = code_of(content)
    detail = f"status {status} {code}"
    if code == SESSION_ENDED:
        raise SessionEndedError
    if code == LOCATOR_GONE:
        raise LocatorGoneError
    if code in _RIGHTS:
        return UnauthorizedError(f"the login may not {what}", missing=(_RIGHTS[code],), detail=detail)
    if code in _CHANGED:
        return UnexpectedError(f"Salesforce no longer takes what was asked to {what}: {code}", detail=detail)
    if status in {401, 403}:
        return UnauthorizedError(f"the login may not {what}: {code or status}", detail=detail)
    if status >= 500:
        return UnavailableError(f"Salesforce failed to {what}: {code or status}", detail=detail)
    return UnexpectedError(f"Salesforce refused to {what}: {code or status}", detail=detail)
