"""Read: every record once, in pages, from any cursor, by slice, by match and by filter, typed as declared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from hub.sdk import (
    AllOf,
    AnyOf,
    Compare,
    Cursor,
    Field,
    FieldType,
    Filter,
    Operator,
    Page,
    Selection,
    Source,
    UnexpectedError,
    Value,
)
from hub.sdk.testing.harness import Harness, Record
from hub.sdk.testing.records import another, canonical, identity, key_of, plain, records, same, stamp, structural
from hub.sdk.testing.suite.steps import (
    everything_once,
    frame_of,
    keys,
    lacks,
    pages,
    raising,
    readable,
    reading,
    rows,
    seed,
    seeded_keys,
    selection,
    values_equal,
)
from hub.sdk.types import DELETED, KEY


def _through_json(cursor: Cursor) -> Cursor:
    return Cursor.from_json(cursor.to_json())


def _incremental(harness: Harness) -> Field:
    if not harness.entity.changed_by:
        lacks("the entity's type has no incremental field")
    return harness.entity.by_name[harness.entity.changed_by[0]]


class ReadGroup:
    """Runs where the connector's type has the source role."""

    def test_every_seeded_record_is_read_once_with_equal_values(self, harness: Harness) -> None:
        with reading(harness) as source:
            made = seed(harness, records(harness, 23))
            found = rows(pages(source, selection(harness)))
        everything_once(harness.entity, made, found)
        values_equal(harness.entity, made, found)

    def test_an_empty_entity_reads_as_no_record(self, harness: Harness) -> None:
        with reading(harness) as source:
            seed(harness, [])
            assert rows(pages(source, selection(harness))) == []
            made = seed(harness, records(harness, 2))
            everything_once(harness.entity, made, rows(pages(source, selection(harness))))

    def test_pages_respect_page_rows(self, harness: Harness) -> None:
        with reading(harness) as source:
            made = seed(harness, records(harness, 11))
            for size in (1, 3, 11, 12):
                found = pages(source, selection(harness, rows=size))
                everything_once(harness.entity, made, rows(found))
                largest = max(page.frame.height for page in found)
                assert largest <= size, f"a page of {largest} records where at most {size} were asked for"

    def test_pages_are_typed_as_the_entity_declares(self, harness: Harness) -> None:
        with reading(harness) as source:
            seed(harness, records(harness, 5))
            for names in (tuple(each.name for each in harness.entity.fields), (harness.entity.fields[-1].name,)):
                found = pages(source, Selection(harness.entity.name, names, page_rows=2))
                assert rows(found), "the read saw no record"
                for page in found:
                    assert list(page.frame.schema.items()) == list(harness.entity.page_schema(names).items())

    def test_a_page_of_nulls_is_typed_all_the_same(self, harness: Harness) -> None:
        empty = {each.name: None for each in harness.entity.fields if each.nullable and not _structural(harness, each)}
        if not empty:
            lacks("the entity's type has no field that may be null")
        with reading(harness) as source:
            seed(harness, [{**each, **empty} for each in records(harness, 2)])
            found = pages(source, selection(harness))
        assert rows(found), "the read saw no record"
        wanted = harness.entity.page_schema([each.name for each in harness.entity.fields])
        assert all(dict(page.frame.schema) == wanted for page in found)
        assert all(row[name] is None for row in rows(found) for name in empty)

    def test_two_reads_give_the_same_order(self, harness: Harness) -> None:
        with reading(harness) as source:
            made = seed(harness, records(harness, 9))
            first, second = (rows(pages(source, selection(harness))) for _ in range(2))
        everything_once(harness.entity, made, first)
        assert keys(harness.entity, first) == keys(harness.entity, second)

    def test_a_read_resumes_from_each_cursor(self, harness: Harness) -> None:
        _resumes_everywhere(harness, by=False)

    def test_an_incremental_read_resumes_from_each_cursor(self, harness: Harness) -> None:
        _incremental(harness)
        _resumes_everywhere(harness, by=True)

    def test_an_incremental_read_comes_in_order_of_its_stamp(self, harness: Harness) -> None:
        field = _incremental(harness)
        with reading(harness) as source:
            made = seed(harness, list(reversed(records(harness, 9))))
            found = rows(pages(source, selection(harness, by=True)))
        everything_once(harness.entity, made, found)
        stamps = [canonical(field, row[field.name]) for row in found]
        assert stamps == sorted(stamps)

    def test_equal_stamps_are_neither_lost_nor_looped(self, harness: Harness) -> None:
        field = _incremental(harness)
        with reading(harness) as source:
            made = seed(harness, [{**each, field.name: stamp(harness, field, 5)} for each in records(harness, 13)])
            for size in (1, 4):
                wanted = selection(harness, by=True, rows=size)
                found = pages(source, wanted)
                everything_once(harness.entity, made, rows(found))
                rest = rows(pages(source, wanted, _through_json(found[1].cursor)))
                everything_once(harness.entity, made, [*rows(found[:2]), *rest])

    def test_stamps_one_tick_apart_are_told_apart(self, harness: Harness) -> None:
        field = _incremental(harness)
        with reading(harness) as source:
            made = seed(
                harness, [{**each, field.name: stamp(harness, field, n)} for n, each in enumerate(records(harness, 7))]
            )
            wanted = selection(harness, by=True, rows=1)
            found = pages(source, wanted)
            everything_once(harness.entity, made, rows(found))
            for number, page in enumerate(found):
                rest = rows(pages(source, wanted, _through_json(page.cursor)))
                assert keys(harness.entity, rest) == keys(harness.entity, rows(found[number + 1 :]))

    def test_a_record_without_a_stamp_is_not_lost(self, harness: Harness) -> None:
        field = _incremental(harness)
        if not field.nullable:
            lacks("the entity's type has a stamp on every record")
        with reading(harness) as source:
            made = seed(harness, [{**each, field.name: None} if n % 3 else each for n, each in _numbered(harness, 9)])
            wanted = selection(harness, by=True, rows=2)
            found = pages(source, wanted)
            everything_once(harness.entity, made, rows(found))
            for number, page in enumerate(found):
                rest = rows(pages(source, wanted, _through_json(page.cursor)))
                everything_once(harness.entity, made, [*rows(found[: number + 1]), *rest])

    def test_an_edit_comes_after_the_last_cursor_and_nothing_else_does(self, harness: Harness) -> None:
        field = _incremental(harness)
        with reading(harness) as source:
            made = seed(harness, records(harness, 9))
            wanted = selection(harness, by=True)
            last = _through_json(pages(source, wanted)[-1].cursor)
            assert rows(pages(source, wanted, last)) == [], "records came again though nobody changed them"
            key = key_of(harness.entity, made[2])
            harness.edit(harness.entity.name, key, {field.name: stamp(harness, field, 900)})
            found = keys(harness.entity, rows(pages(source, wanted, last)))
        assert found == [identity(harness.entity, key)]

    def test_what_moves_after_the_head_is_read_from_it(self, harness: Harness) -> None:
        field = _incremental(harness)
        with reading(harness) as source:
            made = seed(harness, records(harness, 9))
            wanted = selection(harness, by=True)
            head = source.head(wanted)
            assert head is not None, "there are records, and no head"
            before = pages(source, wanted, _through_json(head))
            key = key_of(harness.entity, made[2])
            harness.edit(harness.entity.name, key, {field.name: stamp(harness, field, 900)})
            found = keys(harness.entity, rows(pages(source, wanted, _through_json(head))))
        assert identity(harness.entity, key) in found
        assert len(rows(before)) < len(made), "the head is the beginning: an incremental read would read all"

    def test_what_moves_in_the_tick_of_the_head_is_not_lost(self, harness: Harness) -> None:
        field = _incremental(harness)
        with reading(harness) as source:
            made = seed(harness, records(harness, 9))
            wanted = selection(harness, by=True)
            head = source.head(wanted)
            assert head is not None, "there are records, and no head"
            key = key_of(harness.entity, made[0])
            harness.edit(harness.entity.name, key, {field.name: made[-1][field.name]})
            found = keys(harness.entity, rows(pages(source, wanted, _through_json(head))))
        assert identity(harness.entity, key) in found, "a record that moved in the same tick is never read"

    def test_the_head_of_nothing_is_none_and_what_comes_later_is_read(self, harness: Harness) -> None:
        _incremental(harness)
        with reading(harness) as source:
            seed(harness, [])
            wanted = selection(harness, by=True)
            assert source.head(wanted) is None
            made = seed(harness, records(harness, 3))
            everything_once(harness.entity, made, rows(pages(source, wanted)))

    def test_a_deleted_record_comes_as_deleted(self, harness: Harness) -> None:
        _incremental(harness)
        assert harness.tells_deletes, "the far side does not tell of deletes: declare a gap with the reason"
        with reading(harness) as source:
            made = seed(harness, records(harness, 5))
            wanted = selection(harness, by=True)
            last = pages(source, wanted)[-1].cursor
            key = key_of(harness.entity, made[3])
            harness.remove(harness.entity.name, key)
            found = rows(pages(source, wanted, _through_json(last)))
        assert [(identity(harness.entity, row[KEY]), row[DELETED]) for row in found] == [
            (identity(harness.entity, key), True)
        ]

    def test_the_first_page_arrives_before_the_last_is_made(self, harness: Harness) -> None:
        field = _editable(harness)
        with reading(harness) as source:
            made = seed(harness, records(harness, 12))
            order = keys(harness.entity, rows(pages(source, selection(harness, rows=3))))
            last = next(each for each in made if identity(harness.entity, each) == order[-1])
            stream = iter(source.read(selection(harness, rows=3)))
            first = next(stream)
            new = another(harness, field, last[field.name])
            harness.edit(harness.entity.name, key_of(harness.entity, last), {field.name: new})
            found = rows([first, *stream])
        everything_once(harness.entity, made, found)
        seen = next(row for row in found if identity(harness.entity, row[KEY]) == order[-1])
        assert same(field, seen[field.name], new), "the last page was made before the first was handed out"

    def test_slices_are_disjoint_and_complete(self, harness: Harness) -> None:
        with reading(harness) as source:
            made = seed(harness, records(harness, 29))
            for parts in (1, 2, 5, 64):
                slices = source.split(selection(harness), parts)
                assert 1 <= len(slices) <= parts
                everything_once(harness.entity, made, _over(source, slices))

    def test_a_slice_resumes_from_each_cursor(self, harness: Harness) -> None:
        with reading(harness) as source:
            made = seed(harness, records(harness, 29))
            total: list[dict[str, Any]] = []
            for each in source.split(selection(harness, rows=3), 3):
                found = pages(source, each)
                total += rows(found)
                for number, page in enumerate(found):
                    rest = rows(pages(source, each, _through_json(page.cursor)))
                    assert keys(harness.entity, rest) == keys(harness.entity, rows(found[number + 1 :]))
        everything_once(harness.entity, made, total)

    def test_slices_cover_records_made_later(self, harness: Harness) -> None:
        with reading(harness) as source:
            seed(harness, records(harness, 30)[10:20])
            slices = source.split(selection(harness), 3)
            made = seed(harness, records(harness, 30))
            everything_once(harness.entity, made, _over(source, slices))

    def test_slices_keep_the_filter(self, harness: Harness) -> None:
        last = harness.entity.by_name[harness.entity.key[-1]]
        if Operator.IN not in last.operators:
            lacks(f"the entity's type has no filter on {last.name}")
        with reading(harness) as source:
            made = seed(harness, records(harness, 20))
            wanted = made[4:9]
            where = Compare(last.name, Operator.IN, tuple(each[last.name] for each in wanted))
            found = keys(harness.entity, _over(source, source.split(selection(harness, where=where), 3)))
        assert set(seeded_keys(harness.entity, wanted)) <= set(found)
        assert len(found) < len(made), "the filter is lost on the slices"

    def test_lookup_by_key_finds_exactly_those(self, harness: Harness) -> None:
        with reading(harness) as source:
            made = seed(harness, records(harness, 15))
            absent = records(harness, 17)[15:]
            match = frame_of(harness.entity, harness.entity.key, [*made[3:9], *absent])
            found = rows(source.lookup(selection(harness), match))
        everything_once(harness.entity, made[3:9], found)
        values_equal(harness.entity, made[3:9], found)

    def test_lookup_by_another_field_finds_every_match(self, harness: Harness) -> None:
        field = _editable(harness)
        with reading(harness) as source:
            made = seed(
                harness, [{**each, field.name: plain(harness, field, n % 4)} for n, each in _numbered(harness, 12)]
            )
            wanted = [each for each in made if same(field, each[field.name], plain(harness, field, 2))]
            found = rows(source.lookup(selection(harness), frame_of(harness.entity, [field.name], wanted)))
        everything_once(harness.entity, wanted, found)

    def test_lookup_takes_text_exactly(self, harness: Harness) -> None:
        field = readable(harness, FieldType.TEXT)
        texts = ["Straße", "strasse", "STRASSE", "STRAßE", "straße"]
        with reading(harness) as source:
            made = seed(harness, [{**each, field.name: texts[n]} for n, each in _numbered(harness, 5)])
            found = rows(source.lookup(selection(harness), frame_of(harness.entity, [field.name], made[:1])))
        everything_once(harness.entity, made[:1], found)

    def test_lookup_of_nothing_is_empty(self, harness: Harness) -> None:
        with reading(harness) as source:
            made = seed(harness, records(harness, 5))
            none = frame_of(harness.entity, harness.entity.key, records(harness, 7)[5:])
            assert rows(source.lookup(selection(harness), none)) == []
            assert rows(source.lookup(selection(harness), none.clear())) == []
            found = rows(source.lookup(selection(harness), frame_of(harness.entity, harness.entity.key, made)))
        everything_once(harness.entity, made, found)

    def test_a_pushed_filter_loses_no_wanted_record(self, harness: Harness) -> None:
        with reading(harness) as source:
            made = seed(harness, _with_nulls(harness, 12))
            tried = 0
            for where in _filters(harness, made):
                wanted = [each for each in made if _holds(harness, where, each)]
                found = keys(harness.entity, rows(pages(source, selection(harness, where=where))))
                assert len(found) == len(set(found)), f"{where} repeats records"
                missing = set(seeded_keys(harness.entity, wanted)) - set(found)
                assert not missing, f"{where} loses {len(missing)} wanted records"
                assert set(found) <= set(seeded_keys(harness.entity, made))
                tried += bool(wanted)
        assert tried, "no filter wanted any record"

    def test_selections_and_cursors_survive_json(self, harness: Harness) -> None:
        with reading(harness) as source:
            made = seed(harness, records(harness, 9))
            for wanted in (selection(harness), *source.split(selection(harness), 2)):
                again = Selection.from_json(wanted.to_json())
                assert again == wanted
                found = pages(source, again)
                assert [Cursor.from_json(page.cursor.to_json()) for page in found] == [page.cursor for page in found]
                assert set(keys(harness.entity, rows(found))) <= set(seeded_keys(harness.entity, made))
            everything_once(harness.entity, made, rows(pages(source, selection(harness))))

    def test_a_field_that_is_gone_is_an_unexpected_error(self, harness: Harness) -> None:
        with reading(harness) as source:
            seed(harness, records(harness, 2))
            assert rows(pages(source, selection(harness)))
            for wanted in (
                Selection(harness.entity.name, ("no_such_field",)),
                Selection("no_such_entity", (harness.entity.fields[0].name,)),
            ):
                with raising(UnexpectedError):
                    pages(source, wanted)


