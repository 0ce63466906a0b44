"""Answers what the demo asks of the sales team: one request a line of input, one answer a line, JSON both.

A process of its own (`python -m hub.cli.demo.desk TWIN`), because what a user of the org does is not done by the hub.
TWIN is the file in which `hub twin salesforce --json` said how to reach it.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from hub.cli.demo.conversion import train
from hub.cli.demo.crm import Crm


def main(file: str) -> None:
    """Answers until the end of its input."""
    told = json.loads(Path(file).read_text(encoding="utf-8"))
    crm = Crm(told)
    words = {"train": partial(train, told)}
    words |= {name: getattr(crm, name) for name in ("look", "expect", "fields", "stamps", "dump", "calls")}
    words |= {name: getattr(crm, name) for name in ("edit", "rescored", "told")}
    for line in sys.stdin:
        word, arguments = json.loads(line)
        print(json.dumps(words[word](*arguments)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
