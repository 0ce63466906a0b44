"""The rows of a segment: how they are typed, what the log adds to them, and the leaves that prove them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import UTC
from hashlib import sha256

import numpy as np
import polars as pl
import pyarrow as pa
import rfc8785

from hub.decisions.keytext import key_text
from hub.decisions.log.merkle import SALT_BYTES
from hub.decisions.types import (
    CLEAR,
    DECISION_STATES,
    KEY,
    PREVIOUS,
    REASONS,
    STATE,
    TARGET,
    DecisionError,
    SegmentFacts,
)
from hub.mappings.pipeline.canonical import canonical_rows

SALT, LEAF, SEGMENT, ROW, ORDER = "_salt", "_leaf", "_segment", "_row", "_order"
FEW = 16
OWN = frozenset({SALT, LEAF, SEGMENT, ROW, ORDER})

FIXED: Mapping[str, pl.DataType] = {
    "_version": pl.String(),
    STATE: pl.String(),
    "_reason": pl.String(),
    "_because": pl.String(),
    "_digest": pl.Binary(),
    PREVIOUS: pl.Struct({"segment": pl.Int64(), "row": pl.UInt32()}),
    REASONS: pl.List(pl.Struct({"feature": pl.String(), "effect": pl.Float64()})),
    CLEAR: pl.List(pl.String()),
}
RESULTS: Mapping[str, pl.DataType] = {
    "row": pl.UInt32(),
    "state": pl.String(),
    "field": pl.String(),
    "reason": pl.String(),
    "version": pl.String(),
}


def normal(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its fixed columns typed as stored. DecisionError names what is missing or wrong."""
    missing = [name for name in (KEY, TARGET, *FIXED) if name not in frame.columns]
    if missing:
        raise DecisionError(f"a segment needs the column {missing[0]}")
    reserved = OWN.intersection(frame.columns)
    if reserved:
        raise DecisionError(f"the column {min(reserved)} belongs to the log")
    if not isinstance(frame.schema[KEY], pl.Struct):
        raise DecisionError(f"the column {KEY} must be a struct of the key's fields")
    strange = set(frame[STATE].unique().to_list() if frame.height > FEW else frame[STATE].to_list()) - DECISION_STATES
    if strange:
        raise DecisionError(
            f"{min(map(str, strange))} is no state of a decision; use {', '.join(sorted(DECISION_STATES))}"
        )
    schema = frame.schema
    wanted = {**FIXED, **{name: pl.String() for name, dtype in schema.items() if _is_category(dtype)}}
    if isinstance(schema[TARGET], pl.Null):
        wanted[TARGET] = schema[KEY]
    casts = [pl.col(name).cast(dtype) for name, dtype in wanted.items() if schema[name] != dtype]
    return frame.with_columns(casts) if casts else frame


def _is_category(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.Categorical | pl.Enum)


def leaves(rows: pl.DataFrame, salts: bytes) -> list[bytes]:
    """The hash of each row: SHA-256(0x00 ‖ salt ‖ canonical row)."""
    start = np.zeros((rows.height, 1), np.uint8)
    salt = np.frombuffer(salts, np.uint8).reshape(rows.height, SALT_BYTES)
    return [sha256(each).digest() for each in canonical_rows(rows, rows.columns, [start, salt])]


def binary(name: str, content: bytes, width: int) -> pl.Series:
    """A binary column of values of one width, given one after the other."""
    ends = pa.py_buffer(np.arange(0, len(content) + 1, width, dtype=np.int64))
    values = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(content) // width, [None, ends, pa.py_buffer(content)]
    )
    return pl.Series(name, values)


def head(segment_id: int, facts: SegmentFacts, columns: Sequence[tuple[str, str]]) -> bytes:
    """The first leaf of a segment: what all its rows share (number, facts and columns), as canonical JSON."""
    named = {name: getattr(facts, name) for name in SegmentFacts.__slots__ if name != "at"}
    moment = facts.at.astimezone(UTC).isoformat(timespec="microseconds")
    listed = {"segment": str(segment_id), **named, "at": moment, "columns": [list(each) for each in columns]}
    return sha256(b"\x00" + rfc8785.dumps(listed)).digest()


def counts(states: pl.Series) -> dict[str, int]:
    counted = (states.drop_nulls() if states.null_count() else states).value_counts(name="count")
    return dict(sorted(zip(counted.to_series(0).to_list(), counted["count"].to_list(), strict=True)))


def bounds(rows: pl.DataFrame) -> list[str]:
    """Lowest and highest key text."""
    if ORDER in rows.columns:
        texts = rows[ORDER].drop_nulls()
    else:
        whole = rows[KEY]
        keys = (whole.drop_nulls() if whole.null_count() else whole).struct.unnest()
        if keys.width == 1 and keys.height > 1:
            only = keys.to_series()
            keys = pl.DataFrame({only.name: [only.min(), only.max()]}, schema=keys.schema)
        texts = key_text(keys.to_struct(KEY))
        texts = texts.drop_nulls() if texts.null_count() else texts
    return ["", ""] if texts.is_empty() else [str(texts.min()), str(texts.max())]


def ipc(rows: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    rows.write_ipc(buffer, compression="zstd")
    return buffer.getvalue()
