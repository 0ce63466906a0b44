"""What a publication in production stands on: an approval, a preview, and no more rights than are needed."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.orm import Session

from hub.access import Actor, Caller
from hub.access.approvals import Approval, ApprovalError, ApprovalKind, Approvals, ApprovalState
from hub.connections import Connections
from hub.mappings import store
from hub.mappings.document import read_document
from hub.mappings.publishing.excess import acceptances, accepted
from hub.mappings.publishing.review import Live, moved, reviewed
from hub.mappings.types import Compiled
from hub.sdk import Grant, Json, RightsReport


class Reviews:
    """The approvals of versions, asked for, looked at and used; within the transactions of whoever publishes."""

    def __init__(self, approvals: Approvals, connections: Connections) -> None:
        self._approvals = approvals
        self._connections = connections

    def use(
        self,
        session: Session,
        compiled: Compiled,
        row: store.MappingVersionRow,
        actor: Caller | Actor | str,
        reports: Mapping[str, RightsReport],
    ) -> Approval | None:
        """Uses the approval of this version up. None where it is the one that runs already: then nothing changes."""
        name = row.mapping
        if is_live(session, row):
            return None
        content = self.content(session, compiled)
        found = self._approvals.use(session, ApprovalKind.MAPPING, subject_of(name), content, actor)
        if found is None:
            raise ApprovalError(self._what_lacks(session, row, content))
        if row.previewed_at is None:
            raise ApprovalError(f"mapping {name} was not previewed; run hub mappings preview first")
        if lacking := self.unaccepted(session, name, reports):
            raise ApprovalError(
                f"mapping {name}: the login of {', '.join(lacking)} may do more than the mapping needs;"
                " `hub access verify` with the document names it. Take it away there, or have two people accept it:"
                " add --accept --reason WHY"
            )
        return found

    def _what_lacks(self, session: Session, row: store.MappingVersionRow, content: Mapping[str, Json]) -> str:
        """Why there is no approval to publish by, and the next step."""
        asked, needs = self.asked(session, row), f"mapping {row.mapping} needs the approval of somebody other than"
        if asked is None:
            return f"{needs} {row.author}; `hub mappings submit` hands it in"
        changed = moved(asked.content, content)
        if changed:
            return (
                f"{needs} {row.author}: since it was handed in, {', '.join(changed)} changed, and an approval covers"
                " what was looked at; `hub mappings submit` hands it in anew"
            )
        return f"{needs} {row.author}; {asked.next_step}"

    def asked(self, session: Session, row: store.MappingVersionRow) -> Approval | None:
        """The approval that is open for a version, given or not."""
        for each in self._approvals.about(session, ApprovalKind.MAPPING, subject_of(row.mapping)):
            document = each.content["document"]
            open_ = each.state in (ApprovalState.PENDING, ApprovalState.APPROVED)
            if open_ and isinstance(document, Mapping) and document["digest"] == row.digest:
                return each
        return None

    def content(self, session: Session, compiled: Compiled) -> dict[str, Json]:
        """What an approval covers, as things stand."""
        name, live = compiled.document.mapping, None
        mapping = store.mapping(session, name)
        if mapping is not None and mapping.published is not None:
            row = store.version(session, name, number=mapping.published)
            assert row is not None
            live = Live(mapping.published, read_document(row.text), grants_of(row))
        systems = {each: self._connections.get(each) for each in compiled.document.connections}
        return reviewed(compiled, live, systems)

    def unaccepted(self, session: Session, mapping: str, reports: Mapping[str, RightsReport]) -> list[str]:
        """The connections whose login may do more than the mapping needs, and that two people did not accept."""
        given = self._approvals.about(session, ApprovalKind.EXCESS, subject_of(mapping))
        wanted = acceptances(mapping, reports)
        return [connection for connection, each in wanted.items() if accepted(each, given) is None]

    def ask_rights(self, grants: Mapping[str, Grant]) -> dict[str, RightsReport]:
        """What each login of a mapping holds, asked over there."""
        return {name: self._connections.verify(name, grant) for name, grant in sorted(grants.items())}


def subject_of(name: str) -> str:
    """A mapping as approvals and the trail name it."""
    return f"mapping:{name}"


def grants_of(row: store.MappingVersionRow) -> dict[str, Grant]:
    """What a version was handed in or published with."""
    return {name: Grant.from_json(each) for name, each in (row.grants or {}).items()}


def is_live(session: Session, row: store.MappingVersionRow) -> bool:
    """Whether it is the version that runs."""
    mapping = store.mapping(session, row.mapping)
    return mapping is not None and row.number is not None and mapping.published == row.number


def refuse_live(session: Session, row: store.MappingVersionRow) -> None:
    """ApprovalError for the version that runs: it needs no approval to go on."""
    if is_live(session, row):
        raise ApprovalError(f"mapping {row.mapping}: this version is published as number {row.number} already")
