"""The bytes of `canonical` for a few rows, value by value: that takes less than to set polars going."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import polars as pl

NULL = "n;"
REAL, WHOLE, LARGE = struct.Struct(">d"), struct.Struct(">q"), struct.Struct(">Q")
ZERO = bytes(8)
NAN = REAL.pack(math.nan)

Parts: TypeAlias = tuple[list[bool], list[bytes], list[bytes]]
"""Flags, numbers and texts of a row as they are found."""
Put: TypeAlias = Callable[[Any, Parts], None]


def few_rows(frame: pl.DataFrame, columns: Sequence[str], starts: Sequence[bytes]) -> list[bytes] | None:
    """The bytes of each row after its start; None where a column is of a type that is left to polars."""
    schema = frame.schema
    puts = _puts(tuple(schema[name] for name in columns))
    if puts is None:
        return None
    values = [_plain(frame.get_column(name)).to_list() for name in columns]
    rows = []
    for at, start in enumerate(starts):
        parts: Parts = ([], [], [])
        for put, column in zip(puts, values, strict=True):
            put(column[at], parts)
        rows.append(b"".join((start, _bits(parts[0]), *parts[1], *parts[2])))
    return rows


def _plain(values: pl.Series) -> pl.Series:
    """Values as they are told: moments as numbers, decimals as text."""
    dtype = values.dtype
    if isinstance(dtype, pl.Date | pl.Time | pl.Datetime):
        return values.cast(pl.Int64)
    return values.cast(pl.String) if isinstance(dtype, pl.Decimal | pl.Categorical | pl.Enum) else values


def _bits(flags: list[bool]) -> bytes:
    """One bit per value, the first the highest of its byte."""
    number = 0
    for each in flags:
        number = number << 1 | each
    size = -(-len(flags) // 8)
    return (number << size * 8 - len(flags)).to_bytes(size, "big")


@lru_cache(maxsize=1024)
def _puts(dtypes: tuple[pl.DataType, ...]) -> tuple[Put, ...] | None:
    made = [_put(each) for each in dtypes]
    return None if None in made else tuple(each for each in made if each is not None)


def _put(dtype: pl.DataType, *, inside: bool = False) -> Put | None:
    """How a value is told. Inside of structs and lists moments and decimals come in a form that says less."""
    if isinstance(dtype, pl.Null):
        return lambda _value, parts: parts[0].append(False)
    if isinstance(dtype, pl.Struct):
        return _nested(dtype)
    if isinstance(dtype, pl.UInt64):
        return _fixed(LARGE.pack)
    if dtype.is_integer() or isinstance(dtype, pl.Boolean):
        return _fixed(WHOLE.pack)
    if dtype.is_float():
        return _fixed(lambda value: NAN if value != value else REAL.pack(value))
    if isinstance(dtype, pl.String):
        return _texted(str.encode)
    if isinstance(dtype, pl.Binary):
        return _texted(lambda value: value.hex().encode())
    if isinstance(dtype, pl.List):
        token = _token(_instance(dtype.inner))
        return None if token is None else _texted(lambda value: _items(value, token).encode())
    if inside or (isinstance(dtype, pl.Datetime) and dtype.time_unit != "us"):
        return None
    return _fixed(WHOLE.pack) if isinstance(dtype, pl.Date | pl.Time | pl.Datetime) else _texted(str.encode)


def _fixed(pack: Callable[[Any], bytes]) -> Put:
    def put(value: Any, parts: Parts) -> None:
        parts[0].append(value is not None)
        parts[1].append(ZERO if value is None else pack(value))

    return put


def _texted(encode: Callable[[Any], bytes]) -> Put:
    def put(value: Any, parts: Parts) -> None:
        parts[0].append(value is not None)
        text = b"" if value is None else encode(value)
        parts[1].append(WHOLE.pack(len(text)))
        parts[2].append(text)

    return put


def _nested(dtype: pl.Struct) -> Put | None:
    fields = [(each.name, _put(_instance(each.dtype), inside=True)) for each in dtype.fields]
    if any(put is None for _, put in fields):
        return None

    def whole(value: Any, parts: Parts) -> None:
        parts[0].append(value is not None)
        for name, put in fields:
            assert put is not None
            put(None if value is None else value[name], parts)

    return whole


Token: TypeAlias = Callable[[Any], str]


def _token(dtype: pl.DataType) -> Token | None:
    """How an item of a list is told."""
    if isinstance(dtype, pl.Struct):
        fields = [(each.name, _token(_instance(each.dtype))) for each in dtype.fields]
        if any(token is None for _, token in fields):
            return None
        told = [(name, token) for name, token in fields if token is not None]
        return lambda value: NULL if value is None else f"{{{''.join(token(value[name]) for name, token in told)}}}"
    if isinstance(dtype, pl.String):
        return lambda value: NULL if value is None else f"s{len(value.encode())}:{value};"
    if dtype.is_float():
        return lambda value: NULL if value is None else _real(value)
    return (lambda value: NULL if value is None else f"i{value};") if dtype.is_integer() else None


def _items(value: list[Any], token: Token) -> str:
    return f"{len(value)}:{''.join(map(token, value))}"


def _real(value: float) -> str:
    return "fnan;" if math.isnan(value) else f"f{LARGE.unpack(REAL.pack(value))[0]};"


def _instance(dtype: object) -> pl.DataType:
    made = dtype() if isinstance(dtype, type) else dtype
    assert isinstance(made, pl.DataType)
    return made
