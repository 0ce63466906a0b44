"""The nouns of the audit trail: an event, what it can tell, and the verdict over the whole trail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Self

from hub.sdk import Json


class AuditError(Exception):
    """An event that must not be recorded as it is; the message names the field."""


class Action(StrEnum):
    """What was done, as `room.subject.verb`, with what it means for the person who reads the trail."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    WRITER_OPEN = "audit.writer.open", "a process began to write a chain of events"
    AUDIT_VERIFY = "audit.trail.verify", "the trail was verified"
    AUDIT_EXPORT = "audit.trail.export", "events were exported; the detail says which and how many"
    AUDIT_ANCHOR = "audit.checkpoint.anchor", "checkpoints could not be put outside the hub, or could again"
    ACCESS_DENIED = "access.request.deny", "a caller asked for what it may not do, or could not prove who it is"
    TOKEN_CREATE = "access.token.create", "an API key was made and shown once"
    TOKEN_REVOKE = "access.token.revoke", "an API key was ended"
    SECRET_PUT = "access.secret.put", "a secret, or where to find one, was stored as a new version"
    SECRET_DESTROY = "access.secret.destroy", "all versions of a secret were destroyed"
    LEASE_OPEN = "access.lease.open", "a worker was handed a credential for a while"
    LEASE_CLOSE = "access.lease.close", "a worker gave a credential back"
    KEY_ROTATE = "keys.key.rotate", "a new version of the key-encryption key seals from now on"
    CONNECTION_CREATE = "connections.connection.create", "a system was connected"
    CONNECTION_CHECK = "connections.connection.check", "a connection logged in and told its rights"
    CONNECTION_REMOVE = "connections.connection.remove", "a connection was removed"
    CONNECTION_PAUSE = "connections.connection.pause", "a connection was paused: nothing opens it"
    CONNECTION_RESUME = "connections.connection.resume", "a paused connection may be opened again"
    CONNECTION_PROVISION = "connections.connection.provision", "the score fields were created in the far system"
    MODEL_REGISTER = "models.version.register", "a version of a model was registered"
    MODEL_ALIAS = "models.alias.set", "an alias was pointed at a version"
    MODEL_REMOVE = "models.version.remove", "a version of a model was removed"
    MAPPING_CHECK = "mappings.mapping.check", "a mapping was checked against its connections and model"
    MAPPING_PREVIEW = "mappings.mapping.preview", "a mapping was tried on real records, nothing written"
    MAPPING_SUBMIT = "mappings.mapping.submit", "a version of a mapping was handed in for approval"
    MAPPING_APPROVE = "mappings.mapping.approve", "somebody other than its author approved a version of a mapping"
    MAPPING_PUBLISH = "mappings.mapping.publish", "a version of a mapping became the one that runs"
    MAPPING_PAUSE = "mappings.mapping.pause", "a mapping was paused: nothing runs it"
    MAPPING_RESUME = "mappings.mapping.resume", "a paused mapping may run again"
    RUN_START = "runs.run.start", "a run began"
    RUN_FINISH = "runs.run.finish", "a run ended; its state and counts are in the detail"
    RUN_CANCEL = "runs.run.cancel", "somebody asked a run to stop"
    RUN_HOLD = "runs.run.hold", "a run stopped before a limit would have been crossed"
    RUN_RELEASE = "runs.run.release", "somebody let a held run go on"
    RUN_UNDO = "runs.run.undo", "a run began to put back what another replaced"
    RUN_SKIP = "runs.run.skip", "a tick of the schedule was dropped, because the mapping was running or paused"
    PAGE_READ = "runs.page.read", "a page of records was read from a connection"
    WRITE_INTENT = "runs.write.intent", "changes are about to be sent; committed before they are"
    WRITE_OUTCOME = "runs.write.outcome", "what the far side answered to the changes sent"
    RECORD_PARK = "runs.record.park", "a record was set aside, because it would not pass"
    RECORD_REPLAY = "runs.record.replay", "somebody let a parked or rejected record be tried again"
    SCORE_REQUEST = "runs.score.request", "records were scored on demand"
    SCHEDULE_SET = "runs.schedule.set", "a schedule was set or cleared"
    DECISION_SHOW = "decisions.decision.show", "somebody looked at the receipt of a record"
    DECISION_RELEASE = "decisions.decision.release", "somebody let a held decision be written"
    DECISION_DROP = "decisions.decision.drop", "somebody dropped a held decision"
    DECISION_ERASE = (
        "decisions.decision.erase",
        "the content of a record's decisions was erased, its digest kept",
    )
    SEGMENT_SEAL = "decisions.segment.seal", "a segment of decisions became durable; the digest binds each of them"

    @property
    def room(self) -> str:
        """The room in which it happened."""
        return self.value.partition(".")[0]


class Outcome(StrEnum):
    """How it ended. An intent has none yet: `STARTED` without a later outcome is itself a finding."""

    DONE = "done"
    STARTED = "started"
    DENIED = "denied"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing done by one actor (`human:anna`, `service:nightly`) to one subject (`mapping:lead_score`).

    `digest` is the SHA-256, in hex, of what the event is about; `detail` holds counts, names and pseudonyms, never a
    record key, a record value or a secret.
    """

    actor: str
    action: Action
    subject: str
    outcome: Outcome = Outcome.DONE
    run: str | None = None
    digest: str | None = None
    detail: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event as it stands in the trail: when, by which writer, at which place of its chain."""

    at: datetime
    writer: str
    seq: int
    event: Event


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the whole trail holds. `fault` names the first thing that does not, in one sentence.

    `sealed` is how many of the events the newest checkpoint covers; `kept` how many checkpoints from outside agreed.
    """

    events: int
    writers: int
    fault: str | None = None
    sealed: int = 0
    kept: int = 0

    @property
    def ok(self) -> bool:
        """Nothing is missing and nothing was altered, as far as the chains can tell."""
        return self.fault is None
