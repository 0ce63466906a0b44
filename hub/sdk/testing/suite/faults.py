"""Faults: whatever happens to the far side is one of four errors, in time, and a repeat makes one change."""

from __future__ import annotations

from typing import Any

from hub.sdk import ConnectorError, Context, Mode, UnavailableError
from hub.sdk.testing.harness import Fault, Harness
from hub.sdk.testing.records import Change, another, changes, key_of, records, same
from hub.sdk.testing.suite.steps import (
    JournalInMemory,
    answered,
    everything_once,
    holds,
    keys,
    lacks,
    needs_destination,
    needs_source,
    opened,
    pages,
    raising,
    reading,
    rows,
    seed,
    selection,
    stored,
    targets,
    throws,
    values_equal,
    write,
    writing,
)

SLACK = 2.0
"""Seconds that a call may take beyond its deadline on a loaded machine."""


def _in_time(harness: Harness, act: Any) -> None:
    context = Context()
    begun = context.clock.monotonic()
    with raising(UnavailableError):
        act(Context(deadline=begun + harness.patience))
    took = context.clock.monotonic() - begun
    assert took < harness.patience + SLACK, f"the call took {took:.1f} s with {harness.patience} s to go"


class FaultsGroup:
    """One test per switch. A switch that a stand-in does not have fails by assertion until it is declared a gap."""

    def test_a_silent_far_side_ends_at_the_deadline(self, harness: Harness) -> None:
        throws(harness, Fault.HANG)

        def check(context: Context) -> None:
            with opened(harness, Fault.HANG, context=context) as connector:
                connector.check()

        _in_time(harness, check)

    def test_a_read_of_a_silent_far_side_ends_at_the_deadline(self, harness: Harness) -> None:
        needs_source(harness)
        throws(harness, Fault.HANG)
        seed(harness, records(harness, 3))

        def read(context: Context) -> None:
            with reading(harness, Fault.HANG, context=context) as source:
                pages(source, selection(harness))

        _in_time(harness, read)

    def test_a_busy_far_side_is_unavailable_with_its_delay(self, harness: Harness) -> None:
        throws(harness, Fault.BUSY)
        with raising(UnavailableError) as raised, opened(harness, Fault.BUSY) as connector:
            connector.check()
        assert getattr(raised.error, "retry_after", None) == harness.retry_after

    def test_a_garbled_answer_is_one_of_the_four_errors(self, harness: Harness) -> None:
        throws(harness, Fault.GARBLED)
        with raising(ConnectorError), opened(harness, Fault.GARBLED) as connector:
            connector.check()
            connector.entities()

    def test_a_read_cut_off_resumes_without_loss(self, harness: Harness) -> None:
        needs_source(harness)
        throws(harness, Fault.CUT_READ)
        made = seed(harness, records(harness, 20))
        found, cursor = [], None
        with reading(harness, Fault.CUT_READ) as source, raising(UnavailableError):
            for page in source.read(selection(harness)):
                found.append(page)
                cursor = page.cursor
        assert found, "the connection was cut before the first page"
        with reading(harness) as source:
            found += pages(source, selection(harness), cursor)
        everything_once(harness.entity, made, rows(found))
        values_equal(harness.entity, made, rows(found))

    def test_a_write_cut_off_claims_nothing_that_is_not_there(self, harness: Harness) -> None:
        made, batch, states = _cut(harness)
        for number, (each, state) in enumerate(zip(batch, states, strict=True)):
            assert state in ("applied", "unknown"), f"a change whose answer was lost is told as {state}"
            if state == "applied":
                holds(harness, each.key, each.values)
            else:
                found = stored(harness, each.key)
                for name, value in each.values.items():
                    field = harness.entity.by_name[name]
                    assert same(field, found[name], value) or same(field, found[name], made[number][name])

    def test_a_write_cut_off_and_repeated_is_one_change(self, harness: Harness) -> None:
        journal = JournalInMemory()
        _, batch, _ = _cut(harness, journal)
        assert [row["state"] for row in write(harness, batch, journal=journal)] == ["applied"] * len(batch)
        for each in batch:
            holds(harness, each.key, each.values)
            assert harness.touched(harness.entity.name, each.key) in (None, 1), "a change was made twice"
        assert harness.count(harness.entity.name) == len(batch)

    def test_a_token_that_expires_is_not_seen(self, harness: Harness) -> None:
        needs_source(harness)
        throws(harness, Fault.EXPIRE)
        made = seed(harness, records(harness, 14))
        with reading(harness, Fault.EXPIRE) as source:
            first, second = (rows(pages(source, selection(harness))) for _ in range(2))
        everything_once(harness.entity, made, first)
        assert keys(harness.entity, first) == keys(harness.entity, second)

    def test_a_fault_that_is_over_leaves_no_trace(self, harness: Harness) -> None:
        needs_source(harness)
        if not harness.faults & {Fault.DOWN, Fault.BUSY, Fault.GARBLED}:
            lacks("the stand-in throws no passing fault, which the other gaps say")
        made = seed(harness, records(harness, 3))
        for fault in sorted(harness.faults & {Fault.DOWN, Fault.BUSY, Fault.GARBLED}):
            with raising(ConnectorError), opened(harness, fault) as connector:
                connector.check()
                connector.entities()
            with reading(harness) as source:
                everything_once(harness.entity, made, rows(pages(source, selection(harness))))


def _cut(harness: Harness, journal: JournalInMemory | None = None) -> tuple[Any, list[Change], list[str]]:
    """A batch whose connection is lost in mid-write: the records before, the changes, the states told."""
    needs_destination(harness, Mode.UPDATE)
    throws(harness, Fault.CUT_WRITE)
    made = seed(harness, records(harness, 6))
    field = targets(harness)[0]
    batch = [
        Change(
            key_of(harness.entity, each),
            {field.name: another(harness, field, each[field.name])},
            before={field.name: each[field.name]},
        )
        for each in made
    ]
    try:
        with writing(harness, Fault.CUT_WRITE) as destination:
            written = destination.write(
                changes(harness.entity, [field.name], batch), journal=journal or JournalInMemory()
            )
    except UnavailableError:
        states = ["unknown"] * len(batch)
    else:
        states = [row["state"] for row in answered(written, len(batch))]
        assert "unknown" in states, "nothing was cut: every change has an answer"
    return made, batch, states
