"""Writes the reference pages (settings, scopes, audit events, commands, cryptography) from the code that defines them.

`python -m hub.cli.reference` writes them into `hub/docs/reference`; a test fails when one is stale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hub.cli.caller import Need

NOTE = "<!-- Written from the code by hub.cli.reference; a test fails when it is stale. -->"


def pages() -> Mapping[str, str]:
    """Each page's text by its file name."""
    return {
        "settings.md": _settings(),
        "scopes.md": _scopes(),
        "audit.md": _audit(),
        "cli.md": _commands(),
        "cryptography.md": _cryptography(),
    }


def verbs(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every verb of the command line with its path as typed, sorted."""
    from typer.main import get_command

    from hub.cli.main import command_for

    top: Any = get_command(command_for()) if group is None else group
    for name, command in sorted(top.commands.items()):
        if hasattr(command, "commands"):
            yield from verbs(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def _settings() -> str:
    from hub.settings import FILE_NAME, SECRET_SETTINGS, Settings, variable

    rows = []
    for name, each in Settings.model_fields.items():
        default = "" if each.default in (None, "", Path()) else str(each.default)
        also = f" Also `{variable(name)}_FILE`." if name in SECRET_SETTINGS else ""
        rows.append(f"| `{variable(name)}` | {f'`{default}`' if default else ''} | {each.description}{also} |")
    about = (
        f"Every setting is a variable, or a line of `{FILE_NAME}` in the working directory (`lease_seconds = 30`);\n"
        "the variable wins. A misspelt one is refused. `hub settings` shows what holds in your shell.\n"
        "An empty default means: a place in `HUB_HOME`, or none."
    )
    return _page("Settings", about, "| variable | default | what it is |\n|---|---|---|", rows)


def _scopes() -> str:
    from hub.access import Role, Scope
    from hub.access.types import PERSONAL, WHOLE

    rows = []
    for each in Scope:
        held = ", ".join(role.value for role in Role if each in role.scopes)
        where = "everything alone" if each in WHOLE else "everything, or one by one"
        rows.append(f"| `{each.value}` | {each.meaning} | {where} | {held} |")
    roles = [f"| `{each.value}` | {each.meaning} | {', '.join(sorted(each.scopes))} |" for each in Role]
    about = (
        "What a caller may do. Nobody may anything that no role, API key or client gives: `hub access role grant`\n"
        "gives a person a role, `hub access token create --scope …` makes a key that holds scopes; both for\n"
        "everything, or for some mappings, connections or models. No program holds "
        f"{' or '.join(f'`{each}`' for each in sorted(PERSONAL))}.\n\n"
        "The person at the keyboard of the hub's own machine, without a key, holds every scope."
    )
    routes_head = "\n## Routes\n\n| route | needs |\n|---|---|"
    roles_head = "\n## Roles\n\n| role | who that is | scopes |\n|---|---|---|"
    return _page(
        "Scopes",
        about,
        "| scope | allows to | held for | by the roles |\n|---|---|---|---|",
        [*rows, roles_head, *roles, routes_head, *_routes()],
    )


def _routes() -> Iterator[str]:
    from hub.api.access import routes

    for method, path, needed in routes():
        if isinstance(needed, str):
            yield f"| `{method} {path}` | nothing: {needed} |"
            continue
        where = "for the mapping in the path" if "{mapping}" in path else "for the whole hub"
        yield f"| `{method} {path}` | `{needed.scope}` {'for what it names' if needed.named else where} |"


def _audit() -> str:
    from hub.audit import Action

    rows = [f"| `{each.value}` | {each.meaning} |" for each in Action]
    about = (
        "Every action that `hub audit list --action …` knows. An event holds names, counts and pseudonyms, never a\n"
        "record's key in clear, a value or a secret."
    )
    return _page("Audit events", about, "| action | what happened |\n|---|---|", rows)


def _cryptography() -> str:
    from hub.cli.inventory import inventory

    about = (
        "Every primitive that the hub and its connectors use, by whom, and every purpose that a key has; read from\n"
        "the source (ASVS 11.1.2). A new one is not written here until somebody has said what it is for. Libraries\n"
        "bring their own: the drivers of databases and services speak TLS by OpenSSL."
    )
    return _page("Cryptography", about, "| primitive | what it is | used by |\n|---|---|---|", inventory())


def _commands() -> str:
    about = (
        "Exit codes: 0 done · 1 refused or failed, one sentence on standard error says why · 2 the command line is\n"
        "wrong · 3 the run is not green · 4 a login may do more over there than is needed. `--json` prints one JSON\n"
        "document; a refusal is one on standard error."
    )
    return _page("Commands", about, "", [_verb(path, command) for path, command in verbs()])


def _verb(path: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    shown = "".join(f" {each.name.upper()}" for each in arguments)
    lines = [f"## hub {path}{shown}", "", command.help.strip(), "", _needed(command.callback.need), ""]
    lines += [f"- `{each.name.upper()}` {each.help}" for each in arguments]
    lines += [f"- `{max(each.opts, key=len)}`{' (needed)' if each.required else ''} {each.help}" for each in options]
    return "\n".join([*lines, "", f"    {command.epilog.removeprefix('Example: ')}", ""])


def _needed(need: Need) -> str:
    if need.local:
        return f"For the machine's own person, {need.why}; no key opens it."
    if need.scope is None:
        return f"Needs no scope: {need.why}."
    where = f"for the {need.kind} {need.parameter.upper()}" if need.kind and need.parameter else "for the whole hub"
    return f"Needs the scope `{need.scope}` {'for what it names' if need.named else where}."


def _page(title: str, about: str, head: str, rows: list[str]) -> str:
    return "\n".join(each for each in (f"# {title}\n\n{NOTE}\n\n{about}\n", head, *rows) if each).rstrip() + "\n"


def main() -> None:
    """Writes every page into the tree."""
    folder = Path(str(files("hub"))) / "docs" / "reference"
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
