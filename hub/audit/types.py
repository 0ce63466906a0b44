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
    AUDIT_RETAIN = "audit.retention.set", "how long the bodies of events are kept was set"
    AUDIT_PRUNE = "audit.trail.prune", "bodies of events beyond their time were dropped, their hashes kept"
    AUDIT_HOLD = "audit.hold.set", "a legal hold was put on events: nothing of them is pruned or erased"
    AUDIT_UNHOLD = "audit.hold.end", "a legal hold was ended"
    AUDIT_KEY = "audit.key.change", "another key signs the log's checkpoints from now on"
    AUDIT_SUBJECT = "audit.subject.show", "somebody asked what was done with a record, and by whom"
    SUBJECT_SHRED = "audit.subject.shred", "the key under which events told of a record was destroyed"
    AUDIT_REPORT = "audit.report.make", "a report about a mapping was made from the log"
    AUDIT_REVIEW = "audit.report.review", "somebody looked at a report about a mapping and noted what they found"
    AUDIT_ANCHOR = "audit.checkpoint.anchor", "checkpoints could not be put outside the hub, or could again"
    ACCESS_DENIED = "access.request.deny", "a caller asked for what it may not do, or could not prove who it is"
    TOKEN_CREATE = "access.token.create", "an API key was made and shown once"
    TOKEN_REVOKE = "access.token.revoke", "an API key was ended"
    ROLE_GRANT = "access.role.grant", "a person was given a role"
    ROLE_REVOKE = "access.role.revoke", "a role was taken from a person"
    PERSON_CREATE = (
        "access.person.create",
        "somebody logged in for the first time, and is known by this name from now on",
    )
    PERSON_DISABLE = "access.person.disable", "a person may log in no more, and all their sessions ended"
    PERSON_ENABLE = "access.person.enable", "a person may log in again"
    SETUP_MAKE = "access.setup.make", "a setup secret was printed, which makes one administrator once"
    SESSION_OPEN = "access.session.open", "a person logged in or proved anew who they are, or somebody failed to"
    SESSION_CLOSE = "access.session.close", "a session was ended, by logout or by an administrator"
    CLIENT_CREATE = "access.client.create", "a client of the token endpoint was registered"
    CLIENT_TOKEN = "access.client.token", "a client proved who it is and was given an access token"
    CLIENT_REVOKE = "access.client.revoke", "a client was ended, and with it its tokens"
    SECRET_PUT = "access.secret.put", "a secret, or where to find one, was stored as a new version"
    SECRET_DESTROY = "access.secret.destroy", "versions of a secret were destroyed"
    LEASE_OPEN = "access.lease.open", "a worker was handed a credential for a while"
    LEASE_CLOSE = "access.lease.close", "a worker gave a credential back, or its time was over; with what was done"
    LEASE_REVOKE = "access.lease.revoke", "somebody took credentials back that workers held"
    RIGHTS_VERIFY = (
        "access.rights.verify",
        "a login was asked what it holds beyond what a mapping needs, and what it lacks",
    )
    APPROVAL_REQUEST = "access.approval.request", "somebody asked for a second person; the digest freezes what for"
    APPROVAL_APPROVE = "access.approval.approve", "a second person approved what was asked for"
    APPROVAL_REFUSE = "access.approval.refuse", "a second person refused what was asked for"
    APPROVAL_BREAK = (
        "access.approval.break",
        "somebody let through alone what takes two people; another person has to confirm it within a day",
    )
    APPROVAL_CONFIRM = "access.approval.confirm", "another person confirmed what somebody had let through alone"
    APPROVAL_LAPSE = "access.approval.lapse", "nobody confirmed within a day what somebody had let through alone"
    APPROVAL_VOID = "access.approval.void", "what was asked for changed or was taken back: no approval of it counts"
    APPROVAL_USE = "access.approval.use", "what had been approved was done, and the approval used up"
    KEY_ROTATE = "keys.key.rotate", "a new version of the key-encryption key seals from now on"
    KEY_REWRAP = "keys.key.rewrap", "sealed values were moved under the current version of the key"
    KEY_RETIRE = "keys.key.retire", "the versions of the key before the current one were withdrawn"
    CONNECTION_CREATE = "connections.connection.create", "a system was connected"
    CONNECTION_CHECK = "connections.connection.check", "a connection logged in and told its rights"
    CONNECTION_UNTRUSTED = "connections.connection.untrusted", "a far system could not prove who it is: no TLS was made"
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
    RUN_FINISH = "runs.run.finish", "a run ended; its state, its counts and why are in the detail"
    RUN_CANCEL = "runs.run.cancel", "somebody asked a run to stop"
    RUN_HOLD = "runs.run.hold", "a run stopped and waits for a person: at a limit, at a change over there; it says why"
    RUN_RELEASE = "runs.run.release", "somebody let a held run go on"
    RUN_UNDO = "runs.run.undo", "a run began to put back what another replaced"
    RUN_SKIP = "runs.run.skip", "a tick of the schedule was dropped, because the mapping was running or paused"
    PAGE_READ = "runs.page.read", "a page of records was read from a connection"
    WRITE_INTENT = "runs.write.intent", "changes are about to be sent; committed before they are"
    WRITE_OUTCOME = "runs.write.outcome", "what the far side answered to the changes sent"
    RECORD_PARK = "runs.record.park", "a record was set aside, because it would not pass"
    RECORD_REPLAY = "runs.record.replay", "somebody let a parked or rejected record be tried again"
    SCORE_REQUEST = "runs.score.request", "records were scored on demand"
    DECISION_SHOW = "decisions.decision.show", "somebody looked at the receipt of a record"
    DECISION_RELEASE = "decisions.decision.release", "somebody let a held decision be written"
    DECISION_DROP = "decisions.decision.drop", "somebody dropped a held decision"
    DECISION_ERASE = (
        "decisions.decision.erase",
        "the content of a record's decisions was erased, its digest kept",
    )

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
    record key, a record value or a secret. `about` tells of the record that is the subject: it is sealed under the
    record's own key before it is stored, and gone when that is destroyed.
    """

    actor: str
    action: Action
    subject: str
    outcome: Outcome = Outcome.DONE
    run: str | None = None
    digest: str | None = None
    detail: Mapping[str, Json] = field(default_factory=dict)
    about: Mapping[str, Json] = field(default_factory=dict)


def is_unknown(actor: str) -> bool:
    """Whether this actor did not prove who they are."""
    return actor.partition(":")[2] == "unknown"


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event as it stands in the trail: when, by which writer, at which place of its chain."""

    at: datetime
    writer: str
    seq: int
    event: Event


@dataclass(frozen=True, slots=True)
class Pruned:
    """An event whose body was dropped: its place in its chain, and the hash that stays."""

    writer: int
    seq: int
    leaf_hash: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the whole trail holds. `fault` names the first thing that does not, in one sentence.

    `sealed` is how many of the events the newest checkpoint covers; `kept` how many checkpoints from outside agreed;
    `pruned` how many events only their hash is left of.
    """

    events: int
    writers: int
    fault: str | None = None
    sealed: int = 0
    kept: int = 0
    pruned: int = 0

    @property
    def ok(self) -> bool:
        """Nothing is missing and nothing was altered, as far as the chains can tell."""
        return self.fault is None
