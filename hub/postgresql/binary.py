"""The binary form in which PostgreSQL takes values (its `*recv` functions)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from struct import Struct

_INT8 = Struct(">q").pack
_LENGTH = Struct(">i").pack
_HEADER = Struct(">iiIii").pack
_NULL = _LENGTH(-1)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
INT8, BYTEA, TEXT, TIMESTAMPTZ = 20, 17, 25, 1184
"""The numbers by which PostgreSQL knows these types."""


def int8(value: int) -> bytes:
    """The binary form of a bigint."""
    return _INT8(value)


def timestamptz(moment: datetime) -> bytes:
    """The binary form of a moment."""
    return _INT8((moment - _EPOCH) // _MICROSECOND)


def array(kind: int, values: Sequence[bytes | None]) -> bytes:
    """The binary form of an array in one dimension, of values that have theirs."""
    told = b"".join(_NULL if each is None else _LENGTH(len(each)) + each for each in values)
    return _HEADER(1, int(None in values), kind, len(values), 1) + told
