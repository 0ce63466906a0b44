"""What people and upkeep do to a hub: the commit of each, the event it leaves, and what has to be there before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import text

from hub.access import Role, Scope, move_under_newest_key
from hub.audit import Action
from hub.keys import rotate
from hub.runs import RunKind, RunState, Scoring, Worker, cancel, keep_following, undo
from hub.sdk import RightsReport, Secret
from tests.hub.runs.site import ME, Site, document
from tests.system.drill import DIED, carry_until_fault, runs

SCHEDULED = {"run": '  schedule: "* * * * *"\n'}
HOLDS = {"decide": '  hold: "x > 3"\n'}


@dataclass(frozen=True)
class Deed:
    """A verb of `tests.system.verbs`; `before` makes ready and answers its subject.

    `steers`: the mapping can run afterwards, and all that must hold of runs is looked at.
    """

    verb: str
    commit: str
    action: Action | None
    before: Callable[[Site], str] = lambda _: ""
    parts: dict[str, str] = field(default_factory=dict)
    steers: bool = False
    connector: str = "sql"


def ran(site: Site) -> str:
    """A run that has ended."""
    return site.run(RunKind.FULL).id


def _laid_over(site: Site) -> str:
    """A run that has ended, and one record of many whose standing lies over its block since."""
    more = [[f"9{at:05d}", 1.0, 1.0, "2026-01-01 10:00:00"] for at in range(60)]
    site.ask("insert into PERSON(ID, X, Y, STAMP) values (?,?,?,?)", more)
    run = ran(site)
    Scoring(site.hub).score("risk", [{"ID": "999999", "X": 1.0, "Y": 1.0}], str(ME))
    return run


def _held(site: Site) -> str:
    run = site.order(RunKind.FULL, changed_limit=1)
    assert site.carry(run).state is RunState.HELD
    return run


def _left_open(site: Site) -> str:
    run = site.order(RunKind.FULL)
    assert carry_until_fault(site, "exit:after commit of Trip.store.commit") == DIED
    cancel(site.hub, run, str(ME))
    return run


def _undone(site: Site) -> str:
    back = undo(site.hub, ran(site), ME)
    site.carry(back)
    return back


def _handed_in(site: Site) -> str:
    return site.hub.mappings.submit(document(use="2"), ME).document.digest


def _put_up_with(site: Site) -> str:
    report = RightsReport("hub", excess=("DELETE on public.T",))
    return site.hub.mappings.accept_excess("risk", {"far": report}, ME, "a test")[0].id


def _let_through_long_ago(site: Site) -> str:
    """What one person let through alone, and nobody confirmed within a day."""
    approval = _put_up_with(site)
    site.hub.approvals.break_glass(approval, ME, "a test")
    with site.hub.database.begin() as session:
        session.execute(text("update access_approval_glass set at = '2020-01-01 00:00:00.000000'"))
    return approval


def _paused(site: Site) -> str:
    site.hub.mappings.pause("risk", ME, "a test")
    return ""


def _pointed_twice(site: Site) -> str:
    for number in (1, 2):
        site.hub.registry.set_alias("risk", "other", number, str(ME))
    return ""


def _connected(site: Site) -> str:
    site.hub.connections.create("new", "sql", {"dialect": "sqlite", "path": "nowhere.db"}, {}, ME)
    return ""


def _key(site: Site) -> str:
    site.hub.access.create_token("t", owner="anna", scopes=[next(iter(Scope))], actor=ME)
    return site.hub.access.list_tokens()[-1].id


def _role_held(site: Site) -> str:
    site.hub.access.roles.grant("bert", Role.VIEWER, actor=ME)
    return ""


def _client(site: Site) -> str:
    made, secret = site.hub.access.clients.add("c", owner="anna", scopes=[Scope.READ], actor=ME)
    assert secret is not None
    return f"{made.id} {secret.reveal()}"


def _rotated(site: Site) -> str:
    rotate(site.hub.settings, site.hub.database)
    return ""


def _rewrapped(site: Site) -> str:
    ring = rotate(site.hub.settings, site.hub.database)
    move_under_newest_key(ring, site.hub.database, site.hub.audit)
    with site.hub.database.begin() as session:
        session.execute(text("update key_root set rotated_at = '2020-01-01 00:00:00.000000'"))
    return ""


def _replaced(site: Site) -> str:
    with site.hub.database.begin() as session:
        for _ in range(2):
            site.hub.vault.put_secret(session, "replaced", Secret("a password"))
        session.execute(
            text("update access_secret set readable_until = '2020-01-01 00:00:00.000000' where version = 1")
        )
    return ""


def _sealed(site: Site) -> str:
    site.hub.sealed.seal()
    return ""


def _one_held(site: Site) -> str:
    ran(site)
    return "000005"


FOLLOWS = {"run": '  schedule: "0 0 1 1 *"\n  follow: true\n  limits: { changed: 1 }\n'}


def _followed_to_its_limit(site: Site) -> str:
    """A run that follows is held, and the mapping has a newer version since."""
    keep_following(site.hub)
    follower = Worker(site.hub, "follow", "test/follower")
    follower.work()  # gives way to the run over all records that following begins with
    cancel(site.hub, runs(site)[-1].id, str(ME))
    site.ask("update PERSON set X = X + 50")
    follower.work()
    assert runs(site)[-2].state is RunState.HELD
    site.publish(**FOLLOWS, use="2")
    return ""


DEEDS = (
    Deed("start a run", "commit of planning.add_run", Action.RUN_START, steers=True),
    Deed("undo a run", "commit of planning.add_run", Action.RUN_UNDO, ran),
    Deed("replay", "commit of planning.add_run", Action.RECORD_REPLAY, steers=True),
    Deed("cancel a run", "commit of planning.cancel", Action.RUN_CANCEL, lambda s: s.order(), steers=True),
    Deed("resume a run", "commit of planning.resume", Action.RUN_RELEASE, _held, steers=True),
    Deed("look at the schedules", "commit of planning.add_run", Action.RUN_START, parts=SCHEDULED, steers=True),
    Deed("look at the schedules", "commit of schedule._drop", Action.RUN_SKIP, _paused, parts=SCHEDULED),
    Deed("follow", "commit of planning.add_run", Action.RUN_START, parts=FOLLOWS, connector="telling"),
    Deed(
        "follow", "commit of following._is_due", Action.RUN_CANCEL, _followed_to_its_limit, FOLLOWS, connector="telling"
    ),
    Deed("score on request", "commit of Online.remember.commit", Action.SCORE_REQUEST, steers=True),
    Deed("score and write", "commit of planning.add_run", Action.RUN_START, steers=True),
    Deed("keep up", "commit of upkeep.keep_up", None, ran, steers=True),
    Deed("keep up", "commit of upkeep._close_ended", Action.WRITE_OUTCOME, _left_open, steers=True),
    Deed("keep up", "commit of upkeep._sum_up_ended", None, ran, steers=True),
    Deed("fold", "commit of Standing.fold", None, _laid_over, steers=True),
    Deed("compact", "commit of upkeep.compact", None, ran, steers=True),
    Deed("erase", "commit of upkeep.erase", None, ran),
    Deed("check a mapping", "commit of Mappings._tell", Action.MAPPING_CHECK),
    Deed("hand in", "commit of Mappings.submit", Action.MAPPING_SUBMIT),
    Deed("note a preview", "commit of Mappings.note_preview", Action.MAPPING_PREVIEW),
    Deed("approve", "commit of Approvals._decide", Action.MAPPING_APPROVE, _handed_in),
    Deed("approve at large", "commit of Approvals._decide", Action.APPROVAL_APPROVE, _put_up_with),
    Deed("approve one's own", "commit of Approvals._refusing", Action.ACCESS_DENIED, _put_up_with),
    Deed("break the glass", "commit of Approvals._decide", Action.APPROVAL_BREAK, _put_up_with),
    Deed("keep up", "commit of Approvals.tell_overdue", Action.APPROVAL_LAPSE, _let_through_long_ago),
    Deed("ask to keep rights", "commit of Mappings.accept_excess", Action.APPROVAL_REQUEST),
    Deed("ask to replay", "commit of Many.ask", Action.APPROVAL_REQUEST),
    Deed("ask about rights", "commit of Mappings.verify", Action.RIGHTS_VERIFY),
    Deed("publish", "commit of Mappings.publish", Action.MAPPING_PUBLISH),
    Deed("pause a mapping", "commit of Mappings._transaction", Action.MAPPING_PAUSE),
    Deed("resume a mapping", "commit of Mappings.resume", Action.MAPPING_RESUME, _paused, steers=True),
    Deed("set an alias", "commit of Registry.set_alias", Action.MODEL_ALIAS),
    Deed("roll back", "commit of Registry.rollback", Action.MODEL_ALIAS, _pointed_twice),
    Deed("remove a model", "commit of Registry.remove", Action.MODEL_REMOVE),
    Deed("connect", "commit of Connections.create", Action.CONNECTION_CREATE),
    Deed("put secrets", "commit of Connections.put_secrets", Action.SECRET_PUT),
    Deed("revoke leases", "commit of broker.revoke", Action.LEASE_REVOKE),
    Deed("check a connection", "commit of Connections._note_check", Action.CONNECTION_CHECK),
    Deed("pause a connection", "commit of Connections._set_paused", Action.CONNECTION_PAUSE),
    Deed("disconnect", "commit of Connections.remove", Action.CONNECTION_REMOVE, _connected),
    Deed("make a key", "commit of Access.create_token", Action.TOKEN_CREATE),
    Deed("end a key", "commit of Access.revoke_token", Action.TOKEN_REVOKE, _key),
    Deed("add a client", "commit of Clients.add", Action.CLIENT_CREATE),
    Deed("take a token", "commit of Clients.token", Action.CLIENT_TOKEN, _client),
    Deed("end a client", "commit of Clients.revoke", Action.CLIENT_REVOKE, _client),
    Deed("give a role", "commit of Roles.grant", Action.ROLE_GRANT),
    Deed("take a role", "commit of Roles.revoke", Action.ROLE_REVOKE, _role_held),
    Deed("look at a record", "commit of answers.look_up", Action.DECISION_SHOW, ran),
    Deed("look at an undo", "commit of answers.left_alone", Action.DECISION_SHOW, _undone),
    Deed("release", "commit of decisions.release", Action.DECISION_RELEASE, _one_held, HOLDS),
    Deed("drop", "commit of decisions.drop", Action.DECISION_DROP, _one_held, HOLDS),
    Deed("rotate", "commit of rotation.rotate", Action.KEY_ROTATE),
    Deed("rewrap", "commit of rotation.rewrap_some", Action.KEY_REWRAP, _rotated),
    Deed("retire", "commit of rotation.retire", Action.KEY_RETIRE, _rewrapped),
    Deed("let secrets go", "commit of turnover.destroy_overdue", Action.SECRET_DESTROY, _replaced),
    Deed("verify", "commit of audit.verify", Action.AUDIT_VERIFY),
    Deed("export the trail", "commit of audit.export", Action.AUDIT_EXPORT, ran),
    Deed("anchor", "commit of Anchoring._note", None, _sealed),
    Deed("anchor in vain", "commit of Anchoring._tell", Action.AUDIT_ANCHOR, _sealed),
    Deed("seal", "commit of sealer.seal", None, ran, steers=True),
    Deed("keep up", "commit of sealer.seal", None, ran),
    Deed("start a run", "commit of Installation.ring", None, steers=True),
    Deed("check a mapping", "commit of AuditLog._take_writer", None),
)
BEYOND_SQLITE = frozenset({"commit of Installation.ring", "commit of AuditLog._take_writer"})
"""Where there is a broker, or several writers of the trail at once."""
