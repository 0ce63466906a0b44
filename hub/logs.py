"""How the hub logs: one JSON object or one readable line per event, on standard error, control characters escaped."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import structlog

from hub.settings import Settings


def configure(settings: Settings, *, process: str) -> None:
    """Sets up logging of this process; libraries' own messages take the same way."""
    level = getattr(logging, settings.log_level.upper())
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _trace,
            _one_line,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")


def _trace(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Where an exception came from, without its message: a library may quote the record it stumbled over."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["exception"] = " < ".join(_described(error))
    return event


def _described(error: BaseException) -> Iterator[str]:
    """The exception and those behind it: its type, then module and line of each frame, innermost first."""
    seen: BaseException | None = error
    while seen is not None:
        frames = traceback.extract_tb(seen.__traceback__)
        places = (f"{Path(each.filename).stem}.{each.name}:{each.lineno}" for each in reversed(frames[-8:]))
        yield f"{type(seen).__name__} at {' from '.join(places) or '(nowhere)'}"
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def _one_line(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Values that came from outside cannot start a line of their own."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = value.encode("unicode_escape").decode("ascii")
    return event
