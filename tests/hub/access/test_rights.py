"""The permission model: what roles give, what they give it for, and that nothing else is allowed."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.access import (
    AccessError,
    Actor,
    ActorKind,
    Caller,
    Resource,
    ResourceKind,
    Rights,
    Role,
    Roles,
    Ruling,
    Scope,
    decide,
    local_caller,
)
from hub.access.types import PERSONAL, WHOLE
from hub.audit import Action, AuditLog
from hub.database import Database

ANNA = Actor(ActorKind.HUMAN, "anna")
RESOURCES = [
    *map(Resource.mapping, ("a", "b")),
    Resource.model("a"),
    Resource.connection("a"),
]
grants = st.lists(st.tuples(st.sampled_from(Role), st.sampled_from([None, *RESOURCES])), max_size=5)


@pytest.fixture
def audit(any_database: Database) -> AuditLog:
    return AuditLog(any_database)


@pytest.fixture
def roles(any_database: Database, audit: AuditLog) -> Roles:
    return Roles(any_database, audit)


def holding(held: list[tuple[Role, Resource | None]]) -> Caller:
    rights = Rights()
    for role, resource in held:
        rights = rights.joined(Rights.of(role.scopes, None if resource is None else [resource]))
    return Caller(ANNA, "anna", rights)


@given(grants, st.sampled_from(Scope), st.sampled_from([None, *RESOURCES]))
def test_a_caller_may_what_some_grant_gives_and_nothing_else(
    held: list[tuple[Role, Resource | None]], scope: Scope, resource: Resource | None
) -> None:
    everywhere = any(scope in role.scopes for role, on in held if on is None)
    here = resource is not None and any(scope in role.scopes for role, on in held if on == resource)
    anything = any(scope in role.scopes for role, _ in held)
    ruling = decide(holding(held), scope, resource)
    assert ruling.allowed is (everywhere or here)
    assert (ruling is Ruling.EVERYWHERE) is everywhere
    assert (ruling is Ruling.NOWHERE) is not anything


@given(grants, st.sets(st.sampled_from(Scope)), st.sampled_from(Scope), st.sampled_from([None, *RESOURCES]))
def test_narrowed_rights_are_what_both_hold(
    held: list[tuple[Role, Resource | None]], scopes: set[Scope], scope: Scope, resource: Resource | None
) -> None:
    caller = holding(held)
    narrowed = Caller(ANNA, "anna", caller.rights.narrowed(scopes))
    assert decide(narrowed, scope, resource).allowed is (scope in scopes and decide(caller, scope, resource).allowed)


def test_every_scope_is_in_some_role_and_no_role_is_everything() -> None:
    assert frozenset().union(*(each.scopes for each in Role)) == frozenset(Scope)
    assert all(each.scopes < frozenset(Scope) for each in Role)


def test_who_writes_or_administers_does_not_approve() -> None:
    assert [each for each in Role if Scope.APPROVE in each.scopes] == [Role.APPROVER]
    assert Role.APPROVER.scopes & {Scope.MAPPINGS, Scope.MODELS, Scope.CONNECTIONS, Scope.ACCESS} == set()


def test_who_administers_or_audits_sees_no_record() -> None:
    assert {each for each in Role if Scope.RECORDS in each.scopes} == {Role.OPERATOR, Role.INTEGRATOR, Role.APPROVER}


def test_who_sits_at_the_machine_holds_every_scope() -> None:
    caller = local_caller("anna")
    assert {decide(caller, scope, each) for scope in Scope for each in (None, *RESOURCES)} == {Ruling.EVERYWHERE}


@pytest.mark.parametrize(
    "text", ["", "mapping", "mapping:", ":a", "run:a", "mapping:a\nb", "Mapping:a", "mapping:" + "a" * 201]
)
def test_what_is_no_resource_is_refused(text: str) -> None:
    with pytest.raises(AccessError, match="a resource is written"):
        Resource.parse(text)


@pytest.mark.parametrize("kind", ResourceKind)
def test_a_resource_reads_as_it_is_written(kind: ResourceKind) -> None:
    assert Resource.parse(str(Resource(kind, "a:b c"))) == Resource(kind, "a:b c")


def test_a_role_is_given_seen_and_taken(roles: Roles, audit: AuditLog) -> None:
    mine = Resource.mapping("mine")
    assert roles.caller("bert").rights == Rights()
    made = roles.grant("bert", Role.OPERATOR, mine, actor=ANNA)
    assert isinstance(made.granted_at, datetime)
    assert [(str(each.actor), each.role, each.resource, each.granted_by) for each in roles.list_grants()] == [
        ("human:bert", Role.OPERATOR, mine, "human:anna")
    ]
    bert = roles.caller("bert", "session:1")
    assert (bert.actor, bert.owner, bert.credential) == (Actor(ActorKind.HUMAN, "bert"), "bert", "session:1")
    assert decide(bert, Scope.RUN, mine) is Ruling.HERE
    assert decide(bert, Scope.RUN, Resource.mapping("other")) is Ruling.ELSEWHERE
    roles.grant("bert", Role.VIEWER, actor=ANNA)
    assert decide(roles.caller("bert"), Scope.READ, Resource.mapping("other")) is Ruling.EVERYWHERE
    roles.revoke("bert", Role.OPERATOR, mine, actor=ANNA)
    assert decide(roles.caller("bert"), Scope.RUN, mine) is Ruling.NOWHERE
    told = [(each.event.action, each.event.detail["role"]) for each in audit.events(subject="human:bert")]
    assert told == [(Action.ROLE_REVOKE, "operator"), (Action.ROLE_GRANT, "viewer"), (Action.ROLE_GRANT, "operator")]


def test_a_role_is_held_once_and_taken_once(roles: Roles) -> None:
    roles.grant("bert", Role.VIEWER, actor=ANNA)
    with pytest.raises(AccessError, match="bert holds the role viewer already"):
        roles.grant("bert", Role.VIEWER, actor=ANNA)
    roles.revoke("bert", Role.VIEWER, actor=ANNA)
    with pytest.raises(AccessError, match="bert does not hold the role viewer"):
        roles.revoke("bert", Role.VIEWER, actor=ANNA)


@pytest.mark.parametrize("role", [each for each in Role if each.scopes & WHOLE])
def test_a_role_over_the_hub_is_not_held_for_one_resource(roles: Roles, role: Role) -> None:
    with pytest.raises(AccessError, match=f"the role {role} is over the whole hub"):
        roles.grant("bert", role, Resource.mapping("mine"), actor=ANNA)
    assert roles.list_grants() == []


@pytest.mark.parametrize("person", ["", "a\nb", "x" * 101])
def test_a_person_has_a_name(roles: Roles, person: str) -> None:
    with pytest.raises(AccessError, match="person: a person is named"):
        roles.grant(person, Role.VIEWER, actor=ANNA)


def test_what_is_personal_is_a_scope() -> None:
    assert frozenset(Scope) >= PERSONAL
