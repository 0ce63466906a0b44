"""The file of decision segments: rows in chunks, each encrypted and bound to its place, with a footer that is too.

Layout: magic, the chunks, the footer, then the footer's length in four bytes. AES-256-GCM under a data key that is used
for this one file only, so a chunk's number serves as its nonce; file id and chunk number are authenticated with it.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import BinaryIO, NamedTuple

import polars as pl
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub.decisions.types import IntegrityError
from hub.faults import around

PARQUET = b"PAR1"
"""How Parquet begins."""
MAGIC = b"HUBSEG1\n"
FOOTER = 2**63
CHUNK_ROWS = 16_384


class Form(Enum):
    """How the rows of a chunk are laid out. Parquet takes the least room and suits whole segments.

    STREAM takes a thirtieth of its time for a row or some; PACKED, an Arrow stream that is compressed, a third of it
    for a thousand rows, and a sixth more room.
    """

    PARQUET = "parquet"
    STREAM = "stream"
    PACKED = "packed"

    def laid_out(self, rows: pl.DataFrame) -> bytes:
        """The rows as bytes."""
        buffer = io.BytesIO()
        if self is Form.PARQUET:
            rows.write_parquet(buffer, compression="zstd", compression_level=1, statistics=False)
        else:
            rows.write_ipc_stream(buffer, compression="zstd" if self is Form.PACKED else "uncompressed")
        return buffer.getvalue()


class Chunk(NamedTuple):
    """Where a chunk lies in the file, how many rows it has, and its first and last key text where rows are in order."""

    offset: int
    size: int
    rows: int
    low: str = ""
    high: str = ""


def pack(
    frame: pl.DataFrame,
    key: bytes,
    file_id: int,
    *,
    chunk_rows: int = CHUNK_ROWS,
    order: str = "",
    form: Form = Form.PARQUET,
) -> bytes:
    """The bytes of a file with these rows; `order` names the column of key texts by which they are sorted, if any."""
    cipher = AESGCM(key)
    parts, chunks, offset = [MAGIC], [], len(MAGIC)
    for number, start in enumerate(range(0, max(frame.height, 1), chunk_rows)):
        rows = frame.slice(start, chunk_rows)
        body = cipher.encrypt(_nonce(number), form.laid_out(rows), _bound(file_id, number))
        ends = (rows[order][0], rows[order][-1]) if order else ("", "")
        chunks.append(Chunk(offset, len(body), rows.height, *ends))
        parts.append(body)
        offset += len(body)
    listed = json.dumps([[each.offset, each.size, each.rows, each.low, each.high] for each in chunks]).encode()
    footer = cipher.encrypt(_nonce(FOOTER), listed, _bound(file_id, FOOTER))
    return b"".join((*parts, footer, len(footer).to_bytes(4, "big")))


class OpenFile:
    """A segment file opened for reading; every byte it gives was authenticated. IntegrityError says what is wrong."""

    def __init__(self, source: Path | bytes, key: bytes, file_id: int) -> None:
        self._source = source
        self._name = source.name if isinstance(source, Path) else "kept in the database"
        self._id = file_id
        self._cipher = AESGCM(key)
        self.chunks = self._footer()

    def read(self, number: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows of one chunk, all columns or those named."""
        plain, wanted = self.plain(number), None if columns is None else list(columns)
        if plain.startswith(PARQUET):
            return pl.read_parquet(plain, columns=wanted)
        return pl.read_ipc_stream(io.BytesIO(plain), columns=wanted)

    def rows(self, number: int, start: int, count: int) -> pl.DataFrame:
        """Some neighbouring rows of one chunk."""
        plain = self.plain(number)
        if plain.startswith(PARQUET):
            return pl.scan_parquet(plain).slice(start, count).collect()
        return pl.read_ipc_stream(io.BytesIO(plain)).slice(start, count)

    def all(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Every row, in order."""
        return pl.concat([self.read(number, columns) for number in range(len(self.chunks))], rechunk=True)

    def plain(self, number: int) -> bytes:
        """The bytes of one chunk, Parquet or an Arrow stream."""
        chunk = self.chunks[number]
        with self._reading() as file:
            file.seek(chunk.offset)
            return self._decrypt(file.read(chunk.size), number, f"chunk {number}")

    def _footer(self) -> list[Chunk]:
        with self._reading() as file:
            begins = file.read(len(MAGIC)) == MAGIC
            length = file.seek(0, os.SEEK_END)
            file.seek(max(length - 4, 0))
            size = int.from_bytes(file.read(4), "big")
            if not begins or len(MAGIC) + size + 4 > length:
                raise IntegrityError(f"the file of segment {self._id} is cut or no segment file: {self._name}")
            file.seek(length - 4 - size)
            chunks = [Chunk(*each) for each in json.loads(self._decrypt(file.read(size), FOOTER, "footer"))]
        if sum(each.size for each in chunks) + len(MAGIC) + size + 4 != length:
            raise IntegrityError(f"the file of segment {self._id} has bytes that belong to no chunk: {self._name}")
        return chunks

    def _reading(self) -> BinaryIO:
        if isinstance(self._source, bytes):
            return io.BytesIO(self._source)
        try:
            return self._source.open("rb")
        except FileNotFoundError:
            raise IntegrityError(f"the file of segment {self._id} is missing: {self._name}") from None

    def _decrypt(self, body: bytes, number: int, what: str) -> bytes:
        try:
            return self._cipher.decrypt(_nonce(number), body, _bound(self._id, number))
        except InvalidTag:
            raise IntegrityError(
                f"the {what} of the file of segment {self._id} was altered or cut: {self._name}"
            ) from None


def store(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all; name and content are durable when this returns."""
    made = [each for each in (path.parent, *path.parent.parents) if not each.exists()]
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.draft")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file, around("file"):
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with around("rename"):
            draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    for folder in (path.parent, *(each.parent for each in made)):
        _sync(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _bound(file_id: int, number: int) -> bytes:
    return MAGIC + file_id.to_bytes(8, "big") + number.to_bytes(8, "big")