def _structural(harness: Harness, field: Field) -> bool:
    return field.name in structural(harness.entity)


def _numbered(harness: Harness, count: int) -> list[tuple[int, dict[str, Value]]]:
    return list(enumerate(records(harness, count)))


def _editable(harness: Harness) -> Field:
    kinds = (FieldType.TEXT, FieldType.INTEGER, FieldType.DECIMAL)
    free = [each for each in harness.entity.fields if not _structural(harness, each) and not each.values]
    found = [each for each in free if each.type in kinds]
    if not found:
        lacks("the entity's type has no text or number beside its key")
    return found[0]


def _resumes_everywhere(harness: Harness, *, by: bool) -> None:
    with reading(harness) as source:
        made = seed(harness, records(harness, 14))
        wanted = selection(harness, by=by)
        found = pages(source, wanted)
        everything_once(harness.entity, made, rows(found))
        assert len(found) > 2, "fourteen records came in too few pages to try the cursors"
    for number, page in enumerate(found):
        with reading(harness) as another_source:
            rest = rows(pages(another_source, wanted, _through_json(page.cursor)))
        assert keys(harness.entity, rest) == keys(harness.entity, rows(found[number + 1 :])), (
            f"resumed after page {number + 1} of {len(found)}"
        )
        if rest:
            values_equal(harness.entity, made, rest)


