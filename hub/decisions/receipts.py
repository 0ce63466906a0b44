"""The receipt: where a record stands, and the chain of decisions that brought it there, newest first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from hub.decisions.keytext import key_text
from hub.decisions.log.log import DecisionLog, Told
from hub.decisions.log.rows import LEAF, ROW, SEGMENT
from hub.decisions.standing.standing import Standing
from hub.decisions.types import (
    BECAUSE,
    BEFORE,
    CLEAR,
    DECIDED,
    DIGEST,
    FEATURE,
    KEY,
    OUTPUT,
    PREVIOUS,
    REASON,
    REASONS,
    SET,
    STATE,
    TARGET,
    VERSION,
    WITH,
    Decision,
    DecisionError,
    Receipt,
)

if TYPE_CHECKING:
    from polars._typing import PolarsDataType

LIMIT = 100
"""Decisions shown at most, unless asked for more."""


def receipt(
    log: DecisionLog, standing: Standing, mapping: str, key: Mapping[str, Any], *, limit: int = LIMIT
) -> Receipt:
    """The story behind one record's score, the newest `limit` decisions of it.

    `key` gives each key field; text is read as the field's own type. DecisionError names a field that does not fit.
    """
    keys = key_series(standing, mapping, key)
    if keys is None:
        return Receipt(mapping, dict(key), None, (), None)
    frame = standing.view(mapping, keys).frame
    found = frame.row(0, named=True)
    if found["state"] is None:
        return Receipt(mapping, keys[0], None, (), None)
    decisions: list[Decision] = []
    pointer = None if found["segment"] is None else (found["segment"], found["row"])
    for decision in history(log, pointer, keys):
        decisions.append(decision)
        if len(decisions) == limit:
            return Receipt(mapping, keys[0], found, tuple(decisions), decision.previous)
    return Receipt(mapping, keys[0], found, tuple(decisions), None)


def history(log: DecisionLog, pointer: tuple[int, int] | None, key: pl.Series) -> Iterator[Decision]:
    """The decisions about one record from that one back, each read when it is asked for.

    The chain ends at the first decision, or where the record was erased. DecisionError where it leads to another
    record or in a circle.
    """
    text = key_text(key)[0]
    told: dict[int, Told] = {}
    known: dict[tuple[int, int], dict[str, Any]] = {}
    passed: set[tuple[int, int]] = set()
    with log.telling() as tell:
        while pointer is not None:
            if pointer in passed:
                raise DecisionError(f"the decisions about this record lead in a circle through segment {pointer[0]}")
            if pointer not in known:
                told |= tell([pointer[0]]) if pointer[0] not in told else {}
                if pointer[0] not in told:
                    raise DecisionError(f"there is no segment {pointer[0]}")
                rows = log.beside(*pointer, text, told[pointer[0]].file).to_dicts()
                known.update({(each[SEGMENT], each[ROW]): each for each in rows})
                told |= tell(sorted(_segments_of(rows) - told.keys()))
            row = known.pop(pointer, None)
            if row is None or (row[LEAF] is None and row[KEY] != key[0]):
                raise DecisionError(f"row {pointer[1]} of segment {pointer[0]} is no decision about this record")
            if row[LEAF] is not None:
                return
            decision = _decision(told[pointer[0]], row)
            yield decision
            passed.add(pointer)
            pointer = decision.previous


def _segments_of(rows: Sequence[Mapping[str, Any]]) -> set[int]:
    """The segments of some rows, and those that the rows before them lie in: one look for all of them."""
    before = {each[PREVIOUS]["segment"] for each in rows if each[PREVIOUS] is not None}
    return {each[SEGMENT] for each in rows} | before - {None}


def named_key(names: Sequence[str], given: Sequence[str]) -> dict[str, str]:
    """A key as somebody writes it, by field: the value alone where one field is all of it, else field=value.

    Each stands by itself, or all in one text with commas between. DecisionError where these are not the key's fields.
    """
    if len(names) == 1 and len(given) == 1:
        return {names[0]: given[0].removeprefix(f"{names[0]}=")}
    parts = given[0].split(",") if len(given) == 1 else given
    found = dict(each.partition("=")[::2] for each in parts)
    if set(found) != set(names) or len(parts) != len(names):
        raise DecisionError(f"the key has the fields {', '.join(names)}: {','.join(f'{each}=…' for each in names)}")
    return found


def key_series(standing: Standing, mapping: str, key: Mapping[str, Any]) -> pl.Series | None:
    """One key, typed as the mapping's keys are; None where nothing stands yet."""
    kind = standing.key_type(mapping)
    if kind is None:
        return None
    named = {each.name: each.dtype for each in kind.fields}
    if set(named) != set(key):
        raise DecisionError(f"the key of {mapping} is {', '.join(named)}; give each of them and nothing else")
    parts = []
    for name, dtype in named.items():
        try:
            given = pl.Series(name, [key[name]])
            parts.append(given if given.dtype == dtype else given.cast(dtype))
        except (pl.exceptions.PolarsError, TypeError, OverflowError) as error:
            raise DecisionError(f"the key field {name} of {mapping} must be {_in_words(dtype)}") from error
    return pl.DataFrame(parts).to_struct(KEY)


def _in_words(dtype: PolarsDataType) -> str:
    if dtype.is_integer():
        return "a whole number"
    if dtype.is_numeric():
        return "a number"
    if dtype.is_temporal():
        return "a date" if dtype == pl.Date else "a moment"
    return "true or false" if dtype == pl.Boolean else "a text"


def _decision(told: Told, row: Mapping[str, Any]) -> Decision:
    before, groups = row[PREVIOUS], _groups(row)
    return Decision(
        segment=row[SEGMENT],
        row=row[ROW],
        facts=told.facts,
        root=told.root,
        key=row[KEY],
        target=row[TARGET],
        version=row[VERSION],
        state=row[STATE],
        reason=row[REASON],
        because=row[BECAUSE],
        digest=row[DIGEST],
        features=groups[FEATURE],
        outputs=groups[OUTPUT],
        decided=groups[DECIDED],
        set=groups[SET],
        with_=groups[WITH],
        before=groups[BEFORE],
        clear=tuple(row[CLEAR] or ()),
        reasons=tuple(row[REASONS] or ()),
        result=told.result(row[ROW]),
        previous=None if before is None or before["segment"] is None else (before["segment"], before["row"]),
    )


def _groups(row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The values by the prefix of their column's name, and then by the rest of it."""
    groups: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for name, value in row.items():
        prefix, dot, rest = name.partition(".")
        if dot:
            groups[prefix + dot][rest] = value
    return groups
