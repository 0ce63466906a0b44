"""What the verbs share: the opened hub, and answers as text or as one JSON document."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.decisions.plain import plain

if TYPE_CHECKING:
    from hub.database import Database
    from hub.runs import Installation
    from hub.settings import Settings

_heard: ContextVar[list[Any] | None] = ContextVar("heard", default=None)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


class RefusedError(Exception):
    """What was asked for is not possible as things stand; the message says why and what to do."""


def room(about: str) -> typer.Typer:
    """The commands of one room."""
    return typer.Typer(help=about, no_args_is_help=True, rich_markup_mode=None)


@contextmanager
def opened(*, quiet: bool = True) -> Iterator[Installation]:
    """The hub that the settings describe, its database migrated where it is embedded; the verb's caller may use it."""
    from hub.cli.caller import admitted
    from hub.logs import configure
    from hub.runs import open_installation
    from hub.settings import load_settings

    settings = load_settings()
    told = settings.model_copy(update={"log_level": "error"}) if quiet else settings
    configure(told, process="hub", later=quiet)
    with open_installation(settings, ready_database(settings)) as hub, admitted(hub):
        yield hub


def ready_database(settings: Settings) -> Database:
    """The hub's own database, answering and at this version: migrated here where it is embedded, else refused."""
    from hub.database import Database
    from hub.migrations import current, newest, upgrade

    database = Database(settings)
    try:
        database.check()
        if database.sqlite:
            upgrade(database)
        elif current(database) != newest():
            raise RefusedError("the hub's database is not at this version; `hub migrate` brings it there")
    except BaseException:
        database.close()
        raise
    gc.freeze()
    gc.enable()
    return database


@contextmanager
def listening() -> Iterator[list[Any]]:
    """Collects what the verbs of this block answer, as JSON values, while they print as always."""
    answers: list[Any] = []
    before = _heard.set(answers)
    try:
        yield answers
    finally:
        _heard.reset(before)


def emit(answer: Any, as_json: bool, text: Callable[[], None]) -> None:
    """Prints the answer: as one JSON document, or as `text` prints it."""
    heard = _heard.get()
    if heard is not None:
        heard.append(json.loads(json.dumps(answer, default=plain)))
    if as_json:
        sys.stdout.write(json.dumps(answer, default=plain, ensure_ascii=False, indent=2) + "\n")
    else:
        text()


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str) -> None:
    """A plain table, or the sentence `empty`."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if not rows:
        print(empty)
        return
    made = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        made.add_row(*(shown(each) for each in row))
    width = None if sys.stdout.isatty() else 200
    Console(width=width, highlight=False, markup=False).print(made)


def facts(values: Mapping[str, Any]) -> None:
    """Name and value, one a line; empty values are left out."""
    wide = max((len(name) for name in values), default=0)
    for name, value in values.items():
        if value not in (None, "", (), []):
            print(f"{name + ':':<{wide + 1}} {shown(value)}")


def shown(value: Any) -> str:
    """A value for reading: control characters escaped, moments to the second, decimals without idle zeros."""
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S") + (" UTC" if value.tzinfo else "")
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Decimal):
        written = f"{value or abs(value):f}"  # a zero has no sign
        return written.rstrip("0").rstrip(".") if "." in written else written
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {shown(each)}" for name, each in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(shown(each) for each in value)
    text = str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def moment(value: Any) -> Any:
    """A moment out of an answer, whether it came as one or as JSON writes it; None stays None."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def read_text(path: Path) -> str:
    """A text file that somebody named. Usage error where it cannot be read or is no UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RefusedError(f"{path} is not a text file in UTF-8") from None
    except OSError as error:
        raise RefusedError(f"{path}: {error.strerror}") from None
