"""A run carries records through a mapping, page by page, and can stop and resume at any point.

Owns the ledger, the two commits of a page, undo, preview and scores on request. Refuses a second active run of a
mapping, a write without a stored intent, and a green run with an unexplained record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.deferred import deferred
from hub.runs.types import (
    FOLLOWERS,
    BadRequestError,
    Counts,
    PreflightError,
    Run,
    RunError,
    RunKind,
    RunState,
    UnknownRunError,
)

if TYPE_CHECKING:
    from hub.runs.answers import answer_json, left_alone, look_up, note_look, progress, require_run
    from hub.runs.execution import Worker, abandon
    from hub.runs.following import how_followed, keep_following, start_following
    from hub.runs.installation import Installation, open_installation, serving_leases
    from hub.runs.pages.upkeep import keep_up
    from hub.runs.planning.describing import describe
    from hub.runs.planning.planning import Order, cancel, replay, resume, start, undo
    from hub.runs.planning.preflight import preflight
    from hub.runs.planning.schedule import tick
    from hub.runs.requests.answering import MOST_RECORDS, Answer
    from hub.runs.requests.gathering import Asking, Gathering
    from hub.runs.scoring import Scoring, preview
    from hub.runs.store import unfollowed

__all__ = [
    "FOLLOWERS",
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
    "how_followed",
    "keep_following",
    "keep_up",
    "left_alone",
    "look_up",
    "note_look",
    "open_installation",
    "preflight",
    "preview",
    "progress",
    "replay",
    "require_run",
    "resume",
    "serving_leases",
    "start",
    "start_following",
    "tick",
    "undo",
    "unfollowed",
]

# A receipt needs neither the planner nor the worker, and they need every library there is.
__getattr__ = deferred(
    __name__,
    {
        "Answer": "hub.runs.requests.answering",
        "Asking": "hub.runs.requests.gathering",
        "Gathering": "hub.runs.requests.gathering",
        "Installation": "hub.runs.installation",
        "MOST_RECORDS": "hub.runs.requests.answering",
        "Order": "hub.runs.planning.planning",
        "Scoring": "hub.runs.scoring",
        "Worker": "hub.runs.execution",
        "abandon": "hub.runs.execution",
        "answer_json": "hub.runs.answers",
        "cancel": "hub.runs.planning.planning",
        "describe": "hub.runs.planning.describing",
        "how_followed": "hub.runs.following",
        "keep_following": "hub.runs.following",
        "keep_up": "hub.runs.pages.upkeep",
        "left_alone": "hub.runs.answers",
        "look_up": "hub.runs.answers",
        "note_look": "hub.runs.answers",
        "open_installation": "hub.runs.installation",
        "preflight": "hub.runs.planning.preflight",
        "preview": "hub.runs.scoring",
        "progress": "hub.runs.answers",
        "replay": "hub.runs.planning.planning",
        "require_run": "hub.runs.answers",
        "resume": "hub.runs.planning.planning",
        "serving_leases": "hub.runs.installation",
        "start": "hub.runs.planning.planning",
        "start_following": "hub.runs.following",
        "tick": "hub.runs.planning.schedule",
        "undo": "hub.runs.planning.planning",
        "unfollowed": "hub.runs.store",
    },
)
