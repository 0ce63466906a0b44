"""The sealed log: the Merkle tree over the trail, its checkpoints, and proofs that need nobody's trust in the hub."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import timedelta

from sqlalchemy.orm import Session

from hub.audit import store
from hub.audit.leaf import leaf_hash, read_leaf
from hub.audit.merkle import seals
from hub.audit.merkle.export import encoded, export_some, export_whole
from hub.audit.merkle.note import Checkpoint, LogKeys, follow_changes, open_checkpoint, sign_change, verifier_key
from hub.audit.merkle.proof import proves_inclusion
from hub.audit.merkle.sealer import PURPOSE, seal
from hub.audit.merkle.tree import Storeys, Tree
from hub.audit.merkle.verify_sealed import Sealed
from hub.audit.retention.pruning import untold, walk
from hub.audit.types import Action, AuditError, Recorded, Verdict
from hub.audit.verify import FaultError, verify_trail
from hub.database import Database
from hub.keys import KeyRing, public_key, renew_signing_key

MOST_CHOSEN = 100_000
"""Chosen events of one export; whoever wants more wants the whole log."""


@dataclass(frozen=True, slots=True)
class Proof:
    """That the log holds `leaf` at `index`: the path leads from its hash to the root that the checkpoint signs.

    The leaf is None where the event was pruned: whoever kept its bytes proves it by the same path.
    """

    index: int
    leaf: bytes | None
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
        self._storeys = Storeys()

    def seal(self, *, every_chain: bool = False, apart: timedelta = timedelta(0)) -> Checkpoint | None:
        """Seals what waits; None where nothing does, another process is at it, or it was done less than `apart` ago.

        `every_chain` also looks at chains that did not move for hours.
        """
        return seal(self._database, self._keys, every_chain=every_chain, apart=apart)

    def change_key(self, record: Callable[[Session, str], None]) -> str:
        """Has a new key sign from now on; the old one verifies what it signed. The new key, for whoever verifies.

        What waits is sealed under the old key first. `record` notes the change in the same transaction. AuditError
        where nothing was sealed since the last change, or another process seals at this moment.
        """
        self.seal(every_chain=True)
        with self._database.begin() as session:
            now = self._database.now(session)
            head, known = seals.lock_head(session, now), self._known(session)
            newest = self._newest(session)
            if head is None or head.size != newest.size:
                raise AuditError("the log is being sealed at this moment; try again")
            if head.size == known.keys[-2][1] if len(known.keys) > 1 else False:
                raise AuditError("nothing was sealed since the key was last changed")
            old, new = renew_signing_key(session, self._keys, PURPOSE)
            seals.add_key_change(session, head.size, sign_change(old, new, known.origin, head.size, newest.root), now)
            made = verifier_key(new.public, known.origin)
            record(session, made)
        return made

    def thin(self) -> int:
        """Drops checkpoints between the hours of days gone by; how many."""
        with self._database.begin() as session:
            return seals.thin(session, self._database.now(session))

    def verifier_key(self) -> str:
        """What whoever verifies is given, by another way than the log. AuditError before anything was sealed."""
        with self._database.read() as session:
            return self._known(session).verifier_key

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
            return self._prove(session, index)

    def prove_at(self, index: int) -> Proof:
        """The proof of the event at a place of the log."""
        with self._database.read() as session:
            return self._prove(session, index)

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
            newest, known = self._newest(session), self._known(session)
            if chosen is None:
                return export_whole(session, write, newest, known)
            sealed = self._chosen(session, chosen, newest.size)
            return export_some(session, write, newest, known, sealed, kept)

    def read(self, chosen: Chosen | None = None) -> Iterator[tuple[int, Recorded]]:
        """The sealed events that have a body, or the `chosen` of them, with their places, in the order of the log."""
        with self._database.read() as session:
            newest = self._newest(session)
            if chosen is not None and chosen != Chosen():
                for at, leaf in self._chosen(session, chosen, newest.size):
                    yield at, read_leaf(leaf)[0]
                return
            for span in seals.spans_by_index(session):
                for seq, leaf in seals.leaves(session, span).items():
                    yield span.first_index + seq - span.first_seq, read_leaf(leaf)[0]

    @staticmethod
    def _chosen(session: Session, chosen: Chosen, size: int) -> list[tuple[int, bytes]]:
        found = store.find(session, **asdict(chosen), since=None, until=None, limit=MOST_CHOSEN)
        placed = [(seals.place(session, each.writer, each.seq), each.leaf) for each in found]
        return sorted((at, leaf) for at, leaf in placed if at is not None and at < size)

    def verify(self, known: Iterable[str] = ()) -> Verdict:
        """Walks the trail and the log. `known` are checkpoints kept outside, which the log must still contain."""
        with self._database.read() as session:
            if public_key(session, PURPOSE) is None:
                return self._verify_unsealed(session, known)
            try:
                sealed = Sealed(session, self._known(session))
            except AuditError as error:
                return Verdict(0, 0, str(error))
            openings = store.openings(session)
            with closing(walk(session)) as rows, closing(sealed.watch(rows)) as watched:
                verdict = verify_trail(openings, watched)
            if verdict.ok and (fault := untold(session)) is not None:
                verdict = replace(verdict, fault=fault)
            if not verdict.ok:
                return replace(verdict, sealed=sealed.size)
            try:
                return replace(verdict, sealed=sealed.size, kept=sealed.check(known))
            except FaultError as found:
                return replace(verdict, sealed=sealed.size, fault=str(found))

    def _verify_unsealed(self, session: Session, known: Iterable[str]) -> Verdict:
        with closing(walk(session)) as rows:
            verdict = verify_trail(store.openings(session), rows)
        if verdict.ok and any(True for _ in known):
            fault = "the database was rolled back: a checkpoint is kept outside, and nothing is sealed here"
            return replace(verdict, fault=fault)
        return verdict

    def _known(self, session: Session) -> LogKeys:
        public = public_key(session, PURPOSE)
        if public is None:
            raise AuditError(NOT_SEALED)
        return follow_changes(public, seals.key_changes(session))

    def _newest(self, session: Session) -> Checkpoint:
        note = seals.newest_note(session)
        known = self._known(session)
        if note is None:
            raise AuditError(NOT_SEALED)
        return open_checkpoint(note, known)

    @staticmethod
    def _tree(session: Session) -> Tree:
        return Tree(lambda level, number: seals.load_tile(session, level, number))

    def _prove(self, session: Session, index: int) -> Proof:
        newest = self._newest(session)
        leaf = seals.leaf_at(session, index)
        if index >= newest.size or (leaf is None and not seals.is_pruned(session, index)):
            raise AuditError(f"the log holds no event at {index}")
        path = self._path(session, index, newest.size)
        if leaf is not None and not proves_inclusion(leaf_hash(leaf), index, newest.size, path, newest.root):
            # The database may have been put back to an earlier state beneath this process: what is kept is of another.
            self._storeys.clear()
            path = self._path(session, index, newest.size)
        return Proof(index, leaf, path, newest)

    def _path(self, session: Session, index: int, size: int) -> list[bytes]:
        def load(level: int, number: int) -> bytes:
            return seals.load_tile(session, level, number)

        return Tree(load, kept=self._storeys, size=size).inclusion(index, size)
