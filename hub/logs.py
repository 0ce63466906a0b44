"""How the hub logs: one JSON object or one readable line per event, on standard error, control characters escaped."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

import structlog

from hub.settings import Settings

_OURS = ("hub.", "connectors.")
_WITHHELD = "(message withheld: it may hold a value of a record)"
_LONGEST_CHAIN = 10


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
            structlog.processors.ExceptionRenderer(traced),
            _one_line,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # One write a line: several processes may share a pipe, and each line is to stay whole.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    ours = logging.StreamHandler(sys.stderr)
    ours.setFormatter(_Library("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[ours])
    sys.excepthook = lambda kind, error, trace: print(traced((kind, error, trace)), file=sys.stderr)  # noqa: T201


def traced(exc_info: structlog.typing.ExcInfo) -> str:
    """A traceback in which only our own errors speak.

    What a library says of a failure often holds the value that made it fail, and that may be a record's.
    """
    parts: list[str] = []
    error: BaseException | None = exc_info[1]
    while error is not None and len(parts) < _LONGEST_CHAIN:
        kind = type(error)
        said = f": {error}" if kind.__module__.startswith(_OURS) else f" {_WITHHELD}"
        where = "".join(traceback.format_tb(error.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{where}{kind.__module__}.{kind.__qualname__}{said}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\nwhich led to:\n\n".join(reversed(parts))


class _Library(logging.Formatter):
    """For what libraries log with a traceback."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name the standard library calls
        return traced(ei)


def _one_line(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Values that came from outside cannot start a line of their own."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = value.encode("unicode_escape").decode("ascii")
    return event
