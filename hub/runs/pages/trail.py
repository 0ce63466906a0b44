"""What a run's pages leave in the audit trail: which records were read and why, what was to be written, what was."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.orm import Session

from hub.audit import Action, Outcome
from hub.decisions import PARKED, Prepared, Segment, SegmentFacts
from hub.mappings import Compiled
from hub.runs.installation import Installation
from hub.runs.types import Claim, Counts, Run
from hub.sdk import Json


class Trail:
    """Records for one run in the sessions that it is given, so that nothing stands without its event."""

    def __init__(self, hub: Installation, run: Run, compiled: Compiled) -> None:
        self._hub = hub
        self._run = run
        self._compiled = compiled

    def facts(self, run: str, slice_number: int, page: int) -> SegmentFacts:
        """What a segment of decisions says of where they come from."""
        model = self._compiled.model
        return SegmentFacts(
            mapping=self._run.mapping,
            version=self._compiled.document.digest,
            model=model.name,
            model_version=model.number,
            model_digest=model.digest,
            run=run,
            slice=slice_number,
            page=page,
            at=self._run.logical_at,
        )

    def told_of_reading(self) -> dict[str, Json]:
        """Which fields, those of other entities by their names, and for what."""
        document = self._compiled.document
        beside = {
            f"{each.lookup.connection or document.read.connection}/{each.lookup.entity}": sorted(each.fields)
            for each in self._compiled.lookups
        }
        told: dict[str, Json] = {"fields": list(self._compiled.fields), "purpose": f"mapping:{document.mapping}"}
        return {**told, "version": document.digest, **({"lookups": beside} if beside else {})}

    def read(self, session: Session, claim: Claim, number: int, counts: Counts, segment: Segment | None) -> None:
        """Which records, by the segment that holds their decisions; those that were found as before are a count."""
        read, model = self._compiled.document.read, self._compiled.model
        detail: dict[str, object] = {"slice": claim.number, "page": number, "records": counts.read}
        detail |= {"counts": counts.to_json(), **self.told_of_reading()}
        detail |= {"model": {"name": model.name, "version": model.number, "digest": model.digest}}
        if segment is not None:
            detail |= {"segment": str(segment.id), "digest": segment.root.hex()}
        subject = f"{read.connection}/{read.entity}"
        self._hub.record(session, self._run.actor, Action.PAGE_READ, subject, run=claim.run, **detail)

    def intended(self, session: Session, segment: Segment, planned: int) -> None:
        """The intent to write so many changes, which nothing is sent without."""
        self._write(session, Action.WRITE_INTENT, segment, Outcome.STARTED, {"planned": planned})

    def written(self, session: Session, segment: int, by_state: Mapping[str, int], doubtful: int) -> None:
        """What came of an intent; of `doubtful` changes an earlier try may have been what wrote them."""
        more = {"maybe_written": doubtful} if doubtful else {}
        self._write(session, Action.WRITE_OUTCOME, self._hub.log.segment(segment), Outcome.DONE, by_state, **more)

    def parked(self, session: Session, claim: Claim, stand: Prepared | None) -> None:
        """One event where records of a page were set aside now."""
        number = 0 if stand is None else int((stand.updates["state"] == PARKED).sum())
        if number:
            self._hub.record(session, self._run.actor, Action.RECORD_PARK, claim.run, run=claim.run, records=number)

    def _write(
        self,
        session: Session,
        action: Action,
        segment: Segment,
        outcome: Outcome,
        counts: Mapping[str, int],
        **more: int,
    ) -> None:
        write = self._compiled.document.write
        self._hub.record(
            session,
            self._run.actor,
            action,
            f"{write.connection}/{write.entity}",
            outcome=outcome,
            run=self._run.id,
            digest=segment.root.hex(),
            segment=str(segment.id),
            counts=dict(counts),
            **more,
        )
