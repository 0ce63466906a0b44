"""The nouns of access: actors, callers and their scopes, API keys, and how a request is turned away."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Self


class AccessError(Exception):
    """What was asked of the room is wrong; the message names the field and the fix."""


class UnauthenticatedError(AccessError):
    """The caller could not prove who it is. The message never says which part was wrong, save for a typing error."""


class DeniedError(AccessError):
    """The caller is known and may not do this."""


class HiddenError(DeniedError):
    """The caller may not learn whether what it named exists; it is answered as if there were none."""

    def __init__(self, message: str, kind: ResourceKind) -> None:
        super().__init__(message)
        self.kind = kind


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
    """A right inside the hub, with what it allows. The set is closed: nothing makes a scope at run time."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    SCORE = "score", "score records on demand through a mapping"
    WRITE = "write", "let a score on demand be written back to the record"
    RUN = "run", "start, cancel, resume, replay and undo the runs of a mapping"
    READ = "read", "look at runs, mappings, models and connections, at no value of any record"
    RECORDS = "records", "look at records: receipts, held decisions, previews"
    REVIEW = "review", "release or drop decisions that were held for a person"
    MAPPINGS = "mappings", "check, hand in, publish, pause and resume mappings"
    MODELS = "models", "register, promote, roll back and remove models"
    CONNECTIONS = "connections", "add, check, pause and remove connections and store their secrets"
    APPROVE = "approve", "approve what somebody else wrote; for people alone"
    GLASS = "glass", "let through alone, in an emergency, what takes two people; for people alone"
    AUDIT = "audit", "read, verify, prove and export the audit trail"
    ACCESS = "access", "give and take roles, API keys and clients"
    SYSTEM = "system", "run the installation: its keys, its health, its settings"


ALL_SCOPES = {each.value: each for each in Scope}
WHOLE = frozenset({Scope.GLASS, Scope.AUDIT, Scope.ACCESS, Scope.SYSTEM})
"""Scopes over the hub itself, which cannot be held for one connection, mapping or model."""
PERSONAL = frozenset({Scope.APPROVE, Scope.GLASS})
"""Scopes that no program holds: the second pair of eyes, and doing without it."""


class Role(StrEnum):
    """What a person is to the hub: a fixed set of scopes, held for everything or for one resource."""

    scopes: frozenset[Scope]
    meaning: str

    def __new__(cls, value: str, meaning: str, *scopes: Scope) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        member.scopes = frozenset(scopes)
        return member

    VIEWER = "viewer", "sees what runs and how it went", Scope.READ
    OPERATOR = (
        "operator",
        "keeps runs going and looks after held records",
        *(Scope.READ, Scope.RECORDS, Scope.RUN, Scope.REVIEW),
    )
    INTEGRATOR = (
        "integrator",
        "connects systems, writes mappings, registers models",
        *(Scope.READ, Scope.RECORDS, Scope.SCORE, Scope.WRITE, Scope.RUN),
        *(Scope.CONNECTIONS, Scope.MAPPINGS, Scope.MODELS),
    )
    APPROVER = "approver", "is the second pair of eyes", Scope.READ, Scope.RECORDS, Scope.APPROVE
    AUDITOR = "auditor", "reads and verifies the trail, sees no record", Scope.READ, Scope.AUDIT
    ADMIN = (
        "admin",
        "gives rights and runs the installation, sees no record, approves nothing, and may break the glass",
        *(Scope.READ, Scope.CONNECTIONS, Scope.GLASS, Scope.AUDIT, Scope.ACCESS, Scope.SYSTEM),
    )


ALL_ROLES = {each.value: each for each in Role}


class ResourceKind(StrEnum):
    """What a right can be held for, one by one."""

    CONNECTION = "connection"
    MAPPING = "mapping"
    MODEL = "model"


