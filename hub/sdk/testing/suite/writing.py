"""Write: one result per change, what was applied is there by the second path, and nothing else is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hub.sdk import Field, Mode, Value
from hub.sdk.testing.harness import Harness, Record
from hub.sdk.testing.records import Change, another, edges, identity, key_of, plain, record, records
from hub.sdk.testing.suite.steps import (
    JournalInMemory,
    holds,
    lacks,
    needs_destination,
    needs_source,
    pages,
    reading,
    rows,
    seed,
    selection,
    stored,
    targets,
    versions,
    write,
)
from hub.sdk.types import KEY, VERSION


def _states(results: Sequence[dict[str, Any]]) -> list[str]:
    return [row["state"] for row in results]


def _updates(harness: Harness, count: int) -> tuple[Sequence[Record], list[Change]]:
    """Seeded records and, for each, a change of every writable field to another value, without any condition."""
    needs_destination(harness, Mode.UPDATE)
    made = seed(harness, records(harness, count))
    return made, [Change(key_of(harness.entity, each), _others(harness, each)) for each in made]


def _others(harness: Harness, record: Record) -> dict[str, Value]:
    return {each.name: another(harness, each, record[each.name]) for each in targets(harness)}


def _before(harness: Harness, record: Record) -> dict[str, Value]:
    return {each.name: record[each.name] for each in targets(harness)}


def _conditional(harness: Harness) -> None:
    needs_destination(harness, Mode.UPDATE)
    if not harness.entity.conditional:
        lacks("the entity's type takes no condition")


def _free(harness: Harness) -> Field:
    found = [each for each in targets(harness) if each.nullable]
    if not found:
        lacks("the entity's type has no writable field that may be null")
    return found[0]


def _untouched(harness: Harness, made: Sequence[Record]) -> None:
    for each in made:
        holds(harness, key_of(harness.entity, each), each)


def _count(harness: Harness) -> int:
    return harness.count(harness.entity.name)


class WriteGroup:
    """Runs where the connector's type has the destination role and the entity takes the mode."""

    def test_what_was_written_is_there_by_the_second_path(self, harness: Harness) -> None:
        made, batch = _updates(harness, 5)
        assert _states(write(harness, batch[:3])) == ["applied"] * 3
        for each, change in zip(made[:3], batch, strict=False):
            holds(harness, change.key, {**each, **change.values, **_stamps(harness, change.key)})
        _untouched(harness, made[3:])
        assert _count(harness) == 5

    def test_results_come_in_the_order_of_the_changes(self, harness: Harness) -> None:
        made, batch = _updates(harness, 6)
        absent = [Change(key_of(harness.entity, record(harness, 20 + n)), batch[0].values) for n in range(3)]
        mixed = [batch[5], absent[0], batch[1], batch[0], absent[1], absent[2], batch[3]]
        applied = [state == "applied" for state in _states(write(harness, mixed))]
        assert applied == [True, False, True, True, False, False, True]
        _untouched(harness, [made[2], made[4]])

    def test_an_empty_batch_has_no_result(self, harness: Harness) -> None:
        made, _ = _updates(harness, 2)
        assert write(harness, [], fields=[targets(harness)[0].name]) == []
        _untouched(harness, made)

    def test_a_bad_row_among_good_ones_is_rejected_alone(self, harness: Harness) -> None:
        made, batch = _updates(harness, 6)
        name, value = _bad(harness)
        for number in (1, 4):
            batch[number] = Change(batch[number].key, {**batch[number].values, name: value})
        results = write(harness, batch)
        assert _states(results) == ["applied", "rejected", "applied", "applied", "rejected", "applied"]
        for number, change in enumerate(batch):
            if number in (1, 4):
                assert (results[number]["reason"] or "").strip(), "a rejected row has no reason"
                holds(harness, change.key, made[number])
            else:
                holds(harness, change.key, change.values)

    def test_a_rejected_row_names_its_field(self, harness: Harness) -> None:
        _, batch = _updates(harness, 2)
        name, value = _bad(harness)
        results = write(harness, [batch[0], Change(batch[1].key, {**batch[1].values, name: value})])
        assert _states(results) == ["applied", "rejected"]
        assert results[1]["field"] == name, f"the rejected row names {results[1]['field']!r}"

    def test_a_repeat_is_applied_and_doubles_nothing(self, harness: Harness) -> None:
        made, batch = _updates(harness, 4)
        held = versions(harness)
        batch = [
            Change(each.key, each.values, held.get(identity(harness.entity, each.key)), _before(harness, made[n]))
            for n, each in enumerate(batch)
        ]
        assert _states(write(harness, batch)) == ["applied"] * 4
        once = [harness.touched(harness.entity.name, each.key) for each in batch]
        assert _states(write(harness, batch)) == ["applied"] * 4
        assert _count(harness) == 4
        for each in batch:
            holds(harness, each.key, each.values)
        assert [harness.touched(harness.entity.name, each.key) for each in batch] == once, "a record changed twice"

    def test_a_repeat_with_the_journal_sends_nothing_twice(self, harness: Harness) -> None:
        _, batch = _updates(harness, 3)
        journal = JournalInMemory()
        assert _states(write(harness, batch, journal=journal)) == ["applied"] * 3
        once = [harness.touched(harness.entity.name, each.key) for each in batch]
        assert _states(write(harness, batch, journal=journal)) == ["applied"] * 3
        assert [harness.touched(harness.entity.name, each.key) for each in batch] == once, "a job was sent twice"

    def test_a_stale_version_is_a_conflict_and_nothing_is_written(self, harness: Harness) -> None:
        _conditional(harness)
        needs_source(harness)
        made, batch = _updates(harness, 3)
        held = versions(harness)
        if not all(held.values()):
            lacks("the entity's type has no version")
        edited = targets(harness)[-1]
        theirs = {edited.name: plain(harness, edited, 12)}
        harness.edit(harness.entity.name, batch[1].key, theirs)
        batch = [Change(each.key, each.values, held[identity(harness.entity, each.key)]) for each in batch]
        assert _states(write(harness, batch)) == ["applied", "conflict", "applied"]
        holds(harness, batch[1].key, {**_before(harness, made[1]), **theirs})
        holds(harness, batch[2].key, batch[2].values)

    def test_a_stale_before_is_a_conflict_and_nothing_is_written(self, harness: Harness) -> None:
        _conditional(harness)
        made, batch = _updates(harness, 3)
        edited = targets(harness)[0]
        theirs = {edited.name: plain(harness, edited, 12)}
        harness.edit(harness.entity.name, batch[1].key, theirs)
        batch = [Change(each.key, each.values, None, _before(harness, made[n])) for n, each in enumerate(batch)]
        assert _states(write(harness, batch)) == ["applied", "conflict", "applied"]
        holds(harness, batch[1].key, {**_before(harness, made[1]), **theirs})

    def test_what_was_null_is_a_condition_too(self, harness: Harness) -> None:
        _conditional(harness)
        field = _free(harness)
        made = seed(harness, [{**each, field.name: None} for each in records(harness, 2)])
        harness.edit(harness.entity.name, key_of(harness.entity, made[1]), {field.name: plain(harness, field, 12)})
        batch = [
            Change(key_of(harness.entity, each), {field.name: plain(harness, field, 13)}, None, {field.name: None})
            for each in made
        ]
        assert _states(write(harness, batch)) == ["applied", "conflict"]
        holds(harness, batch[1].key, {field.name: plain(harness, field, 12)})

    def test_what_was_read_is_a_condition_that_holds(self, harness: Harness) -> None:
        _conditional(harness)
        needs_source(harness)
        seed(harness, _of_edges(harness, 12))
        with reading(harness) as source:
            found = rows(pages(source, selection(harness)))
        assert found, "the read saw no record"
        batch = [Change(row[KEY], _others(harness, row), row[VERSION], _before(harness, row)) for row in found]
        assert _states(write(harness, batch)) == ["applied"] * len(found)
        for each in batch:
            holds(harness, each.key, each.values)

    def test_a_record_that_already_holds_the_value_is_applied(self, harness: Harness) -> None:
        made, batch = _updates(harness, 2)
        held = versions(harness)
        harness.edit(harness.entity.name, batch[0].key, batch[0].values)
        once = harness.touched(harness.entity.name, batch[0].key)
        stale = [
            Change(each.key, each.values, held.get(identity(harness.entity, each.key)), _before(harness, made[n]))
            for n, each in enumerate(batch)
        ]
        assert _states(write(harness, stale)) == ["applied", "applied"]
        assert harness.touched(harness.entity.name, batch[0].key) == once, "a record was written that held the values"

    def test_null_leaves_a_field_alone(self, harness: Harness) -> None:
        made, batch = _updates(harness, 2)
        if len(targets(harness)) < 2:
            lacks("the entity's type has one writable field only")
        one, other = (each.name for each in targets(harness)[:2])
        partial = [
            Change(batch[0].key, {one: batch[0].values[one]}),
            Change(batch[1].key, {other: batch[1].values[other]}),
        ]
        assert _states(write(harness, partial)) == ["applied", "applied"]
        holds(harness, batch[0].key, {**_before(harness, made[0]), one: batch[0].values[one]})
        holds(harness, batch[1].key, {**_before(harness, made[1]), other: batch[1].values[other]})

    def test_clear_sets_null_and_only_there(self, harness: Harness) -> None:
        made, batch = _updates(harness, 3)
        field = _free(harness)
        rest = {name: value for name, value in batch[0].values.items() if name != field.name}
        mixed = [
            Change(batch[0].key, rest, clear=(field.name,)),
            batch[1],
            Change(batch[2].key, {}, clear=(field.name,)),
        ]
        assert _states(write(harness, mixed)) == ["applied"] * 3
        holds(harness, batch[0].key, {**rest, field.name: None})
        holds(harness, batch[1].key, batch[1].values)
        holds(harness, batch[2].key, {**_before(harness, made[2]), field.name: None})

    def test_a_batch_above_the_limit_is_split_and_not_cut(self, harness: Harness) -> None:
        needs_destination(harness, Mode.UPDATE)
        field, size = targets(harness)[0], harness.spec.limits.write_rows + 1
        made = seed(harness, records(harness, size))
        batch = [
            Change(key_of(harness.entity, each), {field.name: another(harness, field, each[field.name])})
            for each in made
        ]
        assert set(_states(write(harness, batch))) == {"applied"}
        for each in (batch[0], batch[size // 2], batch[-2], batch[-1]):
            holds(harness, each.key, each.values)

    def test_update_never_creates(self, harness: Harness) -> None:
        made, batch = _updates(harness, 2)
        absent = Change(key_of(harness.entity, record(harness, 20)), batch[0].values)
        states = _states(write(harness, [absent, batch[1]]))
        assert states[0] in ("rejected", "conflict"), f"a change of a record that is not there was {states[0]}"
        assert states[1] == "applied"
        assert harness.stored(harness.entity.name, absent.key) is None
        assert _count(harness) == len(made)

    def test_upsert_makes_what_is_missing_and_changes_what_is_there(self, harness: Harness) -> None:
        _keyed(harness, Mode.UPSERT)
        made = seed(harness, records(harness, 2))
        batch = [_whole(harness, 0, 30), _whole(harness, 21, 31)]
        for _ in range(2):
            assert _states(write(harness, batch, mode=Mode.UPSERT)) == ["applied", "applied"]
            assert _count(harness) == len(made) + 1
        for each in batch:
            holds(harness, each.key, each.values)
        _untouched(harness, made[1:])

    def test_upsert_rejects_a_bad_row_alone(self, harness: Harness) -> None:
        _keyed(harness, Mode.UPSERT)
        made = seed(harness, records(harness, 2))
        batch = [_whole(harness, 0, 30), _whole(harness, 21, 31), _whole(harness, 22, 32)]
        name, value = _bad(harness)
        batch[1] = Change(batch[1].key, {**batch[1].values, name: value})
        assert _states(write(harness, batch, mode=Mode.UPSERT)) == ["applied", "rejected", "applied"]
        assert harness.stored(harness.entity.name, batch[1].key) is None
        assert _count(harness) == len(made) + 1

    def test_update_by_another_key_finds_the_record_and_never_creates(self, harness: Harness) -> None:
        needs_destination(harness)
        found = [each for each in harness.entity.alternates if Mode.UPDATE in each.modes]
        if not found:
            lacks("the entity's type has one key only")
        harness.entity = harness.entity.keyed_by([found[0].field])
        made = seed(harness, records(harness, 3))
        absent = _whole(harness, 21, 30)
        states = _states(write(harness, [absent, _whole(harness, 1, 31)]))
        assert states[0] in ("rejected", "conflict"), f"a change of a record that is not there was {states[0]}"
        assert states[1] == "applied"
        holds(harness, key_of(harness.entity, made[1]), _whole(harness, 1, 31).values)
        _untouched(harness, [made[0], made[2]])
        assert _count(harness) == len(made)

    def test_create_makes_a_record_once(self, harness: Harness) -> None:
        _keyed(harness, Mode.CREATE)
        made = seed(harness, records(harness, 2))
        batch = [_whole(harness, 21, 30), _whole(harness, 22, 31)]
        for _ in range(2):
            assert _states(write(harness, batch, mode=Mode.CREATE)) == ["applied", "applied"]
            assert _count(harness) == len(made) + 2
        for each in batch:
            holds(harness, each.key, each.values)

    def test_create_never_changes_a_record_that_stands(self, harness: Harness) -> None:
        _keyed(harness, Mode.CREATE)
        made = seed(harness, records(harness, 2))
        states = _states(write(harness, [_whole(harness, 1, 30), _whole(harness, 22, 31)], mode=Mode.CREATE))
        assert states[0] in ("rejected", "conflict"), f"a record that stands was {states[0]}"
        assert states[1] == "applied"
        _untouched(harness, made)

    def test_a_version_told_by_a_result_is_the_one_a_reader_sees(self, harness: Harness) -> None:
        needs_source(harness)
        _, batch = _updates(harness, 3)
        results = write(harness, batch)
        assert _states(results) == ["applied"] * 3
        now = versions(harness)
        for each, row in zip(batch, results, strict=True):
            assert row["version"] in (None, now[identity(harness.entity, each.key)])


def _keyed(harness: Harness, mode: Mode) -> None:
    """Has the test name its records by a key that the mode goes by: the entity's own, or else an alternate."""
    needs_destination(harness)
    if mode in harness.entity.modes:
        return
    found = [each.field for each in harness.entity.alternates if mode in each.modes]
    if not found:
        lacks(f"the entity's type does not take {mode.value}")
    harness.entity = harness.entity.keyed_by(found[:1])


def _bad(harness: Harness) -> tuple[str, Value]:
    assert harness.bad is not None, "the harness knows no value that the far side refuses: declare a gap"
    return harness.bad


def _stamps(harness: Harness, key: Record) -> dict[str, Value]:
    """A far side may move its own stamps when a record is written."""
    found = stored(harness, key)
    return {name: found[name] for name in harness.entity.changed_by}


def _whole(harness: Harness, at: int, like: int) -> Change:
    """A change that gives every writable field, so that it can make a record."""
    values = {each.name: plain(harness, each, like) for each in targets(harness)}
    return Change(key_of(harness.entity, record(harness, at)), values)


def _of_edges(harness: Harness, count: int) -> list[dict[str, Value]]:
    made = records(harness, count)
    for field in targets(harness):
        ends = edges(harness, field)
        for number, each in enumerate(made):
            each[field.name] = None if field.nullable and number % 5 == 4 else ends[number % len(ends)]
    return made
