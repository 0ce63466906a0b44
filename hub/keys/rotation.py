"""Rotation of the key-encryption key: a new version, everything moved under it piece by piece, the old one withdrawn.

What is moved is looked for in the tables themselves, so that whoever goes on after a death in the middle finds what is
left. Values that a working key wraps stay as they are: the working keys are moved, and a new one seals from now on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from hub.database import Database
from hub.keys import store
from hub.keys.envelope import seal
from hub.keys.providers.working import working_identity
from hub.keys.ring import KeyRing, open_ring
from hub.keys.store import ROOT_IDENTITY
from hub.keys.types import KeyringError
from hub.settings import Settings

BATCH = 50
"""Values moved in one transaction."""
GRACE = timedelta(seconds=60)
"""After a rotation, how long another process may still commit what it sealed under the version before."""


def _nothing(_session: Session, _number: int) -> None:
    """Beside it nothing else is done."""


@dataclass(frozen=True, slots=True)
class Behind:
    """How many values of a table are not under the current version."""

    table: str
    values: int


def rotate(
    settings: Settings,
    database: Database,
    beside: Callable[[Session, int], object] = _nothing,
    *,
    emergency: bool = False,
) -> KeyRing:
    """A new version of the key wraps from now on, and a new working key seals; what was sealed before still opens.

    In an `emergency` what is under an older version is withdrawn at once, and opens again when it was moved. What
    `beside` does with the new version's number belongs to the same transaction.
    """
    ring = open_ring(settings, database)
    kek = ring.kek
    with database.begin() as session:
        root = store.load_root(session, lock=True)
        assert root is not None
        version = kek.version
        if not ring.stale(root.sealed, version):
            version = kek.renew()
        number = store.newest_working_key(session) + 1
        store.add_working_key(session, number, seal(kek, os.urandom(32), working_identity(number)))
        store.replace_root(session, ring.rewrap(root.sealed, ROOT_IDENTITY))
        if emergency:
            store.set_floors(session, {**root.floors, kek.id: version})
        beside(session, version)
    return open_ring(settings, database)


def rewrap_some(
    ring: KeyRing, database: Database, beside: Callable[[Session, int], object] = _nothing, most: int = BATCH
) -> int:
    """Moves some values under the current version, in one transaction; how many. 0: nothing is left to move.

    What `beside` does with their number belongs to the same transaction.
    """
    version = ring.version
    with database.read() as session:
        found = list(_stale(ring, session, version, most))
    # A key service is asked before the transaction, so that nobody waits for it with the database in hand.
    moved = [(each, ring.rewrap(each.sealed, each.identity)) for each in found]
    if not moved:
        return 0
    with database.begin() as session:
        done = sum(store.replace(session, place, sealed) for place, sealed in moved)
        if done:
            beside(session, done)
    return len(moved)


def behind(ring: KeyRing, session: Session) -> list[Behind]:
    """What is not under the current version, by table."""
    version = ring.version
    counted = [
        Behind(column.table.name, sum(ring.stale(each.sealed, version) for each in store.places(session, column)))
        for column in store.wrapped_columns()
    ]
    return [each for each in counted if each.values]


def versions(session: Session) -> tuple[int, dict[str, int]]:
    """The working key that seals, and the least versions of outer keys that may be used, by the key's id."""
    root = store.load_root(session)
    return store.newest_working_key(session), dict(root.floors) if root is not None else {}


def retire(ring: KeyRing, database: Database, beside: Callable[[Session, int], object] = _nothing) -> str | None:
    """Withdraws and forgets every version before the current one; what a person still has to do.

    KeyringError while anything is under an older one, or may be in a moment.
    """
    version = ring.version
    with database.begin() as session:
        root = store.load_root(session, lock=True)
        assert root is not None
        left = behind(ring, session)
        if left:
            told = ", ".join(f"{each.values} in {each.table}" for each in left)
            raise KeyringError(f"not everything is under version {version} yet: {told}; `hub keys rewrap` moves it")
        ready = root.rotated_at + GRACE
        if database.now(session) < ready:
            raise KeyringError(
                "the key was rotated a moment ago, and another process may still be storing what it sealed before; "
                f"retire after {ready:%H:%M:%S} UTC"
            )
        store.set_floors(session, {**root.floors, ring.kek.id: version})
        beside(session, version)
    return ring.kek.forget(version)


def _stale(ring: KeyRing, session: Session, version: int, most: int) -> Iterator[store.Place]:
    left = most
    for column in store.wrapped_columns():
        for place in store.places(session, column):
            if ring.stale(place.sealed, version):
                yield place
                left -= 1
                if not left:
                    return
