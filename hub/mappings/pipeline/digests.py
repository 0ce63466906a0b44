"""Keyed digests of canonical rows: two records share one only if the model would be shown the very same."""

from __future__ import annotations

from hashlib import blake2b

import polars as pl

from hub.mappings.pipeline.canonical import each_row, kind

DIGEST_BYTES = 16


class RowDigest:
    """The same values under another mapping version, another model or other column types are another digest."""

    def __init__(self, *contexts: str) -> None:
        """`contexts` are the digests a row's meaning hangs on, in a fixed order."""
        named = "".join(f"{len(each)}:{each};" for each in ("hub row digest 1", *contexts))
        self._keyed = blake2b(digest_size=DIGEST_BYTES, key=blake2b(named.encode(), digest_size=32).digest())

    def of(self, frame: pl.DataFrame) -> pl.Series:
        """One digest per row (Binary of 16 bytes, named `digest`) over all columns of `frame` in their order."""
        started = self._keyed.copy()
        started.update("".join(f"{kind(each)};" for each in frame.dtypes).encode() + b"\n")
        # No hash of polars is cryptographic: this loop is the one place of the pipeline that visits every row.
        fresh = started.copy
        digests: list[bytes] = []
        for row in each_row(frame):
            one = fresh()
            one.update(row)
            digests.append(one.digest())
        return pl.Series("digest", digests, dtype=pl.Binary)
