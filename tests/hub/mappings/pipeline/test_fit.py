"""Values fitted to a field: exact, or refused with a reason that does not hold them."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.mappings.pipeline.fit import fit, fits
from hub.sdk import Field, FieldType

BERLIN = "Europe/Berlin"


def fitted(values: list[Any], dtype: pl.DataType, field: Field) -> list[tuple[Any, str | None]]:
    frame = pl.DataFrame({"x": pl.Series(values, dtype=dtype)})
    both = fit(pl.col("x"), frame.schema["x"], field, BERLIN)
    out = frame.select(both.value.alias("value"), both.reason.alias("reason"))
    assert out.schema["value"] == field.dtype
    return out.rows()


def decimal(precision: int, scale: int) -> Field:
    return Field("x", FieldType.DECIMAL, precision=precision, scale=scale)


INTEGER = Field("x", FieldType.INTEGER)
REAL = Field("x", FieldType.REAL)
INSTANT = Field("x", FieldType.INSTANT)
TIMESTAMP = Field("x", FieldType.TIMESTAMP)
NOT_WHOLE = "not a whole number the field can hold"
TOO_LONG = "more digits than the field holds"
NOT_FINITE = "not a finite number"


@given(st.lists(st.floats(), min_size=1, max_size=20))
def test_only_whole_reals_become_integers(values: list[float]) -> None:
    for value, (held, reason) in zip(values, fitted(values, pl.Float64(), INTEGER), strict=True):
        if math.isfinite(value) and value == int(value) and -(2**63) <= value < 2**63:
            assert (held, reason) == (int(value), None)
        else:
            assert held is None
            assert reason == (NOT_WHOLE if math.isfinite(value) else NOT_FINITE)


@given(
    st.lists(st.decimals(-(10**12), 10**12, places=5), min_size=1, max_size=20),
    st.integers(0, 6),
    st.integers(7, 14),
)
def test_decimals_are_rounded_half_away_from_zero_and_never_lose_a_leading_digit(
    values: list[Decimal], scale: int, precision: int
) -> None:
    rows = fitted(values, pl.Decimal(20, 5), decimal(precision, scale))

    for value, (held, reason) in zip(values, rows, strict=True):
        wanted = value.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP)
        if abs(wanted) < Decimal(10) ** (precision - scale):
            assert (held, reason) == (wanted, None)
        else:
            assert (held, reason) == (None, TOO_LONG)


@given(
    st.lists(
        st.floats(-1e17, 1e17) | st.integers(-(10**7), 10**7).map(lambda each: each / 1000), min_size=1, max_size=20
    ),
    st.integers(0, 4),
)
def test_reals_become_decimals_by_their_fifteen_digits(values: list[float], scale: int) -> None:
    rows = fitted(values, pl.Float64(), decimal(30, scale))

    for value, (held, reason) in zip(values, rows, strict=True):
        with localcontext(prec=60):
            printed = Decimal(f"{value:.15g}") if abs(value) < 1e15 else Decimal(repr(value))
            wanted = printed.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP)
        assert reason is None
        # Where the scaled value carries an error in its last bit, the 15 digits of both are the same number.
        assert abs(held - wanted) <= abs(wanted) * Decimal("1e-15")


@pytest.mark.parametrize(
    ("value", "held", "reason"),
    [
        (2.675, Decimal("2.68"), None),
        (-2.675, Decimal("-2.68"), None),
        (1.005, Decimal("1.01"), None),
        (0.285, Decimal("0.29"), None),
        (99999999.994, Decimal("99999999.99"), None),
        (99999999.995, None, TOO_LONG),
        (1e300, None, TOO_LONG),
        (math.nan, None, NOT_FINITE),
        (math.inf, None, NOT_FINITE),
        (None, None, None),
    ],
)
def test_reals_at_the_edges_of_a_decimal_field(value: float | None, held: Decimal | None, reason: str | None) -> None:
    assert fitted([value], pl.Float64(), decimal(10, 2)) == [(held, reason)]


@pytest.mark.parametrize("scale", [0, 2, 12, 38])
def test_the_widest_decimals_neither_wrap_nor_fail_the_frame(scale: int) -> None:
    most = Decimal((0, (9,) * 38, -scale))

    least = most.copy_negate()

    rows = fitted([most, least, None], pl.Decimal(38, scale), decimal(38, 0))

    for value, (held, _) in zip((most, least), rows, strict=False):
        with localcontext(prec=60):
            assert held is None or abs(held - value) <= Decimal("0.5")


@pytest.mark.parametrize(
    ("value", "dtype", "field", "reason"),
    [
        (Decimal("1.01"), pl.Decimal(10, 2), INTEGER, NOT_WHOLE),
        (12345, pl.Int64(), decimal(4, 2), TOO_LONG),
        (2**53 + 1, pl.Int64(), REAL, "a whole number too large to be held exactly"),
        (math.nan, pl.Float64(), REAL, NOT_FINITE),
        ("no", pl.String(), Field("x", FieldType.UUID), "not a UUID"),
        (b"abc", pl.Binary(), Field("x", FieldType.BYTES, length=2), "longer than the 2 bytes the field holds"),
        (
            datetime(2026, 3, 29, 2, 30),
            pl.Datetime("us"),
            INSTANT,
            "a time of day that does not occur on that date in Europe/Berlin",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_the_reason_is_about_the_field(
    value: Any, dtype: pl.DataType, field: Field, reason: str
) -> None:
    assert fitted([value, None], dtype, field) == [(None, reason), (None, None)]


@given(st.lists(st.text(max_size=12) | st.sampled_from(["Hot", "Cold"]), min_size=1, max_size=10), st.integers(1, 8))
def test_a_text_is_held_whole_or_not_at_all(values: list[str], length: int) -> None:
    rows = fitted(values, pl.String(), Field("x", FieldType.TEXT, length=length))

    for value, (held, reason) in zip(values, rows, strict=True):
        assert held == (value if len(value) <= length else None)
        assert (reason is None) == (len(value) <= length)


def test_length_counts_characters_and_not_bytes() -> None:
    field = Field("x", FieldType.TEXT, length=3)

    assert fitted(["ß€😀", "ß€😀!"], pl.String(), field)[0] == ("ß€😀", None)


def test_the_closed_list_of_a_field_is_compared_exactly() -> None:
    field = Field("x", FieldType.TEXT, values=("Hot", "Cold"))

    rows = fitted(["Hot", "hot", None], pl.String(), field)

    assert rows == [("Hot", None), (None, "not one of the values the field allows"), (None, None)]


def test_clocks_and_moments_are_told_apart_by_the_mappings_zone() -> None:
    winter, twice = datetime(2026, 1, 1, 8), datetime(2026, 10, 25, 2, 30)

    assert fitted([winter, twice], pl.Datetime("us"), INSTANT) == [
        (datetime(2026, 1, 1, 7, tzinfo=UTC), None),
        (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), None),
    ]
    assert fitted([datetime(2026, 1, 1, 7, tzinfo=UTC)], pl.Datetime("us", "UTC"), TIMESTAMP) == [(winter, None)]
    assert fitted([date(2026, 1, 1)], pl.Date(), INSTANT) == [(datetime(2025, 12, 31, 23, tzinfo=UTC), None)]


@pytest.mark.parametrize(
    ("dtype", "field"),
    [
        (pl.String(), INTEGER),
        (pl.Int64(), Field("x", FieldType.TEXT)),
        (pl.Boolean(), INTEGER),
        (pl.Datetime("us"), Field("x", FieldType.DATE)),
        (pl.Float64(), Field("x", FieldType.BOOLEAN)),
    ],
)
def test_types_that_do_not_go_together_are_refused_before_any_record(dtype: pl.DataType, field: Field) -> None:
    assert not fits(dtype, field)
    with pytest.raises(TypeError, match="do not go into a field of type"):
        fit(pl.col("x"), dtype, field, BERLIN)


@pytest.mark.parametrize("kind", list(FieldType))
def test_a_bare_null_fits_every_field(kind: FieldType) -> None:
    assert fitted([None], pl.Null(), Field("x", kind, length=3, precision=5, scale=1)) == [(None, None)]
