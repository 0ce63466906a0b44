"""Round trip: what is at the far side is what is read, and what is written is what is there, type by type.

One test per type and direction, so that a gap in one hides no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hub.sdk import Field, FieldType, Mode, Value
from hub.sdk.testing.harness import Harness
from hub.sdk.testing.records import edges, key_of, longest, records
from hub.sdk.testing.suite.steps import (
    everything_once,
    holds,
    key_change,
    lacks,
    needs_destination,
    pages,
    readable,
    reading,
    rows,
    seed,
    selection,
    targets,
    values_equal,
    write,
)

NONFINITE: tuple[Value, ...] = (float("nan"), float("inf"), float("-inf"))


def _reads(harness: Harness, field: Field, values: Sequence[Value]) -> None:
    with reading(harness) as source:
        plain = records(harness, len(values))
        made = seed(harness, [{**each, field.name: values[n]} for n, each in enumerate(plain)])
        found = rows(pages(source, selection(harness)))
    everything_once(harness.entity, made, found)
    values_equal(harness.entity, made, found)


def _writes(harness: Harness, field: Field, values: Sequence[Value]) -> None:
    made = seed(harness, records(harness, len(values)))
    batch: list[Any] = [key_change(harness, each, **{field.name: values[n]}) for n, each in enumerate(made)]
    states = [row["state"] for row in write(harness, batch)]
    assert states == ["applied"] * len(values), f"{field.type.value} edges came back as {states}"
    for n, each in enumerate(made):
        # A stamp moves with every write where the far side keeps it.
        kept = {name: value for name, value in each.items() if name not in harness.entity.changed_by}
        holds(harness, key_of(harness.entity, each), {**kept, field.name: values[n]})


def _reads_edges(harness: Harness, kind: FieldType) -> None:
    field = readable(harness, kind)
    _reads(harness, field, edges(harness, field))


def _writes_edges(harness: Harness, kind: FieldType) -> None:
    field = _target(harness, kind)
    _writes(harness, field, edges(harness, field))


def _target(harness: Harness, kind: FieldType) -> Field:
    needs_destination(harness, Mode.UPDATE)
    found = [each for each in targets(harness) if each.type is kind and not each.values]
    if not found:
        lacks(f"the entity's type has no writable {kind.value} field")
    return found[0]


class RoundTripGroup:
    """Runs where the entity has a field of the type."""

    def test_text_in_all_scripts_is_read(self, harness: Harness) -> None:
        _reads_edges(harness, FieldType.TEXT)

    def test_empty_text_is_read_as_empty_and_not_as_null(self, harness: Harness) -> None:
        field = readable(harness, FieldType.TEXT)
        _reads(harness, field, ["", None, "x"] if field.nullable else ["", "x"])

    def test_the_longest_text_is_read(self, harness: Harness) -> None:
        field = readable(harness, FieldType.TEXT)
        _reads(harness, field, [longest(field), "x"])

    def test_integers_at_both_ends_are_read(self, harness: Harness) -> None:
        _reads_edges(harness, FieldType.INTEGER)

    def test_decimals_at_both_ends_are_read(self, harness: Harness) -> None:
        _reads_edges(harness, FieldType.DECIMAL)

    def test_reals_are_read_to_the_last_bit(self, harness: Harness) -> None:
        _reads_edges(harness, FieldType.REAL)

    def test_nan_and_infinity_are_read(self, harness: Harness) -> None:
        field = readable(harness, FieldType.REAL)
        assert harness.nonfinite, "the far side holds no NaN: declare a gap with the reason"
        _reads(harness, field, NONFINITE)

    def test_booleans_are_read(self, harness: Harness) -> None:
        _reads_edges(harness, FieldType.BOOLEAN)

    def test_dates_at_both_ends_are_read(self, harness: Harness) -> None:
        _reads_edges(harness, FieldType.DATE)

    def test_times_are_read(self, harness: Harness) -> None:
        _reads_edges(harness, FieldType.TIME)

    def test_wall_clock_timestamps_are_read(self, harness: Harness) -> None:
        _reads_edges(harness, FieldType.TIMESTAMP)

    def test_instants_are_read(self, harness: Harness) -> None:
        _reads_edges(harness, FieldType.INSTANT)

    def test_bytes_are_read(self, harness: Harness) -> None:
        field = readable(harness, FieldType.BYTES)
        _reads(harness, field, [*edges(harness, field), b"", longest(field)])

    def test_uuids_are_read(self, harness: Harness) -> None:
        _reads_edges(harness, FieldType.UUID)

    def test_json_is_read(self, harness: Harness) -> None:
        _reads_edges(harness, FieldType.JSON)

    def test_text_in_all_scripts_is_written(self, harness: Harness) -> None:
        _writes_edges(harness, FieldType.TEXT)

    def test_empty_text_is_written_as_empty_and_not_as_null(self, harness: Harness) -> None:
        _writes(harness, _target(harness, FieldType.TEXT), [""])

    def test_the_longest_text_is_written(self, harness: Harness) -> None:
        field = _target(harness, FieldType.TEXT)
        _writes(harness, field, [longest(field)])

    def test_integers_at_both_ends_are_written(self, harness: Harness) -> None:
        _writes_edges(harness, FieldType.INTEGER)

    def test_decimals_at_both_ends_are_written(self, harness: Harness) -> None:
        _writes_edges(harness, FieldType.DECIMAL)

    def test_reals_are_written_to_the_last_bit(self, harness: Harness) -> None:
        _writes_edges(harness, FieldType.REAL)

    def test_nan_and_infinity_are_written(self, harness: Harness) -> None:
        field = _target(harness, FieldType.REAL)
        assert harness.nonfinite, "the far side holds no NaN: declare a gap with the reason"
        _writes(harness, field, NONFINITE)

    def test_booleans_are_written(self, harness: Harness) -> None:
        _writes_edges(harness, FieldType.BOOLEAN)

    def test_dates_at_both_ends_are_written(self, harness: Harness) -> None:
        _writes_edges(harness, FieldType.DATE)

    def test_times_are_written(self, harness: Harness) -> None:
        _writes_edges(harness, FieldType.TIME)

    def test_wall_clock_timestamps_are_written(self, harness: Harness) -> None:
        _writes_edges(harness, FieldType.TIMESTAMP)

    def test_instants_are_written(self, harness: Harness) -> None:
        _writes_edges(harness, FieldType.INSTANT)

    def test_bytes_are_written(self, harness: Harness) -> None:
        field = _target(harness, FieldType.BYTES)
        _writes(harness, field, [*edges(harness, field), b"", longest(field)])

    def test_uuids_are_written(self, harness: Harness) -> None:
        _writes_edges(harness, FieldType.UUID)

    def test_json_is_written(self, harness: Harness) -> None:
        _writes_edges(harness, FieldType.JSON)
