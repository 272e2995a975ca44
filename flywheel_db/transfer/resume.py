"""How far an import in batches has come. The record is written in the transaction of the rows."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from flywheel_db.errors import BadInput, Conflict, from_psycopg
from flywheel_db.transfer.reader import sha256_of

# A killed import holds the lock until the server has noticed.
PATIENCE = "10s"
_LOCK_KEY = "hashtextextended('flywheel import ' || %s, 0)"


class Checkpoint:
    """The progress of one source, locked against a second import of it while open.

    The lock is the session's: when an import was killed, the next one waits until the server has
    ended that session, and so sees whether its last batch was committed.
    """

    def __init__(
        self, connection: psycopg.Connection, path: str, name: str | None, *, resume: bool
    ) -> None:
        self._connection = connection
        self._resume = resume
        self._path = path
        self.source = name or str(Path(path).resolve())
        self._sha256 = sha256_of(path)
        self.lines_done = 0
        self._rows_before = 0

    def __enter__(self) -> Self:
        try:
            with self._connection.transaction():
                self._connection.execute(
                    "select pg_catalog.set_config('lock_timeout', %s, true)", [PATIENCE]
                )
                self._connection.execute(f"select pg_advisory_lock({_LOCK_KEY})", [self.source])
        except psycopg.errors.LockNotAvailable:
            raise Conflict(
                f"another import of {self.source} is running", hint="wait for it to end"
            ) from None
        try:
            self._read_progress()
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._unlock()

    def record(self, lines_done: int, rows: int) -> None:
        """Note that all up to `lines_done` is stored. Call it in the transaction of the rows."""
        self._connection.execute(
            "select flywheel.record_import(%s, %s, %s, %s)",
            [self.source, self._sha256, lines_done, self._rows_before + rows],
        )

    def _read_progress(self) -> None:
        try:
            with self._connection.transaction():
                row = self._connection.execute(
                    "select lines_done, rows_done from flywheel.import_progress(%s, %s)",
                    [self.source, self._sha256],
                ).fetchone()
        except psycopg.Error as exc:
            raise from_psycopg(exc) from exc
        if row is None:
            return
        lines, rows = row
        if not self._resume:
            raise BadInput(
                f"{self.source} was imported before, up to line {lines} ({rows} rows)",
                hint="--resume goes on from there; another --name imports it once more",
            )
        self.lines_done, self._rows_before = lines, rows

    def _unlock(self) -> None:
        if self._connection.closed or self._connection.broken:
            return
        with self._connection.transaction():
            self._connection.execute(f"select pg_advisory_unlock({_LOCK_KEY})", [self.source])
