"""Publishing: what runs is what was checked, approved by somebody else where it must be, and never altered after."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text as sql

from hub.access import Actor, ActorKind
from hub.audit import Action, AuditLog, Event
from hub.connections import Connection, UnknownConnectionError
from hub.database import Database
from hub.keys import KeyRing, open_ring
from hub.mappings import Mappings
from hub.mappings.mappings import model_users
from hub.mappings.types import (
    AlteredMappingError,
    ApprovalError,
    MappingError,
    MappingState,
    UnknownMappingError,
    Watermark,
)
from hub.models import ModelNotFoundError, ModelVersion
from hub.sdk import Cursor, Entity, Grant, RightsReport
from hub.settings import load_settings

ANNA, BERT = Actor(ActorKind.HUMAN, "anna"), Actor(ActorKind.HUMAN, "bert")
ROBOT = Actor(ActorKind.SERVICE, "nightly")


class Systems:
    """What `Connections` tells of far systems, and how often it was asked."""

    def __init__(self, systems: dict[str, Sequence[Entity]]) -> None:
        self.systems = systems
        self.asked: list[str] = []
        self.excess: tuple[str, ...] = ()
        self.settings: dict[str, Any] = {"host": "crm.example.org"}

    def entities(self, name: str, names: Collection[str] | None = None) -> Sequence[Entity]:
        self.asked.append(name)
        if name not in self.systems:
            raise UnknownConnectionError(f"there is no connection {name}")
        return [each for each in self.systems[name] if names is None or each.name in names]

    def tells(self, name: str) -> bool:
        """No connection here tells of changes."""
        return False

    def get(self, name: str) -> Connection:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        return Connection(name, "memory", self.settings, ("password",), False, "human:anna", at)

    def verify(self, name: str, grant: Grant) -> RightsReport:
        """The login holds what it needs, and `excess` too."""
        assert grant.reads
        return RightsReport(f"hub@{name}", excess=self.excess)


class Models:
    """What `Registry` tells of one model, whose champion can change."""

    def __init__(self, version: ModelVersion) -> None:
        self.version = version

    def get(self, name: str, use: str | int = "champion") -> ModelVersion:
        if name != self.version.name:
            raise ModelNotFoundError(f"there is no model {name}; registered are: {self.version.name}")
        return self.version


class House:
    """The room with what it stands on."""

    def __init__(self, database: Database, keys: KeyRing, systems: Any, version: ModelVersion) -> None:
        self.database = database
        self.audit = AuditLog(database)
        self.connections = Systems(dict(systems))
        self.registry = Models(version)
        self.keys = keys

    def mappings(self, *, production: bool = False) -> Mappings:
        return Mappings(
            self.database,
            self.keys,
            self.audit,
            self.connections,  # type: ignore[arg-type]
            self.registry,  # type: ignore[arg-type]
            production=production,
        )

    def told(self) -> list[Event]:
        """What the trail tells of mappings, oldest first."""
        mine = [each for each in self.audit.events() if each.event.subject.startswith("mapping:")]
        return [each.event for each in sorted(mine, key=lambda each: (each.writer, each.seq))]

    def actions(self) -> list[Action]:
        """What was done to mappings, oldest first."""
        return [each.action for each in self.told()]


def make_house(database: Database, home: Path, systems: Any, version: ModelVersion) -> House:
    url = database.url.render_as_string(hide_password=False)
    return House(database, open_ring(load_settings(home=home, database_url=url), database), systems, version)


@pytest.fixture
def any_house(any_database: Database, tmp_path: Path, systems: Any, version: ModelVersion) -> House:
    """The room on each database."""
    return make_house(any_database, tmp_path / "home", systems, version)


@pytest.fixture
def house(database: Database, tmp_path: Path, systems: Any, version: ModelVersion) -> House:
    """The room on SQLite."""
    return make_house(database, tmp_path / "home", systems, version)


def test_a_published_mapping_can_be_read_back_with_its_people(house: House, good: str) -> None:
    mappings = house.mappings()
    published = mappings.publish(good, ANNA)
    assert (published.number, published.published_by, published.approved_by, published.paused) == (
        1,
        "human:anna",
        "human:anna",
        False,
    )
    assert mappings.get("lead_score") == published
    assert [each.published for each in mappings.list()] == [published]
    assert house.actions() == [Action.MAPPING_PUBLISH]
    (event,) = house.told()
    assert event.digest == published.digest
    assert event.detail["approved_by_publisher"] is True


def test_a_second_version_gets_the_next_number_and_the_first_can_come_back(any_house: House, good: str) -> None:
    mappings = any_house.mappings()
    first = mappings.publish(good, ANNA)
    second = mappings.publish(good.replace("title: Lead score", "title: Lead rank"), ANNA)
    assert (second.number, mappings.get("lead_score").number) == (2, 2)
    back = mappings.publish(good, BERT)
    assert (back.number, back.digest) == (1, first.digest)
    assert mappings.get("lead_score") == first
    assert [each.number for each in mappings.versions("lead_score")] == [1, 2]


def test_a_run_keeps_the_version_it_began_with(house: House, good: str) -> None:
    mappings = house.mappings()
    first = mappings.publish(good, ANNA)
    second = mappings.publish(good.replace("title: Lead score", "title: Lead rank"), ANNA)
    assert mappings.version("lead_score", first.digest) == first
    assert mappings.version("lead_score", second.digest) == second
    assert mappings.compile_published(first).document.title == "Lead score"
    assert mappings.compile_published(second).document.title == "Lead rank"
    assert mappings.document(first).connections == {"crm", "erp"}
    draft = mappings.submit(good.replace("title: Lead score", "title: Draft"), ANNA).document.digest
    with pytest.raises(UnknownMappingError, match="has no published version"):
        mappings.version("lead_score", draft)


def test_the_same_document_published_twice_is_one_version(house: House, good: str) -> None:
    mappings = house.mappings()
    assert mappings.publish(good, ANNA) == mappings.publish("# a comment more\n" + good, BERT)


def test_a_bad_document_leaves_nothing_behind(house: House, good: str) -> None:
    mappings = house.mappings()
    with pytest.raises(MappingError):
        mappings.publish(good.replace("Band: band", "Bund: band"), ANNA)
    assert mappings.list() == []
    with pytest.raises(UnknownMappingError, match="there is no mapping lead_score; there is none yet"):
        mappings.get("lead_score")


def test_a_check_is_told_whether_it_found_anything(house: House, good: str) -> None:
    mappings = house.mappings()
    mappings.check(good, ANNA)
    with pytest.raises(MappingError):
        mappings.check(good.replace("Band: band", "Bund: band"), ANNA)
    outcomes = [(each.action, each.outcome.value) for each in house.told()]
    assert outcomes == [(Action.MAPPING_CHECK, "done"), (Action.MAPPING_CHECK, "failed")]


def test_production_wants_a_preview_and_somebody_else(any_house: House, good: str) -> None:
    mappings = any_house.mappings(production=True)
    digest = mappings.submit(good, ANNA).document.digest
    with pytest.raises(ApprovalError, match="needs the approval of somebody other than human:anna"):
        mappings.publish(good, BERT)
    with pytest.raises(ApprovalError, match="human:anna is its author"):
        mappings.approve("lead_score", digest, ANNA)
    with pytest.raises(ApprovalError, match="service:nightly is a program"):
        mappings.approve("lead_score", digest, ROBOT)
    mappings.approve("lead_score", digest, BERT)
    with pytest.raises(ApprovalError, match="was not previewed"):
        mappings.publish(good, ANNA)
    mappings.note_preview(good, ANNA, {"records": 10})
    published = mappings.publish(good, ANNA)
    assert (published.author, published.approved_by) == ("human:anna", "human:bert")
    assert any_house.actions() == [
        Action.MAPPING_CHECK,
        Action.MAPPING_SUBMIT,
        Action.APPROVAL_REQUEST,
        Action.MAPPING_APPROVE,
        Action.MAPPING_PREVIEW,
        Action.APPROVAL_USE,
        Action.MAPPING_PUBLISH,
    ]


def test_a_changed_document_needs_its_own_approval(house: House, good: str) -> None:
    mappings = house.mappings(production=True)
    digest = mappings.submit(good, ANNA).document.digest
    mappings.note_preview(good, ANNA)
    mappings.approve("lead_score", digest, BERT)
    with pytest.raises(ApprovalError, match="needs the approval"):
        mappings.publish(good.replace("probability >= 0.8", "probability >= 0.7"), ANNA)


def test_what_was_not_handed_in_is_not_approved(house: House, good: str) -> None:
    mappings = house.mappings(production=True)
    with pytest.raises(UnknownMappingError, match="hand it in first"):
        mappings.approve("lead_score", "0" * 64, BERT)
    mappings.note_preview(good, ANNA)
    assert mappings.list()[0].newest_state is MappingState.DRAFT
    with pytest.raises(ApprovalError, match="was not handed in"):
        mappings.approve("lead_score", mappings.list()[0].newest_digest, BERT)


@pytest.mark.parametrize(
    "change",
    [
        "text = replace(text, '0.8', '0.1')",
        "approved_by = 'human:mallory'",
        "digest = 'ff'",
        "mac = null",
    ],
)
def test_an_altered_version_is_refused(house: House, good: str, change: str) -> None:
    mappings = house.mappings()
    digest = mappings.publish(good, ANNA).digest if "digest" not in change else "ff"
    mappings.publish(good, ANNA)
    with house.database.engine.begin() as connection:
        connection.execute(sql(f"update mapping_version set {change}"))
    with pytest.raises(AlteredMappingError, match="version 1 of mapping lead_score was altered"):
        mappings.get("lead_score")
    with pytest.raises(AlteredMappingError):
        mappings.version("lead_score", digest)


def test_a_target_field_belongs_to_one_published_mapping(any_house: House, good: str) -> None:
    mappings = any_house.mappings()
    mappings.publish(good, ANNA)
    rival = good.replace("mapping: lead_score", "mapping: rival")
    with pytest.raises(MappingError, match="Band of Lead is written by the published mapping lead_score already"):
        mappings.publish(rival, ANNA)
    less = good.replace("{ Score: score, Band: band }", "{ Score: score }")
    mappings.publish(less, ANNA)
    only_band = rival.replace("{ Score: score, Band: band }", "{ Band: band }")
    only_band = "".join(
        line for line in only_band.splitlines(keepends=True) if "when_changed" not in line and "with:" not in line
    )
    assert mappings.publish(only_band, ANNA).mapping == "rival"


def test_pausing_is_kept_with_its_reason(house: House, good: str) -> None:
    mappings = house.mappings()
    mappings.publish(good, ANNA)
    mappings.pause("lead_score", ANNA, "wrong bands")
    assert (mappings.get("lead_score").paused, mappings.get("lead_score").pause_reason) == (True, "wrong bands")
    mappings.resume("lead_score", ANNA)
    assert not mappings.get("lead_score").paused
    with pytest.raises(UnknownMappingError, match=r"there is no mapping lead_scor; did you mean lead_score\?"):
        mappings.pause("lead_scor", ANNA, "")


def test_a_pause_in_a_transaction_goes_with_it(house: House, good: str) -> None:
    mappings = house.mappings()
    mappings.publish(good, ANNA)
    with house.database.begin() as session:
        mappings.pause("lead_score", ANNA, "undone", session)
        session.rollback()
    assert not mappings.get("lead_score").paused


def test_the_systems_are_asked_once_until_a_run_wants_to_know(house: House, good: str) -> None:
    mappings = house.mappings()
    published = mappings.publish(good, ANNA)
    house.connections.asked.clear()
    first = mappings.compile_published(published)
    assert mappings.compile_published(published) is first
    assert sorted(house.connections.asked) == ["crm", "erp"]
    assert mappings.compile_published(published, fresh=True) is first
    lead, *rest = house.connections.systems["crm"]
    house.connections.systems["crm"] = [replace(lead, title="Lead!", fields=lead.fields[:-1]), *rest]
    assert mappings.compile_published(published) is first
    assert mappings.compile_published(published, fresh=True) is not first


def test_a_system_that_no_longer_fits_is_told_when_asked_afresh(house: House, good: str) -> None:
    mappings = house.mappings()
    published = mappings.publish(good, ANNA)
    lead, *rest = house.connections.systems["crm"]
    fields = tuple(each for each in lead.fields if each.name != "Employees")
    house.connections.systems["crm"] = [replace(lead, fields=fields), *rest]
    with pytest.raises(MappingError, match="unknown field Employees"):
        mappings.compile_published(published, fresh=True)


def test_another_champion_compiles_anew(house: House, good: str) -> None:
    mappings = house.mappings()
    published = mappings.publish(good, ANNA)
    first = mappings.compile_published(published)
    house.registry.version = replace(house.registry.version, number=4, digest="cd" * 32)
    assert mappings.compile_published(published).model.number == 4
    assert first.model.number == 3


def test_a_model_version_knows_who_names_it(house: House, good: str, version: ModelVersion) -> None:
    mappings = house.mappings()
    mappings.publish(good, ANNA)
    with house.database.read() as session:
        assert list(model_users(session, version.name, str(version.number))) == []
        assert list(model_users(session, version.name, "champion")) == ["mapping lead_score"]
    mappings.publish(good.replace("name: lead_conversion", "name: lead_conversion\n  use: 3"), ANNA)
    with house.database.read() as session:
        assert list(model_users(session, version.name, str(version.number))) == ["mapping lead_score"]


def test_the_watermark_of_a_complete_run_is_kept(any_house: House, good: str) -> None:
    mappings = any_house.mappings()
    assert mappings.watermark("lead_score") is None
    at = datetime(2026, 4, 1, 12, tzinfo=UTC)
    mark = Watermark("ab" * 32, Cursor({"after": ["2026-04-01", "x"]}), at, None)
    with any_house.database.begin() as session:
        mappings.set_watermark(session, "lead_score", mark)
    assert mappings.watermark("lead_score") == mark
    later = replace(mark, cursor=None, full_at=at)
    with any_house.database.begin() as session:
        mappings.set_watermark(session, "lead_score", later)
    assert mappings.watermark("lead_score") == later
