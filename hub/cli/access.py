"""`hub access`: API keys of other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli.output import AsJson, emit, me, opened, room, table

if TYPE_CHECKING:
    from hub.access import Token

app = room("Who may use the hub.")
token = room("API keys: made, listed, ended.")
app.add_typer(token, name="token")


@token.command(epilog="Example: hub access token create ward7 --owner anna --scope score --mapping patient_risk")
def create(
    name: Annotated[str, typer.Argument(help="The program that will use the key.")],
    owner: Annotated[str, typer.Option(help="The person who answers for it.")],
    scope: Annotated[list[str], typer.Option(help="What it may do: score, write, run, read, review, approve, admin.")],
    mapping: Annotated[list[str] | None, typer.Option(help="Only for these mappings.")] = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="How long it lives.")] = 90,
    as_json: AsJson = False,
) -> None:
    """Makes an API key and shows it, this once."""
    from hub.access import Scope

    known = {each.value: each for each in Scope}
    if strange := [each for each in scope if each not in known]:
        raise typer.BadParameter(f"there is no scope {strange[0]}; the scopes are {', '.join(known)}")
    with opened() as hub:
        made, secret = hub.access.create_token(
            name, owner=owner, scopes=[known[each] for each in scope], mappings=mapping or None, days=days, actor=me()
        )
    answer = {**_row(made), "key": secret.reveal()}
    emit(
        answer,
        as_json,
        lambda: print(f"{answer['key']}\nIt is not shown again. It ends on {made.expires_at:%Y-%m-%d}."),
    )


@token.command("list", epilog="Example: hub access token list")
def list_(as_json: AsJson = False) -> None:
    """Lists the API keys, never the keys themselves."""
    with opened() as hub:
        answer = [_row(each) for each in hub.access.list_tokens()]
    rows = [tuple(each.values()) for each in answer]
    emit(answer, as_json, lambda: table(list(answer[0]) if answer else [], rows, empty="no API keys"))


@token.command(epilog="Example: hub access token revoke 7Hk2…")
def revoke(id: Annotated[str, typer.Argument(help="The key's id.")], as_json: AsJson = False) -> None:  # noqa: A002
    """Ends an API key at once."""
    with opened() as hub:
        hub.access.revoke_token(id, actor=me())
        emit({"id": id, "revoked": True}, as_json, lambda: print(f"the API key {id} is ended"))


def _row(each: Token) -> dict[str, Any]:
    return {
        "id": each.id,
        "name": each.name,
        "owner": each.owner,
        "scopes": sorted(each.scopes),
        "mappings": sorted(each.mappings) if each.mappings is not None else None,
        "expires_at": each.expires_at,
        "last_used_at": each.last_used_at,
        "revoked_at": each.revoked_at,
    }
