"""Live: changes come as they happen, ours do not, a resume loses none, and what is lost is told as a gap."""

from __future__ import annotations

import time

from hub.sdk import Cursor, Entity, Field, Page
from hub.sdk.testing.harness import Harness, Record
from hub.sdk.testing.records import another, identity, key_of, records
from hub.sdk.testing.suite.following import Following, following
from hub.sdk.testing.suite.steps import key_change, needs_destination, seed, targets, values_equal, write
from hub.sdk.types import DELETED, KEY


def _edit(harness: Harness, record: Record, field: Field) -> Record:
    """Somebody else changes a record; it as it stands then."""
    value = another(harness, field, record[field.name])
    harness.edit(harness.entity.name, key_of(harness.entity, record), {field.name: value})
    return {**record, field.name: value}


def _stored(cursor: Cursor) -> Cursor:
    return Cursor.from_json(cursor.to_json())


def _of(entity: Entity, page: Page) -> list[tuple[str, ...]]:
    return [identity(entity, row[KEY]) for row in page.frame.rows(named=True)]


def _told(stream: Following, entity: Entity, wanted: set[tuple[str, ...]]) -> list[Page]:
    """Pages until each of these records has come."""
    pages: list[Page] = []
    missing = set(wanted)
    while missing:
        _, page = stream.rows()
        pages.append(page)
        missing -= set(_of(entity, page))
    return pages


class LiveGroup:
    """Runs where the connector's type has the live role."""

    def test_a_new_stream_begins_with_a_gap(self, harness: Harness) -> None:
        with following(harness) as stream:
            assert stream.gap().gap

    def test_an_edit_comes_with_the_record_as_it_stands(self, harness: Harness) -> None:
        with following(harness) as stream:
            made = seed(harness, records(harness, 3))
            stream.gap()
            field = targets(harness)[0]
            edited = _edit(harness, made[1], field)
            rows, page = stream.rows()
        assert [identity(harness.entity, row[KEY]) for row in rows] == [identity(harness.entity, made[1])]
        stamps = dict.fromkeys(harness.entity.changed_by)
        values_equal(harness.entity, [edited], [{n: v for n, v in row.items() if n not in stamps} for row in rows])
        names = [each.name for each in harness.entity.fields]
        assert dict(page.frame.schema) == harness.entity.page_schema(names)

    def test_edits_of_one_record_in_one_page_are_one_row(self, harness: Harness) -> None:
        field = targets(harness)[0]
        with following(harness) as stream:
            made = seed(harness, records(harness, 1))
            stream.gap()
            one = _edit(harness, made[0], field)
            last = _edit(harness, one, field)
            while True:
                rows, page = stream.rows()
                told = _of(harness.entity, page)
                assert len(told) == len(set(told)), "a page holds one record twice"
                if rows[-1][field.name] == last[field.name]:
                    break

    def test_pages_of_a_stream_respect_page_rows(self, harness: Harness) -> None:
        field = targets(harness)[0]
        with following(harness, rows=2) as stream:
            made = seed(harness, records(harness, 8))
            stream.gap()
            _edit(harness, made[0], field)
            _, page = stream.rows()
        for each in made[1:]:
            _edit(harness, each, field)
        # What happened while nobody followed comes as one heap.
        with following(harness, _stored(page.cursor), rows=2) as stream:
            pages = _told(stream, harness.entity, {identity(harness.entity, each) for each in made[1:]})
        largest = max(page.frame.height for page in pages)
        assert largest <= 2, f"a page of {largest} records where at most 2 were asked for"
        cut = next(n for n, page in enumerate(pages) if page.frame.height)
        rest = {each for page in pages[cut + 1 :] for each in _of(harness.entity, page)}
        with following(harness, _stored(pages[cut].cursor), rows=2) as stream:
            _told(stream, harness.entity, rest)

    def test_a_deleted_record_is_told_as_deleted(self, harness: Harness) -> None:
        with following(harness) as stream:
            made = seed(harness, records(harness, 2))
            stream.gap()
            harness.remove(harness.entity.name, key_of(harness.entity, made[0]))
            rows, _ = stream.rows()
        assert [identity(harness.entity, row[KEY]) for row in rows] == [identity(harness.entity, made[0])]
        assert rows[0][DELETED] is True

    def test_our_own_writes_do_not_come_back(self, harness: Harness) -> None:
        needs_destination(harness)
        field = targets(harness)[0]
        with following(harness) as stream:
            made = seed(harness, records(harness, 3))
            stream.gap()
            ours = [
                key_change(harness, each, **{field.name: another(harness, field, each[field.name])}) for each in made
            ]
            write(harness, ours[:2], fields=[field.name])
            _edit(harness, made[2], field)
            _, page = stream.rows()
        assert _of(harness.entity, page) == [identity(harness.entity, made[2])], "our own write came back"

    def test_a_quiet_stream_yields_an_empty_page_in_time(self, harness: Harness) -> None:
        assert harness.beat <= 10.0
        with following(harness) as stream:
            stream.gap()
            for _ in range(2):
                began = time.monotonic()
                page = stream.next(harness.beat)
                assert time.monotonic() - began <= harness.beat
                assert (page.frame.height, page.gap) == (0, False)

    def test_a_stream_resumes_from_each_cursor_without_loss(self, harness: Harness) -> None:
        field = targets(harness)[0]
        with following(harness) as stream:
            made = seed(harness, records(harness, 5))
            stream.gap()
            pages = []
            for each in made[:2]:
                _edit(harness, each, field)
                pages += _told(stream, harness.entity, {identity(harness.entity, each)})
        for each in made[2:]:
            _edit(harness, each, field)
        wanted = [identity(harness.entity, each) for each in made]
        for number, page in enumerate(pages):
            with following(harness, _stored(page.cursor)) as stream:
                later = _told(stream, harness.entity, set(wanted[number + 1 :]))
            assert not any(each.gap for each in later)

    def test_an_edit_made_while_nobody_followed_is_told_after_it(self, harness: Harness) -> None:
        field = targets(harness)[0]
        with following(harness) as stream:
            made = seed(harness, records(harness, 2))
            stream.gap()
            _edit(harness, made[0], field)
            _, page = stream.rows()
        edited = _edit(harness, made[1], field)
        with following(harness, _stored(page.cursor)) as stream:
            (page,) = _told(stream, harness.entity, {identity(harness.entity, made[1])})
        assert page.frame[field.name].to_list() == [edited[field.name]]

    def test_a_cursor_that_is_too_old_tells_a_gap(self, harness: Harness) -> None:
        field = targets(harness)[0]
        with following(harness) as stream:
            made = seed(harness, records(harness, 3))
            stream.gap()
            _edit(harness, made[0], field)
            _, page = stream.rows()
        _edit(harness, made[1], field)
        harness.forget(harness.entity.name)
        with following(harness, _stored(page.cursor)) as stream:
            assert stream.gap().cursor != page.cursor
            _edit(harness, made[2], field)
            _, page = stream.rows()
        assert _of(harness.entity, page) == [identity(harness.entity, made[2])]

    def test_a_cursor_that_is_not_understood_tells_a_gap(self, harness: Harness) -> None:
        with following(harness, Cursor({"of": "another connector"})) as stream:
            assert stream.gap().gap
