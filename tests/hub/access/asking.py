"""What tests ask of approvals: a clock that they move, and one thing that takes two people."""

from __future__ import annotations

from collections.abc import Mapping

from hub.access import Caller, local_caller
from hub.access.approvals import Approval, ApprovalKind, Approvals
from hub.database import Database
from hub.sdk import Json

ANNA, BERT, CARLA = local_caller("anna"), local_caller("bert"), local_caller("carla")
CONTENT: dict[str, Json] = {"model": "lead", "alias": "champion", "to": 2}
ASKED = (ApprovalKind.MODEL, "model:lead", CONTENT)


def ask(
    approvals: Approvals, database: Database, who: Caller = ANNA, content: Mapping[str, Json] = CONTENT, **more: object
) -> Approval:
    """Asks for that, or for something like it."""
    with database.begin() as session:
        return approvals.request(session, *ASKED[:2], content, who, **more)  # type: ignore[arg-type]


def use(approvals: Approvals, database: Database, content: Mapping[str, Json] = CONTENT) -> Approval | None:
    """Uses the approval of that up, where there is one."""
    with database.begin() as session:
        return approvals.use(session, *ASKED[:2], content, ANNA)
