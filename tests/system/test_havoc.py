"""Workers are killed and frozen at random while the source changes: in the end it is as if nothing had been."""

from __future__ import annotations

import os
import random

import pytest

from tests.system.drill import Havoc, Make, Mutator, assert_master_property, keep_running, workers

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
