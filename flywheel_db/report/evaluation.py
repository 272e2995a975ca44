"""Run a validator over labelled rows, in batches, and sum up. Every transaction is rolled back."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel_db.catalog import BuiltinOptions, create_from_builtin, require
from flywheel_db.errors import BadInput
from flywheel_db.report.agreement import Agreement
from flywheel_db.report.mistakes import Mistake, most_confident, score_direction, shorten
from flywheel_db.report.rows import Fields, LabelledRow, read_rows
from flywheel_db.transfer.reader import LineReader

if TYPE_CHECKING:
    from typing import BinaryIO

    import psycopg
    from psycopg.rows import DictRow

# A call of evaluate() costs as much as tens of rows; a batch of long texts stays within megabytes.
_BATCH_ROWS = 500
_BATCH_CHARACTERS = 4 * 1024 * 1024


@dataclass(frozen=True)
class Subject:
    """What is reported on: a validator of the database, or a built-in check that is not made."""

    name: str
    is_builtin: bool = False
    params: dict[str, Any] | None = None


@dataclass(frozen=True)
class Report:
    """What a validator said of `n` labelled rows; n = decided + skipped + errors.

    `rows` counts the unlabelled as well. `first_error` is the text of the first error, and the
    mistakes are the most confident ones.
    """

    validator: str
    rows: int
    unlabelled: int
    n: int
    skipped: int
    errors: int
    agreement: Agreement
    first_error: str | None
    false_alarms: tuple[Mistake, ...]
    misses: tuple[Mistake, ...]


def report(
    connection: psycopg.Connection,
    subject: Subject,
    source: str,
    fields: Fields,
    *,
    mistakes: int = 5,
    stdin: BinaryIO | None = None,
) -> Report:
    """Evaluate the newest version of a validator, enabled or not, on a file of JSON lines.

    `source` is a path or '-'; at most `mistakes` of each kind are kept. Stores nothing. Raises
    BadInput (BadLine names the line), and what flywheel.evaluate() raises.
    """
    tally = _Tally()
    if not subject.is_builtin:
        require(connection, subject.name)
        connection.rollback()
    with LineReader(source, stdin) as reader:
        for batch in _batches(tally.labelled(read_rows(reader, fields))):
            tally.add(batch, _evaluate(connection, subject, batch))
    if tally.n == 0:
        raise BadInput(
            f"none of the {tally.rows} rows has a label in the field {fields.labels.field}",
            hint="name the field with the labels: --label FIELD",
        )
    direction = score_direction(tally.scores[False], tally.scores[True])
    alarms = (found for found in tally.mistakes if found.kind == "false alarm")
    misses = (found for found in tally.mistakes if found.kind == "miss")
    return Report(
        subject.name,
        tally.rows,
        tally.rows - tally.n,
        tally.n,
        tally.skipped,
        tally.errors,
        tally.agreement,
        tally.first_error,
        tuple(most_confident(alarms, direction, mistakes)),
        tuple(most_confident(misses, direction, mistakes)),
    )


def _batches(rows: Iterator[LabelledRow]) -> Iterator[list[LabelledRow]]:
    batch: list[LabelledRow] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += len(row.json)
        if len(batch) >= _BATCH_ROWS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _evaluate(
    connection: psycopg.Connection, subject: Subject, batch: list[LabelledRow]
) -> dict[int, DictRow]:
    """What the validator says, by position in the batch from 1.

    A built-in check is made anew for each batch: the transaction that made it keeps every other
    change of validators waiting, and must not stay open while a pipe is read.
    """
    from psycopg.rows import dict_row

    name = subject.name
    given = f"[{','.join(row.json for row in batch)}]"
    try:
        if subject.is_builtin:
            name = f"report {secrets.token_hex(8)}"
            options = BuiltinOptions(params=subject.params, enabled=False)
            create_from_builtin(connection, subject.name, name, options)
        with connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(
                "select n, status, score, reason, error, confidence"
                " from flywheel.evaluate(%s, %s::jsonb)",
                [name, given],
            )
            return {row["n"]: row for row in cursor}
    finally:
        connection.rollback()


class _Tally:
    """Counts, scores and mistakes so far."""

    def __init__(self) -> None:
        self.rows = 0
        self.n = 0
        self.skipped = 0
        self.errors = 0
        self.agreement = Agreement()
        self.first_error: str | None = None
        self.scores: dict[bool, list[float]] = {True: [], False: []}
        self.mistakes: list[Mistake] = []

    def labelled(self, rows: Iterator[LabelledRow]) -> Iterator[LabelledRow]:
        """The rows that have a label; all are counted."""
        for row in rows:
            self.rows += 1
            if row.is_bad is not None:
                self.n += 1
                yield row

    def add(self, batch: list[LabelledRow], verdicts: dict[int, DictRow]) -> None:
        """Count a batch. A row to which the validator does not apply is skipped."""
        for position, row in enumerate(batch, 1):
            verdict = verdicts.get(position)
            status = "skipped" if verdict is None else verdict["status"]
            if verdict is None or status == "skipped":
                self.skipped += 1
            elif status == "error":
                self.errors += 1
                if self.first_error is None:
                    self.first_error = f"line {row.line}: {verdict['error']}"
            else:
                self._decide(row, verdict, passed=status == "passed")

    def _decide(self, row: LabelledRow, verdict: DictRow, *, passed: bool) -> None:
        is_bad = row.is_bad is True
        self.agreement = self.agreement.plus(is_bad=is_bad, passed=passed)
        score = _finite(verdict["score"])
        if score is not None:
            self.scores[passed].append(score)
        if is_bad == passed:
            self.mistakes.append(
                Mistake(
                    "miss" if is_bad else "false alarm",
                    row.line,
                    verdict["reason"],
                    score,
                    _finite(verdict["confidence"]),
                    shorten(row.input),
                    shorten(row.output),
                )
            )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
