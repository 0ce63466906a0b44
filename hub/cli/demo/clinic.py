"""The demo's clinic: a legacy schema in SQLite, filled from the Wisconsin diagnostic data that scikit-learn ships.

Run as a process of its own (`python -m hub.cli.demo.clinic build|look|dump FILE`), because Python's SQLite must not
open a file in the process in which the connector has it open.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Any

TABLES = """
CREATE TABLE PATIENT (
  PATNR      CHAR(8)      NOT NULL PRIMARY KEY,
  SEX        CHAR(1),
  BIRTH_D    DATE,
  CLINIC     VARCHAR(4),
  LAST_UPD   TIMESTAMP    NOT NULL,
  RISK_SCORE INTEGER,
  RISK_BAND  VARCHAR(8),
  RISK_WHY   VARCHAR(254),
  RISK_AT    TIMESTAMP
);
CREATE TABLE FNA_RESULT (
  RESULT_NO  INTEGER      NOT NULL PRIMARY KEY,
  PATNR      CHAR(8)      NOT NULL,
  STATUS     CHAR(1),
  TAKEN_AT   TIMESTAMP,
  RADIUS_M   REAL, TEXTURE_M REAL, PERIM_M REAL, AREA_M REAL,
  SMOOTH_M   VARCHAR(12), COMPACT_M VARCHAR(12), CONCAV_M VARCHAR(12), CONCPT_M VARCHAR(12), SYMM_M VARCHAR(12),
  RADIUS_W   REAL, TEXTURE_W REAL, AREA_W REAL, CONCPT_W VARCHAR(12)
);
CREATE INDEX FNA_PATNR ON FNA_RESULT (PATNR);
"""
MEASURED = {
    "radius": "mean radius",
    "texture": "mean texture",
    "perimeter": "mean perimeter",
    "area": "mean area",
    "smoothness": "mean smoothness",
    "compactness": "mean compactness",
    "concavity": "mean concavity",
    "concave_points": "mean concave points",
    "symmetry": "mean symmetry",
    "radius_worst": "worst radius",
    "texture_worst": "worst texture",
    "area_worst": "worst area",
    "concave_points_worst": "worst concave points",
}
"""The model's features, and the measurement of the data set behind each, in the order of FNA_RESULT's columns."""

AS_TEXT = {"smoothness", "compactness", "concavity", "concave_points", "symmetry", "concave_points_worst"}
"""Decimals that the laboratory's interface sends as text."""

Row = tuple[Any, ...]


def patient_number(place: int) -> str:
    """The made-up number of the patient whose aspirate is in that place of the data set."""
    return f"{842302 + 7 * place:08d}"


def fate(place: int) -> str:
    """What must become of that patient: outside the mapping's selection, held for a person, or scored."""
    if place % 71 == 5 or place % 113 == 20:
        return "outside"
    return "held" if place % 97 == 11 else "scored"


def build(path: str) -> dict[str, int]:
    """Makes the database; how many patients there are of each fate, and how many carry an older score."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer(as_frame=True).data[list(MEASURED.values())]
    measured: list[list[float]] = found.to_numpy().tolist()
    patients = [_patient(place) for place in range(len(measured))]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(TABLES)
        connection.executemany("INSERT INTO PATIENT VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", patients)
        blanks = ", ".join("?" * (4 + len(MEASURED)))
        connection.executemany(f"INSERT INTO FNA_RESULT VALUES ({blanks})", _aspirates(measured))  # noqa: S608
    fates = [fate(place) for place in range(len(measured))]
    counts = {each: fates.count(each) for each in ("scored", "held", "outside")}
    return {"patients": len(patients), "scored_before": sum(each[5] is not None for each in patients), **counts}


def _patient(place: int) -> Row:
    """Text codes, two sentinels for an unknown birth date, a clinic of test patients, some older scores."""
    born = (date(1938, 3, 1) + timedelta(days=(place * 7919) % 17_000)).isoformat()
    if place % 37 == 1:
        born = "1900-01-01" if place % 2 else "9999-12-31"
    if place % 113 == 20:
        born = f"{datetime.now(UTC).year - 11}-06-15"
    clinic = "T99" if place % 71 == 5 else ("N01", "S02", "W03")[place % 3]
    stamp = (datetime(2026, 1, 5, 8) + timedelta(minutes=11 * place)).isoformat(" ")  # noqa: DTZ001  (has no zone)
    older = (50, "MEDIUM", "by hand", "2019-05-06 07:08:09") if place % 29 == 3 else (None,) * 4
    return (patient_number(place), "1" if place % 101 == 0 else "2", born, clinic, stamp, *older)


def _aspirates(measured: list[list[float]]) -> Iterator[Row]:
    """One aspirate a patient, some still preliminary; beside it some that were cancelled, with another's values."""
    number = 0
    for place, values in enumerate(measured):
        number += 1
        status = "P" if fate(place) == "held" else "F"
        yield (number, patient_number(place), status, _taken(place), *_sent(place, values))
        if place % 53 == 3:
            number += 1
            yield (number, patient_number(place), "C", _taken(place), *_sent(place, measured[place - 1]))


def _taken(place: int) -> str:
    return (datetime(2026, 1, 6, 9) + timedelta(minutes=11 * place)).isoformat(" ")  # noqa: DTZ001  (has no zone)


def _sent(place: int, values: list[float]) -> list[str | float]:
    """Measurements as the laboratory sends them: decimal comma or point by the device, sometimes a blank in front."""
    sent: list[str | float] = []
    for name, value in zip(MEASURED, values, strict=True):
        text = (" " if place % 5 == 0 else "") + f"{value:.7f}"
        sent.append((text if place % 2 else text.replace(".", ",")) if name in AS_TEXT else value)
    return sent


def look(path: str) -> list[Row]:
    """Every patient as a person sees the record: number, score, band, reasons, moment."""
    return _read(path, "SELECT PATNR, RISK_SCORE, RISK_BAND, RISK_WHY, RISK_AT FROM PATIENT ORDER BY PATNR")


def dump(path: str) -> list[Row]:
    """Every value of every patient with its storage class, as SQLite itself spells it."""
    names = ("PATNR", "SEX", "BIRTH_D", "CLINIC", "LAST_UPD", "RISK_SCORE", "RISK_BAND", "RISK_WHY", "RISK_AT")
    columns = ", ".join(f"quote({name})" for name in names)
    return _read(path, f"SELECT {columns} FROM PATIENT ORDER BY PATNR")  # noqa: S608  (names of this file)


def _read(path: str, query: str) -> list[Row]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


if __name__ == "__main__":
    asked, file = sys.argv[1:]
    json.dump({"build": build, "look": look, "dump": dump}[asked](file), sys.stdout)
