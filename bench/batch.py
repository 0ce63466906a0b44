"""A million rows out of a table, through the model and back into it, by the hub and by two scripts, side by side."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from statistics import median
from typing import Any

from bench import dataset, ours
from bench.contest import Measured, line, measure
from bench.places import KINDS, fill, largest_error, place, reachable

CONTESTANTS = ("hub", "pandas", "bare")
MEASURES = ("seconds", "cpu_seconds", "peak_mb", "error")
LIMITS = {
    ("postgresql", "pandas"): 5.0,
    ("postgresql", "bare"): 0.5,
    ("sqlite", "pandas"): 1.0,
    ("sqlite", "bare"): 0.5,
    ("mariadb", "pandas"): 3.0,
    ("mariadb", "bare"): 0.0,
}
"""The least share of the peer's rate that the hub must reach. Nothing is asked beside the bare script on MariaDB."""

__all__ = ["add_arguments", "compare", "fill"]


def compare(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One line per comparison; the contestants take turns, each in a fresh process on a fresh table."""
    for kind in asked.databases:
        if not reachable(kind):
            yield {"name": f"batch {kind}", "skipped": "there is no such server"}
            continue
        taken: dict[str, list[Measured]] = {name: [] for name in CONTESTANTS}
        for _ in range(asked.rounds):
            for name in CONTESTANTS:
                taken[name].append(_round(kind, name, asked.rows))
        middle = {name: {at: median(each[at] for each in found) for at in MEASURES} for name, found in taken.items()}
        for peer in CONTESTANTS[1:]:
            mine, theirs = middle["hub"], middle[peer]
            yield line(
                f"batch {kind} hub/{peer}",
                asked.rows / mine["seconds"],
                asked.rows / theirs["seconds"],
                LIMITS[kind, peer],
                rows=asked.rows,
                memory={"ours": round(mine["peak_mb"]), "theirs": round(theirs["peak_mb"])},
                seconds={"ours": round(mine["seconds"], 2), "theirs": round(theirs["seconds"], 2)},
                cpu_seconds={"ours": round(mine["cpu_seconds"], 1), "theirs": round(theirs["cpu_seconds"], 1)},
                largest_error={"ours": mine["error"], "theirs": theirs["error"]},
            )


def _round(kind: str, name: str, rows: int) -> Measured:
    frame = dataset.rows(rows)
    with place(kind, [frame]) as made:
        if name == "hub":
            ours.prepare(made)
        return {**measure(name, made), "error": largest_error(made, frame)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench` passes on."""
    parser.add_argument("--rows", type=int, default=1_000_000, help="batch: records in the table")
    parser.add_argument("--rounds", type=int, default=1, help="batch: turns of each contestant; medians are told")
    parser.add_argument("--databases", nargs="+", default=list(KINDS), choices=KINDS, help="batch: where the table is")
