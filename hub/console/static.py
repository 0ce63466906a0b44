"""The one style sheet and the one script, by their names alone: no path of a request reaches the file system."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response

router = APIRouter()

_FOLDER = files("hub.console") / "static"
_STYLE = (_FOLDER / "console.css").read_bytes()
_SCRIPT = (_FOLDER / "console.js").read_bytes()


@router.get("/static/console.css")
def style() -> Response:
    """How the pages look."""
    return Response(_STYLE, media_type="text/css; charset=utf-8")


@router.get("/static/console.js")
def script() -> Response:
    """Sends the forms."""
    return Response(_SCRIPT, media_type="text/javascript; charset=utf-8")
