"""Leads that are followed: how a mapping asks for it, the runs that come of it, and the org's own count of writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from connectors.salesforce.twin.org.store import Change
from hub.runs import Run, RunKind
from tests.connectors.salesforce.orgs import LeadSite

FOLLOWS = {"read": "  changed_by: SystemModstamp\n", "run": '  schedule: "0 0 1 1 *"\n  follow: true\n'}


def following(site: LeadSite) -> Run:
    """The newest run that follows."""
    return next(each for each in reversed(site.runs()) if each.kind is RunKind.FOLLOW)


def batches(site: LeadSite) -> list[Run]:
    """Every run that does not follow, oldest first."""
    return [each for each in site.runs() if each.kind is not RunKind.FOLLOW]


def written(site: LeadSite) -> Counter[str]:
    """How often each lead was written by the integration user from now on, as the org commits it."""
    ours, counted = site.twin.site.org.users["integration"], Counter[str]()

    def count(told: Sequence[Change]) -> None:
        counted.update(each.record for each in told if each.user == ours and each.entity == "Lead")

    site.twin.site.org.store.listeners.append(count)
    return counted
