"""Rights beyond what a mapping needs: told, and accepted by two people for a while where they must stay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hub.access.approvals import Approval, ApprovalState
from hub.sdk import Json, RightsReport


def acceptances(mapping: str, reports: Mapping[str, RightsReport]) -> dict[str, dict[str, Json]]:
    """What has to be accepted, by connection: as whom we are known there, and each right beyond the grant."""
    return {
        connection: {
            "mapping": mapping,
            "connection": connection,
            "identity": report.identity,
            "excess": sorted(report.excess),
        }
        for connection, report in sorted(reports.items())
        if report.excess
    }


def accepted(wanted: Mapping[str, Json], approvals: Iterable[Approval]) -> Approval | None:
    """The approval in force that covers an excess; one that was given for more covers less."""
    for each in approvals:
        same = all(each.content.get(name) == wanted[name] for name in ("mapping", "connection", "identity"))
        covered, asked = each.content.get("excess"), wanted["excess"]
        if each.state is not ApprovalState.APPROVED or not same:
            continue
        if isinstance(covered, list) and isinstance(asked, list) and set(map(str, asked)) <= set(map(str, covered)):
            return each
    return None


def recorded(reports: Mapping[str, RightsReport]) -> dict[str, Json]:
    """What the trail keeps of a verification: who we are over there, and what is missing and too much."""
    return {
        connection: {"identity": report.identity, "missing": list(report.missing), "excess": list(report.excess[:50])}
        for connection, report in sorted(reports.items())
    }
