"""The application and the server that carries it."""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import anyio.to_thread
import uvicorn
from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse

from hub.access import Scope
from hub.api import problems
from hub.api.access import Gate, Holding
from hub.api.limits import Bodies, BoundedProtocol
from hub.api.metrics import Metrics, Outermost
from hub.api.proxies import Proxies
from hub.api.routes import approvals, connections, decisions, health, mappings, oauth, runs, score
from hub.logs import Log
from hub.runs import Installation

THREADS = 16
"""Requests worked on at once; more only wait for the interpreter and the database."""
CONNECTIONS = 1_000
GRACE_SECONDS = 30
"""Time for the requests under way when the server is told to stop."""

ABOUT = """Puts a model's answer on the record: score now, start and follow runs, and ask why.

Send an API key or an access token as `Authorization: Bearer …`. Every error is a problem (RFC 9457) with a stable
`code`; those of `/oauth/token` have the form of RFC 6749.
"""

Face = Callable[[FastAPI], None]
"""Adds the routes of another face to the application."""

ROUTERS = tuple(room.router for room in (score, runs, decisions, mappings, connections, approvals, oauth, health))

log = Log(__name__)


def make_app(hub: Installation, faces: Sequence[Face] = ()) -> FastAPI:
    """The API of one installation, and other faces beside it; the caller closes the installation."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        yield
        await gate.close()

    hub.open_rooms()
    told = hub.settings
    metrics = Metrics(hub)
    gate = Gate(hub, metrics)
    # No page that loads scripts from elsewhere: /openapi.json is read by the reader's own tools.
    app = FastAPI(
        title="Hub",
        version="1",
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
        separate_input_output_schemas=False,
    )
    app.state.gate = gate
    for router in ROUTERS:
        app.include_router(router)
    for add_to in faces:
        add_to(app)
    asked = [Depends(Holding(Scope.READ, named=True))] if told.production else []
    app.add_api_route("/openapi.json", lambda: JSONResponse(app.openapi()), include_in_schema=False, dependencies=asked)
    problems.add_to(app)
    app.add_middleware(Bodies)
    app.add_middleware(Outermost, metrics=metrics)
    app.add_middleware(
        Proxies,
        trusted=told.api_proxies.split(),
        socket=told.api_socket is not None,
        certificate=told.api_certificate,
    )
    return app


def make_server(
    hub: Installation, told: Callable[[int], None] = lambda _port: None, faces: Sequence[Face] = ()
) -> uvicorn.Server:
    """The server of an installation at `settings.api_host` and `settings.api_port`; `told` gets the port it took.

    Where `settings.api_socket` names a file, a Unix socket there and no port; `told` gets 0.
    """
    config = uvicorn.Config(
        make_app(hub, faces),
        host=hub.settings.api_host,
        port=hub.settings.api_port,
        uds=str(hub.settings.api_socket) if hub.settings.api_socket is not None else None,
        http=BoundedProtocol,
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return _Server(config, told)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, told: Callable[[int], None]) -> None:
        super().__init__(config)
        self._told = told

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's own, but the signal ends here: raised again it would end the process before its workers do."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, kept in before.items():
                signal.signal(each, kept)

    async def startup(self, *args: object, **more: object) -> None:
        await super().startup(*args, **more)  # type: ignore[arg-type]
        if self.started:
            port = 0 if self.config.uds else self.servers[0].sockets[0].getsockname()[1]
            log.info("api listens", host=self.config.uds or self.config.host, port=port)
            self._told(port)


def serve(hub: Installation, faces: Sequence[Face] = ()) -> None:
    """Answers requests until the process is told to stop (SIGTERM, SIGINT); those under way are finished."""
    make_server(hub, faces=faces).run()
