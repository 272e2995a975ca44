"""Rows of traces, spans or verdicts as JSON lines, streamed with COPY in constant memory."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

import psycopg
from psycopg import sql

from flywheel_db.errors import BadInput, from_psycopg
from flywheel_db.transfer.rows.columns import TABLES

EXPORTABLE = ("traces", "spans", "verdicts")

# CSV with a quote and a delimiter that JSON text never holds: every line leaves the server as it
# is, where text format would double each backslash.
_COPY = sql.SQL(
    "copy ({}) to stdout (format csv, quote E'\\x01', delimiter E'\\x02', encoding 'utf8')"
)
_TELL_EVERY = 4 * 1024 * 1024


@dataclass(frozen=True)
class ExportOptions:
    """What to export. `since` and `until` are anything PostgreSQL reads as a timestamp."""

    table: str = "traces"
    pipeline: str | None = None
    since: str | None = None
    until: str | None = None


@dataclass(frozen=True)
class ExportSummary:
    """What an export wrote: `size` counts bytes before compression."""

    table: str
    rows: int
    size: int
    seconds: float


def export_lines(
    connection: psycopg.Connection,
    out: BinaryIO,
    options: ExportOptions,
    *,
    report: Callable[[int, int], None] = lambda rows, size: None,
) -> ExportSummary:
    """Write the rows in order of their ids. `report` gets the rows and bytes written so far."""
    begun = time.monotonic()
    rows = size = told = 0
    try:
        with connection.transaction():
            connection.execute("set local timezone to 'UTC'")
            query = _query(options).as_string(connection)
            with (
                connection.cursor() as cursor,
                cursor.copy(_COPY.format(sql.SQL(query))) as copy,
            ):
                for line in copy:
                    out.write(line)
                    rows += 1
                    size += len(line)
                    if size - told > _TELL_EVERY:
                        told = size
                        report(rows, size)
    except psycopg.Error as exc:
        raise from_psycopg(exc) from exc
    report(rows, size)
    return ExportSummary(options.table, rows, size, time.monotonic() - begun)


def _query(options: ExportOptions) -> sql.Composed:
    if options.table not in EXPORTABLE:
        raise BadInput(f"{options.table} cannot be exported", hint=", ".join(EXPORTABLE))
    conditions: list[sql.Composable] = [sql.SQL("true")]
    moment = sql.Identifier("x", "created_at" if options.table == "verdicts" else "started_at")
    if options.pipeline is not None:
        pipeline = sql.Literal(options.pipeline)
        if options.table == "traces":
            conditions.append(sql.SQL("x.pipeline = {}").format(pipeline))
        else:
            conditions.append(
                sql.SQL(
                    "exists (select from flywheel.traces as t"
                    " where t.trace_id = x.trace_id and t.pipeline = {})"
                ).format(pipeline)
            )
    for operator, text in ((">=", options.since), ("<", options.until)):
        if text is not None:
            conditions.append(
                sql.SQL("{} {} {}::timestamptz").format(
                    moment, sql.SQL(operator), sql.Literal(text)
                )
            )
    return sql.SQL("select row_to_json(r) from ({} where {} order by {}) as r").format(
        _select(options.table), sql.SQL(" and ").join(conditions), _order(options.table)
    )


def _select(table: str) -> sql.Composed:
    if table not in TABLES:
        return sql.SQL("select x.* from flywheel.{} as x").format(sql.Identifier(table))
    names = (*TABLES[table].column_names, "received_at", "revision")
    columns = sql.SQL(", ").join(sql.Identifier("x", name) for name in names)
    return sql.SQL("select {} from flywheel.{} as x").format(columns, sql.Identifier(table))


def _order(table: str) -> sql.Composable:
    names = {
        "traces": ("trace_id",),
        "spans": ("trace_id", "span_id"),
        "verdicts": ("trace_id", "span_id", "validator"),
    }[table]
    return sql.SQL(", ").join(sql.Identifier("x", name) for name in names)


@contextmanager
def open_output(path: Path | None, stdout: BinaryIO) -> Iterator[BinaryIO]:
    """`stdout`, or a file that appears under its name only when it is complete; .gz compresses."""
    if path is None:
        yield stdout
        stdout.flush()
        return
    partial = path.with_name(path.name + ".part")
    try:
        raw: IO[bytes] = partial.open("wb")
    except OSError as exc:
        raise BadInput(f"cannot write {path}: {exc.strerror}") from None
    try:
        with raw:
            if path.suffix == ".gz":
                with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=6, mtime=0) as zipped:
                    yield cast("BinaryIO", zipped)
            else:
                yield cast("BinaryIO", raw)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
