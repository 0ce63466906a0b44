"""What proves the rows of a segment: the hash of each, and of what they share.

Apart from the rows, because what computes hashes takes longer to import than a receipt takes to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from hashlib import sha256

import numpy as np
import polars as pl
import pyarrow as pa
import rfc8785

from hub.decisions.log import merkle
from hub.decisions.log.merkle import SALT_BYTES
from hub.decisions.log.rows import LEAF, SALT
from hub.decisions.types import IntegrityError, Segment, SegmentFacts
from hub.mappings.pipeline.canonical import each_row, kind


def columns_of(rows: pl.DataFrame) -> tuple[tuple[str, str], ...]:
    """The columns that a leaf covers, by name and kind."""
    return tuple((name, kind(dtype)) for name, dtype in rows.schema.items())


def leaves(rows: pl.DataFrame, salts: bytes) -> list[bytes]:
    """The hash of each row: SHA-256(0x00 ‖ salt ‖ canonical row)."""
    start = np.zeros((rows.height, 1), np.uint8)
    salt = np.frombuffer(salts, np.uint8).reshape(rows.height, SALT_BYTES)
    return [sha256(each).digest() for each in each_row(rows, [start, salt])]


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


def root_of(segment: Segment, rows: pl.DataFrame) -> bytes:
    """The root over the rows as they are stored, the leaf as it was kept where a row was erased. IntegrityError."""
    covered = [name for name, _ in segment.columns]
    schema = rows.schema
    if any(name not in schema or kind(schema[name]) != named for name, named in segment.columns):
        raise IntegrityError(f"segment {segment.id} does not have the columns its catalogue row names")
    salts = b"".join(rows[SALT].fill_null(b"\x00" * merkle.SALT_BYTES).to_list())
    computed = leaves(rows.select(covered), salts)
    proven = [kept or fresh for kept, fresh in zip(rows[LEAF].to_list(), computed, strict=True)]
    return merkle.segment_root(head(segment.id, segment.facts, segment.columns), proven)
