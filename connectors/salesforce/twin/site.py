"""The twin without its sockets: the org, its sessions, jobs, faults and journal, and the table of what is answered."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from connectors.salesforce.twin.faces import (
    bulk,
    collections,
    composite,
    described,
    oauth,
    querying,
    records,
    replication,
    soap,
    tooling,
)
from connectors.salesforce.twin.faces.call import Answer, Call, Route, Router
from connectors.salesforce.twin.faults import LIMIT, REFUSALS, Fault, Faults
from connectors.salesforce.twin.jobs import Jobs
from connectors.salesforce.twin.journal import Journal
from connectors.salesforce.twin.org.org import Org
from connectors.salesforce.twin.org.problems import RefusedError, not_found, session_ended

FACES = (bulk, collections, composite, described, oauth, querying, records, replication, soap, tooling)


def _nowhere(call: Call) -> Answer:
    raise call.refusal or not_found()


UNKNOWN = Route("", (), _nowhere, "unknown")


class Site:
    """All of the twin that does not know of HTTP. `folder` holds its one database and the files of jobs."""

    def __init__(self, folder: Path, *, contracts: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.org = Org(folder / "twin.db", contracts=contracts)
        self.sessions = oauth.Sessions(self.org)
        self.jobs = Jobs(self.org, folder / "jobs")
        self.faults = Faults(self.org.clock)
        self.journal = Journal(self.org.store, self.org.clock)
        self.router = Router([each for face in FACES for each in face.routes()])
        self.cursor_seconds = querying.CURSOR_SECONDS
        self.locators_end_with_session = False
        self.url = ""
        """Where it is reached: scheme, host and port."""

    def route(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route of a request. RefusedError where there is none."""
        return self.router.find(method, path)

    def answer(self, found: Route, call: Call) -> tuple[Answer, Fault | None]:
        """Carries out one request and notes it; the fault is one that the sockets have to act out."""
        began = time.monotonic()
        inside = found is not UNKNOWN and self.faults.inside_wait()
        fault = self.faults.strike(found.kind)
        answer, counted = self._answered(found, call, fault)
        if counted:
            answer.headers["Sforce-Limit-Info"] = f"api-usage={self.journal.used + counted}/{self.journal.most}"
        self.journal.note(
            {
                "kind": found.kind,
                "method": call.method,
                "path": call.path,
                "status": 0 if fault and fault.what in {"cut", "cut_after"} else answer.status,
                "counted": counted,
                "user": call.user or None,
                "seconds": time.monotonic() - began,
                "fault": fault.what if fault else None,
                "inside_wait": int(inside),
                "detail": call.detail,
            }
        )
        return answer, fault

    def close(self) -> None:
        """Stops the work and gives every file back."""
        self.jobs.close()
        self.org.close()

    def _answered(self, found: Route, call: Call, fault: Fault | None) -> tuple[Answer, int]:
        """The answer, and as how many calls it counts."""
        if fault and fault.what in REFUSALS:
            return self.faults.refusal(fault), 0
        if fault and fault.what == "401":
            self.sessions.revoke_all()
        if fault and fault.what == "cut":
            return Answer(b""), 0
        try:
            if not found.open:
                call.token = _token(call)
                call.user = self.sessions.user_of(call.token)
            if found.counted and self.journal.used >= self.journal.most:
                return Answer(LIMIT, 403), 0
            answer = found.face(call)
        except RefusedError as error:
            answer = Answer(error.body(), error.status)
            if error.code == "INVALID_SESSION_ID":
                return answer, 0
        return answer, int(call.detail.get("counted", 1)) if found.counted else 0


def refused(error: RefusedError) -> Answer:
    """The answer to a request that no face takes."""
    return Answer(error.body(), error.status)


def _token(call: Call) -> str:
    scheme, _, token = call.headers.get("authorization", "").partition(" ")
    if scheme.lower() not in {"bearer", "oauth"} or not token:
        raise session_ended()
    return token.strip()


def describe_users(site: Site) -> dict[str, Any]:
    """The credentials of the twin's people, to be shown to whoever runs it."""
    org = site.org
    words = site.sessions.passwords()
    return {short: {"username": org.username(short), **words[short]} for short in words}
