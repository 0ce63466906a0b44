"""Records as canonical text, and the digests taken over it: two rows share a text only if they are the same row.

Grammar, in column order, without spaces (also in `tests/hub/mappings/pipeline/vectors.json`):

    integer  i<digits>;            real       r<IEEE 754 bits as an unsigned integer>;  or rNaN; rinf; r-inf;
    decimal  d<digits, as many after the point as the column's scale>;
    text     s<bytes of UTF-8>:<text>;        bytes   y<hex>;
    boolean  btrue; or bfalse;     date       D<days since 1970-01-01>;      time   T<nanoseconds since midnight>;
    timestamp without zone  t<µs since 1970-01-01 00:00>;       instant   z<µs since the epoch, UTC>;
    struct   {1<its fields>}       list       [<length>:<its elements>]      a column without type   n;

Null stands as `~` in place of the digits, the length or the 1: `i~;`, `s~:;`, `{~…}`, `[~:]`.
Bits instead of a printed real, because shortest forms differ between libraries and their versions; -0.0 is not 0.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from math import isfinite, isnan
from struct import Struct
from typing import Any

import polars as pl
from polars.datatypes import DataTypeClass

DIGEST_BYTES = 16
_NULL = "~"
_FEW = 16


def canonical_rows(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """One text per row (String, named `row`) over `columns` in the order given. TypeError for a type without a rule."""
    return frame.select(_joined(_parts_of(frame, columns)).alias("row")).to_series()


class RowDigest:
    """Keyed digests of canonical rows: the same values under another mapping version or model are another digest."""

    def __init__(self, *contexts: str) -> None:
        """`contexts` are the digests a row's meaning hangs on, in a fixed order."""
        named = "".join(f"{len(each)}:{each};" for each in ("hub row digest 1", *contexts))
        self._keyed = blake2b(digest_size=DIGEST_BYTES, key=blake2b(named.encode(), digest_size=32).digest())
        self._prepared: tuple[pl.Schema, pl.Expr] | None = None

    def of(self, frame: pl.DataFrame) -> pl.Series:
        """One digest per row (Binary of 16 bytes, named `digest`) over all columns of `frame` in their order."""
        # No hash of polars is cryptographic: this loop is the one place of the pipeline that visits every row.
        fresh = self._keyed.copy
        digests: list[bytes] = []
        for row in self._rows(frame):
            one = fresh()
            one.update(row)
            digests.append(one.digest())
        return pl.Series("digest", digests, dtype=pl.Binary)

    def _rows(self, frame: pl.DataFrame) -> list[bytes]:
        if frame.height <= _FEW and (few := _few(frame)) is not None:
            return few
        prepared = self._prepared
        if prepared is None or prepared[0] != frame.schema:
            # Assigned whole, so a thread that reads meanwhile sees the old pair or the new one.
            prepared = self._prepared = (frame.schema, _joined(_parts_of(frame, frame.columns)).cast(pl.Binary))
        rows: list[bytes] = frame.select(prepared[1].alias("row")).to_series().to_list()
        return rows


def _few(frame: pl.DataFrame) -> list[bytes] | None:
    """The same bytes for a handful of rows, sooner than polars starts; None where a type is not plain."""
    writers = [_PLAIN.get(type(each)) for each in frame.dtypes]
    if None in writers:
        return None
    return [
        "".join(write(value) for write, value in zip(writers, row, strict=True) if write).encode()
        for row in frame.rows()
    ]


def _plain_real(value: float | None) -> str:
    if value is None:
        return "r~;"
    if isfinite(value):
        return f"r{_BITS.unpack(_DOUBLE.pack(value))[0]};"
    return "rNaN;" if isnan(value) else "rinf;" if value > 0 else "r-inf;"


def _plain_text(value: str | None) -> str:
    return "s~:;" if value is None else f"s{len(value.encode())}:{value};"


_BITS, _DOUBLE = Struct("=Q"), Struct("=d")
_PLAIN: Mapping[type[pl.DataType], Callable[[Any], str]] = {
    pl.Int64: lambda value: "i~;" if value is None else f"i{value};",
    pl.Float64: _plain_real,
    pl.String: _plain_text,
    pl.Boolean: lambda value: "b~;" if value is None else "btrue;" if value else "bfalse;",
}
_TAGS: Mapping[type[pl.DataType], str] = {pl.Date: "D", pl.Time: "T", pl.Boolean: "b", pl.Decimal: "d"}


def _parts_of(frame: pl.DataFrame, columns: Sequence[str]) -> list[str | pl.Expr]:
    return [part for name in columns for part in _parts(pl.col(name), frame.schema[name])]


def _parts(value: pl.Expr, dtype: pl.DataType) -> list[str | pl.Expr]:
    """The pieces of one value's text: literals as plain text, so that neighbours can be joined beforehand."""
    if isinstance(dtype, pl.Struct):
        inner = [part for each in dtype.fields for part in _parts(value.struct.field(each.name), _whole(each.dtype))]
        return ["{", pl.when(value.is_null()).then(pl.lit(_NULL)).otherwise(pl.lit("1")), *inner, "}"]
    if isinstance(dtype, pl.List):
        elements = value.list.eval(_joined(_parts(pl.element(), _whole(dtype.inner)))).list.join("")
        return ["[", _text(value.list.len()), ":", elements.fill_null(""), "]"]
    if isinstance(dtype, pl.String):
        return ["s", _text(value.str.len_bytes()), ":", value.fill_null(""), ";"]
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return _parts(value.cast(pl.String), pl.String())
    if isinstance(dtype, pl.Binary):
        return ["y", value.bin.encode("hex").fill_null(_NULL), ";"]
    if dtype.is_float():
        return ["r", _real(value.cast(pl.Float64)), ";"]
    if dtype.is_integer():
        return ["i", _text(value), ";"]
    if isinstance(dtype, pl.Datetime):
        return ["t" if dtype.time_zone is None else "z", _text(value.dt.epoch("us")), ";"]
    if isinstance(dtype, pl.Null):
        return ["n;"]
    tag = _TAGS.get(type(dtype))
    if tag is None:
        raise TypeError(f"a column of type {dtype} has no canonical text")
    return [tag, _text(value.to_physical() if dtype.is_temporal() else value), ";"]


def _real(value: pl.Expr) -> pl.Expr:
    bits = value.reinterpret(dtype=pl.UInt64).cast(pl.String)
    return pl.when(value.is_finite()).then(bits).otherwise(value.cast(pl.String)).fill_null(_NULL)


def _text(value: pl.Expr) -> pl.Expr:
    return value.cast(pl.String).fill_null(_NULL)


def _joined(parts: Sequence[str | pl.Expr]) -> pl.Expr:
    """One text expression of the pieces, neighbouring literals made one: 18 features are then 37 inputs and not 54."""
    merged: list[str | pl.Expr] = []
    for part in parts:
        last = merged[-1] if merged else None
        if isinstance(part, str) and isinstance(last, str):
            merged[-1] = last + part
        else:
            merged.append(part)
    return pl.concat_str([pl.lit(each) if isinstance(each, str) else each for each in merged])


def _whole(dtype: pl.DataType | DataTypeClass) -> pl.DataType:
    """polars lets a nested type be a class (`pl.Int64`); an instance is what the rules above look at."""
    return dtype if isinstance(dtype, pl.DataType) else dtype()
