"""`hub connectors`: which kinds of systems can be connected, and what each supports."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hub.cli.caller import anybody
from hub.cli.output import AsJson, emit, facts, room, table

app = room("The kinds of systems that can be connected.")


@app.command("list", epilog="Example: hub connectors list")
@anybody("it tells what is installed, not what is connected")
def list_(as_json: AsJson = False) -> None:
    """Lists the installed connectors."""
    from hub.connections import Catalogue

    catalogue = Catalogue()
    specs = [catalogue.spec(name) for name in catalogue.names()]
    answer = [{"name": s.name, "title": s.title, "kind": s.kind, "roles": sorted(s.roles)} for s in specs]
    rows = [tuple(each.values()) for each in answer]
    emit(answer, as_json, lambda: table(["name", "title", "kind", "roles"], rows, empty="no connector is installed"))


@app.command(epilog="Example: hub connectors describe sql")
@anybody("it tells what is installed, not what is connected")
def describe(name: Annotated[str, typer.Argument(help="A connector.")], as_json: AsJson = False) -> None:
    """Shows a connector's settings, the rights it needs and its limits."""
    from hub.connections import Catalogue
    from hub.connections.catalogue import secret_names

    spec = Catalogue().spec(name)
    secrets = secret_names(spec)
    settings = [
        {
            "setting": field,
            "title": each.description or "",
            "required": each.is_required(),
            "default": None if each.is_required() or field in secrets else _default(each.get_default()),
            "secret": field in secrets,
        }
        for field, each in spec.config.model_fields.items()
    ]
    answer = {
        "name": spec.name,
        "title": spec.title,
        "kind": spec.kind,
        "roles": sorted(spec.roles),
        "settings": settings,
        "rights": [{"right": r.name, "why": r.why, "mandatory": r.mandatory} for r in spec.rights],
        "limits": {
            "page_rows": spec.limits.page_rows,
            "write_rows": spec.limits.write_rows,
            "lookup_keys": spec.limits.lookup_keys,
            "calls_per_day": spec.limits.calls_per_day,
        },
    }

    def text() -> None:
        facts({name: answer[name] for name in ("name", "title", "kind", "roles", "limits")})
        rows = [(s["setting"], s["title"], "secret" if s["secret"] else s["default"], s["required"]) for s in settings]
        table(["setting", "what it is", "default", "required"], rows, empty="it has no settings")
        table(["right", "why", "mandatory"], [tuple(r.values()) for r in answer["rights"]], empty="it needs no rights")  # type: ignore[attr-defined]

    emit(answer, as_json, text)


@app.command(epilog="Example: hub connectors matrix")
@anybody("it tells what is installed, not what is connected")
def matrix(as_json: AsJson = False) -> None:
    """Shows what each connector supports and how far it is proven: computed from recorded runs of the kit."""
    from dataclasses import asdict

    from hub.sdk.testing.matrix import matrix

    found = matrix()
    answer = [{**asdict(each), "rung": str(each.rung)} for each in found]

    def text() -> None:
        rows: list[tuple[Any, ...]] = []
        for each in found:
            rows.append((each.name, "", str(each.rung), each.why, ""))
            for one in each.stand_ins:
                groups = {group: f"{passed}/{asked}" for group, (passed, asked) in one.groups.items()}
                rows.append(("", one.name, str(one.rung), groups, f"{len(one.gaps)} gaps"))
        table(["connector", "stand-in", "rung", "shown", "gaps"], rows, empty="no connector is installed")

    emit(answer, as_json, text)


def _default(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
