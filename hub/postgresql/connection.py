"""PostgreSQL's connection as the hub uses it: what a transaction has to say last travels with its COMMIT.

Each wait for the server costs its client more than a short statement does. Policy: nothing is sent before the commit is
asked for, and what fails then fails the transaction as a whole; a rollback forgets it.
"""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult

_COMMIT = b"COMMIT"
_DONE = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)


class _Said(NamedTuple):
    statement: bytes
    values: Sequence[bytes | None]


class Connection(psycopg.Connection[Any]):
    """A connection of the engine. `say_last` is carried out by `commit`, in the same message to the server."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self._last_words: list[_Said] = []
        self._coming = select.poll()

    def say_last(self, statement: bytes, values: Sequence[bytes | None]) -> None:
        """A statement with `$1` and so on, and its values in PostgreSQL's binary form."""
        self._last_words.append(_Said(statement, values))

    def commit(self) -> None:
        """As ever; psycopg.Error where what was to be said last fails, and nothing of the transaction stays then."""
        if not self._last_words:
            super().commit()
            return
        last, self._last_words = self._last_words, []
        with self.lock:
            try:
                failed = self._said(last)
            except BaseException:
                # In the middle of answers, or without a server: nobody can tell what the next one would belong to.
                self.close()
                raise
        if failed is not None:
            if self.pgconn.transaction_status == TransactionStatus.INERROR:
                super().rollback()  # a commit that fails has ended its transaction
            raise error_from_result(failed)

    def rollback(self) -> None:
        """As ever; what was to be said last is not said."""
        self._last_words = []
        if self.pgconn.transaction_status != TransactionStatus.IDLE:
            super().rollback()

    def _said(self, said: Sequence[_Said]) -> PGresult | None:
        begun = self.pgconn.transaction_status != TransactionStatus.IDLE
        self.pgconn.enter_pipeline_mode()
        for each in said:
            # Without a name: psycopg has every prepared statement forgotten as soon as something is rolled back.
            formats = [Format.BINARY] * len(each.values)
            self.pgconn.send_query_params(each.statement, each.values, None, formats)
        if begun:
            self.pgconn.send_query_params(_COMMIT, None)
        # What stands alone before the end of a pipeline is one transaction, without being told so.
        self.pgconn.pipeline_sync()
        failed = self._answers()
        if self.pgconn.status != ConnStatus.BAD:
            self.pgconn.exit_pipeline_mode()
        return failed

    def _answers(self) -> PGresult | None:
        """Waits for all answers; the first that is a failure."""
        failed: PGresult | None = None
        try:
            self._flush()
            while True:
                result = self._answer()
                if result is None:
                    continue
                if result.status == ExecStatus.PIPELINE_SYNC:
                    return failed
                if failed is None and result.status not in _DONE:
                    failed = result
        except psycopg.OperationalError:
            # The last words of a server that goes away say more than that it is gone.
            if failed is None:
                raise
            return failed

    def _flush(self) -> None:
        while self.pgconn.flush():
            self._coming.register(self.pgconn.socket, select.POLLIN | select.POLLOUT)
            self._coming.poll()
            self.pgconn.consume_input()

    def _answer(self) -> PGresult | None:
        while self.pgconn.is_busy():
            self._coming.register(self.pgconn.socket, select.POLLIN)
            self._coming.poll()
            self.pgconn.consume_input()
        result = self.pgconn.get_result()
        if result is None and self.pgconn.status == ConnStatus.BAD:
            raise psycopg.OperationalError("the connection was lost at commit")
        return result
