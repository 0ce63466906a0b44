"""A page between pools: sealed for the worker that scores it, which holds no credentials and opens no connection."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from hub.faults import reach
from hub.keys import KeyRing
from hub.mappings import READY
from hub.runs.installation import Installation
from hub.runs.types import Claim, PageRecord, PageState


def score_page(hub: Installation, claim: Claim, page: PageRecord) -> None:
    """Scores a page whose features are stored and stores the predictions, with reasons where the mapping shows some."""
    fresh, _, _, shown = unseal(hub.keys, claim, page.number, "features", page.features)
    reach("before score", fresh["_key"])
    with hub.database.read() as session:
        version, model = hub.ledger.version(session, claim.run)
        mapping = hub.ledger.run(session, claim.run).mapping
    document = hub.mappings.document(hub.mappings.version(mapping, version))
    scorer = hub.registry.load(hub.registry.get(document.model.name, model))
    names = [each.name for each in document.features]
    if not {*names} <= {*fresh.columns}:
        set_aside(hub, claim, page)  # its features could not be computed
        return
    ready = fresh.filter(pl.col("_state") == READY).select(names)
    frames = [scorer.predict(ready)]
    if ready.height and (most := shown["reasons"].item()):
        frames.append(scorer.reasons(ready, most).to_frame("_reasons"))
    reach("after score", fresh["_key"])
    sealed = seal(hub.keys, claim, page.number, "predictions", frames)
    done = replace(page, state=PageState.SCORED, predictions=sealed)
    hub.database.retrying(lambda s: hub.ledger.put_page(s, claim, done), repeatable=True)


def set_aside(hub: Installation, claim: Claim, page: PageRecord) -> None:
    """Passes a page on without predictions: its records are to be parked."""
    aside = replace(page, state=PageState.SCORED)
    hub.database.retrying(lambda s: hub.ledger.put_page(s, claim, aside), repeatable=True)


def seal(keys: KeyRing, claim: Claim, number: int, kind: str, frames: Sequence[pl.DataFrame]) -> bytes:
    """Frames as encrypted Arrow, bound to their page and kind."""
    return keys.seal(_pack(frames), _identity(claim, number, kind))


def unseal(keys: KeyRing, claim: Claim, number: int, kind: str, sealed: bytes | None) -> list[pl.DataFrame]:
    """The inverse of `seal`."""
    assert sealed is not None
    return _unpack(keys.open(sealed, _identity(claim, number, kind)))


def _identity(claim: Claim, number: int, kind: str) -> dict[str, str]:
    return {"kind": kind, "run": claim.run, "slice": str(claim.number), "page": str(number)}


def _pack(frames: Sequence[pl.DataFrame]) -> bytes:
    parts = []
    for frame in frames:
        buffer = io.BytesIO()
        frame.write_ipc(buffer, compression="zstd")
        parts.append(struct.pack(">Q", buffer.tell()) + buffer.getvalue())
    return b"".join(parts)


def _unpack(packed: bytes) -> list[pl.DataFrame]:
    frames, at = [], 0
    while at < len(packed):
        (size,) = struct.unpack_from(">Q", packed, at)
        frames.append(pl.read_ipc(io.BytesIO(packed[at + 8 : at + 8 + size])))
        at += 8 + size
    return frames
