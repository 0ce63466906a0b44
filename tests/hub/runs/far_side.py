"""A far side in SQLite, made and read by a process of its own: two SQLite libraries in one lose each other's locks."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

TABLES = """
pragma journal_mode = wal;
create table PERSON (
  ID varchar(8) primary key, X real, Y real, LIVES integer not null default 1, STAMP timestamp,
  SCORE integer, BAND varchar(8), SCORED_AT timestamp
);
create table NOTE (PERSON_ID varchar(8) primary key, SCORE integer, BAND varchar(8));
create table REFUSED (ID varchar(8) primary key);
create table WRITES (NO integer primary key, ID varchar(8), SCORE integer);
create trigger REFUSE before update of SCORE on PERSON when new.ID in (select ID from REFUSED)
  begin select raise(abort, 'refused by a trigger'); end;
create trigger COUNT_WRITES after update of SCORE on PERSON
  begin insert into WRITES(ID, SCORE) values (new.ID, new.SCORE); end;
"""


class FarSide:
    """The process that looks after far sides, one request a line; safe to share between threads."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__)), "serve"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._turn = threading.Lock()

    def ask(self, path: Path, statement: str, *values: Any) -> list[Any]:
        """Rows of one statement; a list of lists as the only value is many sets of values."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            self._process.stdin.write(json.dumps([str(path), statement, list(values)]) + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
        assert not isinstance(answer, str), answer
        rows: list[Any] = answer
        return rows

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def main() -> None:
    """Serves until the end of its input; a connection lives for one request."""
    for line in sys.stdin:
        path, statement, values = json.loads(line)
        try:
            connection = sqlite3.connect(path, timeout=30)
            if statement == "tables":
                connection.executescript(TABLES)
                rows: list[Any] = []
            elif values and isinstance(values[0], list):
                connection.executemany(statement, values[0])
                rows = []
            else:
                rows = connection.execute(statement, values).fetchall()
            connection.commit()
            connection.close()
            print(json.dumps(rows), flush=True)
        except sqlite3.Error as error:
            print(json.dumps(str(error)), flush=True)


if __name__ == "__main__":
    main()
