"""The canonical bytes of one event and their hash; what is stored is what was hashed, and never made again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from hub.audit.types import Action, AuditError, Event, Outcome, Recorded
from hub.keys import canonical

FORMAT = 1
NOTHING = bytes(32)
"""The hash before the first event of the first writer."""

_ACTIONS = {each.value: each for each in Action}

MAX_TEXT = 500
MAX_LEAF_BYTES = 64 * 1024


def leaf_hash(leaf: bytes) -> bytes:
    """RFC 9162, 2.1.1: SHA-256 over a zero byte and the leaf."""
    return sha256(b"\x00" + leaf).digest()


def make_row(event: Event, at: datetime, writer: int, seq: int, previous: bytes) -> dict[str, Any]:
    """The row of an event at its place in a chain. AuditError where the event is malformed."""
    document = {
        "format": FORMAT,
        "writer": str(writer),
        "seq": seq,
        "previous": previous.hex(),
        "at": at.isoformat(timespec="microseconds"),
        **_told(event),
    }
    leaf = canonical(document)
    return {
        "writer": writer,
        "seq": seq,
        "leaf": leaf,
        "leaf_hash": leaf_hash(leaf),
        "at": at,
        "actor": event.actor,
        "action": event.action,
        "subject": event.subject,
        "outcome": event.outcome,
        "run": event.run,
    }


def check_event(event: Event) -> None:
    """AuditError where a field is empty, too long or no JSON, told while the caller can still do something."""
    for name, value in (("actor", event.actor), ("subject", event.subject)):
        if not value or len(value) > MAX_TEXT or not value.isprintable():
            raise AuditError(f"an event's {name} is 1 to {MAX_TEXT} printable characters")
    try:
        size = len(canonical(_told(event)))
    except (TypeError, ValueError) as error:
        raise AuditError(f"an event's detail is no JSON: {error}") from None
    if size > MAX_LEAF_BYTES:
        raise AuditError(f"an event has {size} bytes; at most {MAX_LEAF_BYTES} are allowed, store a digest instead")


def read_leaf(leaf: bytes) -> tuple[Recorded, bytes]:
    """The event in a leaf, and the hash of the one before it. ValueError where the leaf is not one of ours."""
    raw: Mapping[str, Any] = json.loads(leaf)
    if raw["format"] != FORMAT:
        raise ValueError(f"format {raw['format']}")
    event = Event(
        actor=raw["actor"],
        action=_ACTIONS[raw["action"]],
        subject=raw["subject"],
        outcome=Outcome(raw["outcome"]),
        run=raw["run"],
        digest=raw["digest"],
        detail=raw["detail"],
    )
    recorded = Recorded(datetime.fromisoformat(raw["at"]), raw["writer"], raw["seq"], event)
    return recorded, bytes.fromhex(raw["previous"])


def _told(event: Event) -> dict[str, object]:
    return {
        "actor": event.actor,
        "action": event.action.value,
        "subject": event.subject,
        "outcome": event.outcome.value,
        "run": event.run,
        "digest": event.digest,
        "detail": event.detail,
    }