class Resource(NamedTuple):
    """One connection, mapping or model; written `mapping:lead_score`. It need not exist."""

    kind: ResourceKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """AccessError where the text is no resource."""
        kind, _, name = text.partition(":")
        if kind not in list(ResourceKind) or not name or not name.isprintable() or len(name) > 200:
            raise AccessError(
                f"a resource is written {', '.join(f'{each}:NAME' for each in ResourceKind)}, not {text!r}"
            )
        return cls(ResourceKind(kind), name)

    @classmethod
    def mapping(cls, name: str) -> Self:
        """A mapping by its name."""
        return cls(ResourceKind.MAPPING, name)

    @classmethod
    def connection(cls, name: str) -> Self:
        """A connection by its name."""
        return cls(ResourceKind.CONNECTION, name)

    @classmethod
    def model(cls, name: str) -> Self:
        """A model by its name."""
        return cls(ResourceKind.MODEL, name)


@dataclass(frozen=True, slots=True)
class Rights:
    """Which scopes are held for everything, and which for one resource. What is not here is denied."""

    everywhere: frozenset[Scope] = frozenset()
    on: Mapping[Resource, frozenset[Scope]] = field(default_factory=dict)

    @classmethod
    def of(cls, scopes: Iterable[Scope], only: Iterable[Resource] | None = None) -> Self:
        """The scopes for everything, or `only` for some resources."""
        held = frozenset(scopes)
        return cls(held) if only is None else cls(on=dict.fromkeys(only, held))

    def joined(self, other: Rights) -> Rights:
        """What either of the two holds."""
        on = dict(self.on)
        for resource, scopes in other.on.items():
            on[resource] = on.get(resource, frozenset()) | scopes
        return Rights(self.everywhere | other.everywhere, on)

    def narrowed(self, scopes: Collection[Scope]) -> Rights:
        """The same, of these scopes alone."""
        wanted = frozenset(scopes)
        return Rights(self.everywhere & wanted, {each: held & wanted for each, held in self.on.items()})

    def anywhere(self, scope: Scope) -> bool:
        """Whether the scope is held for anything at all."""
        return scope in self.everywhere or any(scope in held for held in self.on.values())


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, with what rights. `credential` names the key, client or session used; None at the machine itself.

    `owner` is the person who answers for the caller: two callers of one owner never make four eyes.
    """

    actor: Actor
    owner: str
    rights: Rights
    credential: str | None = None


def local_caller(name: str) -> Caller:
    """Whoever runs the command line on the hub's own machine: he holds its key and its database already."""
    return Caller(Actor(ActorKind.HUMAN, name), name, Rights(frozenset(Scope)))


class Ruling(StrEnum):
    """What was decided about one request, which is also why."""

    EVERYWHERE = "everywhere"
    """Allowed: the scope is held for everything."""
    HERE = "here"
    """Allowed: the scope is held for this resource."""
    NOWHERE = "nowhere"
    """Denied: the scope is not held at all."""
    ELSEWHERE = "elsewhere"
    """Denied: the scope is held, but not for this resource, which the caller must not even learn of."""

    @property
    def allowed(self) -> bool:
        """Whether the request passes."""
        return self in (Ruling.EVERYWHERE, Ruling.HERE)


def decide(caller: Caller, scope: Scope, resource: Resource | None = None) -> Ruling:
    """The one place where it is decided whether a caller may: for a resource, or without one for the whole hub."""
    rights = caller.rights
    if scope in rights.everywhere:
        return Ruling.EVERYWHERE
    if resource is not None and scope in rights.on.get(resource, ()):
        return Ruling.HERE
    return Ruling.ELSEWHERE if rights.anywhere(scope) else Ruling.NOWHERE


@dataclass(frozen=True, slots=True)
class RoleGrant:
    """That a person holds a role: for one resource, or where that is None for everything."""

    actor: Actor
    role: Role
    resource: Resource | None
    granted_by: str
    granted_at: datetime


class Shown(NamedTuple):
    """What a request proves itself by: a key or an access token, from where, behind which certificate (DER)."""

    text: str
    address: str | None = None
    certificate: bytes | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """An API key as it is listed; the key itself was shown once and is not kept.

    `resources` None: for everything. `addresses`: the networks it may come from; none: from anywhere.
    """

    id: str
    name: str
    owner: str
    scopes: frozenset[Scope]
    resources: frozenset[Resource] | None
    addresses: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
