"""Who types, and whether they may: every verb declares what it needs, and is refused before it does anything.

Without HUB_TOKEN the caller is the local person, who holds every scope: whoever can run a verb there can read the hub's
database and its key as well. With HUB_TOKEN (or HUB_TOKEN_FILE) it is the service of that key, and holds what it holds.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from hub.access import Caller, DeniedError, Resource, ResourceKind, Scope, decide, local_caller
from hub.cli.output import RefusedError

if TYPE_CHECKING:
    from hub.access import Actor
    from hub.runs import Installation

P = ParamSpec("P")
R = TypeVar("R")
Verb = Callable[P, R]

VARIABLE = "HUB_TOKEN"
HERE = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Need:
    """What a verb needs. `scope` None: nobody is asked, because of `why`; or `local`, for the machine's own person.

    `parameter` names the resource; without one the scope is needed for the whole hub, or, where `named`, for any
    resource, and the verb asks `allow` about the one.
    """

    scope: Scope | None = None
    kind: ResourceKind | None = None
    parameter: str | None = None
    named: bool = False
    local: bool = False
    why: str = ""

    def resource(self, given: dict[str, Any]) -> Resource | None:
        """The resource that a command line names."""
        if self.kind is None or self.parameter is None:
            return None
        return Resource(self.kind, str(given[self.parameter]))


_asked: ContextVar[tuple[Need, Resource | None] | None] = ContextVar("asked", default=None)
_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def needs(
    scope: Scope,
    *,
    mapping: str | None = None,
    connection: str | None = None,
    model: str | None = None,
    named: bool = False,
) -> Callable[[Verb[P, R]], Verb[P, R]]:
    """A verb for callers with that scope: for the resource that a parameter names, or else for the whole hub."""
    given = {
        ResourceKind.MAPPING: mapping,
        ResourceKind.CONNECTION: connection,
        ResourceKind.MODEL: model,
    }
    kind, parameter = next(((k, name) for k, name in given.items() if name is not None), (None, None))
    return _declared(Need(scope, kind, parameter, named))


def anybody(why: str) -> Callable[[Verb[P, R]], Verb[P, R]]:
    """A verb that tells nothing of the installation."""
    return _declared(Need(why=why))


def local(why: str) -> Callable[[Verb[P, R]], Verb[P, R]]:
    """A verb of the machine itself, which no key can allow: refused where HUB_TOKEN is set."""
    return _declared(Need(local=True, why=why))


def _declared(need: Need) -> Callable[[Verb[P, R]], Verb[P, R]]:
    def declare(verb: Verb[P, R]) -> Verb[P, R]:
        @wraps(verb)
        def asked(*args: P.args, **given: P.kwargs) -> R:
            if need.local and token() is not None:
                raise RefusedError(f"this verb is for the machine's own person, {need.why}; unset {VARIABLE} for it")
            before = _asked.set((need, need.resource(given)))
            try:
                return verb(*args, **given)
            finally:
                _asked.reset(before)

        asked.need = need  # type: ignore[attr-defined]
        return asked

    return declare


@contextmanager
def admitted(hub: Installation) -> Iterator[Caller]:
    """The caller of the verb that is being carried out, once it is known that it may. DeniedError, with its event."""
    text = token()
    caller = local_caller(getpass.getuser()) if text is None else hub.access.authenticate(text, HERE)
    need, resource = _asked.get() or (Need(), None)
    if need.scope is None and text is not None:
        raise DeniedError("this verb says no scope that a key could hold")
    if need.scope is not None and not (need.named and caller.rights.anywhere(need.scope)):
        _require(hub, caller, need.scope, resource)
    before = _caller.set(caller)
    try:
        yield caller
    finally:
        _caller.reset(before)


def allow(hub: Installation, resource: Resource | None, scope: Scope | None = None) -> None:
    """Asks about a resource that is known only now, with the verb's own scope or another."""
    need, _ = _asked.get() or (Need(), None)
    wanted = scope or need.scope
    if wanted is not None:
        _require(hub, this_caller(), wanted, resource)


def sees(resource: Resource, scope: Scope | None = None) -> bool:
    """Whether the caller may learn of a resource that the verb would list, with the verb's own scope or another."""
    need, _ = _asked.get() or (Need(), None)
    wanted = scope or need.scope
    return wanted is None or decide(this_caller(), wanted, resource).allowed


def allow_run(hub: Installation, run: str) -> None:
    """Asks about a run by its mapping; a run out of sight is answered as one that is not there."""
    from hub.runs import require_run

    need, _ = _asked.get() or (Need(), None)
    if need.scope is not None and not decide(this_caller(), need.scope).allowed:
        require_run(hub, this_caller(), need.scope, run)


def this_caller() -> Caller:
    """The caller of the verb that is being carried out."""
    return _caller.get() or local_caller(getpass.getuser())


def me() -> Actor:
    """Who acts: the person at the keyboard, by the name this machine knows, or the service of the key."""
    return this_caller().actor


def _require(hub: Installation, caller: Caller, scope: Scope, resource: Resource | None) -> None:
    # What opens every room imports a lot; a look that is allowed pays for none of it.
    if not decide(caller, scope, resource).allowed:
        hub.access.require(caller, scope, resource)


def token() -> str | None:
    """The key that was given. RefusedError where its file cannot be read."""
    path = os.environ.get(f"{VARIABLE}_FILE")
    if not path:
        return os.environ.get(VARIABLE)
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise RefusedError(f"{VARIABLE}_FILE: cannot read {path}") from None
