"""The mappings of one installation: checked, previewed, approved, published, paused, and compiled for a run."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hub.access import Actor, Caller
from hub.access.approvals import Approval, ApprovalError, ApprovalKind, Approvals, ApprovalState, actor_of, owner_of
from hub.audit import Action, AuditLog, Event, Outcome
from hub.connections import Connections
from hub.database import Database
from hub.keys import KeyRing
from hub.mappings import store
from hub.mappings.check import compile_mapping, missing_fields
from hub.mappings.document import read_document
from hub.mappings.nearest import near
from hub.mappings.publishing import (
    Reviews,
    acceptances,
    bind,
    grants_of,
    published_of,
    recorded,
    refuse_alteration,
    refuse_live,
    subject_of,
)
from hub.mappings.types import (
    Compiled,
    Document,
    MappingError,
    MappingsError,
    MappingState,
    PausedMappingError,
    Published,
    Standing,
    UnknownMappingError,
    Watermark,
)
from hub.models import ModelVersion, Registry
from hub.sdk import Cursor, Entity, Field, Grant, Json, RightsReport

Who: TypeAlias = Caller | Actor | str
"""Who acts; a caller brings the person who answers for it. Text is an actor as the trail writes it (`human:anna`)."""


class Mappings:
    """Safe to share between threads. With `production`, a version is published only after a preview and an approval."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        audit: AuditLog,
        connections: Connections,
        registry: Registry,
        *,
        production: bool = False,
    ) -> None:
        self._database = database
        self._keys = keys
        self._audit = audit
        self._connections = connections
        self._registry = registry
        self._production = production
        self._approvals = Approvals(database, keys, audit)
        self._reviews = Reviews(self._approvals, connections)
        self._compiled: dict[str, tuple[str, Compiled]] = {}
        self._documents: dict[str, Document] = {}
        self._served: dict[str, tuple[int | None, str, bytes | None]] = {}
        self._lock = threading.Lock()

    def check(self, text: str, actor: Who) -> Compiled:
        """The document compiled against its systems as they are now. MappingError holds every problem by line."""
        document = read_document(text)
        try:
            compiled = self._compile(document, {})
        except MappingError as error:
            self._tell(actor, Action.MAPPING_CHECK, document, Outcome.FAILED, {"problems": len(error.problems)})
            raise
        self._tell(actor, Action.MAPPING_CHECK, document)
        return compiled

    def missing_fields(self, text: str) -> tuple[Document, tuple[Field, ...]]:
        """The document, and the fields it writes that its target lacks, as a connection would make them."""
        document = read_document(text)
        return document, missing_fields(document, self._connections.entities, self._registry.get)

    def submit(self, text: str, actor: Who, reason: str = "") -> Compiled:
        """Hands a checked version in for approval, frozen with all that decides what it does.

        Its authors are whoever handed in a version since the live one; approvals of those are void from now on.
        """
        compiled = self.check(text, actor)
        with self._database.begin() as session:
            row = self._version(session, compiled.document, text, actor)
            refuse_live(session, row)
            if row.number is None:
                row.state = MappingState.SUBMITTED
                row.grants = {name: grant.to_json() for name, grant in sorted(compiled.grants.items())}
                session.flush()
            self._record(session, actor, Action.MAPPING_SUBMIT, compiled.document)
            content, name = self._reviews.content(session, compiled), row.mapping
            people = {row.owner, *store.editors(session, name)}
            self._approvals.request(
                session, ApprovalKind.MAPPING, subject_of(name), content, actor, reason=reason, editors=people
            )
        return compiled

    def note_preview(self, text: str, actor: Who, detail: Mapping[str, Json] | None = None) -> None:
        """Remembers that this very document was tried on real records; `detail` holds counts for the trail."""
        document = read_document(text)
        with self._database.begin() as session:
            row = self._version(session, document, text, actor)
            row.previewed_by, row.previewed_at = actor_of(actor), self._database.now(session)
            self._record(session, actor, Action.MAPPING_PREVIEW, document, detail=detail)

    def approve(self, name: str, digest: str, actor: Caller | Actor, why: str = "") -> Approval:
        """Approves a version. ApprovalError for its authors, for a program, and for one that was not handed in."""
        with self._database.read() as session:
            row = store.version(session, name, digest=digest)
            if row is None:
                raise UnknownMappingError(f"mapping {name} has no version {digest[:12]}; hand it in first")
            refuse_live(session, row)
            asked = self._reviews.asked(session, row)
            if asked is None:
                raise ApprovalError(
                    f"mapping {name}: this version was not handed in for approval; `hub mappings submit` does so"
                )
        return self._approvals.approve(asked.id, actor, why)

    def publish(self, text: str, actor: Who) -> Published:
        """Makes this version the one that runs; an earlier version published again keeps its number.

        ApprovalError in production without preview, approval by somebody else, and rights that are no more than needed
        or accepted by two people. Elsewhere the actor stands as the approver, and the trail says so.
        """
        document = read_document(text)
        compiled = self._compile(document, {})
        reports = self._reviews.ask_rights(compiled.grants) if self._production else {}
        try:
            with self._database.begin() as session:
                return self._publish(session, compiled, text, actor, reports)
        except IntegrityError as error:
            raise MappingsError(
                f"mapping {document.mapping} was not published: another mapping took one of its target fields, or"
                " another publication ran at the same moment; check it again"
            ) from error

    def verify(self, mapping: str, grants: Mapping[str, Grant], actor: Who) -> dict[str, RightsReport]:
        """What the logins of a mapping hold, connection by connection, held against its grant; told to the trail."""
        reports = self._reviews.ask_rights(grants)
        with self._database.begin() as session:
            good = not any(each.missing or each.excess for each in reports.values())
            outcome = Outcome.DONE if good else Outcome.FAILED
            told = Event(actor_of(actor), Action.RIGHTS_VERIFY, subject_of(mapping), outcome, detail=recorded(reports))
            self._audit.record(session, told)
        return reports

    def accept_excess(
        self, mapping: str, reports: Mapping[str, RightsReport], actor: Who, reason: str, days: int | None = None
    ) -> builtins.list[Approval]:
        """Asks that the rights beyond a mapping's grant be put up with until then; a second person decides.

        ApprovalError without a reason.
        """
        if not reason.strip():
            raise ApprovalError("reason: say why the login must keep rights that the mapping does not need")
        with self._database.begin() as session:
            return [
                self._approvals.request(
                    session,
                    ApprovalKind.EXCESS,
                    subject_of(mapping),
                    each,
                    actor,
                    reason=reason,
                    days=days,
                    alone=False,
                )
                for each in acceptances(mapping, reports).values()
            ]

    def unaccepted(self, mapping: str, reports: Mapping[str, RightsReport]) -> builtins.list[str]:
        """The connections whose login may do more than the mapping needs, and that two people did not accept."""
        with self._database.read() as session:
            return self._reviews.unaccepted(session, mapping, reports)

    def grants(self, name: str) -> dict[str, Grant]:
        """What the published version of a mapping was granted, as it was when it was published."""
        with self._database.read() as session:
            _, row = self._current(session, name)
            refuse_alteration(self._keys, row)
            return grants_of(row)

    def was_granted(self, connection: str, grant: Grant, of: tuple[str, str] | None = None) -> bool:
        """Whether a version has exactly this grant on a connection: one that was published, or waits for approval.

        `of` is a mapping and the digest of the one version that counts. AlteredMappingError where that was altered.
        """
        with self._database.read() as session:
            for row in store.granted(session, of):
                told = (row.grants or {}).get(connection)
                if told is not None and Grant.from_json(told).digest() == grant.digest():
                    if row.number is not None:
                        refuse_alteration(self._keys, row)
                    return True
        return False

    def _publish(
        self, session: Session, compiled: Compiled, text: str, actor: Who, reports: Mapping[str, RightsReport]
    ) -> Published:
        document = compiled.document
        row = self._version(session, document, text, actor)
        approval = self._reviews.use(session, compiled, row, actor, reports) if self._production else None
        by = approval.allowed_by if approval is not None else None
        if approval is None and row.number is None and (asked := self._reviews.asked(session, row)) is not None:
            by = asked.allowed_by if asked.state is ApprovalState.APPROVED else None
        alone = by is None
        now = self._database.now(session)
        mapping = store.mapping(session, document.mapping, lock=True)
        assert mapping is not None
        if mapping.published is not None and mapping.published != row.number:
            before = store.version(session, document.mapping, number=mapping.published)
            assert before is not None
            before.state = MappingState.RETIRED
        if row.number is not None:
            refuse_alteration(self._keys, row)
        else:
            row.number = store.next_number(session, document.mapping)
            row.grants = {name: grant.to_json() for name, grant in sorted(compiled.grants.items())}
            row.approved_by, row.approved_at = by or actor_of(actor), now
            row.published_by, row.published_at = actor_of(actor), now
            row.mac = bind(self._keys, row)
        row.state = MappingState.PUBLISHED
        mapping.published = row.number
        write = document.write
        fields = [(write.connection, write.entity, name) for name in (*write.set, *write.with_)]
        store.take_targets(session, document.mapping, fields)
        detail: dict[str, Json] = {
            "number": row.number,
            "approved_by": by or actor_of(actor),
            "approved_by_publisher": alone,
            "unconfirmed": approval is not None and approval.unconfirmed,
            "approval": approval.id if approval is not None else None,
        }
        self._record(session, actor, Action.MAPPING_PUBLISH, document, detail=detail)
        return published_of(mapping, row)

    def get(self, name: str) -> Published:
        """The published version. UnknownMappingError names the nearest one; AlteredMappingError."""
        with self._database.read() as session:
            mapping, row = self._current(session, name)
            refuse_alteration(self._keys, row)
            return published_of(mapping, row)

    def list(self) -> list[Standing]:
        """Every mapping by name, published or not."""
        with self._database.read() as session:
            return [self._standing(session, each) for each in store.mappings(session)]

    def versions(self, name: str) -> builtins.list[Published]:
        """Every version that was ever published, oldest first."""
        with self._database.read() as session:
            mapping = self._known(session, name)
            rows = [each for each in store.versions(session, name) if each.number is not None]
            return [published_of(mapping, each) for each in sorted(rows, key=lambda row: row.number or 0)]

    def pause(self, name: str, actor: Who, reason: str, session: Session | None = None) -> None:
        """Nothing runs the mapping until it is resumed; in the caller's transaction where one is given."""
        with self._transaction(session) as inside:
            mapping = self._known(inside, name)
            mapping.paused, mapping.pause_reason = True, reason
            event = Event(actor_of(actor), Action.MAPPING_PAUSE, f"mapping:{name}", detail={"reason": reason})
            self._audit.record(inside, event)

    def resume(self, name: str, actor: Who) -> None:
        """The mapping may run again."""
        with self._database.begin() as session:
            mapping = self._known(session, name)
            mapping.paused, mapping.pause_reason = False, None
            self._audit.record(session, Event(actor_of(actor), Action.MAPPING_RESUME, f"mapping:{name}"))

    def version(self, name: str, digest: str) -> Published:
        """A version that was published at some time, whether it still runs or not; so a run keeps its own."""
        with self._database.read() as session:
            mapping, row = self._known(session, name), store.version(session, name, digest=digest)
            if row is None or row.number is None:
                raise UnknownMappingError(f"mapping {name} has no published version {digest[:12]}")
            refuse_alteration(self._keys, row)
            return published_of(mapping, row)

    def document(self, published: Published) -> Document:
        """What a version says; read once per process, since a version never changes."""
        with self._lock:
            known = self._documents.get(published.digest)
        if known is None:
            known = read_document(published.text)
            with self._lock:
                self._documents[published.digest] = known
        return known

    def compile_published(
        self, published: Published, *, fresh: bool = False, model: ModelVersion | None = None
    ) -> Compiled:
        """A published version compiled, kept in this process while its model stays the same.

        `model` is the version to score with, for a run that began under it; else the one the document names now.
        `fresh` asks the systems for their entities again, as a run does before it starts: MappingError where they no
        longer fit the document.
        """
        document = self.document(published)
        version = model or self._registry.get(document.model.name, document.model.use)
        wanted = f"{published.digest}/{version.digest}/{version.number}"
        with self._lock:
            kept = self._compiled.get(published.digest)
        if kept is not None and not fresh and kept[0].startswith(f"{wanted}/"):
            return kept[1]
        seen: dict[str, Sequence[Entity]] = {}
        compiled = self._compile(document, seen, version)
        key = f"{wanted}/{fingerprint(seen)}"
        if kept is not None and kept[0] == key:
            return kept[1]
        with self._lock:
            self._compiled[published.digest] = (key, compiled)
        return compiled

    def serving(self, session: Session, name: str) -> Compiled:
        """What scores records of a mapping as things stand: its published version with the model it names now.

        One look at few columns where nothing changed since the last call. PausedMappingError while it is paused.
        """
        row = store.serving(session, name)
        if row is not None and row.paused:
            raise PausedMappingError(f"mapping {name} is paused; hub mappings resume {name} lifts it")
        if row is not None:
            number = self._registry.number(session, row.model_name, row.model_use)
            # A version's keyed digest binds its number, document and people: the same three are the same version.
            identity = (row.number, row.digest, row.mac)
            with self._lock:
                kept = self._compiled.get(row.digest)
                known = self._served.get(name) == identity
            if known and kept is not None and kept[1].model.number == number:
                return kept[1]
        published = self.get(name)
        compiled = self.compile_published(published)
        if row is not None and row.digest == published.digest:
            with self._lock:
                self._served[name] = identity
        return compiled

    def run_examples(self, compiled: Compiled, folder: Path) -> builtins.list[str]:
        """The keys of the example records of a folder, which all came out as promised; none where there is no folder.

        ExampleError lists what did not.
        """
        from hub.mappings.pipeline import run_examples

        return run_examples(compiled, folder) if folder.is_dir() else []

    def watermark(self, name: str) -> Watermark | None:
        """How far the last complete run of the mapping read; None before the first."""
        with self._database.read() as session:
            row = store.watermark(session, name)
            if row is None:
                return None
            cursor = Cursor.from_json(row.cursor) if row.cursor is not None else None
            return Watermark(row.digest, cursor, row.at, row.full_at)

    def set_watermark(self, session: Session, name: str, watermark: Watermark) -> None:
        """Stores how far a run read, in the transaction that completes it."""
        cursor = watermark.cursor.to_json() if watermark.cursor is not None else None
        session.merge(
            store.MappingWatermarkRow(
                mapping=name, digest=watermark.digest, cursor=cursor, at=watermark.at, full_at=watermark.full_at
            )
        )

    def _compile(
        self, document: Document, seen: dict[str, Sequence[Entity]], version: ModelVersion | None = None
    ) -> Compiled:
        def entities(connection: str) -> Sequence[Entity]:
            if connection not in seen:
                names = entities_of(document, connection)
                found = self._connections.entities(connection, names)
                # Where one is missing, all are asked for: the error names the nearest.
                complete = names <= {each.name for each in found}
                seen[connection] = found if complete else self._connections.entities(connection)
            return seen[connection]

        def model(name: str, use: str) -> ModelVersion:
            return version if version is not None else self._registry.get(name, use)

        with self._database.read() as session:
            taken = store.targets(session)
        return compile_mapping(document, entities, model, taken, self._connections.tells)

    def _version(self, session: Session, document: Document, text: str, actor: Who) -> store.MappingVersionRow:
        """The row of this document, made where it is new; the mapping's own row with it."""
        name = document.mapping
        if store.mapping(session, name, lock=True) is None:
            session.add(store.MappingRow(name=name, published=None, paused=False, pause_reason=None))
            session.flush()
        row = store.version(session, name, digest=document.digest)
        if row is None:
            row = store.MappingVersionRow(
                mapping=name,
                digest=document.digest,
                state=MappingState.DRAFT,
                text=text,
                model_name=document.model.name,
                model_use=document.model.use,
                author=actor_of(actor),
                owner=owner_of(actor),
                submitted_at=self._database.now(session),
            )
            session.add(row)
            session.flush()
        return row

    def _known(self, session: Session, name: str) -> store.MappingRow:
        mapping = store.mapping(session, name)
        if mapping is None:
            known = store.names(session)
            hint = near(name, known) or ("; there is none yet" if not known else f"; there is {', '.join(known[:10])}")
            raise UnknownMappingError(f"there is no mapping {name}{hint}")
        return mapping

    def _current(self, session: Session, name: str) -> tuple[store.MappingRow, store.MappingVersionRow]:
        mapping = self._known(session, name)
        if mapping.published is None:
            raise UnknownMappingError(f"mapping {name} is not published yet; run hub mappings publish")
        row = store.version(session, name, number=mapping.published)
        assert row is not None
        return mapping, row

    def _standing(self, session: Session, mapping: store.MappingRow) -> Standing:
        rows = store.versions(session, mapping.name)
        current = [each for each in rows if each.number is not None and each.number == mapping.published]
        published = published_of(mapping, current[0]) if current else None
        newest, state = rows[-1], rows[-1].state
        if state is MappingState.SUBMITTED:
            asked = self._reviews.asked(session, newest)
            state = MappingState.APPROVED if asked and asked.state is ApprovalState.APPROVED else state
        return Standing(mapping.name, published, newest.digest, state)

    @contextmanager
    def _transaction(self, session: Session | None) -> Iterator[Session]:
        if session is not None:
            yield session
            return
        with self._database.begin() as own:
            yield own

    def _tell(
        self,
        actor: Who,
        action: Action,
        document: Document,
        outcome: Outcome = Outcome.DONE,
        detail: Mapping[str, Json] | None = None,
    ) -> None:
        with self._database.begin() as session:
            self._record(session, actor, action, document, outcome, detail)

    def _record(
        self,
        session: Session,
        actor: Who,
        action: Action,
        document: Document,
        outcome: Outcome = Outcome.DONE,
        detail: Mapping[str, Json] | None = None,
    ) -> None:
        subject = f"mapping:{document.mapping}"
        event = Event(actor_of(actor), action, subject, outcome, digest=document.digest, detail=detail or {})
        self._audit.record(session, event)


