"""The canonical bytes of one event and their hash; what is stored is what was hashed, and never made again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from json.encoder import encode_basestring
from typing import Any
from unicodedata import is_normalized, normalize

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


@dataclass(frozen=True, slots=True)
class Told:
    """An event at its moment, in canonical form but for what its place in a chain adds: where, and after what."""

    at: datetime
    event: Event
    before: str
    between: str
    after: str


def legible(text: str) -> str:
    """What somebody outside named, as an event can tell it: no longer than it may be, and escaped where it is odd."""
    printed = "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)
    return normalize("NFC", printed)[:MAX_TEXT] or "-"


def tell(event: Event, at: datetime) -> Told:
    """AuditError where a field is empty, too long or no JSON, told while the caller can still do something."""
    for name, value in (("actor", event.actor), ("subject", event.subject)):
        if not value or len(value) > MAX_TEXT or not value.isprintable():
            raise AuditError(f"an event's {name} is 1 to {MAX_TEXT} printable characters")
        if not is_normalized("NFC", value):
            raise AuditError(f"an event's {name} is not in Unicode's normal form C")
    try:
        detail = canonical(event.detail).decode("utf-8")
        told = _in_order(event, detail, at)
        size = sum(len(each.encode("utf-8")) for each in (told.before, told.between, told.after))
    except (TypeError, ValueError) as error:
        raise AuditError(f"an event's detail is no JSON: {error}") from None
    if size > MAX_LEAF_BYTES:
        raise AuditError(f"an event has {size} bytes; at most {MAX_LEAF_BYTES} are allowed, store a digest instead")
    return told


def _in_order(event: Event, detail: str, at: datetime) -> Told:
    """RFC 8785 orders names, so those of the chain fall between these. Written apart, an event costs half."""
    run = "null" if event.run is None else _text(event.run)
    digest = "null" if event.digest is None else _text(event.digest)
    return Told(
        at,
        event,
        f'{{"action":"{event.action.value}","actor":{_text(event.actor)},"at":"{at.isoformat(timespec="microseconds")}",'
        f'"detail":{detail},"digest":{digest},"format":{FORMAT},"outcome":"{event.outcome.value}","previous":"',
        f'","run":{run},"seq":',
        f',"subject":{_text(event.subject)},"writer":"',
    )


def _text(value: str) -> str:
    return canonical(value).decode("utf-8") if not value.isascii() else encode_basestring(value)


def make_row(told: Told, writer: int, seq: int, previous: bytes) -> dict[str, Any]:
    """The row of an event at its place in a chain; as plain values, which every driver takes."""
    leaf = f'{told.before}{previous.hex()}{told.between}{seq}{told.after}{writer}"}}'.encode()
    event = told.event
    return {
        "writer": writer,
        "seq": seq,
        "leaf": leaf,
        "leaf_hash": leaf_hash(leaf),
        "at": told.at,
        "actor": event.actor,
        "action": event.action.value,
        "subject": event.subject,
        "outcome": event.outcome.value,
        "run": event.run,
    }


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
