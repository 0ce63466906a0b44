"""Three mappings on one org at once, with fewer calls left than they need: one budget, and none of them starves."""

from __future__ import annotations

from collections.abc import Callable

from tests.connectors.salesforce.orgs import LeadSite
from tests.system.drill import until, workers

Make = Callable[..., LeadSite]
NAMES = ("first", "second", "third")
FAIR = 1 / 3
"""The least share that the slowest mapping gets of what the fastest gets: calls go to whoever asks, page by page."""


def test_three_mappings_share_what_is_left_and_none_starves(make_org: Make) -> None:
    site = make_org(2_000, way={"reads": "rest", "writes": "collections"}, page_rows=100)
    control = site.twin.control
    for name in NAMES:
        control.add_field("Lead", f"{name}__c double 3,0")
        site.publish(name=name, write=f"  mode: update\n  set: {{ {name}__c: score }}")
    runs = [site.order(name) for name in NAMES]
    control.forget_calls()
    control.budget(most=100, used=44)

    def stopped() -> bool:
        return all("calls of the day are used" in (site.look(each).reason or "") for each in runs)

    with workers(site, 3, log_level="error"):  # type: ignore[arg-type]
        until(stopped, 90)

    applied = [site.look(each).counts.by.get("applied", 0) for each in runs]
    assert control.summary()["used"] == 80
    site.assert_reserve_untouched()
    assert all(0 < each < 2_000 for each in applied)
    assert min(applied) >= FAIR * max(applied), applied
    for each in runs:
        assert site.look(each).counts.balanced
        assert "for the far side" in site.happened(each)
