"""A run carries records through a mapping, page by page, and can stop and resume at any point.

Owns the ledger, the two commits of a page, undo, preview and scores on request. Refuses a second active run of a
mapping, a write without a stored intent, and a green run with an unexplained record.
"""

from hub.runs.execution import Worker
from hub.runs.installation import Installation, open_installation
from hub.runs.planning import Order, cancel, describe, preflight, replay, resume, start, tick, undo
from hub.runs.scoring import Answer, Scoring, preview
from hub.runs.types import (
    BadRequestError,
    Counts,
    PreflightError,
    Run,
    RunError,
    RunKind,
    RunState,
)

__all__ = [
    "Answer",
    "BadRequestError",
    "Counts",
    "Installation",
    "Order",
    "PreflightError",
    "Run",
    "RunError",
    "RunKind",
    "RunState",
    "Scoring",
    "Worker",
    "cancel",
    "describe",
    "open_installation",
    "preflight",
    "preview",
    "replay",
    "resume",
    "start",
    "tick",
    "undo",
]
