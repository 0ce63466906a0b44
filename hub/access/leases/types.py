"""The nouns of leases: who holds one, what it hands out, how it ends, and what a broker must be able to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from hub.access.types import AccessError
from hub.sdk import Grant, Json, Secret, Token

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


class LeaseError(AccessError):
    """A credential is not handed out, or is no longer to be used."""


class LeaseEndedError(LeaseError):
    """The lease ran out, or its slice is in other hands: whoever holds it now goes on with the work."""


class LeaseRevokedError(LeaseError):
    """Somebody took the lease back: a person decides how it goes on."""


class WorkerRevokedError(LeaseRevokedError):
    """Somebody took all leases of this worker back: another one may go on with its work."""


class BrokerAwayError(LeaseError):
    """The lease broker does not answer, which passes."""


class Ending(StrEnum):
    """Why a lease is over."""

    DONE = "done"
    EXPIRED = "expired"
    FENCED = "fenced off"
    RENEWED = "replaced"
    CHANGED = "credentials changed"
    REVOKED = "revoked"
    WORKER = "worker revoked"

    def error(self, connection: str) -> LeaseError:
        """What somebody is told who goes on to use the connection."""
        if self is Ending.REVOKED:
            return LeaseRevokedError(
                f"the lease on connection {connection} was revoked; `hub runs resume` goes on with a new one"
            )
        if self is Ending.WORKER:
            return WorkerRevokedError(f"the leases of this worker were revoked, that on connection {connection} too")
        return LeaseEndedError(f"the lease on connection {connection} is over: {self.value}")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease: a worker and the slice in its hands under its fence, or a process that answers requests."""

    worker: str
    run: str | None = None
    slice: int | None = None
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """What one connection is opened with. `secrets` are withheld ones where its tokens are minted at the far side."""

    connector: str
    settings: Mapping[str, Json]
    secrets: Mapping[str, Secret]
    minted: bool


@dataclass(frozen=True, slots=True)
class Handed:
    """A lease as its holder gets it: it may be used for so many seconds from when it was asked for."""

    id: str
    seconds: float
    credential: Credential


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as it is listed; `grant` is the digest of what it may be used for."""

    id: str
    connection: str
    holder: Holder
    grant: str
    minted: bool
    opened_at: datetime
    not_after: datetime
    closed_at: datetime | None
    ending: Ending | None


class Credentials(Protocol):
    """Where a broker finds what it hands out."""

    def credential(self, session: Session, connection: str) -> Credential:
        """What the connection is opened with; long-lived secrets are opened only where nothing can be minted."""
        ...

    def token(self, connection: str, grant: Grant, refused: str | None, seconds: float | None) -> Token:
        """A token of the far side, good for the grant; another one than that whose value has the SHA-256 `refused`."""
        ...


class Fence(Protocol):
    """Tells a broker whether a slice is still in the hands of whoever says so."""

    def __call__(self, session: Session, holder: Holder) -> float | None:
        """Seconds left of the ledger's own lease; None where the slice is in other hands."""
        ...


class Broker(Protocol):
    """Hands out credentials for a while. In one process with the rest where embedded, in its own where distributed."""

    def open(self, holder: Holder, connection: str, grant: Grant) -> Handed:
        """A lease. LeaseEndedError where the holder is fenced off; errors of the connection as they are."""
        ...

    def turn(self, lease: str, holder: Holder, counts: Mapping[str, int]) -> tuple[str, float]:
        """The holder's next slice, on what it holds already: the new lease's id and seconds; the old one is closed."""
        ...

    def renew(self, leases: Collection[str]) -> Mapping[str, float]:
        """Puts the end off, never beyond the ledger's own lease; seconds left of those that go on."""
        ...

    def look(self, leases: Collection[str]) -> Mapping[str, Ending]:
        """Those of some leases that are over."""
        ...

    def close(self, lease: str, counts: Mapping[str, int]) -> None:
        """Gives one back, with what was done under it; harmless where it is over."""
        ...

    def token(self, lease: str, refused: str | None, seconds: float | None) -> Token:
        """A token of the far side, minted where none is known. LeaseError where the lease is over."""
        ...
