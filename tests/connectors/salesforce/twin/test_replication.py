"""What changed and what went away in a stretch of time, by clients of others; and a session that its owner ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from simple_salesforce import Salesforce

from connectors.salesforce.twin import Twin
from tests.connectors.salesforce.twin.conftest import Rest


def test_what_changed_and_what_went_away_is_told_for_its_stretch_of_time(
    twin: Twin, salesforce: Salesforce, lead: str
) -> None:
    control, clock = twin.control, twin.site.org.clock
    control.advance(120)
    start = clock.now()
    control.advance(120)
    made, gone = control.create("Lead", [{"LastName": each, "Company": "C"} for each in ("Made", "Gone")])
    control.edit(lead, {"City": "Oslo"})
    control.remove(gone)
    control.advance(120)
    end = clock.now()
    control.create("Lead", [{"LastName": "Later", "Company": "C"}])

    updated, deleted = salesforce.Lead.updated(start, end), salesforce.Lead.deleted(start, end)

    assert sorted(updated["ids"]) == sorted([made, lead])
    assert [each["id"] for each in deleted["deletedRecords"]] == [gone]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (timedelta(0), timedelta(hours=-1)),
        (timedelta(days=-31), timedelta(0)),
        (None, timedelta(0)),
    ],
    ids=["backwards", "too long ago", "no moment"],
)
@pytest.mark.parametrize("what", ["updated", "deleted"])
def test_a_stretch_of_time_that_is_none_is_refused(
    twin: Twin, rest: Rest, what: str, start: timedelta | None, end: timedelta
) -> None:
    now = twin.site.org.clock.now()

    def said(apart: timedelta | None) -> str:
        return "yesterday" if apart is None else datetime.isoformat((now + apart).astimezone(UTC), timespec="seconds")

    asked = {"start": said(start), "end": said(end)}
    assert rest("GET", f"sobjects/Lead/{what}", params=asked).json()[0]["errorCode"] == "INVALID_REPLICATION_DATE"


def test_a_session_that_is_revoked_is_no_session(twin: Twin) -> None:
    session = Rest(twin)
    token = session._session.headers["Authorization"].removeprefix("Bearer ")  # type: ignore[union-attr]
    assert session("GET", "limits").status_code == 200
    assert session("POST", "/services/oauth2/revoke", data={"token": token}).status_code == 200
    assert session.refused("GET", "limits") == (401, "INVALID_SESSION_ID")
    again = session("POST", "/services/oauth2/revoke", data={"token": token})
    assert (again.status_code, again.json()["error"]) == (400, "invalid_token")
