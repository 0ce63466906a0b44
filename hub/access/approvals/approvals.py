"""Four eyes: something is asked for and frozen, another person decides, and what was approved is done once."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hub.access.approvals import store
from hub.access.approvals.types import (
    ALL_KINDS,
    BROKEN_FOR,
    CONFIRMED_WITHIN,
    Approval,
    ApprovalError,
    ApprovalKind,
    ApprovalState,
    Glass,
    UnknownApprovalError,
    actor_of,
    digest_of,
    owner_of,
)
from hub.access.types import Actor, ActorKind, Caller
from hub.audit import Action, AuditLog, Event, Outcome
from hub.database import Database
from hub.keys import KeyRing, canonical
from hub.logs import Log
from hub.sdk import Json

PURPOSE = "approval"
HUB = "service:hub"
OPEN = (ApprovalState.PENDING, ApprovalState.APPROVED)
MOST_TEXT = 2000

log = Log(__name__)


class Approvals:
    """What waits for a second person in one installation; safe to share between threads.

    Rooms ask and use within their own transactions, so that nothing is done without what allowed it.
    """

    def __init__(self, database: Database, keys: KeyRing, audit: AuditLog) -> None:
        self._database = database
        self._keys = keys
        self._audit = audit

    def request(
        self,
        session: Session,
        kind: ApprovalKind,
        subject: str,
        content: Mapping[str, Json],
        who: Caller | Actor | str,
        *,
        reason: str = "",
        editors: Collection[str] = (),
        days: int | None = None,
        alone: bool = True,
    ) -> Approval:
        """Asks for a second person. The same thing asked for again is one approval, with one more author.

        `editors` are people who worked on it as well. With `alone` whatever else was asked for about the subject is
        void from now on: it was edited. ApprovalError for a reason or a number of days out of bounds.
        """
        _check_text("reason", reason)
        if days is not None and not 1 <= days <= kind.days:
            raise ApprovalError(f"days: an approval to {kind.meaning} holds 1 to {kind.days} days, not {days}")
        digest, now = digest_of(kind, subject, content), self._database.now(session)
        found = [each for each in self._of(session, kind, subject) if each.state in OPEN]
        same = next((each for each in found if each.digest == digest), None)
        for each in found if alone else ():
            if each is not same:
                self._void(session, each, who, "it was edited")
        if same is None:
            same = self._file(session, kind, subject, content, digest, who, reason, now, days or kind.days)
        self._name_authors(session, same, {*map(owner_of, editors), owner_of(who)})
        return self._told(session, same.id)

    def approve(self, approval_id: str, who: Caller | Actor, why: str = "") -> Approval:
        """Approves what somebody else asked for, or confirms what somebody else let through alone.

        ApprovalError for its authors, a program, and what is not open.
        """
        return self._decide(approval_id, who, why, partial(self._decided, approved=True))

    def refuse(self, approval_id: str, who: Caller | Actor, why: str = "") -> Approval:
        """Refuses it; an author thereby takes it back. What was let through alone and done stays done."""
        return self._decide(approval_id, who, why, partial(self._decided, approved=False))

    def break_glass(self, approval_id: str, who: Caller | Actor, why: str) -> Approval:
        """Lets through alone, for an hour, what waits; an author may. Whoever asks here has seen to the right to do so.

        Another person has to confirm it. ApprovalError without a reason, for a program, and for what does not wait.
        """
        if not why.strip():
            raise ApprovalError("reason: say why nobody else could be asked")
        broken = self._decide(approval_id, who, why, self._break)
        log.warning("the glass was broken", approval=broken.id, about=broken.subject, by=actor_of(who))
        return broken

    def unconfirmed(self, session: Session) -> int:
        """How many approvals were let through alone, and no other person has had a word on it."""
        return store.unconfirmed(session)

    def tell_overdue(self) -> int:
        """Tells the trail and the log, once each, of what nobody confirmed in time; how many. For upkeep."""
        with self._database.read() as session:
            if not store.overdue(session, self._database.now(session) - CONFIRMED_WITHIN):
                return 0
        told: list[dict[str, str]] = []
        with self._database.begin() as session:
            now = self._database.now(session)
            for row, glass in store.overdue(session, now - CONFIRMED_WITHIN):
                if not store.note_told(session, row.id, now):
                    continue
                told.append({"approval": row.id, "kind": row.kind, "by": glass.actor})
                event = Event(HUB, Action.APPROVAL_LAPSE, row.subject, Outcome.FAILED, None, row.digest, told[-1])
                self._audit.record(session, event)
        for each in told:
            log.error("nobody confirmed in time what was let through alone", **each)
        return len(told)

    def get(self, approval_id: str) -> Approval:
        """One approval. UnknownApprovalError."""
        with self._database.read() as session:
            return self._told(session, approval_id)

    def list(self, *, closed: bool = False) -> list[Approval]:
        """What is open or unconfirmed, newest first; with `closed` all there ever was."""
        with self._database.read() as session:
            return [each for each in self._of(session) if closed or each.state in OPEN or each.unconfirmed]

    def about(self, session: Session, kind: ApprovalKind, subject: str) -> tuple[Approval, ...]:
        """Everything asked for about a subject, newest first."""
        return tuple(self._of(session, kind, subject))

    def use(
        self, session: Session, kind: ApprovalKind, subject: str, content: Mapping[str, Json], who: Caller | Actor | str
    ) -> Approval | None:
        """Uses up the approval of exactly this, in the transaction that does it; None where there is none to use."""
        digest = digest_of(kind, subject, content)
        for each in self._of(session, kind, subject):
            if each.digest != digest or each.state is not ApprovalState.APPROVED:
                continue
            if store.take(session, each.id, self._database.now(session)):
                self._record(session, actor_of(who), Action.APPROVAL_USE, each)
                return self._told(session, each.id)
        return None

    def _file(
        self,
        session: Session,
        kind: ApprovalKind,
        subject: str,
        content: Mapping[str, Json],
        digest: str,
        who: Caller | Actor | str,
        reason: str,
        now: datetime,
        days: int,
    ) -> Approval:
        row = store.ApprovalRow(
            id=secrets.token_hex(8),
            kind=kind.value,
            subject=subject,
            digest=digest,
            content=dict(content),
            reason=reason,
            requested_by=actor_of(who),
            requested_at=now,
            expires_at=now + timedelta(days=days),
        )
        session.add(row)
        session.flush()
        session.add(store.PartyRow(approval=row.id, person=owner_of(who), part=store.AUTHOR))
        session.flush()
        made = self._told(session, row.id)
        self._record(session, row.requested_by, Action.APPROVAL_REQUEST, made, reason=reason)
        return made

    def _name_authors(self, session: Session, approval: Approval, people: Collection[str]) -> None:
        """Whoever decided already did so before they had a part in it: that stands."""
        known = store.parties(session, approval.id)
        for name in sorted(set(people) - set(known)):
            session.add(store.PartyRow(approval=approval.id, person=name, part=store.EDITOR))
        session.flush()

    def _decide(
        self, approval_id: str, who: Caller | Actor, why: str, how: Callable[[Session, str, Actor, str, str], Approval]
    ) -> Approval:
        _check_text("reason", why)
        actor = who.actor if isinstance(who, Caller) else who
        try:
            with self._database.begin() as session:
                return how(session, approval_id, actor, owner_of(who), why)
        except IntegrityError:
            with self._refusing(approval_id, actor):
                raise ApprovalError(
                    f"approval {approval_id}: somebody else decided at the same moment, or {actor} has a part in it"
                ) from None
        except ApprovalError:
            with self._refusing(approval_id, actor):
                raise

    def _decided(
        self, session: Session, approval_id: str, actor: Actor, owner: str, why: str, *, approved: bool
    ) -> Approval:
        row = store.approval(session, approval_id, lock=True)
        if row is None:
            raise _unknown(approval_id)
        found = self._told(session, approval_id)
        if found.state is not ApprovalState.PENDING and not found.unconfirmed:
            by = f" by {found.decided_by}" if found.decided_by else ""
            raise ApprovalError(f"approval {approval_id} is {found.state}{by}; nobody decides it again")
        if not approved and owner in found.authors and found.glass is None:
            self._void(session, found, str(actor), why or "whoever asked took it back")
            return self._told(session, approval_id)
        if actor.kind is not ActorKind.HUMAN:
            raise ApprovalError(f"{found.subject}: {actor} is a program; a person must approve")
        if owner in found.authors:
            raise ApprovalError(f"{found.subject}: {actor} is its author; somebody else must approve")
        now = self._database.now(session)
        session.add(store.PartyRow(approval=approval_id, person=owner, part=store.DECIDER))
        session.flush()
        mac = self._mac(found, str(actor), owner, store.glass(session, approval_id), approved=approved)
        session.add(
            store.DecisionRow(
                approval=approval_id,
                person=owner,
                part=store.DECIDER,
                actor=str(actor),
                approved=approved,
                reason=why,
                at=now,
                mac=mac,
            )
        )
        session.flush()
        told = self._told(session, approval_id)
        confirms = approved and found.glass is not None
        action = Action.APPROVAL_CONFIRM if confirms else _action(found.kind, approved=approved)
        self._record(session, str(actor), action, told, why=why)
        return told

    def _break(self, session: Session, approval_id: str, actor: Actor, owner: str, why: str) -> Approval:
        row = store.approval(session, approval_id, lock=True)
        if row is None:
            raise _unknown(approval_id)
        found = self._told(session, approval_id)
        if found.state is not ApprovalState.PENDING:
            raise ApprovalError(f"approval {approval_id} is {found.state}; there is no glass to break")
        if actor.kind is not ActorKind.HUMAN:
            raise ApprovalError(f"{found.subject}: {actor} is a program; only a person breaks the glass")
        now = self._database.now(session)
        row.expires_at = min(row.expires_at, now + BROKEN_FOR)
        self._name_authors(session, found, {owner})
        made = store.GlassRow(
            approval=approval_id,
            person=owner,
            part=store.parties(session, approval_id)[owner],
            actor=str(actor),
            reason=why,
            at=now,
        )
        made.mac = self._glass_mac(self._told(session, approval_id), made)
        session.add(made)
        session.flush()
        told = self._told(session, approval_id)
        self._record(session, str(actor), Action.APPROVAL_BREAK, told, why=why)
        return told

    @contextmanager
    def _refusing(self, approval_id: str, actor: Actor) -> Iterator[None]:
        """Notes that somebody tried to decide what he may not."""
        with self._database.begin() as session:
            detail: dict[str, Json] = {"approval": approval_id}
            subject = f"approval:{approval_id}"[:200]
            self._audit.record(session, Event(str(actor), Action.ACCESS_DENIED, subject, Outcome.DENIED, detail=detail))
        yield

    def _void(self, session: Session, approval: Approval, who: Caller | Actor | str, why: str) -> None:
        row = store.approval(session, approval.id)
        assert row is not None
        row.voided_at = self._database.now(session)
        session.flush()
        self._record(session, actor_of(who), Action.APPROVAL_VOID, approval, why=why)

    def _of(self, session: Session, kind: ApprovalKind | None = None, subject: str | None = None) -> Iterator[Approval]:
        for row in store.approvals(session, kind, subject):
            yield self._approval(session, row)

    def _told(self, session: Session, approval_id: str) -> Approval:
        row = store.approval(session, approval_id)
        if row is None:
            raise _unknown(approval_id)
        return self._approval(session, row)

    def _approval(self, session: Session, row: store.ApprovalRow) -> Approval:
        parties = store.parties(session, row.id)
        decision, glass = store.decision(session, row.id), store.glass(session, row.id)
        made = Approval(
            id=row.id,
            kind=ALL_KINDS[row.kind],
            subject=row.subject,
            digest=row.digest,
            content=row.content,
            reason=row.reason,
            requested_by=row.requested_by,
            authors=tuple(name for name, part in parties.items() if part != store.DECIDER),
            requested_at=row.requested_at,
            expires_at=row.expires_at,
            state=self._state(row, decision, glass, self._database.now(session)),
            decided_by=decision.actor if decision is not None else None,
            decided_at=decision.at if decision is not None else None,
            why=decision.reason if decision is not None else None,
            glass=Glass(glass.actor, glass.at, glass.reason) if glass is not None else None,
        )
        frozen = digest_of(made.kind, made.subject, made.content) == made.digest
        if not frozen or not self._genuine(made, decision, glass):
            raise ApprovalError(f"approval {row.id} was altered where it is stored; ask anew")
        return made

    @staticmethod
    def _state(
        row: store.ApprovalRow, decision: store.DecisionRow | None, glass: store.GlassRow | None, now: datetime
    ) -> ApprovalState:
        if row.voided_at is not None:
            return ApprovalState.VOID
        if row.used_at is not None:
            return ApprovalState.USED
        if decision is not None and not decision.approved:
            return ApprovalState.REFUSED
        if row.expires_at <= now:
            return ApprovalState.EXPIRED
        return ApprovalState.PENDING if decision is None and glass is None else ApprovalState.APPROVED

    def _genuine(self, approval: Approval, decision: store.DecisionRow | None, glass: store.GlassRow | None) -> bool:
        """Whether all that is stored of it was written by the hub, and nothing was used that nobody allowed."""
        if glass is not None:
            same = hmac.compare_digest(self._glass_mac(approval, glass), glass.mac)
            if not same or glass.person not in approval.authors:
                return False
        elif approval.state is ApprovalState.USED and (decision is None or not decision.approved):
            return False
        if decision is None:
            return True
        mac = self._mac(approval, decision.actor, decision.person, glass, approved=decision.approved)
        return hmac.compare_digest(mac, decision.mac) and decision.person not in approval.authors

    def _mac(
        self, approval: Approval, actor: str, owner: str, glass: store.GlassRow | None, *, approved: bool
    ) -> bytes:
        """Over the hash that was decided about, who decided, how, and until when: none of it changes afterwards.

        One that confirms a broken glass is bound to that: it says nothing without it.
        """
        bound = {
            "id": approval.id,
            "digest": approval.digest,
            "expires_at": approval.expires_at.isoformat(),
            "actor": actor,
            "person": owner,
            "approved": approved,
            "glass": None if glass is None else glass.mac.hex(),
        }
        return self._keys.mac(PURPOSE, canonical(bound))

    def _glass_mac(self, approval: Approval, glass: store.GlassRow) -> bytes:
        """As that of a decision; no decision has this form, so that neither passes for the other."""
        bound = {
            "id": approval.id,
            "digest": approval.digest,
            "expires_at": approval.expires_at.isoformat(),
            "actor": glass.actor,
            "person": glass.person,
            "broken_at": glass.at.isoformat(),
            "reason": glass.reason,
        }
        return self._keys.mac(PURPOSE, canonical(bound))

    def _record(self, session: Session, actor: str, action: Action, approval: Approval, **more: str) -> None:
        detail: dict[str, Json] = {"approval": approval.id, "kind": approval.kind.value, **more}
        self._audit.record(session, Event(actor, action, approval.subject, digest=approval.digest, detail=detail))


def _action(kind: ApprovalKind, *, approved: bool) -> Action:
    if not approved:
        return Action.APPROVAL_REFUSE
    return Action.MAPPING_APPROVE if kind is ApprovalKind.MAPPING else Action.APPROVAL_APPROVE


def _unknown(approval_id: str) -> UnknownApprovalError:
    return UnknownApprovalError(f"there is no approval {approval_id[:40]}; hub access approvals list shows what waits")


def _check_text(name: str, text: str) -> None:
    if len(text) > MOST_TEXT or not text.isprintable():
        raise ApprovalError(f"{name}: at most {MOST_TEXT} printable characters on one line")
