"""The nouns of access: actors, callers and their scopes, API keys, and how a request is turned away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self


class AccessError(Exception):
    """What was asked of the room is wrong; the message names the field and the fix."""


class UnauthenticatedError(AccessError):
    """The caller could not prove who it is. The message never says which part was wrong, save for a typing error."""


class DeniedError(AccessError):
    """The caller is known and may not do this."""


class VaultError(AccessError):
    """A secret is missing, destroyed, or cannot be found where its reference points."""


class ActorKind(StrEnum):
    """Whether a person or a program acts."""

    HUMAN = "human"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts; written `human:anna` in the audit trail."""

    kind: ActorKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


class Scope(StrEnum):
    """A right inside the hub, with what it allows."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    SCORE = "score", "score records on demand through a mapping"
    WRITE = "write", "let a score on demand be written back to the record"
    RUN = "run", "start, cancel and undo the runs of a mapping"
    READ = "read", "look at runs, decisions, receipts and models"
    REVIEW = "review", "release or drop decisions that were held for a person"
    APPROVE = "approve", "approve a version of a mapping that somebody else wrote"
    ADMIN = "admin", "everything, connections, mappings, models and API keys included, save approving one's own work"


ALL_SCOPES = {each.value: each for each in Scope}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and for what at most. `mappings` None means every mapping; `token` is the id of the API key used.

    `owner` is the person who answers for the caller: two callers of one owner never make four eyes.
    """

    actor: Actor
    owner: str
    scopes: frozenset[Scope]
    mappings: frozenset[str] | None = None
    token: str | None = None

    def may(self, scope: Scope, mapping: str | None = None) -> bool:
        """Whether the scope, for that mapping where one is named, is within what the caller holds."""
        held = scope in self.scopes or Scope.ADMIN in self.scopes
        if self.mappings is None:
            return held
        # A caller tied to some mappings has no say over what belongs to none of them.
        return held and mapping in self.mappings


@dataclass(frozen=True, slots=True)
class Token:
    """An API key as it is listed; the key itself was shown once and is not kept."""

    id: str
    name: str
    owner: str
    scopes: frozenset[Scope]
    mappings: frozenset[str] | None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