def model_users(session: Session, model: str, use: str) -> Iterable[str]:
    """The published mappings that name a model by this alias or number, for `Registry(users=…)`."""
    return [f"mapping {name}" for name, named in store.users_of_model(session, model) if named == use]


def entities_of(document: Document, connection: str) -> frozenset[str]:
    """The entities of one connection that a document reads, looks up or writes."""
    named = [(document.read.connection, document.read.entity), (document.write.connection, document.write.entity)]
    named += [(each.connection, each.entity) for each in document.lookups]
    return frozenset(entity for place, entity in named if place == connection)


def fingerprint(entities: Mapping[str, Sequence[Entity]]) -> str:
    """One text for what some connections offer: the same while no entity, field, type, right or list changed."""
    # An entity's repr holds every field in declaration order; a frozenset's order is not stable between processes.
    lines = sorted(
        f"{connection}/{entity.name}/{each.name}/{each.type}/{each.nullable}/{each.writable}/{each.length}"
        f"/{each.precision}/{each.scale}/{each.values}/{sorted(each.operators)}/{entity.key}/{entity.changed_by}"
        f"/{sorted(entity.modes)}/{entity.conditional}/{each.required}"
        f"/{[(one.field, sorted(one.modes)) for one in entity.alternates]}"
        for connection, listed in entities.items()
        for entity in listed
        for each in entity.fields
    )
    return sha256("\n".join(lines).encode()).hexdigest()
