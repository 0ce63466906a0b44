"""A worker dies at every named point, one after the other, and another finishes: as if nothing had been."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from hub.runs import RunKind, RunState, replay, resume, undo
from tests.architecture.units import commits
from tests.hub.runs.site import ME, Site
from tests.system.deeds import DEEDS
from tests.system.drill import DIED, Make, assert_master_property, calm, carry_until_fault, frozen, lone_worker, until
from tests.system.test_following import CASES as FOLLOWED

NOTE = "  entity: NOTE\n  key: { PERSON_ID: ID }\n  set: { SCORE: score, BAND: band }\n"


@dataclass(frozen=True)
class Case:
    """Some commits and calls, and a run in which a worker meets them."""

    names: tuple[str, ...]
    parts: dict[str, str] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)
    armed: str = ""
    die: Callable[[Site, str], int] = carry_until_fault


def _told_to_stop(site: Site, fault: str) -> int:
    """A worker that is told to stop in the middle of a page."""
    with lone_worker(site, HUB_FAULT=f"stop:before score;{fault}") as child:
        until(lambda: frozen(child.pid))
        child.send_signal(signal.SIGTERM)
        child.send_signal(signal.SIGCONT)
        return child.wait(60)


def _on_the_other_pool(site: Site, fault: str) -> int:
    """The worker that scores, after another has read."""
    reader = site.worker()
    while reader.work():
        pass
    return carry_until_fault(site, fault, "gpu")


CASES = {
    "in place": Case(
        (
            "commit of Worker.work",
            "open",
            "entities",
            "read",
            "score",
            "file",
            "rename",
            "commit of Trip.store.commit",
            "commit of Sending.send._enter",
            "write",
            "commit of Trip.settle",
            "commit of Carriage._end.commit",
            "close",
        )
    ),
    "elsewhere": Case(("lookup",), {"mode": "upsert", "write": NOTE}),
    "ahead": Case(("commit of Carriage._leave",), {"run": "  ahead: true\n"}),
    "in parts": Case(
        (
            "commit of Worker._failed",
            "commit of Worker._shrunk",
            "commit of Carriage._leave",
        ),
        armed="raise:before score@000004;",
    ),
    "away": Case(("commit of Sending._untried",), armed="away:before write;"),
    "full": Case(("commit of Worker._wait.wait",), armed="full:before file;"),
    "sent in parts": Case(("commit of Sending.send",), armed="raise:before write@000003;", settings={"page_rows": 12}),
    "held": Case(
        ("commit of Worker._hold.hold", "commit of Worker._give_up"),
        {"run": "  limits: { changed: 7 }\n"},
    ),
    "stopped": Case(("commit of Carriage._leave",), die=_told_to_stop),
    "beating": Case(
        ("commit of Heartbeat._beat",),
        settings={"lease_seconds": 3, "poll_seconds": 0.2},
        armed="hang:before score;",
    ),
    "read for another pool": Case(("commit of Trip.store_features",), {"use": "3"}),
    "scored in another pool": Case(
        ("commit of staging.score_page", "commit of Scoring.carry"),
        {"use": "3"},
        die=_on_the_other_pool,
    ),
    "read again": Case(
        ("commit of staged.read_again",), {"use": "3"}, armed="raise:before score;", die=_on_the_other_pool
    ),
    "set aside": Case(
        ("commit of staging.set_aside",),
        {"use": "3"},
        {"page_rows": 1},
        armed="raise:before score@000001;",
        die=_on_the_other_pool,
    ),
}


POINTS = [pytest.param(case, name, id=f"{label}: {name}") for label, case in CASES.items() for name in case.names]


def move(site: Site, turn: int) -> None:
    """Every record is due again, with an input that it never had."""
    site.ask("update PERSON set X = 7 * ? + cast(ID as integer) + 0.25", turn)


def finish(site: Site, run: str) -> None:
    """Carries the run to its end as people and workers would: those of both pools, and whoever resumes or replays."""
    calm(site)
    if site.look(run).state is RunState.HELD:
        resume(site.hub, run, str(ME), lift=True)
        calm(site)
    if site.look(run).counts["parked"]:
        replay(site.hub, "risk", str(ME), ("parked",))
        calm(site)


@pytest.mark.parametrize(("case", "name"), POINTS)
def test_whoever_finds_the_work_of_a_dead_worker_finishes_it(
    case: Case, name: str, make_any_site: Make, make_site: Make
) -> None:
    site = make_any_site(12, parts=case.parts, **{"page_rows": 5, "lease_seconds": 60, **case.settings})
    for turn, when in enumerate(("before", "after"), start=1):
        point = f"{when} {name}"
        move(site, turn)
        run = site.order(RunKind.FULL)
        assert case.die(site, f"{case.armed}exit:{point}") == DIED, point
        finish(site, run)
        ended = site.look(run)
        told = (ended.state in (RunState.DONE, RunState.DONE_WITH_REJECTS), ended.counts.balanced)
        assert told == (True, True), point
        assert ended.counts["applied"] + ended.counts["parked"] == 12, point
    assert_master_property(site, make_site, lift=True)


@pytest.mark.parametrize("name", ["file", "commit of Trip.store.commit", "write"])
def test_an_undo_whose_worker_dies_is_finished_by_another(name: str, make_any_site: Make, make_site: Make) -> None:
    site = make_any_site(12, page_rows=5, lease_seconds=60)
    for turn, when in enumerate(("before", "after"), start=1):
        held = site.scores()
        move(site, turn)
        run = site.run(RunKind.FULL)
        assert site.scores() != held
        back = undo(site.hub, run.id, ME)
        assert carry_until_fault(site, f"exit:{when} {name}") == DIED
        calm(site)
        assert (site.look(back).state, site.scores()) == (RunState.DONE, held)
        site.hub.mappings.resume("risk", ME)
    move(site, 9)  # what was undone stays so until its input moves
    assert_master_property(site, make_site)


NOT_HERE = {
    "a lease that nobody closes runs out by itself, and whoever was to get it asks again": "commit of LeaseBroker.",
    "what was sealed to the lease broker and not taken in is taken in by its next look": "commit of sealing.",
    "leases that ran out, told of by whoever looks next": "commit of broker.sweep",
    "a dead worker's credentials run out by themselves": "commit of broker.abandon_leases.end",
    "a cache: what workers share with each other": "commit of DatabaseShared.",
    "no connector here notes a job": "commit of PageJournal.note",
    "a ring lost or heard twice costs time only, and others may hear ours": "commit of Installation.unring",
    "the first start makes its key": "commit of ring._first",
    "a refusal, noted": "commit of Access._record_denied",
    "a refusal of a client, noted": "commit of Clients._record_denied",
    "the last use of a key, noted": "commit of Access._by_keys",
    "the first token makes its key": "commit of Issuer._opened",
    "an assertion serves once, whether its client hears of the token or not": "commit of Clients._asserts",
    "a model is registered with proofs in processes of their own": "commit of Registry._store",
    "fields made at the far side, noted": "commit of connections._note_provision",
    "whoever asks for a second person asks again": "commit of DualControl.ask",
    "a far side that proves nothing is told of each time it is called": "commit of Connections._note_untrusted",
    "a word about a run that goes on, said again soon": "commit of following.order_owed",
    "a dead worker's leases run out by themselves": "commit of worker.abandon",
    "whoever logs in, or is logged out, does it again": "commit of Sessions.",
    "the first administrator is made whole or not at all": "commit of LocalAccounts.",
    "a login at the provider is begun again": "commit of SignIn.",
    "a failed login counts, whatever becomes of who failed": "commit of Attempts.",
    "whoever disables a person sees whether it took place": "commit of People.",
    "what a person sets about the trail, or upkeep prunes: whole or not at all, and done again": "commit of Retention.",
    "a new key of the log: whole or not at all": "commit of SealedLog.change_key",
    "checkpoints between the hours, thinned again later": "commit of SealedLog.thin",
    "an erasure is asked for again, and finishes what was cut off": "commit of erasing.erase",
    "a question about a record, noted": "commit of asking.touches",
    "a look at what is held, noted": "commit of decisions.held",
    "a report or its review, noted": "commit of reports._record",
    "what a worker gives back whose database was away: freed whole, or when its lease runs out": (
        "commit of Worker._coming_back"
    ),
}
"""Beginnings of the names of commits at which nobody is let die, by the reason."""


def test_every_commit_is_one_at_which_somebody_dies() -> None:
    """A new unit of work is met by a worker or a verb, or stands in the list above with its reason."""
    met = {name for case in CASES.values() for name in case.names if name.startswith("commit of ")}
    met |= {name for case in FOLLOWED.values() for name in case.names if name.startswith("commit of ")}
    met |= {each.commit for each in DEEDS}
    left = [name for name in commits() if name not in met and not name.startswith(tuple(NOT_HERE.values()))]
    assert left == []
    assert {each for each in met if each not in commits()} == set()
    assert [each for each in NOT_HERE.values() if not any(name.startswith(each) for name in commits())] == []