def _over(source: Source, slices: Sequence[Selection]) -> list[dict[str, Any]]:
    again = [Selection.from_json(each.to_json()) for each in slices]
    read: list[Page] = [page for each in again for page in pages(source, each)]
    return rows(read)


def _with_nulls(harness: Harness, count: int) -> list[dict[str, Value]]:
    free = [each.name for each in harness.entity.fields if each.nullable and not _structural(harness, each)]
    return [{**each, **(dict.fromkeys(free) if n % 4 == 3 else {})} for n, each in _numbered(harness, count)]


def _filters(harness: Harness, made: Sequence[Record]) -> list[Filter]:
    """Every operator that each field declares, and one tree of both kinds."""
    found: list[Filter] = []
    for each in harness.entity.fields:
        found += [_comparison(each, operator, made) for operator in sorted(each.operators)]
    pair = [each for each in found if isinstance(each, Compare) and each.operator in (Operator.EQ, Operator.IN)][:2]
    if len(pair) == 2:
        found += [AnyOf((AllOf(tuple(pair)), pair[1])), AllOf((AnyOf(tuple(pair)), pair[0]))]
    return found


def _comparison(field: Field, operator: Operator, made: Sequence[Record]) -> Compare:
    if operator in (Operator.IS_NULL, Operator.NOT_NULL):
        return Compare(field.name, operator)
    if operator in (Operator.IN, Operator.NOT_IN):
        return Compare(field.name, operator, (made[4][field.name], made[5][field.name]))
    return Compare(field.name, operator, made[5][field.name])


