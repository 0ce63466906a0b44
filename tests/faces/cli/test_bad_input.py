"""Bad input as a person meets it at the command line: one clear sentence, exit code 1, and nothing half done."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text

from tests.conftest import POSTGRESQL
from tests.faces.cli.conftest import DOCUMENT, Shell


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"AGE"', '"AGEE"', ["features.age", "AGEE", "did you mean AGE"]),
        ('"AGE"', '"rounnd(AGE)"', ["features.age", "rounnd", "did you mean round"]),
        ('"AGE"', '"AGE +"', ["features.age"]),
        ("name: ward_risk", "name: ward_risks", ["ward_risks", "ward_risk"]),
        ("connection: ward", "connection: wards", ["wards", "did you mean ward"]),
        ("entity: PATIENT", "entity: PATIENTS", ["PATIENTS", "did you mean PATIENT"]),
        ("SCORE: score", "SCOR: score", ["SCOR", "did you mean SCORE"]),
        ('  marker: { is: "cast(MARKER as real)", title: Marker }\n', "", ["marker", "ward_risk"]),
        ('"cast(MARKER as real)"', '"MARKER"', ["features.marker", "text"]),
        ("entity: PATIENT", "entity: VISIT", ["VISIT", "key"]),
        ("mode: update", "mode: updat", ["write.mode", "update"]),
        ("format: 1", "format: 9", ["format"]),
        ("purpose:", "pourpose:", ["pourpose", "did you mean purpose"]),
        ("  entity:", "\tentity:", ["tab"]),
        ("title: Risk\n", "title: Risk\ntitle: Risk\n", ["title", "twice"]),
    ],
)
def test_what_is_wrong_in_a_document_is_said_with_its_line(
    standing: Shell, old: str, new: str, expected: list[str]
) -> None:
    wrong = DOCUMENT.replace(old, new, 1)
    assert wrong != DOCUMENT
    name = standing.write(wrong, "wrong.yaml")
    for verb in ("check", "publish", "preview"):
        done = standing(f"mappings {verb} {name}", 1)
        assert done.out == ""
        assert done.err.startswith("error: ")
        assert "line " in done.err
        for each in expected:
            assert each in done.err
        assert "Traceback" not in done.err


def test_every_problem_of_a_document_is_told_at_once(standing: Shell) -> None:
    wrong = DOCUMENT.replace('"AGE"', '"AGEE"').replace("SCORE: score", "SCOR: score")
    done = standing(["mappings", "check", standing.write(wrong, "wrong.yaml")], 1)
    lines = done.err.strip().splitlines()
    assert lines[0] == "error: 2 problems"
    assert [each[:4] for each in lines[1:]] == ["  - ", "  - "]


def test_a_file_that_is_no_text_is_no_document(standing: Shell) -> None:
    (standing.folder / "picture.yaml").write_bytes(b"\x89PNG\xff\xfe")
    assert "UTF-8" in standing("mappings check picture.yaml", 1).problem


def test_a_target_that_is_read_only_is_refused(hub: Shell) -> None:
    hub("connections add frozen sql dialect=sqlite path=ward.db read_only=true")
    wrong = DOCUMENT.replace("connection: ward", "connection: frozen")
    assert "read-only" in hub(["mappings", "check", hub.write(wrong)], 1).err


def test_a_missing_file_of_a_database_is_said(hub: Shell) -> None:
    hub("connections add gone sql dialect=sqlite path=gone.db")
    assert "path: there is no such file" in hub("connections check gone", 1).problem
    assert not (hub.folder / "gone.db").exists()


def test_a_file_that_is_no_database_is_said(hub: Shell) -> None:
    hub.write("this is a letter, not a database; " * 40, "letter.db")
    hub("connections add letter sql dialect=sqlite path=letter.db")
    assert "no intact SQLite database" in hub("connections check letter", 1).problem


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("dialect=oracle", "dialect"),
        ("dialect=sqlite", "path: needed for sqlite"),
        ("dialect=sqlite path=x pathh=y", "did you mean path"),
        ("dialect=postgresql host=h database=d user=u port=none", "port"),
        ("dialect=postgresql host=h database=d user=u password=hunter2", "password of connector sql is a secret"),
    ],
)
def test_a_connection_with_a_wrong_setting_is_not_stored(standing: Shell, settings: str, expected: str) -> None:
    done = standing(f"connections add other sql {settings}", 1)
    assert expected in done.problem
    assert "hunter2" not in done.err


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("letter.onnx", b"this is a letter", ".onnx or .skops"),
        ("model.pkl", b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94.", "skops"),
        ("model.joblib", b"\x80\x03]q\x00.", "skops"),
        ("disguised.skops", b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94.", "skops"),
        ("empty.skops", b"", ".onnx or .skops"),
    ],
)
def test_a_file_that_is_no_model_is_refused_with_the_way_out(
    standing: Shell, name: str, content: bytes, expected: str
) -> None:
    (standing.folder / name).write_bytes(content)
    done = standing(f"models register other {name} --sample sample.csv --owner anna", 1)
    assert expected in done.problem


def test_a_sample_of_other_inputs_is_refused(standing: Shell) -> None:
    standing.write("height,weight\n1,2\n3,4\n", "other.csv")
    done = standing("models register ward_risk ward_risk.skops --sample other.csv --owner anna", 1)
    assert "age" in done.problem


def test_a_sample_that_is_no_table_is_refused(standing: Shell) -> None:
    (standing.folder / "broken.parquet").write_bytes(b"no parquet")
    done = standing("models register ward_risk ward_risk.skops --sample broken.parquet --owner anna", 1)
    assert "broken.parquet holds no table" in done.problem


def test_a_row_that_the_database_refuses_is_that_row_alone(hub: Shell) -> None:
    hub.edit(
        "CREATE TRIGGER no_score BEFORE UPDATE OF SCORE ON PATIENT WHEN NEW.NR = '0003'"
        " BEGIN SELECT RAISE(ABORT, 'locked by the ward'); END"
    )
    hub("mappings publish mapping.yaml")
    run = hub("runs start ward_risk --wait --json", 3).answer
    assert run["counts"] == {"read": 40, "applied": 39, "rejected": 1}
    assert hub.look("SELECT NR FROM PATIENT WHERE SCORE IS NULL") == [("0003",)]
    receipt = hub("decisions show ward_risk 0003 --json").answer
    assert receipt["decisions"][0]["result"]["state"] == "rejected"


def test_a_paused_connection_stops_a_run_before_it_begins(hub: Shell) -> None:
    hub("mappings publish mapping.yaml")
    hub("connections pause ward")
    assert "hub connections resume ward" in hub("runs start ward_risk", 1).problem
    assert hub("runs list --json").answer == []


def test_the_examples_of_a_mapping_that_do_not_hold_are_named(hub: Shell) -> None:
    source = Path(__file__).resolve().parents[3] / "mappings" / "patient_risk" / "examples"
    (hub.folder / "mine" / "examples").mkdir(parents=True)
    hub.write(DOCUMENT, "mine/mapping.yaml")
    for each in source.iterdir():
        (hub.folder / "mine" / "examples" / each.name).write_bytes(each.read_bytes())
    assert hub("mappings check mine", 1).problem


def test_a_host_that_does_not_answer_is_said(hub: Shell) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers there
        port = taken.getsockname()[1]
        hub(
            f"connections add far sql dialect=postgresql host=127.0.0.1 port={port} database=d user=u tls=off"
            " private=true connect_seconds=2"
        )
        done = hub("connections check far", 1)
    assert "does not answer" in done.problem
    wrong = DOCUMENT.replace("connection: ward", "connection: far")
    assert hub(["mappings", "check", hub.write(wrong)], 1).problem


@pytest.fixture
def guarded_login() -> Iterator[str]:
    """A login of PostgreSQL that needs a password, where the server asks for one."""
    name = f"hub_cli_{uuid4().hex[:8]}"
    engine = create_engine(POSTGRESQL, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD 'right'"))
    yield name
    with engine.connect() as connection:
        connection.execute(text(f"DROP ROLE {name}"))
    engine.dispose()


@pytest.mark.service("postgresql")
def test_a_login_that_the_server_does_not_know_is_said_without_the_password(
    bare: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_SECRET_WARD", "hunter2")
    bare(
        f"connections add ward sql dialect=postgresql host=127.0.0.1 port={POSTGRESQL.port or 5432} database=postgres"
        f" user=hub_nobody_{uuid4().hex[:8]} tls=off private=true --secret password=env:HUB_SECRET_WARD"
    )
    done = bare("connections check ward", 1)
    assert "login" in done.problem or "log in" in done.problem
    assert "hunter2" not in done.err


@pytest.mark.service("postgresql")
def test_a_missing_right_is_named_before_a_run_begins(hub: Shell, guarded_login: str) -> None:
    engine = create_engine(POSTGRESQL, isolation_level="AUTOCOMMIT")
    table = f"patient_{guarded_login}"
    with engine.connect() as connection:
        connection.execute(
            text(f"CREATE TABLE {table} (nr text PRIMARY KEY, age int, marker text, score int, why varchar(60))")
        )
        connection.execute(text(f"GRANT SELECT ON {table} TO {guarded_login}"))
    try:
        hub(
            f"connections add pg sql dialect=postgresql host=127.0.0.1 port={POSTGRESQL.port or 5432}"
            f" database=postgres user={guarded_login} tls=off private=true"
        )
        wrong = (
            DOCUMENT.replace("connection: ward", "connection: pg")
            .replace("PATIENT", table)
            .replace('"AGE"', '"age"')
            .replace("MARKER", "marker")
            .replace("SCORE:", "score:")
            .replace("WHY", "why")
        )
        done = hub(["mappings", "check", hub.write(wrong)], 1)
        assert "read-only" in done.err
        assert hub("mappings list --json").answer == []
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP TABLE {table}"))
        engine.dispose()


@pytest.mark.service("postgresql")
def test_a_database_of_the_hub_that_is_not_migrated_is_refused(bare: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"hub_cli_{uuid4().hex[:8]}"
    engine = create_engine(POSTGRESQL, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        url = POSTGRESQL.set(database=name).render_as_string(hide_password=False)
        monkeypatch.setenv("HUB_DATABASE_URL", url)
        assert "hub migrate" in bare("runs list", 1).problem
        assert bare("migrate --json").answer["revision"]
        assert bare("runs list --json").answer == []
        assert bare("health --json").answer["database"] == "answers"
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


def test_a_database_of_the_hub_that_does_not_answer_is_said_without_its_password(
    bare: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_DATABASE_URL", "postgresql+psycopg://hub:hunter2@127.0.0.1:1/hub")
    done = bare("runs list", 1)
    assert "the hub's database" in done.problem
    assert "hunter2" not in done.err
