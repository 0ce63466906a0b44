"""What the lookups of a run were answered: a key that many records share is asked for once, not once a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import polars as pl

MOST_ROWS = 20_000
"""Keys and rows kept of one lookup; beyond them it begins anew, so that a worker's memory stays flat."""


class Remembered:
    """The answers to one lookup, by key; for one thread alone.

    `ask` reads the far records whose fields equal some row of a frame (distinct, no nulls), as the frames of their
    pages.
    """

    def __init__(self, ask: Callable[[pl.DataFrame], Iterable[pl.DataFrame]]) -> None:
        self._ask = ask
        self._keys: pl.DataFrame | None = None
        self._rows: list[pl.DataFrame] = []

    def read(self, match: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """As `ask`, only what is not known yet being asked for."""
        fresh = match
        if self._keys is not None:
            fresh = match.join(self._keys, on=match.columns, how="anti", maintain_order="left")
            if fresh.height < match.height:
                for rows in self._rows:
                    yield rows.join(match, on=match.columns, how="semi", maintain_order="left")
        if fresh.height:
            yield from self._asked(fresh)

    def _asked(self, fresh: pl.DataFrame) -> Iterator[pl.DataFrame]:
        taken: list[pl.DataFrame] = []
        whole, number = True, fresh.height
        for page in self._ask(fresh):
            # A row whose key cannot be read may be of any key, so what belongs to these is not known.
            whole = whole and not page.select(pl.any_horizontal(pl.col(fresh.columns).is_null()).any()).item()
            number += page.height
            if whole and number <= MOST_ROWS:
                # A far side may fold case: what it tells of a key that was not asked for is not all there is of it.
                taken.append(page.join(fresh, on=fresh.columns, how="semi", maintain_order="left"))
            yield page
        if whole and number <= MOST_ROWS:
            self._keep(fresh, taken)

    def _keep(self, keys: pl.DataFrame, rows: list[pl.DataFrame]) -> None:
        kept = 0 if self._keys is None else self._keys.height + sum(each.height for each in self._rows)
        if self._keys is None or kept + keys.height + sum(each.height for each in rows) > MOST_ROWS:
            self._keys, self._rows = keys, rows
            return
        self._keys = pl.concat([self._keys, keys])
        self._rows = [pl.concat([*self._rows, *rows])] if self._rows or rows else []
