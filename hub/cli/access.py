"""`hub access`: roles of people, their logins, API keys and clients of programs, credentials that workers hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.access import Resource, Role, Scope
from hub.cli import approvals, people, rights
from hub.cli.caller import me, needs
from hub.cli.output import AsJson, RefusedError, emit, facts, opened, read_text, room, table

if TYPE_CHECKING:
    from hub.access import RoleGrant, Token
    from hub.access.leases import Lease
    from hub.access.oauth import Client

app = room("Who may use the hub.")
token = room("API keys: made, listed, ended.")
app.add_typer(token, name="token")
client = room("Clients of the token endpoint: added, listed, ended.")
app.add_typer(client, name="client")
app.add_typer(approvals.app, name="approvals")
rights.add_to(app)
role = room("Roles of people: given, listed, taken.")
app.add_typer(role, name="role")
people.add_to(app)

Person = Annotated[str, typer.Argument(help="The person, by the name that the trail shows.")]
RoleName = Annotated[str, typer.Argument(help="viewer, operator, integrator, approver, auditor or admin.")]
OnlyMapping = Annotated[list[str] | None, typer.Option("--mapping", help="Only for this mapping.")]
OnlyConnection = Annotated[list[str] | None, typer.Option("--connection", help="Only for this connection.")]
OnlyModel = Annotated[list[str] | None, typer.Option("--model", help="Only for this model.")]


@token.command(epilog="Example: hub access token create ward7 --owner anna --scope score --mapping patient_risk")
@needs(Scope.ACCESS)
def create(
    name: Annotated[str, typer.Argument(help="The program that will use the key.")],
    owner: Annotated[str, typer.Option(help="The person who answers for it.")],
    scope: Annotated[list[str], typer.Option(help="What it may do: score, write, run, read, … one each time.")],
    mapping: OnlyMapping = None,
    connection: OnlyConnection = None,
    model: OnlyModel = None,
    address: Annotated[list[str] | None, typer.Option(help="Only from this network, 10.1.0.0/16 for one.")] = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="How long it lives.")] = 90,
    as_json: AsJson = False,
) -> None:
    """Makes an API key and shows it, this once."""
    only = _resources(mapping, connection, model)
    with opened() as hub:
        made, secret = hub.access.create_token(
            name,
            owner=owner,
            scopes=_scopes(scope),
            only=only or None,
            addresses=address or (),
            days=days,
            actor=me(),
        )
    answer = {**_row(made), "key": secret.reveal()}
    emit(
        answer,
        as_json,
        lambda: print(f"{answer['key']}\nIt is not shown again. It ends on {made.expires_at:%Y-%m-%d}."),
    )


@token.command("list", epilog="Example: hub access token list")
@needs(Scope.ACCESS)
def list_(as_json: AsJson = False) -> None:
    """Lists the API keys, never the keys themselves."""
    with opened() as hub:
        answer = [_row(each) for each in hub.access.list_tokens()]
    rows = [tuple(each.values()) for each in answer]
    emit(answer, as_json, lambda: table(list(answer[0]) if answer else [], rows, empty="no API keys"))


@token.command(epilog="Example: hub access token revoke 7Hk2…")
@needs(Scope.ACCESS)
def revoke(id: Annotated[str, typer.Argument(help="The key's id.")], as_json: AsJson = False) -> None:  # noqa: A002
    """Ends an API key at once."""
    with opened() as hub:
        hub.access.revoke_token(id, actor=me())
        emit({"id": id, "revoked": True}, as_json, lambda: print(f"the API key {id} is ended"))


@client.command("add", epilog="Example: hub access client add ward7 --owner anna --scope score --key ward7.jwk.json")
@needs(Scope.ACCESS)
def add_client(
    name: Annotated[str, typer.Argument(help="The program that will take tokens.")],
    owner: Annotated[str, typer.Option(help="The person who answers for it.")],
    scope: Annotated[list[str], typer.Option(help="What it may do: score, write, run, read, … one each time.")],
    key: Annotated[
        list[Path] | None, typer.Option(help="A file with its public key as a JWK, for private_key_jwt.", exists=True)
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="The name in its certificate, CN=crm,O=Ward for one, for tls_client_auth.")
    ] = None,
    mapping: OnlyMapping = None,
    connection: OnlyConnection = None,
    model: OnlyModel = None,
    address: Annotated[list[str] | None, typer.Option(help="Only from this network, 10.1.0.0/16 for one.")] = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="How long it lives.")] = 90,
    as_json: AsJson = False,
) -> None:
    """Registers a client of `/oauth/token`. Without a key or a subject it gets a secret, which is shown this once."""
    only = _resources(mapping, connection, model)
    with opened() as hub:
        made, secret = hub.access.clients.add(
            name,
            owner=owner,
            scopes=_scopes(scope),
            jwks=[_jwk(each) for each in key or ()],
            subject=subject,
            only=only or None,
            addresses=address or (),
            days=days,
            actor=me(),
        )
        told = {"token_endpoint": hub.access.clients.endpoint, "secret": secret.reveal() if secret else None}
    answer = {**_client_row(made), **told}
    emit(answer, as_json, lambda: facts(answer))


@client.command("list", epilog="Example: hub access client list")
@needs(Scope.ACCESS)
def list_clients(as_json: AsJson = False) -> None:
    """Lists the clients, never their secrets."""
    with opened() as hub:
        answer = [_client_row(each) for each in hub.access.clients.list_clients()]
    rows = [tuple(each.values()) for each in answer]
    emit(answer, as_json, lambda: table(list(answer[0]) if answer else [], rows, empty="no clients"))


@client.command("revoke", epilog="Example: hub access client revoke 7Hk2…")
@needs(Scope.ACCESS)
def revoke_client(id: Annotated[str, typer.Argument(help="The client's id.")], as_json: AsJson = False) -> None:  # noqa: A002
    """Ends a client at once, and with it every token it was given."""
    with opened() as hub:
        hub.access.clients.revoke(id, actor=me())
        emit({"id": id, "revoked": True}, as_json, lambda: print(f"the client {id} is ended"))


@role.command("grant", epilog="Example: hub access role grant anna operator --mapping patient_risk")
@needs(Scope.ACCESS)
def grant_role(
    person: Person,
    role: RoleName,
    mapping: OnlyMapping = None,
    connection: OnlyConnection = None,
    model: OnlyModel = None,
    as_json: AsJson = False,
) -> None:
    """Gives a person a role: for everything, or for the resources named."""
    wanted = _role(role)
    with opened() as hub:
        made = [
            hub.access.roles.grant(person, wanted, each, actor=me())
            for each in _resources(mapping, connection, model) or (None,)
        ]
        emit([_held(each) for each in made], as_json, lambda: print(f"{person} holds the role {role} now"))


@role.command("revoke", epilog="Example: hub access role revoke anna operator --mapping patient_risk")
@needs(Scope.ACCESS)
def revoke_role(
    person: Person,
    role: RoleName,
    mapping: OnlyMapping = None,
    connection: OnlyConnection = None,
    model: OnlyModel = None,
    as_json: AsJson = False,
) -> None:
    """Takes a role from a person at once."""
    wanted = _role(role)
    with opened() as hub:
        for each in _resources(mapping, connection, model) or (None,):
            hub.access.roles.revoke(person, wanted, each, actor=me())
        answer = {"person": person, "role": role, "revoked": True}
        emit(answer, as_json, lambda: print(f"{person} no longer holds the role {role}"))


@role.command("list", epilog="Example: hub access role list --person anna")
@needs(Scope.ACCESS)
def list_roles(
    person: Annotated[str | None, typer.Option(help="Only of this person.")] = None, as_json: AsJson = False
) -> None:
    """Lists who holds which role, for what, and who gave it."""
    with opened() as hub:
        answer = [_held(each) for each in hub.access.roles.list_grants(person)]
    rows = [tuple(each.values()) for each in answer]
    emit(answer, as_json, lambda: table(list(answer[0]) if answer else [], rows, empty="nobody holds a role"))


def _resources(mapping: list[str] | None, connection: list[str] | None, model: list[str] | None) -> list[Resource]:
    return [
        *map(Resource.mapping, mapping or ()),
        *map(Resource.connection, connection or ()),
        *map(Resource.model, model or ()),
    ]


def _scopes(names: list[str]) -> list[Scope]:
    known = {each.value: each for each in Scope}
    if strange := [each for each in names if each not in known]:
        raise typer.BadParameter(f"there is no scope {strange[0]}; the scopes are {', '.join(known)}")
    return [known[each] for each in names]


def _role(name: str) -> Role:
    known = {each.value: each for each in Role}
    if name not in known:
        raise typer.BadParameter(f"there is no role {name}; the roles are {', '.join(known)}")
    return known[name]


def _held(each: RoleGrant) -> dict[str, Any]:
    return {
        "person": each.actor.name,
        "role": each.role.value,
        "for": str(each.resource) if each.resource is not None else "everything",
        "granted_by": each.granted_by,
        "granted_at": each.granted_at,
    }


@app.command(epilog="Example: hub access leases")
@needs(Scope.ACCESS)
def leases(as_json: AsJson = False) -> None:
    """Lists who holds a credential of which connection now, and until when."""
    from hub.access.leases import live_leases

    with opened() as hub:
        answer = [_lease(each) for each in live_leases(hub.database)]
    rows = [tuple(each.values()) for each in answer]
    emit(answer, as_json, lambda: table(list(answer[0]) if answer else [], rows, empty="nobody holds a credential"))


@app.command("revoke", epilog="Example: hub access revoke --connection clinic")
@needs(Scope.ACCESS)
def revoke_leases(
    connection: Annotated[str | None, typer.Option(help="Those of this connection.")] = None,
    worker: Annotated[str | None, typer.Option(help="Those of this worker, as `hub access leases` names it.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Takes credentials back that workers hold, within five seconds; runs that used them are held for a person.

    To keep them from being handed out again, pause the connection first.
    """
    from hub.access.leases import revoke

    if sum((connection is not None, worker is not None, everything)) != 1:
        raise typer.BadParameter("name one of --connection, --worker and --all")
    with opened() as hub:
        if connection is not None:
            hub.connections.get(connection)
        count = revoke(hub.database, hub.audit, me(), connection=connection, worker=worker)
        emit({"revoked": count}, as_json, lambda: print(f"{count} leases are revoked"))


