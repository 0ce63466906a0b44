"""What the hub concluded about each record, and where each record stands now.

Owns the decision log (encrypted segments and their catalogue), standing, and the receipt that both make together.
Refuses to decide anything: it keeps what it is given, proves it, and gives it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.decisions.types import (
    APPLIED,
    CONFLICT,
    DROPPED,
    HELD,
    INVALID,
    LEFT,
    PARKED,
    PLANNED,
    REJECTED,
    RELEASED,
    UNCHANGED,
    UNDONE,
    UNKNOWN,
    Decision,
    DecisionError,
    IntegrityError,
    Receipt,
    Segment,
    SegmentFacts,
)
from hub.deferred import deferred

if TYPE_CHECKING:
    from hub.decisions.holds import drop, held, release
    from hub.decisions.keyhash import key_hash
    from hub.decisions.keytext import key_text
    from hub.decisions.log.log import DecisionLog
    from hub.decisions.receipts import history, receipt
    from hub.decisions.standing.snapshot import Prepared, Snapshot, View
    from hub.decisions.standing.standing import Standing

__all__ = [
    "APPLIED",
    "CONFLICT",
    "DROPPED",
    "HELD",
    "INVALID",
    "LEFT",
    "PARKED",
    "PLANNED",
    "REJECTED",
    "RELEASED",
    "UNCHANGED",
    "UNDONE",
    "UNKNOWN",
    "Decision",
    "DecisionError",
    "DecisionLog",
    "IntegrityError",
    "Prepared",
    "Receipt",
    "Segment",
    "SegmentFacts",
    "Snapshot",
    "Standing",
    "View",
    "drop",
    "held",
    "history",
    "key_hash",
    "key_text",
    "receipt",
    "release",
]


# polars and numpy are imported where they are used first, so that `hub --help` needs neither.
__getattr__ = deferred(
    __name__,
    {
        "DecisionLog": "hub.decisions.log.log",
        "Prepared": "hub.decisions.standing.snapshot",
        "Snapshot": "hub.decisions.standing.snapshot",
        "Standing": "hub.decisions.standing.standing",
        "View": "hub.decisions.standing.snapshot",
        "drop": "hub.decisions.holds",
        "held": "hub.decisions.holds",
        "history": "hub.decisions.receipts",
        "key_hash": "hub.decisions.keyhash",
        "key_text": "hub.decisions.keytext",
        "receipt": "hub.decisions.receipts",
        "release": "hub.decisions.holds",
    },
)
