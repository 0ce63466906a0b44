"""Face: the hub over HTTP. Translates requests to calls of the rooms and their answers and errors to JSON.

Owns authentication by API key, limits on what comes in, problem details (RFC 9457) and the OpenAPI description. Refuses
cookies, bodies beyond its caps, and to tell a caller whether a mapping exists that it may not use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hub.api.app import make_app, serve

__all__ = ["make_app", "serve"]


def __getattr__(name: str) -> Any:
    """FastAPI and uvicorn are imported when the API is served, not when the command line is asked for help."""
    if name not in __all__:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module("hub.api.app"), name)
