"""Reading costs as few calls as it can: REST or bulk, and as many keys a query as an address holds."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from connectors.salesforce.reading import BULK_CALLS, REST_RECORDS
from hub.sdk import Grant, Selection, UnexpectedError
from tests.connectors.salesforce.orgs import LeadSite
from tests.system.drill import until

Make = Callable[..., LeadSite]
MOST_BY_REST = BULK_CALLS * REST_RECORDS
LEADS = Grant(reads={"Lead": frozenset({"Id"})})


def test_a_read_is_by_rest_until_a_bulk_query_costs_fewer_calls(make_org: Make) -> None:
    site = make_org(MOST_BY_REST + 1)
    control = site.twin.control
    with site.hub.connections.open("crm", LEADS) as far:
        source = far.source()
        assert source is not None

        def read() -> int:
            control.forget_calls()
            return sum(page.frame.height for page in source.read(Selection("Lead", ("Id",), page_rows=5_000)))

        assert read() == MOST_BY_REST + 1
        assert len(control.calls(kind="bulk.query.create")) == 1
        assert len(control.calls(kind="query")) == 1  # whose answer told how many there are
        control.remove(site.leads()[0]["Id"])
        assert read() == MOST_BY_REST
        assert control.calls(kind="bulk") == []
        assert len(control.calls(kind="query")) == BULK_CALLS


def test_about_five_hundred_ids_are_asked_for_in_a_query_each_of_them_once(make_org: Make) -> None:
    site = make_org(1_000)
    control = site.twin.control
    ids = sorted(each["Id"] for each in site.leads())
    with site.hub.connections.open("crm", LEADS) as far:
        source = far.source()
        assert source is not None
        control.forget_calls()
        match = pl.DataFrame({"Id": [*ids, *ids]})
        found = [each for page in source.lookup(Selection("Lead", ("Id",)), match) for each in page.frame["Id"]]
    assert sorted({*found}) == ids
    asked = control.calls(kind="query")
    assert [each["status"] for each in asked] == [200, 200]


def test_a_bulk_query_that_somebody_aborts_ends_the_read_and_not_as_a_short_one(make_org: Make) -> None:
    site = make_org(10, way={"reads": "bulk"})
    control, jobs = site.twin.control, site.twin.site.jobs
    with site.hub.connections.open("crm", LEADS) as far, ThreadPoolExecutor(1) as pool:
        source = far.source()
        assert source is not None
        control.hold_jobs()
        reading = pool.submit(lambda: list(source.read(Selection("Lead", ("Id",)))))
        until(lambda: control.calls(kind="bulk.query.poll"), 30)
        [job] = jobs.all("query")
        jobs.change(job["id"], state="Aborted")
        control.hold_jobs(held=False)
        with pytest.raises(UnexpectedError, match="ended a job to read in bulk: Aborted"):
            reading.result(60)
