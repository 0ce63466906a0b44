"""Events as AuditEvent of FHIR R4, in the shapes of IHE BALP: reads and changes of a patient's data with the patient,
by pseudonym, as an entity; a page of records as the search that it is; what remains as application activity.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from hub.audit.types import Action, Event, Outcome, Recorded, is_unknown

DCM = "http://dicom.nema.org/resources/ontology/DCM"
TYPE = "http://terminology.hl7.org/CodeSystem/audit-event-type"
INTERACTION = "http://hl7.org/fhir/restful-interaction"
ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
ENTITY_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
PURPOSE = "urn:hub:purpose"
OUTCOMES = {Outcome.DONE: "0", Outcome.DENIED: "4", Outcome.FAILED: "8"}
NOT_YET = {
    "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "temp-unknown"}]
}
"""The outcome of what was only begun: an intent that nothing follows must not read as a success."""

_REST = {
    Action.PAGE_READ: ("search-type", "E"),
    Action.MAPPING_PREVIEW: ("search-type", "E"),
    Action.DECISION_SHOW: ("read", "R"),
    Action.AUDIT_SUBJECT: ("read", "R"),
    Action.SCORE_REQUEST: ("read", "R"),
    Action.WRITE_INTENT: ("update", "U"),
    Action.WRITE_OUTCOME: ("update", "U"),
    Action.DECISION_ERASE: ("delete", "D"),
    Action.SUBJECT_SHRED: ("delete", "D"),
}
_NAMES = {
    "110100": "Application Activity",
    "110101": "Audit Log Used",
    "110106": "Export",
    "110113": "Security Alert",
    "110114": "User Authentication",
    "110122": "Login",
    "110123": "Logout",
    "110132": "Use of Restricted Function",
    "110136": "Security Roles Changed",
    "110137": "User Security Attributes Changed",
}
_ACTIVITIES: dict[Action, tuple[str, ...]] = {
    Action.SESSION_OPEN: ("110114", "110122"),
    Action.SESSION_CLOSE: ("110114", "110123"),
    Action.CLIENT_TOKEN: ("110114", "110122"),
    Action.ROLE_GRANT: ("110113", "110136"),
    Action.ROLE_REVOKE: ("110113", "110136"),
    **dict.fromkeys(
        (
            *(Action.PERSON_CREATE, Action.PERSON_ENABLE, Action.PERSON_DISABLE, Action.CLIENT_CREATE),
            *(Action.CLIENT_REVOKE, Action.TOKEN_CREATE, Action.TOKEN_REVOKE),
        ),
        ("110113", "110137"),
    ),
    Action.AUDIT_EXPORT: ("110106",),
    **dict.fromkeys((Action.AUDIT_VERIFY, Action.AUDIT_REPORT, Action.AUDIT_REVIEW), ("110101",)),
}
_MOST_PATIENTS = 1000


def to_fhir(index: int, recorded: Recorded) -> dict[str, Any]:
    """One event as an AuditEvent; `index` is its place in the log."""
    event = recorded.event
    purpose = event.detail.get("purpose")
    return {
        "resourceType": "AuditEvent",
        "id": f"hub-{index}",
        **_kind(event),
        "recorded": recorded.at.isoformat(timespec="milliseconds"),
        **({"_outcome": NOT_YET} if event.outcome is Outcome.STARTED else {"outcome": OUTCOMES[event.outcome]}),
        "outcomeDesc": event.action.meaning,
        **({"purposeOfEvent": [{"coding": [_coding(PURPOSE, str(purpose))]}]} if purpose is not None else {}),
        "agent": [_who(event.actor), _machine("110153", "Source Role ID"), _machine("110152", "Destination Role ID")],
        "source": {
            "observer": {"display": "hub"},
            "type": [_coding(f"{TYPE.rpartition('/')[0]}/security-source-type", "4")],
        },
        "entity": list(_entities(event)),
    }


def _kind(event: Event) -> dict[str, Any]:
    if event.action in _REST:
        interaction, action = _REST[event.action]
        subtype = [_coding(INTERACTION, interaction), _coding("urn:hub:action", event.action.value)]
        return {"type": _coding(TYPE, "rest", "Restful Operation"), "subtype": subtype, "action": action}
    code, *more = _activity(event)
    subtype = [*(_coding(DCM, each, _NAMES[each]) for each in more), _coding("urn:hub:action", event.action.value)]
    return {"type": _coding(DCM, code, _NAMES[code]), "subtype": subtype, "action": "E"}


def _activity(event: Event) -> tuple[str, ...]:
    """DICOM's codes (PS3.16, CID 400 and 401): of the event, and where it has one, of what kind of it."""
    if event.action is Action.ACCESS_DENIED:
        return ("110114", "110122") if is_unknown(event.actor) else ("110113", "110132")
    if event.action in _ACTIVITIES:
        return _ACTIVITIES[event.action]
    return ("110113",) if event.action.room == "access" else ("110100",)


def _who(actor: str) -> dict[str, Any]:
    return {
        "type": {"coding": [_coding(PARTICIPATION, "IRCP", "information recipient")]},
        "who": {"identifier": {"system": "urn:hub:actor", "value": actor}},
        "requestor": True,
    }


def _machine(code: str, name: str) -> dict[str, Any]:
    return {"type": {"coding": [_coding(DCM, code, name)]}, "who": {"display": "hub"}, "requestor": False}


def _entities(event: Event) -> Iterable[dict[str, Any]]:
    told = [_told(name, value) for name, value in (("run", event.run), ("digest", event.digest)) if value is not None]
    fields = event.detail.get("fields")
    if isinstance(fields, list) and fields:
        told.append(_told("fields", ", ".join(map(str, fields))))
    data: dict[str, Any] = {
        "what": {"identifier": {"system": "urn:hub:subject", "value": event.subject}},
        "type": _coding(ENTITY_TYPE, "2", "System Object"),
        "role": _coding(ENTITY_ROLE, "4", "Domain Resource"),
        **({"detail": told} if told else {}),
    }
    yield data
    if event.action is Action.PAGE_READ:
        query = base64.b64encode(event.subject.encode("utf-8")).decode("ascii")
        yield {"type": data["type"], "role": _coding(ENTITY_ROLE, "24", "Query"), "query": query}
    for each in _patients(event):
        yield {
            "what": {"identifier": {"system": "urn:hub:record", "value": each.removeprefix("record:")}},
            "type": _coding(ENTITY_TYPE, "1", "Person"),
            "role": _coding(ENTITY_ROLE, "1", "Patient"),
        }


def _patients(event: Event) -> list[str]:
    named = event.detail.get("subjects")
    found = [event.subject] if event.subject.startswith("record:") else []
    return found + [str(each) for each in named[:_MOST_PATIENTS]] if isinstance(named, list) else found


def _told(name: str, value: str) -> dict[str, str]:
    return {"type": name, "valueString": value}


def _coding(system: str, code: str, display: str | None = None) -> dict[str, str]:
    return {"system": system, "code": code, **({"display": display} if display else {})}
