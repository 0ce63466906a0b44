"""`/v1/connections`: put the secrets of a connection in place; nothing here gives one back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from hub.access import Caller, Resource, Scope
from hub.api.access import Connector, Hub
from hub.api.problems import ProblemError
from hub.api.routes.answers import answer, problems
from hub.connections import InvalidConnectionError, UnknownConnectionError
from hub.sdk import Secret

router = APIRouter(prefix="/v1/connections", tags=["connections"])

Name = Annotated[str, Path(description="A connection.", pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class NewSecrets(BaseModel):
    """New values of some secret settings of a connection."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    secrets: dict[str, Secret] = Field(min_length=1, max_length=20, description="Setting to value.")


@router.put(
    "/{connection}/secrets",
    status_code=202,
    summary="Put secrets in place",
    responses=problems(400, 403, 404, 422, 503),
)
async def put_secrets(connection: Name, given: NewSecrets, hub: Hub, caller: Connector) -> Response:
    """Seals the values to the lease broker, which stores them within seconds; this process cannot open them again."""
    await hub.require(caller, Scope.CONNECTIONS, Resource.connection(connection))
    await run_sealing(hub, connection, given, caller)
    return answer({"connection": connection, "sealed": sorted(given.secrets)}, 202)


async def run_sealing(hub: Hub, connection: str, given: NewSecrets, caller: Caller) -> None:
    """Off the event loop, since it commits. The values are forgotten whatever happens."""
    from fastapi.concurrency import run_in_threadpool

    try:
        await run_in_threadpool(hub.hub.connections.seal_secrets, connection, given.secrets, caller.actor)
    except UnknownConnectionError:
        raise ProblemError(404, "unknown_connection", "there is no connection of this name") from None
    except InvalidConnectionError as error:
        raise ProblemError(422, "invalid", str(error)) from None
    finally:
        for each in given.secrets.values():
            each.forget()
