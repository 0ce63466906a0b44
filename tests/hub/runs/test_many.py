"""Trying many records again at once takes a second person in production, and one person below the limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hub.access import local_caller
from hub.access.approvals import ApprovalError
from hub.runs import Installation, RunKind, RunState, cancel, open_installation, replay
from tests.hub.runs.site import ME, Site

STATES = ("invalid",)


@pytest.fixture
def strict(make_site: Callable[..., Site]) -> Iterator[Installation]:
    """An installation in production, seven of whose twenty records stand invalid."""
    site = make_site(20)
    site.ask("update PERSON set X = 'no number' where ID < '000007'")
    site.run(RunKind.FULL)
    assert site.states()["invalid"] == 7
    settings = {"production": True, "environment": "test", "replay_limit": 5}
    with open_installation(site.hub.settings.model_copy(update=settings)) as hub:
        yield hub


def test_more_records_than_the_limit_are_tried_again_after_another_person_approved(strict: Installation) -> None:
    with pytest.raises(ApprovalError, match="up to 1000 records would be tried again, more than HUB_REPLAY_LIMIT"):
        replay(strict, "risk", str(ME), STATES)
    (asked,) = strict.approvals.list()
    with pytest.raises(ApprovalError, match="is its author"):
        strict.approvals.approve(asked.id, ME)
    strict.approvals.approve(asked.id, local_caller("bert"))
    run = replay(strict, "risk", str(ME), STATES)
    with strict.database.read() as session:
        assert strict.ledger.run(session, run).state is RunState.QUEUED
    cancel(strict, run, str(ME))
    with pytest.raises(ApprovalError, match="more than HUB_REPLAY_LIMIT"):
        replay(strict, "risk", str(ME), STATES)


def test_what_was_approved_is_of_these_states_alone(strict: Installation) -> None:
    with pytest.raises(ApprovalError):
        replay(strict, "risk", str(ME), STATES)
    strict.approvals.approve(strict.approvals.list()[0].id, local_caller("bert"))
    with pytest.raises(ApprovalError, match="more than HUB_REPLAY_LIMIT"):
        replay(strict, "risk", str(ME), (*STATES, "rejected"))


def test_fewer_are_one_persons_to_try_again(strict: Installation) -> None:
    run = replay(strict, "risk", str(ME), ("rejected",))
    assert strict.approvals.list() == []
    cancel(strict, run, str(ME))
