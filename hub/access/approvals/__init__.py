"""Approvals: what one person asks for and another decides, before it is done.

Owns the requests with their frozen hashes, the decisions and when both run out. Refuses a decision by whoever had a
part in what was asked for, by a program, and about anything that was changed since; knows nothing of what is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.access.approvals.types import (
    Approval,
    ApprovalError,
    ApprovalKind,
    ApprovalState,
    UnknownApprovalError,
    actor_of,
    as_json,
    owner_of,
)
from hub.deferred import deferred

if TYPE_CHECKING:
    from hub.access.approvals.approvals import Approvals
    from hub.access.approvals.custody import Custody
    from hub.access.approvals.dual_control import DualControl

__all__ = [
    "Approval",
    "ApprovalError",
    "ApprovalKind",
    "ApprovalState",
    "Approvals",
    "Custody",
    "DualControl",
    "UnknownApprovalError",
    "actor_of",
    "as_json",
    "owner_of",
]

__getattr__ = deferred(
    __name__,
    {
        "Approvals": "hub.access.approvals.approvals",
        "Custody": "hub.access.approvals.custody",
        "DualControl": "hub.access.approvals.dual_control",
    },
)