def _holds(harness: Harness, where: Filter, record: Record) -> bool:
    """SQL's answer, null counted as not wanted; polars compares, so that Python's own rules do not leak in."""
    fields = harness.entity.fields
    frame = pl.DataFrame({each.name: pl.Series(each.name, [record[each.name]], each.dtype) for each in fields})
    answer = frame.select(_expression(harness, where).fill_null(value=False).alias("wanted"))["wanted"]
    return bool(answer[0])


def _expression(harness: Harness, where: Filter) -> pl.Expr:
    if isinstance(where, AllOf):
        return pl.all_horizontal([_expression(harness, each) for each in where.parts])
    if isinstance(where, AnyOf):
        return pl.any_horizontal([_expression(harness, each) for each in where.parts])
    field = harness.entity.by_name[where.field]
    column = pl.col(where.field)
    listed = where.value if isinstance(where.value, tuple) else (where.value,)
    values = pl.lit(pl.Series("values", list(listed), field.dtype).implode())
    one = pl.lit(listed[0], field.dtype)
    answers = {
        Operator.EQ: column == one,
        Operator.NE: column != one,
        Operator.LT: column < one,
        Operator.LE: column <= one,
        Operator.GT: column > one,
        Operator.GE: column >= one,
        Operator.IN: column.is_in(values),
        Operator.NOT_IN: ~column.is_in(values),
        Operator.IS_NULL: column.is_null(),
        Operator.NOT_NULL: column.is_not_null(),
    }
    return answers[where.operator]
