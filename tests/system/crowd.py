"""One process of a crowd at one hub: scores as the API does, looks as the CLI does, or tidies up, until it is told."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from hub.audit import Action
from hub.runs import Installation, Scoring, open_installation
from hub.runs.pages.upkeep import FAN, TURN
from hub.settings import load_settings
from tests.hub.runs.site import ME


def main() -> None:
    """Does its part again and again until the end of its input, and says how often."""
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    with open_installation(load_settings()) as hub:
        part = PARTS[sys.argv[1]](hub)
        turns = 0
        while not over.wait(0.02):
            part()
            turns += 1
            if turns == 1:
                print("begun", flush=True)
    print(turns)


def caller(hub: Installation) -> Callable[[], None]:
    """Asks for scores of records that it sends along; each answer is durable.

    The source does not hold them: a record scored on request is looked at once more by the next run.
    """
    scoring = Scoring(hub)
    records = [{"ID": f"c{at:05d}", "X": float(at), "Y": 1.0} for at in range(3)]
    return lambda: scoring.score("risk", records, str(ME)).result() and None


def reader(hub: Installation) -> Callable[[], None]:
    """Lists runs, looks at states, and proves the audit trail."""

    def look() -> None:
        with hub.database.read() as session:
            hub.ledger.runs(session)
        hub.standing.states("risk")
        assert hub.audit.verify().ok
        with hub.database.begin() as session:
            hub.record(session, str(ME), Action.DECISION_SHOW, "crowd")

    return look


def upkeep(hub: Installation) -> Callable[[], None]:
    """Merges, folds and sweeps without waiting for its turn."""

    def tidy() -> None:
        with hub.database.read() as session:
            now = hub.database.now(session)
        hub.database.retrying(lambda s: hub.ledger.tick(s, TURN, now, 0))
        hub.log.settle()
        hub.log.compact("risk", before=now, fan=FAN)
        hub.standing.fold("risk")

    return tidy


PARTS = {each.__name__: each for each in (caller, reader, upkeep)}

if __name__ == "__main__":
    main()
