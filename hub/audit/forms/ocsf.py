"""Events as OCSF 1.4 knows them: account change, authentication, API activity and datastore activity.

What has no attribute there stands under `unmapped`, as the schema wants it; beside a number for "other" is its name.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from hub.audit.types import Action, Event, Outcome, Recorded, is_unknown

VERSION = "1.4.0"
SERVICE = {"name": "hub", "uid": "hub", "version": version("hub")}
ACCOUNT_CHANGE, AUTHENTICATION, API_ACTIVITY, DATASTORE_ACTIVITY = 3001, 3002, 6003, 6005
OTHER = 99
INFORMATIONAL, MEDIUM = 1, 3
STATUS = {Outcome.DONE: 1, Outcome.STARTED: OTHER, Outcome.DENIED: 2, Outcome.FAILED: 2}
"""Success, failure, and other: an intent has no status yet."""

_ACCOUNTS = {
    Action.PERSON_CREATE: 1,
    Action.PERSON_ENABLE: 2,
    Action.PERSON_DISABLE: 5,
    Action.CLIENT_CREATE: 1,
    Action.CLIENT_REVOKE: 6,
    Action.ROLE_GRANT: 7,
    Action.ROLE_REVOKE: 8,
}
_LOGINS = {Action.SESSION_OPEN: 1, Action.SESSION_CLOSE: 2, Action.CLIENT_TOKEN: 1, Action.ACCESS_DENIED: 1}
_DATA = {
    Action.PAGE_READ: 1,
    Action.DECISION_SHOW: 1,
    Action.MAPPING_PREVIEW: 1,
    Action.AUDIT_SUBJECT: 1,
    Action.SCORE_REQUEST: 4,
    Action.WRITE_INTENT: 2,
    Action.WRITE_OUTCOME: 2,
    Action.DECISION_ERASE: 7,
    Action.SUBJECT_SHRED: 7,
    Action.AUDIT_PRUNE: 7,
}
_CREATE, _READ, _UPDATE, _DELETE = 1, 2, 3, 4
_CALLS = {
    **dict.fromkeys(("create", "register", "submit", "start", "request", "make", "open"), _CREATE),
    **dict.fromkeys(("show", "check", "verify", "export"), _READ),
    **dict.fromkeys(("remove", "revoke", "destroy", "retire", "close"), _DELETE),
    **dict.fromkeys(("deny", "untrusted", "skip"), OTHER),
}
"""What the API activity of a verb is; of every other an update."""


def to_ocsf(index: int, recorded: Recorded) -> dict[str, Any]:
    """One event as an OCSF document; `index` is its place in the log."""
    event = recorded.event
    kind, activity = _kind(event)
    moment = int(recorded.at.timestamp() * 1000)
    return {
        "class_uid": kind,
        "category_uid": kind // 1000,
        "activity_id": activity,
        **({"activity_name": event.action.value.rpartition(".")[2]} if activity == OTHER else {}),
        "type_uid": kind * 100 + activity,
        "time": moment,
        "severity_id": MEDIUM if event.outcome in (Outcome.DENIED, Outcome.FAILED) else INFORMATIONAL,
        "status_id": STATUS[event.outcome],
        **({"status": event.outcome.value} if STATUS[event.outcome] == OTHER else {}),
        "message": event.action.meaning,
        "metadata": {
            "version": VERSION,
            "product": {"name": "hub", "vendor_name": "hub", "version": SERVICE["version"]},
            "uid": f"{recorded.writer}/{recorded.seq}",
            "sequence": index,
            "event_code": event.action.value,
            "logged_time": moment,
        },
        "actor": {"user": _user(event.actor), "app_name": "hub"},
        "src_endpoint": {"name": "hub", "type_id": OTHER, "type": "hub"},
        **_own(kind, event),
        "unmapped": {
            "subject": event.subject,
            "outcome": event.outcome.value,
            "run": event.run,
            "digest": event.digest,
            "detail": dict(event.detail),
        },
    }


def _kind(event: Event) -> tuple[int, int]:
    action = event.action
    if action in _DATA:
        return DATASTORE_ACTIVITY, _DATA[action]
    if action in _ACCOUNTS:
        return ACCOUNT_CHANGE, _ACCOUNTS[action]
    # Whoever is known and asks for what is not theirs has not failed to log in.
    if action in _LOGINS and (action is not Action.ACCESS_DENIED or is_unknown(event.actor)):
        return AUTHENTICATION, _LOGINS[action]
    return API_ACTIVITY, _CALLS.get(action.value.rpartition(".")[2], _UPDATE)


def _own(kind: int, event: Event) -> dict[str, Any]:
    """What a class asks for beside the attributes of all."""
    if kind == API_ACTIVITY:
        return {"api": {"operation": event.action.value, "service": SERVICE}, "dst_endpoint": {"name": "hub"}}
    if kind == DATASTORE_ACTIVITY:
        database = {"name": event.subject, "type_id": OTHER, "type": "hub"}
        return {"type_id": OTHER, "type": "hub", "database": database}
    if kind == AUTHENTICATION:
        ended = event.subject.startswith("human:")  # by an administrator, who is the actor
        return {"user": _user(event.subject if ended else event.actor), "service": SERVICE, "is_remote": True}
    return {"user": _user(event.subject)}


def _user(name: str) -> dict[str, Any]:
    kind, _, rest = name.partition(":")
    number = {"human": 1, "service": 3, "hub": 3}.get(kind, OTHER)
    return {"name": rest or kind, "uid": name, "type_id": number, "type": kind}
