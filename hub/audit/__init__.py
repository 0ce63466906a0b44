"""Who did what: append-only and provable. An event is stored in the transaction of the thing it tells.

Owns the events, their canonical bytes, the chains that show a gap, and the Merkle log that is sealed over them. Refuses
record keys and record values in clear (callers pass pseudonyms, `SubjectKeys.name`), changes and
deletions.
"""

from hub.audit.leaf import legible
from hub.audit.log import AuditLog
from hub.audit.merkle.note import Checkpoint
from hub.audit.merkle.sealed import Chosen, Proof, SealedLog
from hub.audit.retention.retention import Hold, Retention
from hub.audit.retention.subjects import SubjectKeys
from hub.audit.types import Action, AuditError, Event, Outcome, Recorded, Verdict

__all__ = [
    "Action",
    "AuditError",
    "AuditLog",
    "Checkpoint",
    "Chosen",
    "Event",
    "Hold",
    "Outcome",
    "Proof",
    "Recorded",
    "Retention",
    "SealedLog",
    "SubjectKeys",
    "Verdict",
    "legible",
]
