"""One run of bytes per row that says exactly what its values are, so that a digest over it binds every one of them.

A row is a part of fixed width and a part of texts. Each value has a flag (0: null) in the fixed part; integers, dates
(days), times (nanoseconds) and moments (microseconds since 1970) follow as eight bytes, reals as their IEEE 754 bits
with one NaN, all big-endian; texts as their length, four bytes, and their UTF-8 in the part of texts; decimals as the
text of their digits, bytes as hexadecimal text, lists as one text of tagged items. So null, the empty text and NaN
differ, no length of one value moves into the next, and nothing depends on how a library prints a number. The types are
bound by `kind`, once for all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

NULL = "n;"


def kind(dtype: pl.DataType) -> str:
    """The name of a column type in a digest; width and unit do not matter, precision and zone do."""
    if isinstance(dtype, pl.Struct):
        return "struct<" + ",".join(f"{each.name}:{kind(_instance(each.dtype))}" for each in dtype.fields) + ">"
    if isinstance(dtype, pl.List):
        return f"list<{kind(_instance(dtype.inner))}>"
    if isinstance(dtype, pl.Decimal):
        return f"decimal({dtype.scale})"
    if isinstance(dtype, pl.Datetime):
        return "instant" if dtype.time_zone else "timestamp"
    if dtype.is_integer():
        return "unsigned" if isinstance(dtype, pl.UInt64) else "integer"
    if dtype.is_float():
        return "real"
    return _KINDS[type(dtype)]


_KINDS: dict[type[pl.DataType], str] = {
    pl.String: "text",
    pl.Categorical: "text",
    pl.Enum: "text",
    pl.Boolean: "boolean",
    pl.Date: "date",
    pl.Time: "time",
    pl.Binary: "bytes",
    pl.Null: "null",
}


def canonical_rows(frame: pl.DataFrame, columns: Sequence[str], prefix: Bytes | None = None) -> list[bytes]:
    """The bytes of each row over the named columns, in the order given; `prefix` (rows by width) stands before them."""
    plan, schema = _Plan(), frame.schema
    for name in columns:
        plan.add(pl.col(name), schema[name], frame[name].null_count(), frame.height)
    # All columns in one query: polars' cost for each is otherwise more than the work.
    made = frame.select([each.alias(str(at)) for at, each in enumerate(plan.expressions)])
    fixed = [] if prefix is None else [prefix]
    fixed += [_fixed(made[str(at)], width) for at, width in enumerate(plan.widths) if width]
    matrix = np.concatenate(fixed, axis=1) if fixed else np.empty((frame.height, 0), np.uint8)
    width, flat = matrix.shape[1], matrix.tobytes()
    heads = [flat[at : at + width] for at in range(0, len(flat), width)] if width else [b""] * frame.height
    texts = [pl.col(str(at)) for at, width in enumerate(plan.widths) if not width]
    if not texts or frame.is_empty():
        return heads
    strung = made.select(pl.concat_str(texts).cast(pl.Binary)).to_series().to_list()
    return [head + text for head, text in zip(heads, strung, strict=True)]


@dataclass
class _Plan:
    """The expressions of all parts in order, and the width of each in the fixed part; 0 goes to the texts."""

    expressions: list[pl.Expr] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)

    def add(self, value: pl.Expr, dtype: pl.DataType, nulls: int | None, height: int) -> None:
        if isinstance(dtype, pl.Null) or (nulls == height and not isinstance(dtype, pl.Struct)):
            self._absent(dtype, height)
            return
        self._put(pl.repeat(True, height, dtype=pl.Boolean) if nulls == 0 else value.is_not_null(), 1)
        if isinstance(dtype, pl.Struct):
            for each in dtype.fields:
                self.add(value.struct.field(each.name), _instance(each.dtype), None, height)
        elif dtype.is_float():
            self._put(value.cast(pl.Float64).fill_null(0.0), 8)
        elif _is_text(dtype):
            text = _text(value, dtype).fill_null("")
            self._put(text.str.len_bytes(), 4)
            self._put(text, 0)
        else:
            self._put(_whole(value, dtype).fill_null(0), 8)

    def _absent(self, dtype: pl.DataType, height: int) -> None:
        # The same bytes as the long way: a flag of zero, and zero for the value or for the length of its text.
        self._put(pl.repeat(False, height, dtype=pl.Boolean), 1)
        if not isinstance(dtype, pl.Null):
            width = 4 if _is_text(dtype) else 8
            self._put(pl.repeat(0, height, dtype=pl.UInt32 if width == 4 else pl.Int64), width)

    def _put(self, expression: pl.Expr, width: int) -> None:
        self.expressions.append(expression)
        self.widths.append(width)


def _fixed(values: pl.Series, width: int) -> Bytes:
    numbers = values.to_numpy()
    if width == 1:
        return numbers.view(np.uint8).reshape(-1, 1)
    if numbers.dtype.kind == "f":
        return np.where(np.isnan(numbers), np.nan, numbers).astype(">f8").view(np.uint8).reshape(-1, 8)
    return numbers.astype(f">i{width}").view(np.uint8).reshape(-1, width)


def _is_text(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Decimal | pl.Binary | pl.List)


def _text(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.Binary):
        return value.bin.encode("hex")
    return _items(value, dtype) if isinstance(dtype, pl.List) else value.cast(pl.String)


def _whole(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.UInt64):
        return value.reinterpret(dtype=pl.Int64)
    if isinstance(dtype, pl.Datetime):
        value = value.dt.cast_time_unit("us")
    return value.to_physical().cast(pl.Int64)


def _items(value: pl.Expr, dtype: pl.List) -> pl.Expr:
    items = value.list.eval(_token(pl.element(), _instance(dtype.inner))).list.join("")
    return pl.concat_str([value.list.len().cast(pl.String), pl.lit(":"), items])


def _token(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """An item of a list: tagged, ended, and with its length where it could hold the end of itself."""
    if isinstance(dtype, pl.Struct):
        fields = [_token(value.struct.field(each.name), _instance(each.dtype)) for each in dtype.fields]
        return pl.when(value.is_null()).then(pl.lit(NULL)).otherwise(pl.concat_str([pl.lit("{"), *fields, pl.lit("}")]))
    if isinstance(dtype, pl.List):
        return pl.concat_str([pl.lit("["), _items(value, dtype), pl.lit("]")]).fill_null(NULL)
    if _is_text(dtype):
        text = value.bin.encode("hex") if isinstance(dtype, pl.Binary) else value.cast(pl.String)
        return pl.format("s{}:{};", text.str.len_bytes(), text).fill_null(NULL)
    if dtype.is_float():
        real = value.cast(pl.Float64)
        bits = pl.when(real.is_nan()).then(pl.lit("nan")).otherwise(real.reinterpret(dtype=pl.UInt64).cast(pl.String))
        return pl.format("f{};", bits).fill_null(NULL)
    whole = value.dt.cast_time_unit("us") if isinstance(dtype, pl.Datetime) else value
    return pl.format("i{};", whole.to_physical().cast(pl.String)).fill_null(NULL)


def _instance(dtype: object) -> pl.DataType:
    # polars gives the inner type of a struct or list as a class or as an instance.
    made = dtype() if isinstance(dtype, type) else dtype
    assert isinstance(made, pl.DataType)
    return made
