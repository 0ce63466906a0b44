"""Fits computed values to the field they are written to: never cut, never wrapped, exact or refused with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

import polars as pl

from hub.sdk import Field, FieldType

_EXACT_REAL = 2**53
_DOUBLE_DIGITS = 15
_DIGITS_END = 10.0**_DOUBLE_DIGITS
_WIDEST = 38
_UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

_Convert: TypeAlias = Callable[[pl.Expr], pl.Expr]


@dataclass(frozen=True, slots=True)
class Fitted:
    """The value in the field's own type, and what must not be true of it, with what is then said of the field.

    Where a rule holds, `converted` may be anything. No reason holds a value.
    """

    converted: pl.Expr
    rules: tuple[tuple[pl.Expr, str], ...]

    @property
    def reason(self) -> pl.Expr:
        """Why a value could not be fitted: the first rule that holds, null where it fits."""
        if not self.rules:
            return pl.lit(None, dtype=pl.String)
        return pl.coalesce(pl.when(broken).then(pl.lit(why)) for broken, why in self.rules)

    @property
    def value(self) -> pl.Expr:
        """The value, null where it does not fit."""
        if not self.rules:
            return self.converted
        fine = ~pl.any_horizontal(broken.fill_null(value=False) for broken, _ in self.rules)
        return pl.when(fine).then(self.converted)


def fits(dtype: pl.DataType, field: Field) -> bool:
    """Whether values of this type can be fitted to the field at all: asked when a mapping is checked."""
    return _conversion(dtype, field, "UTC") is not None


def fit(column: pl.Expr, dtype: pl.DataType, field: Field, timezone: str) -> Fitted:
    """The column's values as `field` holds them. TypeError where `fits` says no.

    Integer and real to integer: whole numbers only. To decimal: rounded half away from zero to the field's scale, a
    real first to 15 significant digits, as PostgreSQL turns double precision into numeric (2.675 becomes 2.68).
    Integer to real: where a double holds it exactly. A wall clock becomes a moment in `timezone`, the earlier one
    where it occurs twice, refused where it never occurs; a date becomes its midnight. Text and bytes: as long as the
    field allows, and one of its closed list.
    """
    conversion = _conversion(dtype, field, timezone)
    if conversion is None:
        raise TypeError(f"{field.name}: values of type {dtype} do not go into a field of type {field.type.value}")
    convert, misfit = conversion
    value = convert(column)
    rules = list(_limits(value, field))
    if misfit:
        rules.insert(0, (value.is_null() & column.is_not_null(), misfit))
    if dtype.is_float():
        # Told apart first: NaN and infinity convert to null like any other number that does not fit.
        rules.insert(0, (~column.is_finite(), "not a finite number"))
    return Fitted(value, tuple(rules))


def _limits(value: pl.Expr, field: Field) -> Iterator[tuple[pl.Expr, str]]:
    if field.type is FieldType.UUID:
        yield ~value.str.contains(_UUID), "not a UUID"
    if field.length is not None and field.type is FieldType.BYTES:
        yield value.bin.size() > field.length, f"longer than the {field.length} bytes the field holds"
    if field.length is not None and field.type is FieldType.TEXT:
        yield value.str.len_chars() > field.length, f"longer than the {field.length} characters the field holds"
    if field.values and field.type is FieldType.TEXT:
        yield ~value.is_in(list(field.values)), "not one of the values the field allows"


def _conversion(dtype: pl.DataType, field: Field, timezone: str) -> tuple[_Convert, str] | None:
    """How to turn the type into the field's (null where a value cannot be), and what is said of such a value."""
    target = field.dtype
    if isinstance(dtype, pl.Null):
        return (lambda column: column.cast(target)), ""
    if field.type is FieldType.INTEGER:
        return _to_integer(dtype)
    if field.type is FieldType.DECIMAL:
        assert isinstance(target, pl.Decimal)
        return _to_decimal(dtype, target)
    if field.type is FieldType.REAL:
        return _to_real(dtype)
    if field.type is FieldType.TIMESTAMP:
        return _to_timestamp(dtype, timezone)
    if field.type is FieldType.INSTANT:
        return _to_instant(dtype, timezone)
    if type(dtype) is not type(target):
        return None
    if field.type is FieldType.UUID:
        # Lower case is how every source reads one; compared as text it must not differ by case alone.
        return (lambda column: column.str.to_lowercase()), ""
    return (lambda column: column), ""


