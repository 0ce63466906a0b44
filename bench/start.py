"""How soon the command answers when it has nothing to do: `hub --help` and the help of some verbs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from bench.processes import NOTHING, costs

LIMIT_MS = 300
ASKED = ((), ("decisions", "show"), ("runs", "start"), ("mappings", "preview"), ("serve",))


def compare(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One line per verb; the interpreter's own start is part of ours."""
    commands = [[sys.executable, "-m", "hub.cli", *asked, "--help"] for asked in ASKED]
    nothing, *taken = costs([NOTHING, *commands], {}, arguments.start_rounds)
    for asked, ours in zip(ASKED, taken, strict=True):
        yield {
            "name": " ".join(["start, hub", *asked, "--help, ms"]),
            "ours": round(ours.wall),
            "theirs": round(nothing.wall),
            "limit": LIMIT_MS,
            "ratio": round(ours.wall / LIMIT_MS, 2),
            "cpu_ms": {"ours": round(ours.cpu), "theirs": round(nothing.cpu)},
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench` passes on."""
    parser.add_argument("--start-rounds", type=int, default=11, help="starts of each verb, of which the median counts")
