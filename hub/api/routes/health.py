"""`/healthz`, `/readyz` and `/metrics`: whether the process lives, whether it can work, and what it does."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from hub.api.access import Hub, Prober, Watcher
from hub.api.problems import ProblemError
from hub.api.routes.answers import answer, problems

router = APIRouter(tags=["health"])

PROBE = b"ready"


@router.get("/healthz", summary="Does the process live?")
async def healthz(_caller: Prober) -> dict[str, str]:
    """Always ok while the process answers."""
    return {"status": "ok"}


@router.get("/readyz", summary="Can it work?", responses={503: problems(503)[503]})
def readyz(hub: Hub, _caller: Prober) -> Response:
    """The database answers and is migrated, and the key ring opens what it seals."""
    try:
        lacking = hub.hub.database.lacking()
        identity = {"kind": "probe"}
        opened = hub.hub.keys.open(hub.hub.keys.seal(PROBE, identity), identity) == PROBE
    except Exception as error:
        raise ProblemError(503, "not_ready", "the database or the key ring does not answer; see the log") from error
    if lacking or not opened:
        raise ProblemError(503, "not_ready", "the database is not migrated; run hub migrate")
    return answer({"status": "ready"})


@router.get("/metrics", summary="Prometheus metrics", responses=problems(403), response_class=Response)
def metrics(hub: Hub, _caller: Watcher) -> Response:
    """Runs by state, records by outcome, the oldest waiting run, requests; needs the scope read for the whole hub."""
    return Response(generate_latest(hub.metrics.registry), media_type=CONTENT_TYPE_LATEST)
