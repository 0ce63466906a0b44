"""Entities: what a connection says it can read and write is what the harness knows to be there."""

from __future__ import annotations

from dataclasses import replace

from hub.sdk import Connector, Entity, Field, FieldType, Mode
from hub.sdk.testing.harness import Fault, Harness
from hub.sdk.testing.records import key_of, plain, records
from hub.sdk.testing.suite.steps import holds, key_change, lacks, opened, seed, throws, write

SCORES = (
    Field("hub_kit_score", FieldType.DECIMAL, writable=True, precision=9, scale=4),
    Field("hub_kit_band", FieldType.TEXT, writable=True, length=40),
    Field("hub_kit_count", FieldType.INTEGER, writable=True),
    Field("hub_kit_at", FieldType.INSTANT, writable=True),
)


def _told(harness: Harness, connector: Connector) -> Entity:
    found = [each for each in connector.entities() if each.name == harness.entity.name]
    assert len(found) == 1, f"{harness.entity.name} is told {len(found)} times"
    return found[0]


def _field(told: Entity, name: str) -> Field:
    assert name in told.by_name, f"{name} is not told"
    return told.by_name[name]


class EntitiesGroup:
    """Runs for every connector; the provisioner's tests where the type has the role."""

    def test_key_fields_exist_in_order(self, harness: Harness) -> None:
        with opened(harness) as connector:
            told = _told(harness, connector)
            everything = connector.entities()
        assert told.key == harness.entity.key
        for each in everything:
            assert set(each.key) <= set(each.by_name), f"{each.name} has a key without its fields"
            assert set(each.changed_by) <= set(each.by_name), f"{each.name} has an incremental field that is not there"
            assert len(each.by_name) == len(each.fields), f"{each.name} names a field twice"

    def test_fields_are_told_with_their_types(self, harness: Harness) -> None:
        with opened(harness) as connector:
            told = _told(harness, connector)
        for each in harness.entity.fields:
            got = _field(told, each.name)
            assert (got.type, got.dtype) == (each.type, each.dtype), f"{each.name} is told as {got.type.value}"
            assert got.length == each.length, f"{each.name} is told with length {got.length}"

    def test_fields_are_told_with_what_may_be_done_to_them(self, harness: Harness) -> None:
        with opened(harness) as connector:
            told = _told(harness, connector)
        for each in harness.entity.fields:
            got = _field(told, each.name)
            assert (got.nullable, got.writable) == (each.nullable, each.writable), f"{each.name}: nullable, writable"
            assert set(got.values) == set(each.values), f"{each.name} is told with another closed list"
            assert got.operators == each.operators, f"{each.name} is told with other operators"

    def test_modes_and_conditions_are_told(self, harness: Harness) -> None:
        with opened(harness) as connector:
            told = _told(harness, connector)
        assert (told.modes, told.conditional) == (harness.entity.modes, harness.entity.conditional)
        assert set(told.alternates) == set(harness.entity.alternates), "other keys are told than there are"
        for each in told.alternates:
            assert Mode.UPDATE in each.modes, f"what was written by {each.field} could not be taken back"
        assert set(harness.entity.changed_by) <= set(told.changed_by)

    def test_two_calls_agree(self, harness: Harness) -> None:
        with opened(harness) as connector:
            assert list(connector.entities()) == list(connector.entities())

    def test_named_entities_come_alone(self, harness: Harness) -> None:
        name = harness.entity.name
        with opened(harness) as connector:
            assert list(connector.entities([name])) == [each for each in connector.entities() if each.name == name]
            assert list(connector.entities([])) == []

    def test_a_hidden_field_is_absent(self, harness: Harness) -> None:
        throws(harness, Fault.RIGHT)
        with opened(harness) as connector:
            assert harness.hidden in _told(harness, connector).by_name, "the right is held, and the field is not told"
        with opened(harness, Fault.RIGHT) as connector:
            assert harness.hidden not in _told(harness, connector).by_name

    def test_provisioned_fields_can_be_written(self, harness: Harness) -> None:
        _needs_provisioner(harness)
        with opened(harness) as connector:
            _provision(harness, connector)
        with opened(harness) as connector:
            told = _told(harness, connector)
        scores = _scores(harness)
        for each in scores:
            got = _field(told, each.name)
            assert got.dtype == each.dtype, f"{each.name} was made with another type"
            assert got.writable, f"{each.name} was made and cannot be written"
            assert got.nullable, f"{each.name} was made and may not be null"
        harness.entity = replace(harness.entity, fields=(*harness.entity.fields, *scores))
        made = seed(harness, [{**each, **dict.fromkeys(_names(harness))} for each in records(harness, 2)])
        values = {each.name: plain(harness, each, 3) for each in scores}
        results = write(harness, [key_change(harness, made[0], **values)])
        assert [row["state"] for row in results] == ["applied"]
        holds(harness, key_of(harness.entity, made[0]), values)
        holds(harness, key_of(harness.entity, made[1]), dict.fromkeys(_names(harness)))

    def test_provisioning_twice_is_harmless(self, harness: Harness) -> None:
        _needs_provisioner(harness)
        with opened(harness) as connector:
            _provision(harness, connector)
            first = _told(harness, connector)
        with opened(harness) as connector:
            _provision(harness, connector)
            assert _told(harness, connector) == first
        assert set(_names(harness)) <= set(first.by_name)


def _scores(harness: Harness) -> list[Field]:
    return [replace(each, name=each.name + harness.ending) for each in SCORES]


def _names(harness: Harness) -> list[str]:
    return [each.name for each in _scores(harness)]


def _needs_provisioner(harness: Harness) -> None:
    if "provisioner" not in harness.spec.roles:
        lacks("the connector's type has no provisioner role")
    if Mode.UPDATE not in harness.entity.modes:
        lacks("the entity's type does not take update")


def _provision(harness: Harness, connector: Connector) -> None:
    provisioner = connector.provisioner()
    assert provisioner is not None, "spec.roles names provisioner, and this connection has none"
    provisioner.provision(harness.entity.name, _scores(harness))
