"""The verb `hub demo`: where it happens, with which settings, and what it prints."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from hub.cli.caller import local
from hub.cli.output import AsJson

MARK = ".made-by-hub-demo"


def add_to(app: typer.Typer) -> None:
    """Adds the verb to the command."""
    app.command(epilog="Example: hub demo --folder .hub-demo")(demo)


@local("who has a hub of his own made there")
def demo(
    folder: Annotated[
        Path | None, typer.Option(help="Keep everything here, to look around afterwards; else a temporary folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Runs the main job on a small clinic and on a Salesforce twin, with a hub of its own; touches nothing else."""
    from hub.cli.demo.clinic_act import clinic_act
    from hub.cli.demo.leads_act import leads_act
    from hub.cli.demo.story import tell

    with _place(folder) as home, _alone(home):
        if not as_json:
            print(f"A hub of its own, and a clinic and a sales team to go with it, in {home}")
        with redirect_stdout(io.StringIO()) if as_json else nullcontext():
            told = tell(home, (clinic_act, leads_act), lasting=folder is not None)
    if as_json:
        json.dump(told, sys.stdout, ensure_ascii=False, indent=2)
        sys.stdout.write("\n")
    if not told["ok"]:
        raise typer.Exit(1)


@contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    """An empty folder for the demo; an older demo's is emptied, any other is refused."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="hub-demo-") as made:
            yield Path(made).resolve()
        return
    home = folder.resolve()
    if home.exists() and any(home.iterdir()) and not (home / MARK).is_file():
        raise typer.BadParameter(f"{folder} is not empty and no earlier demo made it; name another folder")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / MARK).touch()
    yield home


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Nothing of the user's own hub counts meanwhile: neither its HUB_ variables nor its hub.toml."""
    before, kept = Path.cwd(), {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("HUB_")}
    os.environ.update({"HUB_HOME": str(home / ".hub"), "HUB_LOG_LEVEL": "error", "HUB_POLL_SECONDS": "0.2"})
    os.chdir(home)
    try:
        yield
    finally:
        os.chdir(before)
        for name in [name for name in os.environ if name.startswith("HUB_")]:
            del os.environ[name]
        os.environ.update(kept)