def _to_integer(dtype: pl.DataType) -> tuple[_Convert, str] | None:
    if dtype.is_integer():
        return (lambda column: column.cast(pl.Int64, strict=False)), "out of the field's range"
    if not (dtype.is_float() or dtype.is_decimal()):
        return None

    def whole(column: pl.Expr) -> pl.Expr:
        number = column.cast(pl.Int64, strict=False)
        same = column.floor() == column if dtype.is_float() else number.cast(pl.Decimal(_WIDEST, 0)) == column
        return pl.when(same).then(number)

    return whole, "not a whole number the field can hold"


def _to_decimal(dtype: pl.DataType, target: pl.Decimal) -> tuple[_Convert, str] | None:
    why = "more digits than the field holds"
    if dtype.is_integer():
        return (lambda column: column.cast(target, strict=False)), why
    if isinstance(dtype, pl.Decimal):
        return (lambda column: _rescaled(column, dtype, target)), why
    if dtype.is_float():
        return (lambda column: _decimal_of_real(column, target)), why
    return None


def _rescaled(column: pl.Expr, dtype: pl.Decimal, target: pl.Decimal) -> pl.Expr:
    if dtype.scale > target.scale:
        # Rounding carries into a 39th digit at the very end of the range, and would fail the whole frame there.
        top = Decimal("0" + "9" * (_WIDEST - dtype.scale) + ".4")
        column = pl.when(column.abs() < pl.lit(top)).then(column).round(target.scale, mode="half_away_from_zero")
    return column.cast(target, strict=False)


def _decimal_of_real(column: pl.Expr, target: pl.Decimal) -> pl.Expr:
    real = column.cast(pl.Float64)
    scaled = real * 10.0**target.scale
    # 15 digits with a fraction: rounded as a whole number of the last decimal place, which a double holds exactly.
    units = scaled.round_sig_figs(_DOUBLE_DIGITS).round(0, mode="half_away_from_zero").cast(pl.Int64, strict=False)
    small = units.cast(pl.Decimal(_WIDEST, 0)) * pl.lit(Decimal(1).scaleb(-target.scale))
    # All 15 digits stand before the last decimal place: nothing is left to round, the printed digits are the value.
    digits = pl.when(real.abs() < _DIGITS_END).then(real.round_sig_figs(_DOUBLE_DIGITS)).otherwise(real)
    if not target.scale:
        digits = digits.round(0, mode="half_away_from_zero")
    large = digits.cast(pl.String).cast(target, strict=False)
    return pl.when(scaled.abs() < _DIGITS_END).then(small.cast(target, strict=False)).otherwise(large)


def _to_real(dtype: pl.DataType) -> tuple[_Convert, str] | None:
    if dtype.is_float() or dtype.is_decimal():
        return (lambda column: column.cast(pl.Float64)), ""
    if not dtype.is_integer():
        return None
    return (
        lambda column: pl.when(column.is_between(-_EXACT_REAL, _EXACT_REAL)).then(column.cast(pl.Float64)),
        "a whole number too large to be held exactly",
    )


def _to_timestamp(dtype: pl.DataType, timezone: str) -> tuple[_Convert, str] | None:
    if isinstance(dtype, pl.Date):
        return (lambda column: column.cast(pl.Datetime("us"))), ""
    if not isinstance(dtype, pl.Datetime):
        return None
    if dtype.time_zone is None:
        return (lambda column: column.dt.cast_time_unit("us")), ""
    return (lambda column: column.dt.cast_time_unit("us").dt.convert_time_zone(timezone).dt.replace_time_zone(None)), ""


def _to_instant(dtype: pl.DataType, timezone: str) -> tuple[_Convert, str] | None:
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return (lambda column: column.dt.cast_time_unit("us").dt.convert_time_zone("UTC")), ""
    if not isinstance(dtype, pl.Date | pl.Datetime):
        return None

    def moment(column: pl.Expr) -> pl.Expr:
        local = column.cast(pl.Datetime("us"))
        zoned = local.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
        return zoned.dt.convert_time_zone("UTC")

    return moment, f"a time of day that does not occur on that date in {timezone}"
