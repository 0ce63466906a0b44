"""One run of bytes per row that says exactly what its values are, so that a digest over it binds every one of them.

A row is flags, numbers and texts. First one bit per value, set where it is not null, filled up to whole bytes. Then
eight bytes big-endian per value: integers, dates (days), times (nanoseconds) and moments (microseconds since 1970) as
they are, reals as their IEEE 754 bits with one NaN, texts as their length in bytes; zero for null. Last the texts, in
UTF-8, one after the other: decimals are the text of their digits, bytes hexadecimal text, lists one text of tagged
items. A struct has its own flag and then its fields in their order. So null, the empty text and NaN differ, no length
of one value moves into the next, and nothing depends on how a library prints a number. `kind` binds the types, once for
all rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hub.mappings.pipeline.canonical_few import few_rows

Bytes = NDArray[np.uint8]

NULL = "n;"
FEW = 64
"""Rows below which joining them one by one costs less than a call of Arrow."""
WHOLE = 4_096
"""Rows up to which all bytes are made at once."""


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


def canonical_rows(frame: pl.DataFrame, columns: Sequence[str], prefix: Sequence[Bytes] = ()) -> list[bytes]:
    """The bytes of each row over the named columns, in the order given; `prefix` (each rows by width) stands before."""
    if frame.height < FEW:
        starts = [b"".join(each[at].tobytes() for each in prefix) for at in range(frame.height)]
        rows = few_rows(frame, columns, starts)
        if rows is not None:
            return rows
    # polars 2.1 panics in list.eval on a list of structs that lies in several chunks, as a concatenation leaves it.
    frame = frame.rechunk()
    plan, schema = _Plan(), frame.schema
    for name in columns:
        plan.add(pl.col(name), schema[name], _seen(frame[name]))
    # All columns in one query: polars' cost for each is otherwise more than the work.
    asked = {str(at): each for at, each in enumerate((*plan.flags, *plan.numbers)) if isinstance(each, pl.Expr)}
    if plan.texts:
        asked["text"] = pl.concat_str(plan.texts)
    # With one column that is as long as the frame, constants are, too.
    made = frame.select(pl.int_range(pl.len()).alias("row"), *(each.alias(name) for name, each in asked.items()))
    fixed = _fixed(plan, made, prefix)
    return _joined(fixed, made["text"]) if plan.texts else _cut(fixed)


def each_row(frame: pl.DataFrame, prefix: Sequence[Bytes] = ()) -> Iterator[bytes]:
    """As `canonical_rows` over all columns, one half of many rows after the other.

    What is made on the way is several times as large as the rows, and of one part only. More parts would make less at
    once, and each waits for the interpreter's lock again.
    """
    step = frame.height if frame.height <= WHOLE else -(-frame.height // 2)
    for start in range(0, frame.height, step or 1):
        end = start + step
        yield from canonical_rows(frame[start:end], frame.columns, [each[start:end] for each in prefix])


def _seen(values: pl.Series) -> str:
    """What is known of a column as a whole, to spare work: no null, nothing but nulls, only empty lists."""
    nulls = values.null_count()
    if nulls == len(values) and not isinstance(values.dtype, pl.Struct):
        return "absent"
    if nulls == 0 and isinstance(values.dtype, pl.List) and values.explode(empty_as_null=False).is_empty():
        return "empty"
    return "present" if nulls == 0 else "mixed"


@dataclass
class _Plan:
    """All parts, in order: one flag per value, eight bytes per number (zero where None), and the texts."""

    flags: list[pl.Expr | bool] = field(default_factory=list)
    numbers: list[pl.Expr | None] = field(default_factory=list)
    texts: list[pl.Expr] = field(default_factory=list)

    def add(self, value: pl.Expr, dtype: pl.DataType, seen: str = "mixed") -> None:
        if isinstance(dtype, pl.Null) or seen == "absent":
            self.flags.append(False)
            if not isinstance(dtype, pl.Null):
                # As the long way has it: zero for the value, or for the length of its text.
                self.numbers.append(None)
            return
        self.flags.append(True if seen in {"present", "empty"} else value.is_not_null())
        if isinstance(dtype, pl.Struct):
            for each in dtype.fields:
                self.add(value.struct.field(each.name), _instance(each.dtype))
        elif dtype.is_float():
            self.numbers.append(value.cast(pl.Float64).fill_null(0.0))
        elif _is_text(dtype):
            text = pl.lit("0:") if seen == "empty" else _text(value, dtype).fill_null("")
            self.numbers.append(text.str.len_bytes())
            self.texts.append(text)
        else:
            self.numbers.append(_whole(value, dtype).fill_null(0))


def _fixed(plan: _Plan, made: pl.DataFrame, prefix: Sequence[Bytes]) -> Bytes:
    """The part of fixed width, rows by bytes: what stands before, the flags, the numbers."""
    flag_bytes = -(-len(plan.flags) // 8)
    start = sum(each.shape[1] for each in prefix)
    whole = np.zeros((made.height, start + flag_bytes + 8 * len(plan.numbers)), np.uint8)
    at = 0
    for each in prefix:
        whole[:, at : at + each.shape[1]] = each
        at += each.shape[1]
    for number, flag in enumerate(plan.flags):
        bit = np.uint8(0x80 >> number % 8)
        if flag is True:
            whole[:, start + number // 8] |= bit
        elif flag is not False:
            whole[:, start + number // 8] |= made[str(number)].to_numpy().astype(np.uint8) * bit
    for number, value in enumerate(plan.numbers):
        if value is not None:
            _put(whole, start + flag_bytes + 8 * number, made[str(len(plan.flags) + number)].to_numpy())
    return whole


def _put(whole: Bytes, begin: int, numbers: NDArray[np.generic]) -> None:
    """Each number into its row as eight bytes from `begin` on, the highest first; every NaN is the same."""
    real = numbers.dtype.kind == "f"
    if real and (odd := np.isnan(numbers)).any():
        numbers = np.where(odd, np.nan, numbers)
    # One number at a time: to numpy, eight bytes would be eight values.
    places = np.ndarray((len(whole),), ">f8" if real else ">i8", whole, begin, (whole.shape[1],))
    places[:] = numbers


def _cut(fixed: Bytes) -> list[bytes]:
    width, whole = fixed.shape[1], fixed.tobytes()
    return [whole[at : at + width] for at in range(0, len(whole), width)] if width else [b""] * len(fixed)


def _joined(fixed: Bytes, texts: pl.Series) -> list[bytes]:
    if len(fixed) < FEW:
        return [head + tail for head, tail in zip(_cut(fixed), texts.cast(pl.Binary).to_list(), strict=True)]
    # Arrow joins all rows in one call, where an object for each half of each row costs as much as its hash.
    heads = pa.FixedSizeBinaryArray.from_buffers(pa.binary(fixed.shape[1]), len(fixed), [None, pa.py_buffer(fixed)])
    whole = pc.binary_join_element_wise(
        heads.cast(pa.large_binary()), texts.to_arrow().cast(pa.large_binary()), pa.scalar(b"", pa.large_binary())
    )
    return pl.Series(whole).to_list()


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
