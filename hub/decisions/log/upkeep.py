"""What keeps the log small and lawful: records erased, small files compacted, orphaned files swept.

Each rewrite makes a new file first, then switches the catalogue in one transaction; a crash leaves a file to sweep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import polars as pl
from sqlalchemy.orm import Session

from hub.database import Database
from hub.decisions import store
from hub.decisions.keytext import key_text
from hub.decisions.log.archive import Archive
from hub.decisions.log.rows import LEAF, ORDER, OWN, ROW, SALT, SEGMENT
from hub.decisions.types import KEY, Segment

COMPACT_ROWS = 100_000
"""Rows of a compacted file."""
ALL = 2
"""The `fan` with which all small files are merged that can be, whatever their sizes."""

BlankResults = Callable[[Session, int, Sequence[int]], None]


def erase(database: Database, archive: Archive, mapping: str, keys: pl.Series, blank: BlankResults) -> int:
    """Rewrites every file that has decisions about these records without them; their leaves stay."""
    texts = key_text(keys).unique().sort()
    with database.read() as session:
        files = store.list_files(session, mapping)
    erased = 0
    for file in files:
        low, high = archive.bounds(file)
        if not texts.is_between(pl.lit(low), pl.lit(high)).any():
            continue
        with database.begin() as session:
            found = _erase_in(session, archive, file.id, texts, blank)
        if found is not None:
            erased += found[0]
            archive.remove(found[1])
    return erased


def _erase_in(
    session: Session, archive: Archive, file_id: int, texts: pl.Series, blank: BlankResults
) -> tuple[int, str] | None:
    """How many rows were erased, and the path of the file that has to go; None where there was nothing to erase."""
    file = store.lock_file(session, file_id)
    if file is None:
        return None
    rows = archive.open(file).all()
    gone = key_text(rows[KEY]).is_in(texts.implode()) & rows[LEAF].is_null()
    if not gone.any():
        return None
    segments = store.list_segments(session, file=file.id)
    numbered = _numbered(rows, segments)
    store.replace_file(session, archive.store(file.id, _without(numbered, gone, segments), segments=file.segments))
    for segment in segments:
        lost = numbered.filter(gone & (numbered[SEGMENT] == segment.id))[ROW].to_list()
        if lost:
            store.count_erased(session, segment.id, segment.erased + len(lost))
            blank(session, segment.id, lost)
    return int(gone.sum()), file.path


def _numbered(rows: pl.DataFrame, segments: Sequence[Segment]) -> pl.DataFrame:
    """Rows that say which segment is theirs, which row they are in it, and where their key stands."""
    if SEGMENT in rows.columns:
        return rows
    texts = key_text(rows[KEY]).fill_null("").alias(ORDER)
    number = pl.int_range(pl.len(), dtype=pl.UInt32).alias(ROW)
    return rows.with_columns(pl.lit(segments[0].id, pl.Int64).alias(SEGMENT), number, texts)


def _without(rows: pl.DataFrame, gone: pl.Series, segments: Sequence[Segment]) -> pl.DataFrame:
    """The rows with those that go emptied of everything but their leaf."""
    from hub.decisions.log.leaves import leaves

    covered = [name for name, _ in segments[0].columns]
    lost = rows.filter(gone)
    kept = pl.Series(LEAF, leaves(lost.select(covered), b"".join(lost[SALT].to_list())), pl.Binary)
    values = [name for name in rows.columns if name not in OWN]
    blank = lost.with_columns(
        *(pl.lit(None, lost.schema[name]).alias(name) for name in (*values, SALT)), kept, pl.lit("").alias(ORDER)
    )
    rewritten = pl.concat([rows.filter(~gone), blank])
    if len(segments) > 1:
        return rewritten.sort(ORDER, SEGMENT, ROW)
    return rewritten.sort(ROW).drop(SEGMENT, ROW, ORDER)


def compact(
    database: Database,
    archive: Archive,
    mapping: str,
    next_id: Callable[[], int],
    before: datetime | None,
    most: int,
    fan: int,
) -> int:
    """Merges small files whose segments have the same columns; answers how many files were merged."""
    merged = 0
    with database.read() as session:
        small = store.list_small_files(session, mapping, COMPACT_ROWS // 2)
    latest = None if before is None else int(before.timestamp() * 1000) << 22
    old = [each for each in small if latest is None or each.newest < latest]
    for group in list(_groups(old, fan))[:most]:
        with database.begin() as session:
            merged += _merge(session, archive, mapping, [each.id for each in group], next_id)
    return merged


def _groups(files: Sequence[store.SmallFile], fan: int) -> Iterator[list[store.SmallFile]]:
    """What to merge: files of about one size, as soon as there are `fan` of them or enough rows for a whole file.

    A row is then rewritten once for each power of `fan` on the way to a whole file, not each time something is added.
    """
    alike: dict[tuple[int, str], list[store.SmallFile]] = {}
    for file in files:
        size = int(math.log(max(file.rows, 1), fan)) if fan > ALL else 0
        alike.setdefault((size, file.columns), []).append(file)
    for listed in alike.values():
        group: list[store.SmallFile] = []
        for file in listed:
            group.append(file)
            if len(group) > 1 and sum(each.rows for each in group) >= COMPACT_ROWS:
                yield group
                group = []
        if len(group) >= fan:
            yield group


def _merge(session: Session, archive: Archive, mapping: str, ids: Sequence[int], next_id: Callable[[], int]) -> int:
    files = [store.lock_file(session, each) for each in ids]
    parts, segments = [], 0
    for file in files:
        if file is None:
            return 0
        parts.append(_numbered(archive.open(file).all(), store.list_segments(session, file=file.id)))
        segments += file.segments
    rows = pl.concat(parts, how="vertical_relaxed").sort(ORDER, SEGMENT, ROW)
    store.join_files(session, archive.store(next_id(), rows, segments=segments), mapping, ids)
    return len(files)


def sweep(database: Database, archive: Archive, older_than: datetime) -> int:
    """Removes old files that no catalogue row names."""
    paths = archive.old(older_than)
    with database.read() as session:
        known = store.known_paths(session, paths)
    orphans = [each for each in paths if each not in known]
    for each in orphans:
        archive.remove(each)
    return len(orphans)
