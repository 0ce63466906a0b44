"""The two cookies: one of the session, one of a login under way. Both die with the browser and never leave the host."""

from __future__ import annotations

from fastapi import Request, Response

SESSION = "__Host-hub-session"
LOGIN = "__Host-hub-login"
"""Binds a login at the provider to the browser that began it."""
MOST_CHARACTERS = 100


def read(request: Request, name: str) -> str:
    """The cookie's text; empty where there is none that could be ours."""
    text = request.cookies.get(name, "")
    return text if len(text) <= MOST_CHARACTERS else ""


def put(response: Response, name: str, text: str) -> None:
    """Hands the browser a cookie. Lax, since the provider's answer comes from another site's page."""
    response.set_cookie(name, text, path="/", secure=True, httponly=True, samesite="lax")


def drop(response: Response, name: str) -> None:
    """Takes a cookie back."""
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")
