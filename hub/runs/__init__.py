"""A run carries records through a mapping, page by page, and can stop and resume at any point.

Owns the ledger, the two commits of a page, undo, preview and scores on request. Refuses a second active run of a
mapping, a write without a stored intent, and a green run with an unexplained record.
"""

from hub.runs.answers import answer_json, left_alone, look_up, progress
from hub.runs.execution import Worker, abandon
from hub.runs.installation import Installation, open_installation
from hub.runs.pages.upkeep import keep_up
from hub.runs.planning import Order, cancel, describe, preflight, replay, resume, start, tick, undo
from hub.runs.requests.answering import MOST_RECORDS, Answer
from hub.runs.requests.gathering import Asking, Gathering
from hub.runs.scoring import Scoring, preview
from hub.runs.types import (
    BadRequestError,
    Counts,
    PreflightError,
    Run,
    RunError,
    RunKind,
    RunState,
    UnknownRunError,
)

__all__ = [
    "MOST_RECORDS",
    "Answer",
    "Asking",
    "BadRequestError",
    "Counts",
    "Gathering",
    "Installation",
    "Order",
    "PreflightError",
    "Run",
    "RunError",
    "RunKind",
    "RunState",
    "Scoring",
    "UnknownRunError",
    "Worker",
    "abandon",
    "answer_json",
    "cancel",
    "describe",
    "keep_up",
    "left_alone",
    "look_up",
    "open_installation",
    "preflight",
    "preview",
    "progress",
    "replay",
    "resume",
    "start",
    "tick",
    "undo",
]
