"""Subjects: what an event tells of one record is sealed under the record's own key, which can be destroyed.

The leaf of the log covers the sealed form, so every proof holds on when the key is gone. Copies of the database hold
the key until they are gone as well.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hub.audit.store import SubjectKeyRow
from hub.audit.types import Event
from hub.database import clock, insert_into
from hub.keys import KeyRing, canonical
from hub.sdk import Json

ABOUT = "about"
"""The member of an event's detail that is sealed."""
NONCE_BYTES = 12
SUBJECT = "record:"
PSEUDONYM_CHARACTERS = 32


def is_subject(name: str) -> bool:
    """Whether an event's subject is a record."""
    return name.startswith(SUBJECT)


class SubjectKeys:
    """Pseudonyms of records and the keys of what is told of them; one per process, safe to share between threads."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    def name(self, mapping: str, key: str) -> str:
        """The subject that stands for a mapping's record in the trail, from the text of its key (`key_text`)."""
        return SUBJECT + self._keys.mac("record-key", f"{mapping}/{key}".encode()).hex()[:PSEUDONYM_CHARACTERS]

    def seal(self, session: Session, event: Event) -> dict[str, Json]:
        """What an event tells of its subject, sealed; the subject's key is made where there is none yet."""
        number, key = self._key(session, event.subject)
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + AESGCM(key).encrypt(nonce, canonical(event.about), _bound(event, number))
        return {"key": number, "sealed": base64.b64encode(sealed).decode("ascii")}

    def open(self, session: Session, event: Event) -> Mapping[str, Json] | None:
        """What an event told of its subject; None where nothing, or where the key was destroyed since."""
        told = event.detail.get(ABOUT)
        if not isinstance(told, Mapping) or not is_subject(event.subject):
            return None
        row = session.get(SubjectKeyRow, event.subject)
        if row is None or row.number != told["key"]:
            return None
        sealed = base64.b64decode(str(told["sealed"]))
        key = self._keys.open(row.sealed, _identity(row.subject, row.number))
        plain = AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _bound(event, row.number))
        opened: dict[str, Json] = json.loads(plain)
        return opened

    def destroy(self, session: Session, subject: str) -> bool:
        """Takes the key of a subject away for good; False where there was none."""
        gone = session.execute(
            delete(SubjectKeyRow).where(SubjectKeyRow.subject == subject).returning(SubjectKeyRow.number)
        )
        return gone.first() is not None

    def _key(self, session: Session, subject: str) -> tuple[str, bytes]:
        wanted = select(SubjectKeyRow.number, SubjectKeyRow.sealed).where(SubjectKeyRow.subject == subject)
        found = session.execute(wanted).one_or_none()
        if found is None:
            number = os.urandom(8).hex()
            sealed = self._keys.seal(AESGCM.generate_key(256), _identity(subject, number))
            values = {"subject": subject, "number": number, "sealed": sealed, "created_at": clock()}
            added = insert_into(session, SubjectKeyRow).values(values)
            session.execute(added.on_conflict_do_nothing(index_elements=["subject"]))
            found = session.execute(wanted).one()
        return found.number, self._keys.open(found.sealed, _identity(subject, found.number))


def _identity(subject: str, number: str) -> dict[str, str]:
    return {"kind": "audit-subject", "subject": subject, "number": number}


def _bound(event: Event, number: str) -> bytes:
    return canonical({"subject": event.subject, "action": event.action.value, "actor": event.actor, "key": number})