def _lease(each: Lease) -> dict[str, Any]:
    return {
        "id": each.id,
        "connection": each.connection,
        "worker": each.holder.worker,
        "run": each.holder.run,
        "slice": each.holder.slice,
        "grant": each.grant[:16],
        "token": "minted" if each.minted else "secret lent",
        "opened_at": each.opened_at,
        "not_after": each.not_after,
    }


def _jwk(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_text(path))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RefusedError(f"{path} holds no JWK")
    return found


def _client_row(each: Client) -> dict[str, Any]:
    return {
        "id": each.id,
        "name": each.name,
        "owner": each.owner,
        "method": each.method.value,
        "scopes": sorted(each.scopes),
        "for": sorted(map(str, each.resources)) if each.resources is not None else None,
        "from": list(each.addresses),
        "expires_at": each.expires_at,
        "last_used_at": each.last_used_at,
        "revoked_at": each.revoked_at,
    }


def _row(each: Token) -> dict[str, Any]:
    return {
        "id": each.id,
        "name": each.name,
        "owner": each.owner,
        "scopes": sorted(each.scopes),
        "for": sorted(map(str, each.resources)) if each.resources is not None else None,
        "from": list(each.addresses),
        "expires_at": each.expires_at,
        "last_used_at": each.last_used_at,
        "revoked_at": each.revoked_at,
    }
