"""One thing that somebody does to a hub, in a process of its own: `python -m tests.system.verbs NAME SUBJECT`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import polars as pl

from hub.access import Role, Scope, destroy_overdue, local_caller
from hub.access.approvals import ApprovalError
from hub.access.leases import revoke
from hub.access.oauth import Presented
from hub.audit.anchors import Anchoring, FileAnchor
from hub.cli.main import run as command
from hub.runs import (
    Installation,
    Order,
    RunKind,
    Scoring,
    cancel,
    keep_following,
    keep_up,
    open_installation,
    replay,
    resume,
    start,
)
from hub.runs import tick as look_at_schedules
from hub.runs import undo as undo_run
from hub.runs.answers import left_alone, look_up
from hub.runs.pages import upkeep
from hub.runs.replays import Many
from hub.sdk import RightsReport, Secret
from hub.settings import load_settings
from tests.hub.runs.site import ME, document

CONFIG = {"dialect": "sqlite", "path": "nowhere.db"}
RECORD = {"ID": "000001", "X": 3.5, "Y": 1.0, "LIVES": 1}


def _tick(hub: Installation) -> object:
    with hub.database.read() as session:
        now = hub.database.now(session)
    return look_at_schedules(hub, now + timedelta(minutes=2))


def _keep_up(hub: Installation) -> object:
    upkeep.ENDED = upkeep.EVERY = timedelta(0)  # at once, and what ended just now too
    return keep_up(hub)


def _anchor(hub: Installation, place: Path) -> object:
    apart = timedelta(0)
    return Anchoring(hub.database, hub.sealed, hub.audit, [FileAnchor(place)], apart=apart).push()


def _refused(attempt: Callable[[], object]) -> None:
    with suppress(ApprovalError):
        attempt()


VERBS: Mapping[str, Callable[[Installation, str], object]] = {
    "start a run": lambda hub, _: start(hub, Order("risk", str(ME), kind=RunKind.FULL)),
    "undo a run": lambda hub, run: undo_run(hub, run, ME),
    "replay": lambda hub, _: replay(hub, "risk", str(ME), ("rejected",)),
    "cancel a run": lambda hub, run: cancel(hub, run, str(ME)),
    "resume a run": lambda hub, run: resume(hub, run, str(ME), lift=True),
    "look at the schedules": lambda hub, _: _tick(hub),
    "follow": lambda hub, _: keep_following(hub),
    "score on request": lambda hub, _: Scoring(hub).score("risk", [RECORD], str(ME)),
    "score and write": lambda hub, _: Scoring(hub).score_and_write("risk", [{"ID": "000001"}], str(ME), "keys"),
    "keep up": lambda hub, _: _keep_up(hub),
    "fold": lambda hub, _: hub.standing.fold("risk"),
    "compact": lambda hub, _: hub.log.compact("risk"),
    "erase": lambda hub, _: hub.log.erase("risk", pl.Series("_key", [{"ID": "000002"}])),
    "check a mapping": lambda hub, _: hub.mappings.check(document(), ME),
    "hand in": lambda hub, _: hub.mappings.submit(document(use="2"), ME),
    "note a preview": lambda hub, _: hub.mappings.note_preview(document(), ME),
    "approve": lambda hub, digest: hub.mappings.approve("risk", digest, local_caller("bert")),
    "approve at large": lambda hub, approval: hub.approvals.approve(approval, local_caller("bert")),
    "approve one's own": lambda hub, approval: _refused(lambda: hub.approvals.approve(approval, ME)),
    "break the glass": lambda hub, approval: hub.approvals.break_glass(approval, ME, "a test"),
    "ask about rights": lambda hub, _: hub.mappings.verify("risk", hub.mappings.grants("risk"), ME),
    "ask to keep rights": lambda hub, _: hub.mappings.accept_excess(
        "risk", {"far": RightsReport("hub", excess=("DELETE on public.T",))}, ME, "a test"
    ),
    "ask to replay": lambda hub, _: Many("risk", {"up_to": 1000}).ask(hub, str(ME)),
    "publish": lambda hub, _: hub.mappings.publish(document(use="2"), ME),
    "pause a mapping": lambda hub, _: hub.mappings.pause("risk", ME, "a test"),
    "resume a mapping": lambda hub, _: hub.mappings.resume("risk", ME),
    "set an alias": lambda hub, _: hub.registry.set_alias("risk", "other", 2, str(ME)),
    "roll back": lambda hub, _: hub.registry.rollback("risk", "other", str(ME)),
    "remove a model": lambda hub, _: hub.registry.remove("risk", 2, str(ME)),
    "connect": lambda hub, _: hub.connections.create("new", "sql", CONFIG, {}, ME),
    "put secrets": lambda hub, _: hub.connections.put_secrets("far", {"password": Secret("pw")}, ME),
    "revoke leases": lambda hub, _: revoke(hub.database, hub.audit, ME, connection="far"),
    "check a connection": lambda hub, _: hub.connections.check("far", ME),
    "pause a connection": lambda hub, _: hub.connections.pause("far", ME),
    "disconnect": lambda hub, _: hub.connections.remove("new", ME),
    "make a key": lambda hub, _: hub.access.create_token("t", owner="anna", scopes=[next(iter(Scope))], actor=ME),
    "end a key": lambda hub, token: hub.access.revoke_token(token, actor=ME),
    "add a client": lambda hub, _: hub.access.clients.add("c", owner="anna", scopes=[Scope.READ], actor=ME),
    "take a token": lambda hub, told: hub.access.clients.token(
        Presented({"grant_type": "client_credentials"}, basic=(told.split()[0], told.split()[1]))
    ),
    "end a client": lambda hub, told: hub.access.clients.revoke(told.split()[0], actor=ME),
    "give a role": lambda hub, _: hub.access.roles.grant("bert", Role.VIEWER, actor=ME),
    "take a role": lambda hub, _: hub.access.roles.revoke("bert", Role.VIEWER, actor=ME),
    "look at a record": lambda hub, _: look_up(hub, "risk", {"ID": "000001"}, str(ME)),
    "look at an undo": lambda hub, run: left_alone(hub, run, str(ME)),
    "release": lambda _, key: command(["decisions", "release", "risk", key]),
    "drop": lambda _, key: command(["decisions", "drop", "risk", key]),
    "rotate": lambda _, __: command(["keys", "rotate"]),
    "rewrap": lambda _, __: command(["keys", "rewrap"]),
    "retire": lambda _, __: command(["keys", "retire"]),
    "let secrets go": lambda hub, _: destroy_overdue(hub.vault, hub.database, hub.audit),
    "verify": lambda _, __: command(["audit", "verify"]),
    "anchor": lambda hub, _: _anchor(hub, hub.settings.home / "kept.jsonl"),
    "anchor in vain": lambda hub, _: _anchor(hub, hub.settings.home),
    "seal": lambda hub, _: hub.sealed.seal(),
    "export the trail": lambda hub, _: command(["audit", "export", str(hub.settings.home / f"{uuid4().hex}.jsonl")]),
}


def main() -> None:
    """Does one of them with the settings of the environment."""
    with open_installation(load_settings()) as hub:
        VERBS[sys.argv[1]](hub, sys.argv[2])


if __name__ == "__main__":
    main()
