"""JSON lines into traces or spans with COPY: all or nothing, or in batches that can be resumed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import psycopg
from psycopg import sql

from flywheel_db.errors import BadInput, BadLine
from flywheel_db.transfer.badlines import BadLines
from flywheel_db.transfer.blame import Blame
from flywheel_db.transfer.progress import ImportSummary, LineNumbers, Progress, Report
from flywheel_db.transfer.reader import STDIN, LineReader
from flywheel_db.transfer.resume import Checkpoint
from flywheel_db.transfer.rows.encoder import RowEncoder
from flywheel_db.transfer.rows.mapping import Mapping
from flywheel_db.transfer.rows.parser import LineParser

# Fits into the buffer of a socket: the client parses on while the server inserts.
_FLUSH_BYTES = 64 * 1024


@dataclass(frozen=True)
class ImportOptions:
    """How to import. `batch_size` rows are committed at a time; None: everything or nothing."""

    mapping: Mapping
    batch_size: int | None = None
    resume: bool = False
    name: str | None = None
    replace_nul: bool = False
    skip_bad: Path | None = None


def import_lines(
    connection: psycopg.Connection,
    source: str,
    options: ImportOptions,
    *,
    report: Report = lambda _: None,
    stdin: BinaryIO | None = None,
) -> ImportSummary:
    """Import the file `source`, or standard input for '-'.

    Raises BadLine with the number of the line, Rejected when a validator refuses a row, and
    other FlywheelErrors. Nothing of the file (without batch_size) or of the batch is then stored.
    """
    with ExitStack() as stack:
        checkpoint = None
        if options.batch_size is not None:
            checkpoint = stack.enter_context(_checkpoint(connection, source, options))
        reader = stack.enter_context(LineReader(source, stdin))
        return _Import(connection, reader, options, checkpoint, report).run()


def _checkpoint(connection: psycopg.Connection, source: str, options: ImportOptions) -> Checkpoint:
    if source == STDIN:
        raise BadInput("standard input cannot be imported in batches", hint="give a file")
    return Checkpoint(connection, source, options.name, resume=options.resume)


class _Import:
    def __init__(
        self,
        connection: psycopg.Connection,
        reader: LineReader,
        options: ImportOptions,
        checkpoint: Checkpoint | None,
        report: Report,
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._options = options
        self._checkpoint = checkpoint
        self._report = report
        self._table = options.mapping.table
        self._rows = 0
        self._failed: dict[str, int] | None = {}
        self._bad: BadLines | None = None
        self._encoder = RowEncoder(
            options.mapping, started_at=_now(connection), id_prefix=_id_prefix()
        )
        self._parser = LineParser(self._encoder, replace_nul=options.replace_nul)
        self._blame = Blame(self._encoder, self._parser, reader.source)

    def run(self) -> ImportSummary:
        begun = time.monotonic()
        done = self._checkpoint.lines_done if self._checkpoint else 0
        lines = iter(self._reader)
        while self._reader.line < done and next(lines, None) is not None:
            pass
        if self._options.skip_bad is not None:
            self._bad = BadLines(self._options.skip_bad, resumed_after=done)
        try:
            while self._batch(lines):
                pass
        finally:
            if self._bad is not None:
                self._bad.close()
        warnings = self._encoder.warnings()
        if not self._rows and not done:
            warnings.insert(0, "the file holds no row")
        return ImportSummary(
            table=self._table.name,
            source=self._checkpoint.source if self._checkpoint else self._reader.source,
            rows=self._rows,
            lines=self._reader.line,
            skipped=self._bad.count if self._bad else 0,
            resumed_after=done,
            seconds=time.monotonic() - begun,
            failed=self._failed,
            warnings=tuple(warnings),
        )

    def _batch(self, lines: Iterator[bytes]) -> bool:
        """Import one batch in a transaction of its own; False when the file has ended."""
        numbers = LineNumbers()
        try:
            with self._connection.transaction():
                more = self._copy(lines, numbers)
                self._count_failed()
                if self._checkpoint is not None:
                    if self._bad is not None:
                        self._bad.flush()
                    self._checkpoint.record(self._reader.line, self._rows + numbers.rows)
        except psycopg.Error as exc:
            raise self._blame.explain(exc, numbers) from exc
        self._rows += numbers.rows
        return more

    def _copy(self, lines: Iterator[bytes], numbers: LineNumbers) -> bool:
        reader, parse, bad = self._reader, self._parser.row, self._bad
        limit = self._options.batch_size
        rows: list[bytes] = []
        size = 0
        more = False
        with self._connection.cursor() as cursor, cursor.copy(self._statement()) as copy:
            for line in lines:
                if line.isspace():
                    continue
                try:
                    row = parse(line, reader.line)
                except BadLine as exc:
                    if bad is None:
                        raise
                    bad.add(exc, line)
                    continue
                numbers.add(reader.line)
                rows.append(row)
                size += len(row)
                if size > _FLUSH_BYTES:
                    rows.append(b"")
                    copy.write(b"\n".join(rows))
                    rows.clear()
                    size = 0
                    self._tell(numbers)
                if numbers.rows == limit:
                    more = True
                    break
            if rows:
                rows.append(b"")
                copy.write(b"\n".join(rows))
            self._tell(numbers, done=True)
        return more

    def _statement(self) -> sql.Composed:
        columns = sql.SQL(", ").join(map(sql.Identifier, self._table.column_names))
        return sql.SQL("copy flywheel.{} ({}) from stdin (encoding 'utf8')").format(
            sql.Identifier(self._table.name), columns
        )

    def _tell(self, numbers: LineNumbers, *, done: bool = False) -> None:
        reader = self._reader
        rows = self._rows + numbers.rows
        phase: Literal["reading", "validating"] = "validating" if done else "reading"
        self._report(Progress(reader.position, reader.size, rows, phase))

    def _count_failed(self) -> None:
        """Count the failing verdicts on rows of this transaction, where the user may see them."""
        if self._failed is None:
            return
        try:
            with self._connection.transaction():
                found = self._connection.execute(_FAILED[self._table.name]).fetchall()
        except psycopg.errors.InsufficientPrivilege:
            self._failed = None
            return
        for validator, count in found:
            self._failed[validator] = self._failed.get(validator, 0) + count


# Failing verdicts have an index on created_at, and a row of ours has our transaction in xmin:
# what other sessions wrote meanwhile is not counted.
_FAILED = {
    "traces": """
        select v.validator, count(*)
        from flywheel.verdicts as v
        join flywheel.traces as t on t.trace_id = v.trace_id
        where v.status = 'failed'
          and v.created_at >= flywheel.now()
          and v.span_id is null
          and t.xmin = pg_current_xact_id()::xid
        group by v.validator
        order by v.validator
    """,
    "spans": """
        select v.validator, count(*)
        from flywheel.verdicts as v
        join flywheel.spans as s on s.trace_id = v.trace_id and s.span_id = v.span_id
        where v.status = 'failed'
          and v.created_at >= flywheel.now()
          and s.xmin = pg_current_xact_id()::xid
        group by v.validator
        order by v.validator
    """,
}


def _now(connection: psycopg.Connection) -> str:
    with connection.transaction():
        row = connection.execute("select flywheel.now()").fetchone()
    assert row is not None  # noqa: S101 - a function call always gives a row
    moment: str = row[0].isoformat()
    return moment


def _id_prefix() -> str:
    """21 hex digits of a UUIDv7: the time, 28 random bits; the line number makes it whole."""
    random = secrets.randbits(28)
    milliseconds = time.time_ns() // 1_000_000
    return f"{milliseconds:012x}7{random >> 16:03x}8{random & 0xFFFF:04x}"
