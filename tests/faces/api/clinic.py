"""A small clinic in SQLite, made and read by a process of its own: two SQLite libraries in one lose their locks."""

from __future__ import annotations

import json
import sqlite3
import sys
from typing import Any

TABLES = """
create table PATIENT (
  PATNR varchar(8) primary key, SEX varchar(1), BIRTH_D date, CLINIC varchar(4), LAST_UPD timestamp,
  RISK_SCORE integer, RISK_BAND varchar(8), RISK_WHY varchar(254), RISK_AT timestamp
);
create table FNA_RESULT (
  RESULT_NO integer primary key, PATNR varchar(8), STATUS varchar(1), TAKEN_AT timestamp,
  RADIUS_M real, TEXTURE_M real, PERIM_M real, AREA_M real, SMOOTH_M varchar(12), COMPACT_M varchar(12),
  CONCAV_M varchar(12), CONCPT_M varchar(12), SYMM_M varchar(12), RADIUS_W real, TEXTURE_W real, AREA_W real,
  CONCPT_W varchar(12)
);
create index BY_PATIENT on FNA_RESULT (PATNR);
"""


def main(path: str) -> None:
    """Reads a list of [statement, parameters or rows] and answers the rows of the last one."""
    connection = sqlite3.connect(path, timeout=30)
    connection.execute("pragma journal_mode = wal")
    rows: list[Any] = []
    for statement, values in json.load(sys.stdin):
        if statement == "tables":
            connection.executescript(TABLES)
        elif values and isinstance(values[0], list):
            connection.executemany(statement, values)
        else:
            rows = connection.execute(statement, values).fetchall()
    connection.commit()
    connection.close()
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
