"""The nouns of approvals: what may need another person, what was asked for, and how it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, Self

from hub.access.types import AccessError, Actor, Caller, Resource
from hub.keys import canonical
from hub.sdk import Json

BROKEN_FOR = timedelta(hours=1)
"""How long what somebody let through alone may be used."""
CONFIRMED_WITHIN = timedelta(hours=24)
"""When another person has confirmed it at the latest."""


class ApprovalError(AccessError):
    """Something needs the approval of somebody else, or cannot be approved as asked; the message names the step."""


class UnknownApprovalError(ApprovalError):
    """There is no approval of that id."""


class ApprovalKind(StrEnum):
    """What may need a second person: what is asked for, and for how many days an approval of it holds."""

    meaning: str
    days: int

    def __new__(cls, value: str, meaning: str, days: int) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        member.days = days
        return member

    MAPPING = "mapping", "publish a version of a mapping", 30
    MODEL = "model", "point an alias that published mappings use at another version", 7
    EXCESS = "excess", "publish although a login may do more than the mapping needs", 90
    REPLAY = "replay", "try many records again at once", 1
    KEY = "key", "retire a key-encryption key", 1
    PRIVATE = "private", "let a connection reach a private network", 7
    RETENTION = "retention", "change how long the audit trail is kept", 7


ALL_KINDS = {each.value: each for each in ApprovalKind}


class ApprovalState(StrEnum):
    """Where an approval stands."""

    PENDING = "pending"
    APPROVED = "approved"
    REFUSED = "refused"
    VOID = "void"
    """What was asked for changed, or whoever asked took it back."""
    EXPIRED = "expired"
    USED = "used"


@dataclass(frozen=True, slots=True)
class Glass:
    """That somebody let an approval through alone: who, when and why."""

    by: str
    at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Approval:
    """What somebody asked for, frozen: `digest` is the SHA-256 of the canonical JSON of kind, subject and content.

    `authors` are the people who may not decide: who asked, and everybody who worked on it or let it through alone.
    `reason` is theirs, `why` that of whoever decided. After a broken glass the decision confirms it, or does not.
    """

    id: str
    kind: ApprovalKind
    subject: str
    digest: str
    content: Mapping[str, Json]
    reason: str
    requested_by: str
    authors: tuple[str, ...]
    requested_at: datetime
    expires_at: datetime
    state: ApprovalState
    decided_by: str | None = None
    decided_at: datetime | None = None
    why: str | None = None
    glass: Glass | None = None

    @property
    def about(self) -> Resource | None:
        """The mapping, model or connection that the scope to decide it is held for; None: the whole hub's."""
        try:
            return Resource.parse(self.subject)
        except AccessError:
            return None

    @property
    def approved(self) -> bool:
        """Whether another person allowed it, or somebody alone, and it was neither used nor ran out since."""
        return self.state is ApprovalState.APPROVED

    @property
    def unconfirmed(self) -> bool:
        """Whether somebody let it through alone and no other person has had a word on it yet."""
        return self.glass is not None and self.decided_by is None

    @property
    def allowed_by(self) -> str | None:
        """Who let it through: another person, or somebody alone."""
        return self.decided_by or (self.glass.by if self.glass is not None else None)

    @property
    def next_step(self) -> str:
        """What has to happen now, in one sentence."""
        if self.glass is not None and self.unconfirmed:
            repeat = "repeat what needed it within the hour, and " if self.approved else ""
            return (
                f"{self.glass.by} let it through alone; {repeat}somebody other than {' and '.join(self.authors)}"
                f" confirms it by `hub access approvals approve {self.id}`, or does not by `refuse`"
            )
        if self.glass is not None and self.state is ApprovalState.USED:
            return f"{self.glass.by} let it through alone and it was done; {self.decided_by} has looked at it"
        if self.state is ApprovalState.PENDING:
            return (
                f"somebody other than {' and '.join(self.authors)} decides by"
                f" `hub access approvals approve {self.id}` or `refuse`"
            )
        if self.state is ApprovalState.APPROVED:
            return f"it is approved by {self.decided_by}; repeat what needed it"
        return f"it is {self.state}; ask anew"


def digest_of(kind: ApprovalKind, subject: str, content: Mapping[str, Json]) -> str:
    """The frozen hash: equal for the same thing asked for, whoever asks and whenever."""
    return sha256(canonical({"kind": kind.value, "subject": subject, "content": content})).hexdigest()


def person(name: str) -> str:
    """A person by one spelling: Anna's own key must not be somebody else for being owned by `anna `."""
    return " ".join(name.split()).casefold()


def owner_of(who: Caller | Actor | str) -> str:
    """The person who answers for whoever acts: the owner of an API key, the human; else the name as it is written."""
    if isinstance(who, Caller):
        return person(who.owner)
    kind, _, name = str(who).partition(":")
    return person(name if kind == "human" else str(who))


def actor_of(who: Caller | Actor | str) -> str:
    """Whoever acts, as the trail writes it."""
    return str(who.actor) if isinstance(who, Caller) else str(who)


def as_json(approval: Approval) -> dict[str, Any]:
    """An approval as every face shows it."""
    glass = approval.glass
    return {
        "id": approval.id,
        "kind": approval.kind.value,
        "subject": approval.subject,
        "state": approval.state.value,
        "digest": approval.digest,
        "content": dict(approval.content),
        "reason": approval.reason,
        "requested_by": approval.requested_by,
        "authors": list(approval.authors),
        "requested_at": approval.requested_at.isoformat(),
        "expires_at": approval.expires_at.isoformat(),
        "decided_by": approval.decided_by,
        "decided_at": approval.decided_at.isoformat() if approval.decided_at else None,
        "why": approval.why,
        "broken_by": glass.by if glass else None,
        "broken_at": glass.at.isoformat() if glass else None,
        "broken_why": glass.why if glass else None,
        "unconfirmed": approval.unconfirmed,
        "next_step": approval.next_step,
    }
