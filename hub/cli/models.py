"""`hub models`: register, compare, point aliases, roll back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.access import Resource, Scope
from hub.cli.caller import me, needs, sees
from hub.cli.output import AsJson, RefusedError, emit, facts, opened, room, table

if TYPE_CHECKING:
    from hub.models import ModelVersion

app = room("Machine-learning models: versions, aliases, rollback.")

Name = Annotated[str, typer.Argument(help="A model.")]


@app.command(epilog="Example: hub models register churn churn.skops --sample rows.csv --owner anna --metric auc=0.84")
@needs(Scope.MODELS, model="name")
def register(
    name: Name,
    file: Annotated[Path, typer.Argument(help="An .onnx or .skops file.", exists=True, dir_okay=False)],
    sample: Annotated[
        Path, typer.Option(help="Rows of the model's inputs: CSV or Parquet.", exists=True, dir_okay=False)
    ],
    owner: Annotated[str, typer.Option(help="Who answers for the model.")],
    metric: Annotated[list[str] | None, typer.Option(help="name=number, as measured in training.")] = None,
    note: Annotated[str, typer.Option(help="How it was trained.")] = "",
    positive: Annotated[str | None, typer.Option(help="The class whose probability is given (binary).")] = None,
    target: Annotated[str | None, typer.Option(help="The column of the sample that holds the truth.")] = None,
    task: Annotated[str | None, typer.Option(help="binary, multiclass, regression or anomaly; else found out.")] = None,
    alias: Annotated[str | None, typer.Option(help="Point this alias at it at once.")] = None,
    pool: Annotated[str, typer.Option(help="The pool of workers that score it.")] = "default",
    as_json: AsJson = False,
) -> None:
    """Registers a version of a model from a file, proven on the sample's rows."""
    with opened() as hub:
        version = hub.registry.register(
            name,
            file,
            _rows(sample),
            owner=owner,
            target=target,
            metrics=_metrics(metric) if metric else None,
            task=task,
            alias=alias,
            note=note,
            positive=_label(positive),
            pool=pool,
            actor=str(me()),
        )
        _tell(version, as_json)


@app.command("list", epilog="Example: hub models list")
@needs(Scope.READ, named=True)
def list_(as_json: AsJson = False) -> None:
    """Lists every version of every model."""
    with opened() as hub:
        found = [_row(each) for each in hub.registry.list() if sees(Resource.model(each.name))]
        rows = [(v["name"], v["number"], v["task"], v["way"], v["metrics"], v["owner"], v["created_at"]) for v in found]
    columns = ["model", "version", "task", "computed", "metrics", "owner", "registered"]
    emit(found, as_json, lambda: table(columns, rows, empty="no models; hub models register"))


@app.command(epilog="Example: hub models show churn --use champion")
@needs(Scope.READ, model="name")
def show(
    name: Name,
    use: Annotated[str, typer.Option(help="An alias or a version number.")] = "champion",
    as_json: AsJson = False,
) -> None:
    """Shows one version: inputs, outputs, how it is computed and how that was proven."""
    with opened() as hub:
        _tell(hub.registry.get(name, int(use) if use.isdigit() else use), as_json)


@app.command(epilog="Example: hub models alias churn champion 3")
@needs(Scope.MODELS, model="name")
def alias(
    name: Name,
    alias: Annotated[str, typer.Argument(help="The alias, champion for one.")],
    number: Annotated[int, typer.Argument(help="The version it shall point at.")],
    as_json: AsJson = False,
) -> None:
    """Points an alias at a version; every record of the mappings that use it is due again."""
    with opened() as hub:
        version = hub.registry.set_alias(name, alias, number, str(me()))
        answer = {"name": name, "alias": alias, "number": version.number}
        emit(answer, as_json, lambda: print(f"{alias} of {name} is version {version.number}"))


@app.command(epilog="Example: hub models rollback churn champion")
@needs(Scope.MODELS, model="name")
def rollback(
    name: Name, alias: Annotated[str, typer.Argument(help="The alias.")] = "champion", as_json: AsJson = False
) -> None:
    """Points an alias back at the version before."""
    with opened() as hub:
        version = hub.registry.rollback(name, alias, str(me()))
        answer = {"name": name, "alias": alias, "number": version.number}
        emit(answer, as_json, lambda: print(f"{alias} of {name} is version {version.number} again"))


@app.command(epilog="Example: hub models remove churn 2")
@needs(Scope.MODELS, model="name")
def remove(name: Name, number: Annotated[int, typer.Argument(help="The version.")], as_json: AsJson = False) -> None:
    """Removes a version that no alias and no published mapping uses."""
    with opened() as hub:
        hub.registry.remove(name, number, str(me()))
        answer = {"name": name, "number": number, "removed": True}
        emit(answer, as_json, lambda: print(f"version {number} of {name} is removed"))


def _tell(version: ModelVersion, as_json: bool) -> None:
    answer = {**_row(version), "signature": version.signature.to_json()}

    def text() -> None:
        facts(_row(version))
        signature = version.signature
        rows = [
            (i.name, i.type.value, i.minimum, i.maximum, len(i.categories) or None, i.nullable)
            for i in signature.inputs
        ]
        table(["input", "type", "least", "most", "categories", "may be missing"], rows, empty="it takes no inputs")
        table(["output", "type"], [(n, t.value) for n, t in signature.outputs().items()], empty="it gives no outputs")

    emit(answer, as_json, text)


def _row(version: ModelVersion) -> dict[str, Any]:
    return {
        "name": version.name,
        "number": version.number,
        "task": version.signature.task.value,
        "digest": version.digest,
        "way": version.way.value,
        "largest_difference": version.largest_difference,
        "rows_compared": version.rows_compared,
        "tolerance": version.tolerance,
        "metrics": dict(version.metrics),
        "owner": version.owner,
        "note": version.note,
        "pool": version.pool,
        "created_at": version.created_at,
    }


def _rows(path: Path) -> Any:
    import polars as pl

    try:
        return pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise RefusedError(f"{path} holds no table: {str(error).splitlines()[0]}") from None


def _metrics(given: list[str]) -> dict[str, float]:
    made: dict[str, float] = {}
    for each in given:
        name, _, value = each.partition("=")
        try:
            made[name] = float(value)
        except ValueError:
            raise typer.BadParameter(f"expected metric=number, not {each}") from None
    return made


def _label(text: str | None) -> Any:
    """A class as the estimator knows it: 1, true or text."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text
