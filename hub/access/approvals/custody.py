"""The key and the trail, which in production no one person shortens: each step is asked for and approved, then done."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from sqlalchemy.orm import Session

from hub.access.approvals.approvals import Approvals
from hub.access.approvals.dual_control import DualControl
from hub.access.approvals.types import ApprovalKind, actor_of
from hub.access.types import Actor, Caller
from hub.audit import Action, AuditLog, Event, Retention
from hub.database import Database
from hub.keys import KeyRing, retire
from hub.sdk import Json


class Custody:
    """One per installation; safe to share between threads. Without `production` one person does all of it alone."""

    def __init__(
        self, database: Database, audit: AuditLog, approvals: Approvals, retention: Retention, *, production: bool
    ) -> None:
        self._database = database
        self._audit = audit
        self._retention = retention
        self._dual = DualControl(database, approvals, production=production)

    def keep(self, days: int, who: Caller | Actor) -> None:
        """As `Retention.keep`. ApprovalError, with the approval asked for, unless another person gave it."""
        self._retention.check(days)
        content: dict[str, Json] = {"keep_days": days}
        self._dual.ask(ApprovalKind.RETENTION, "audit", content, who, f"events would be kept for {days} days")
        self._retention.keep(
            days, actor_of(who), lambda session: self._dual.use(session, ApprovalKind.RETENTION, "audit", content, who)
        )

    def end_hold(self, name: str, who: Caller | Actor) -> None:
        """As `Retention.end_hold`; ApprovalError as `keep`. What is approved is the end of this very hold."""
        subject, held = f"hold:{name}", {each.name: each for each in self._retention.holds()}
        told = asdict(held[name]) if name in held else {"name": name}
        content: dict[str, Json] = {
            field: each.isoformat() if isinstance(each, datetime) else each for field, each in told.items()
        }
        if name in held:
            self._dual.ask(ApprovalKind.RETENTION, subject, content, who, f"the legal hold {name} would end")
        self._retention.end_hold(
            name, actor_of(who), lambda session: self._dual.use(session, ApprovalKind.RETENTION, subject, content, who)
        )

    def retire_key(self, keys: KeyRing, who: Caller | Actor) -> str | None:
        """As `hub.keys.retire`, with its event. ApprovalError as `keep`."""
        version = keys.version
        content: dict[str, Json] = {"key": keys.kek.id, "below_version": version}
        self._dual.ask(ApprovalKind.KEY, "key", content, who, f"versions of the key below {version} would be withdrawn")

        def beside(session: Session, number: int) -> None:
            self._dual.use(session, ApprovalKind.KEY, "key", content, who)
            self._audit.record(session, Event(actor_of(who), Action.KEY_RETIRE, "key", detail={"version": number}))

        return retire(keys, self._database, beside)
