"""Publishing in production: an approval covers what was looked at, by somebody who had no part in it, and no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hub.access import Actor, ActorKind, Caller, Rights, local_caller
from hub.access.approvals import ApprovalError, Approvals, ApprovalState
from hub.audit import Action
from hub.database import Database
from hub.mappings import Mappings
from hub.mappings.types import MappingState
from hub.models import ModelVersion
from tests.hub.mappings.test_mappings import House, make_house

ANNA, BERT, CARLA = (local_caller(name) for name in ("anna", "bert", "carla"))
KEY_OF_ANNA = Caller(Actor(ActorKind.SERVICE, "pipeline"), "anna", Rights(), "a key")
EXCESS = ("DELETE on public.T", "UPDATE on public.T, the whole table")


@pytest.fixture
def house(any_database: Database, tmp_path: Path, systems: Any, version: ModelVersion) -> House:
    return make_house(any_database, tmp_path / "home", systems, version)


@pytest.fixture
def strict(house: House) -> Mappings:
    """The room in production."""
    return house.mappings(production=True)


@pytest.fixture
def approvals(house: House) -> Approvals:
    return Approvals(house.database, house.keys, house.audit)


def hand_in(mappings: Mappings, text: str, who: Caller = ANNA) -> str:
    mappings.note_preview(text, who)
    return mappings.submit(text, who).document.digest


def other(text: str) -> str:
    return text.replace("title: Lead score", "title: Lead rank")


def test_the_states_follow_each_other_and_none_is_skipped(strict: Mappings, good: str) -> None:
    seen = []
    with pytest.raises(ApprovalError, match="`hub mappings submit` hands it in"):
        strict.publish(good, ANNA)
    strict.note_preview(good, ANNA)
    seen.append(strict.list()[0].newest_state)
    digest = strict.submit(good, ANNA).document.digest
    seen.append(strict.list()[0].newest_state)
    with pytest.raises(ApprovalError, match="somebody other than anna decides by `hub access approvals approve"):
        strict.publish(good, ANNA)
    strict.approve("lead_score", digest, BERT)
    seen.append(strict.list()[0].newest_state)
    assert strict.publish(good, ANNA).approved_by == "human:bert"
    seen.append(strict.list()[0].newest_state)
    assert seen == [MappingState.DRAFT, MappingState.SUBMITTED, MappingState.APPROVED, MappingState.PUBLISHED]
    with pytest.raises(ApprovalError, match="published as number 1 already"):
        strict.submit(good, ANNA)
    assert strict.publish(good, ANNA).number == 1, "what runs already needs no approval to go on"


@pytest.mark.parametrize("author", [ANNA, KEY_OF_ANNA], ids=["herself", "her key"])
def test_the_author_approves_neither_herself_nor_the_work_of_her_key(
    strict: Mappings, good: str, author: Caller
) -> None:
    digest = hand_in(strict, good, author)
    with pytest.raises(ApprovalError, match="human:anna is its author"):
        strict.approve("lead_score", digest, ANNA)
    assert strict.approve("lead_score", digest, BERT).approved


def test_whoever_edited_a_version_on_its_way_does_not_approve_it(strict: Mappings, good: str) -> None:
    hand_in(strict, good, ANNA)
    digest = hand_in(strict, other(good), BERT)
    for part in (ANNA, BERT):
        with pytest.raises(ApprovalError, match="somebody else must approve"):
            strict.approve("lead_score", digest, part)
    strict.approve("lead_score", digest, CARLA)
    strict.publish(other(good), BERT)
    after = hand_in(strict, good.replace("title: Lead score", "title: Third"), BERT)
    assert strict.approve("lead_score", after, ANNA).approved, "what was published since is no longer her draft"


def test_an_edit_voids_the_approval(strict: Mappings, good: str, approvals: Approvals) -> None:
    digest = hand_in(strict, good)
    given = strict.approve("lead_score", digest, BERT)
    hand_in(strict, other(good))
    assert approvals.get(given.id).state is ApprovalState.VOID
    with pytest.raises(ApprovalError, match="hands it in"):
        strict.publish(good, ANNA)


def test_what_moved_since_it_was_approved_is_not_published(strict: Mappings, house: House, good: str) -> None:
    digest = hand_in(strict, good)
    strict.approve("lead_score", digest, BERT)
    house.registry.version = replace(house.registry.version, number=9, digest="cd" * 32)
    with pytest.raises(ApprovalError, match="since it was handed in, model changed"):
        strict.publish(good, ANNA)
    house.connections.settings = {"host": "elsewhere.example.org"}
    with pytest.raises(ApprovalError, match="since it was handed in, connections, model changed"):
        strict.publish(good, ANNA)
    hand_in(strict, good)
    strict.approve("lead_score", digest, BERT)
    assert strict.publish(good, ANNA).number == 1


def test_an_approval_shows_the_difference_from_the_live_version(
    strict: Mappings, good: str, approvals: Approvals
) -> None:
    strict.approve("lead_score", hand_in(strict, good), BERT)
    strict.publish(good, ANNA)
    less = good.replace("{ Score: score, Band: band }", "{ Score: score }")
    hand_in(strict, less)
    content: Any = approvals.list()[0].content
    assert content["difference"]["from"] == 1
    assert any("Band" in line for line in content["difference"]["rights"])
    assert any(line.startswith("write.set.Band: removed") for line in content["difference"]["document"])
    assert set(content) == {"document", "grants", "difference", "model", "connections", "thresholds"}


def test_going_back_to_an_earlier_version_needs_an_approval_of_its_own(strict: Mappings, good: str) -> None:
    for text in (good, other(good)):
        strict.approve("lead_score", hand_in(strict, text), BERT)
        strict.publish(text, ANNA)
    with pytest.raises(ApprovalError, match="hands it in"):
        strict.publish(good, ANNA)
    strict.approve("lead_score", hand_in(strict, good), BERT)
    assert strict.publish(good, ANNA).number == 1


def test_rights_beyond_the_need_block_until_two_people_accept_them(
    strict: Mappings, house: House, good: str, approvals: Approvals
) -> None:
    strict.approve("lead_score", hand_in(strict, good), BERT)
    house.connections.excess = EXCESS[:1]
    with pytest.raises(
        ApprovalError, match="the login of crm, erp may do more than the mapping needs; `hub access verify`"
    ):
        strict.publish(good, ANNA)
    compiled = strict.check(good, ANNA)
    reports = strict.verify("lead_score", compiled.grants, ANNA)
    with pytest.raises(ApprovalError, match="reason: say why"):
        strict.accept_excess("lead_score", reports, ANNA, " ")
    asked = strict.accept_excess("lead_score", reports, ANNA, "one login for all", 30)
    with pytest.raises(ApprovalError, match="may do more"):
        strict.publish(good, ANNA)
    for each in asked:
        with pytest.raises(ApprovalError, match="is its author"):
            approvals.approve(each.id, ANNA)
        approvals.approve(each.id, BERT)
    assert strict.unaccepted("lead_score", reports) == []
    house.connections.excess = EXCESS
    with pytest.raises(ApprovalError, match="may do more"):
        strict.publish(good, ANNA)
    house.connections.excess = EXCESS[:1]
    assert strict.publish(good, ANNA).number == 1
    told = house.audit.events(action=Action.RIGHTS_VERIFY)[0].event
    assert told.detail["crm"] == {"identity": "hub@crm", "missing": [], "excess": [EXCESS[0]]}


def test_what_was_let_through_alone_is_published_under_that_name_and_told_as_unconfirmed(
    strict: Mappings, house: House, good: str, approvals: Approvals
) -> None:
    hand_in(strict, good)
    (asked,) = approvals.list()
    approvals.break_glass(asked.id, CARLA, "nobody else on call")
    assert strict.publish(good, ANNA).approved_by == "human:carla"
    told = house.audit.events(action=Action.MAPPING_PUBLISH)[0].event.detail
    assert (told["approval"], told["approved_by_publisher"], told["unconfirmed"]) == (asked.id, False, True)
    assert not approvals.approve(asked.id, BERT).unconfirmed


def test_outside_production_one_person_goes_on_alone(house: House, good: str) -> None:
    house.connections.excess = EXCESS
    assert house.mappings().publish(good, ANNA).approved_by == "human:anna"
    assert house.mappings().grants("lead_score")["crm"].reads
