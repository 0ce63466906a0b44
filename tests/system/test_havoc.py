"""Workers are killed and frozen at random while the source changes: in the end it is as if nothing had been."""

from __future__ import annotations

import os
import random

import pytest

from hub.runs import RunKind, RunState, undo
from hub.runs.answers import left_alone
from tests.hub.runs.site import ME
from tests.system.drill import (
    DIED,
    Havoc,
    Make,
    Mutator,
    assert_audited,
    assert_counts_agree,
    assert_master_property,
    calm,
    carry_until_fault,
    keep_running,
    settled,
    until,
    workers,
)

pytestmark = pytest.mark.timeout(300)
KEPT = (1,)
"""Seeds that found something once."""
MORE = int(os.environ.get("HUB_TEST_SEEDS", "0"))
"""How many fresh seeds are tried beside them; each is printed with its test."""
SEEDS = (*KEPT, *(random.randrange(10**6) for _ in range(MORE)))


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_and_frozen_workers_change_nothing_but_the_time_it_takes(
    seed: int, make_any_site: Make, make_site: Make
) -> None:
    site = make_any_site(
        60, parts={"read": "  leaves: clear\n"}, slices=3, lease_seconds=1.5, poll_seconds=0.2, page_rows=4
    )
    with Mutator(site, seed) as mutator, workers(site, 2) as supervisor, Havoc(site, supervisor, seed) as havoc:
        keep_running(site, lambda: havoc.over)
    print(f"seed {seed}: {mutator.edits} edits, {havoc.done}")
    assert mutator.edits
    assert havoc.done
    assert_master_property(site, make_site)


def test_an_undo_after_any_of_it_puts_back_what_was_replaced_and_lists_what_somebody_edited_since(
    make_any_site: Make,
) -> None:
    site = make_any_site(40, slices=2, lease_seconds=3, poll_seconds=0.2, page_rows=4)
    site.run(RunKind.FULL)
    held = site.scores()
    site.ask("update PERSON set X = 99 - cast(ID as integer) * 2.5")
    with workers(site, 2) as supervisor:
        run = site.order(RunKind.FULL)
        with Havoc(site, supervisor, 7, strikes=3) as havoc:
            until(lambda: havoc.over)
        until(settled(site, run))
    assert site.look(run).state is RunState.DONE, havoc.done
    replaced = {key for key, score in site.scores().items() if score != held[key]}
    edited = sorted(replaced)[:3]
    site.ask("update PERSON set SCORE = -5 where ID = ?", [[key] for key in edited])
    back = undo(site.hub, run, ME)
    assert carry_until_fault(site, "exit:after write") == DIED
    calm(site)
    assert site.scores() == {**held, **{key: (-5, site.scores()[key][1]) for key in edited}}
    assert sorted(each["key"]["ID"] for each in left_alone(site.hub, back, str(ME))) == edited
    assert {each["state"] for each in left_alone(site.hub, back, str(ME))} == {"conflict"}
    assert_audited(site)
    assert_counts_agree(site, foreign_writes=len(edited))
