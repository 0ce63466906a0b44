"""The sealed log: the Merkle tree over the trail, its checkpoints, and proofs that need nobody's trust in the hub."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import timedelta

from sqlalchemy.orm import Session

from hub.audit import store
from hub.audit.merkle import seals
from hub.audit.merkle.export import encoded, export_some, export_whole
from hub.audit.merkle.note import Checkpoint, open_checkpoint, verifier_key
from hub.audit.merkle.sealer import PURPOSE, seal
from hub.audit.merkle.tree import Tree
from hub.audit.merkle.verify_sealed import Sealed
from hub.audit.types import Action, AuditError, Verdict
from hub.audit.verify import FaultError, verify_trail
from hub.database import Database
from hub.keys import KeyRing, public_key

MOST_CHOSEN = 100_000
"""Chosen events of one export; whoever wants more wants the whole log."""


@dataclass(frozen=True, slots=True)
class Proof:
    """That the log holds `leaf` at `index`: the path leads from its hash to the root that the checkpoint signs."""

    index: int
    leaf: bytes
    path: list[bytes]
    checkpoint: Checkpoint

    def steps(self) -> list[tuple[str, str]]:
        """The path for whoever follows it by hand: on which side each hash stands, and the hash in base64."""
        sides, at, last = [], self.index, self.checkpoint.size - 1
        for _ in self.path:
            left = bool(at & 1) or at == last
            sides.append("left" if left else "right")
            while left and not at & 1 and at:
                at, last = at >> 1, last >> 1
            at, last = at >> 1, last >> 1
        return list(zip(sides, encoded(self.path), strict=True))


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which events: those that match everything given."""

    actor: str | None = None
    action: Action | None = None
    subject: str | None = None
    run: str | None = None


NOT_SEALED = "nothing of the audit trail is sealed yet: `hub audit seal` seals what is recorded, if anything is"


class SealedLog:
    """One per process and database; safe to share between threads."""

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._database = database
        self._keys = keys

    def seal(self, *, every_chain: bool = False, apart: timedelta = timedelta(0)) -> Checkpoint | None:
        """Seals what waits; None where nothing does, another process is at it, or it was done less than `apart` ago.

        `every_chain` also looks at chains that did not move for hours.
        """
        return seal(self._database, self._keys, every_chain=every_chain, apart=apart)

    def verifier_key(self) -> str:
        """What whoever verifies is given, by another way than the log. AuditError before anything was sealed."""
        with self._database.read() as session:
            return verifier_key(self._public(session))

    def checkpoint(self) -> Checkpoint:
        """The newest. AuditError before anything was sealed, and where the hub's own key did not sign it."""
        with self._database.read() as session:
            return self._newest(session)

    def notes(self, sizes: Collection[int]) -> dict[int, str]:
        """The checkpoints of these sizes, as they were given out."""
        with self._database.read() as session:
            return seals.notes_of(session, sizes)

    def prove(self, writer: int, seq: int) -> Proof:
        """The proof of an event under the newest checkpoint. AuditError where it is not sealed, or is not there."""
        with self._database.read() as session:
            index = seals.place(session, writer, seq)
            if index is None:
                raise AuditError(f"event {seq} of writer {writer} is not sealed; hub audit seal does it now")
            return self._prove(session, index, self._newest(session), self._tree(session))

    def prove_at(self, index: int) -> Proof:
        """The proof of the event at a place of the log."""
        with self._database.read() as session:
            return self._prove(session, index, self._newest(session), self._tree(session))

    def prove_growth(self, old: int) -> tuple[list[bytes], Checkpoint]:
        """The proof that the newest checkpoint's log only grew since it had `old` events. AuditError beyond it."""
        with self._database.read() as session:
            newest = self._newest(session)
            if not 0 < old <= newest.size:
                raise AuditError(f"the log holds {newest.size} events; a proof starts from 1 to {newest.size}")
            return self._tree(session).consistency(old, newest.size), newest

    def export(self, write: Callable[[str], object], chosen: Chosen | None = None, kept: Sequence[str] = ()) -> int:
        """Writes the sealed log line by line, or of it the `chosen` events with their proofs; how many events.

        `kept` are checkpoints that the reader holds; some events come with the proof that the log grew from them.
        """
        with self._database.read() as session:
            newest, public = self._newest(session), self._public(session)
            if chosen is None:
                return export_whole(session, write, newest, public)
            found = store.find(session, **asdict(chosen), since=None, until=None, limit=MOST_CHOSEN)
            placed = [(seals.place(session, each.writer, each.seq), each.leaf) for each in found]
            sealed = sorted((at, leaf) for at, leaf in placed if at is not None and at < newest.size)
            return export_some(session, write, newest, public, sealed, kept)

    def verify(self, known: Iterable[str] = ()) -> Verdict:
        """Walks the trail and the log. `known` are checkpoints kept outside, which the log must still contain."""
        with self._database.read() as session:
            public = public_key(session, PURPOSE)
            if public is None:
                return self._verify_unsealed(session, known)
            sealed = Sealed(session, public)
            openings = store.openings(session)
            with closing(store.walk(session)) as rows, closing(sealed.watch(rows)) as watched:
                verdict = verify_trail(openings, watched)
            if not verdict.ok:
                return replace(verdict, sealed=sealed.size)
            try:
                return replace(verdict, sealed=sealed.size, kept=sealed.check(known))
            except FaultError as fault:
                return replace(verdict, sealed=sealed.size, fault=str(fault))

    def _verify_unsealed(self, session: Session, known: Iterable[str]) -> Verdict:
        with closing(store.walk(session)) as rows:
            verdict = verify_trail(store.openings(session), rows)
        if verdict.ok and any(True for _ in known):
            fault = "the database was rolled back: a checkpoint is kept outside, and nothing is sealed here"
            return replace(verdict, fault=fault)
        return verdict

    def _public(self, session: Session) -> bytes:
        public = public_key(session, PURPOSE)
        if public is None:
            raise AuditError(NOT_SEALED)
        return public

    def _newest(self, session: Session) -> Checkpoint:
        note = seals.newest_note(session)
        public = self._public(session)
        if note is None:
            raise AuditError(NOT_SEALED)
        return open_checkpoint(note, public)

    @staticmethod
    def _tree(session: Session) -> Tree:
        return Tree(lambda level, number: seals.load_tile(session, level, number))

    @staticmethod
    def _prove(session: Session, index: int, newest: Checkpoint, tree: Tree) -> Proof:
        leaf = seals.leaf_at(session, index)
        if leaf is None or index >= newest.size:
            raise AuditError(f"the log holds no event at {index}")
        return Proof(index, leaf, tree.inclusion(index, newest.size), newest)
