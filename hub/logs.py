"""How the hub logs: one JSON object or one readable line per event, on standard error, control characters escaped."""

from __future__ import annotations

import base64
import json
import logging
import sys
import threading
import traceback
import weakref
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO, cast
from urllib.parse import quote, quote_plus

from hub.sdk import Secret
from hub.settings import Settings

if TYPE_CHECKING:
    import structlog

_OURS = ("hub.", "connectors.")
_WITHHELD = "(message withheld: it may hold a value of a record)"
_LONGEST_CHAIN = 10

STRUCK = "***"
LEAST_CONCEALED = 6
"""Shorter texts stand in too many lines by chance."""
_open: Counter[str] = Counter()
"""The spellings of secrets that are open now, and how many hold each."""
_waiting: list[Callable[[], None]] = []
"""How structlog is to be set up, until it is."""
_turn = threading.RLock()  # one that its holder may take again: a secret may end wherever memory is collected


class _StandardError:
    """Standard error as it is when a line is written: whoever puts another in its place may close that one again."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


_standard_error = cast("TextIO", _StandardError())


def configure(settings: Settings, *, process: str, later: bool = False) -> None:
    """Sets up logging of this process; libraries' own messages take the same way.

    With `later`, structlog is imported with the first line only: for a process that will hardly write one, and that
    somebody waits for. One that stays imports it while there still is memory.
    """
    _waiting[:] = [partial(_configure_lines, settings, process)]
    if not later or "structlog" in sys.modules:
        begin()
    ours = logging.StreamHandler(_standard_error)
    ours.setFormatter(_Library("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[ours])
    sys.excepthook = lambda kind, error, trace: print(without_secrets(traced((kind, error, trace))), file=sys.stderr)  # noqa: T201
    threading.excepthook = lambda told: print(  # noqa: T201
        without_secrets(traced((told.exc_type, told.exc_value or told.exc_type(), told.exc_traceback))), file=sys.stderr
    )


def begin() -> None:
    """Makes structlog ready for who logs by it directly, as a connector does; `Log` does so by itself."""
    with _turn:
        while _waiting:
            _waiting.pop()()


class Log:
    """The log of one module: structlog's, imported with the first line. With it come rich, pygments and attrs."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, level: str) -> Any:
        import structlog

        begin()
        # Anew each time: one that is kept writes for ever as things were set up when it first wrote.
        return getattr(structlog.get_logger(self._name), level)


def _configure_lines(settings: Settings, process: str) -> None:
    import structlog

    level = getattr(logging, settings.log_level.upper())
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _Named(process),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(traced),
            _one_line,
            _Concealed(renderer),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # One write a line: several processes may share a pipe, and each line is to stay whole.
        logger_factory=structlog.WriteLoggerFactory(_standard_error),
        cache_logger_on_first_use=True,
    )


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


def conceal(secret: Secret) -> Secret:
    """The same secret; while it is alive, no line that is logged shows its value, nor its common spellings.

    This is a net under the design, not the design: nothing is meant to fall into it.
    """
    text = secret.reveal()
    if len(text) >= LEAST_CONCEALED:
        spellings = _spellings(text)
        _hold(spellings, 1)
        weakref.finalize(secret, _hold, spellings, -1).atexit = False
    return secret


def _hold(spellings: tuple[str, ...], by: int) -> None:
    with _turn:
        for each in spellings:
            _open[each] += by
            if _open[each] <= 0:
                del _open[each]


def without_secrets(line: str) -> str:
    """The line with every secret that is open now struck out."""
    with _turn:
        spellings = sorted(_open, key=len, reverse=True)
    for each in spellings:
        if each in line:
            line = line.replace(each, STRUCK)
    return line


def _spellings(text: str) -> tuple[str, ...]:
    """The text itself, and as it looks in JSON, in a URL, in Base64 at each of its three offsets, in hexadecimal."""
    raw = text.encode()
    coded = []
    for offset in range(3):
        padded = base64.b64encode(b"\0" * offset + raw).decode().rstrip("=")
        # The characters at either end depend on what stands beside the secret.
        coded.append(padded[offset and offset + 1 : len(padded) - bool((len(raw) + offset) % 3)])
    urlsafe = [each.replace("+", "-").replace("/", "_") for each in coded]
    in_url = [quote(text, safe=""), quote(text), quote_plus(text)]
    every = (text, json.dumps(text)[1:-1], *in_url, *coded, *urlsafe, raw.hex(), raw.hex().upper())
    return tuple({each for each in every if len(each) >= LEAST_CONCEALED})


class _Named:
    """Says in each line which process wrote it; a variable of structlog's context would hold for one thread alone."""

    def __init__(self, process: str) -> None:
        self._process = process

    def __call__(self, _logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event.setdefault("process", self._process)
        return event


class _Concealed:
    """The last processor: renders the line and strikes out what must not be in it."""

    def __init__(self, renderer: structlog.typing.Processor) -> None:
        self._renderer = renderer

    def __call__(self, logger: Any, method: str, event: structlog.typing.EventDict) -> str:
        return without_secrets(str(self._renderer(logger, method, event)))


class _Library(logging.Formatter):
    """For what libraries log, with a traceback or without."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name the standard library calls
        return traced(ei)


def _one_line(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Values that came from outside cannot start a line of their own."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = value.encode("unicode_escape").decode("ascii")
    return event
