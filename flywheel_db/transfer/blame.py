"""From an error of the server back to the line of the file that caused it."""

from __future__ import annotations

import re
from uuid import UUID

import psycopg

from flywheel_db.errors import AlreadyExists, BadLine, FlywheelError, Rejected, from_psycopg
from flywheel_db.transfer.progress import LineNumbers
from flywheel_db.transfer.reader import STDIN, LineReader
from flywheel_db.transfer.rows.encoder import RowEncoder
from flywheel_db.transfer.rows.parser import LineParser

_COPY_LINE = re.compile(r"COPY \w+, line (\d+)(?:, column (\w+))?")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")

_TWICE = "the id is twice in the file, or was imported before"


class Blame:
    """Knows how rows of the COPY and their ids came from lines."""

    def __init__(self, encoder: RowEncoder, parser: LineParser, source: str) -> None:
        self._encoder = encoder
        self._parser = parser
        self._source = source

    def explain(self, exc: psycopg.Error, numbers: LineNumbers) -> FlywheelError:
        """The same error; a BadLine if a line can be named. Rejected stays Rejected."""
        error = from_psycopg(exc)
        found = _COPY_LINE.search(exc.diag.context or "")
        if found is not None and numbers.rows:
            line = numbers.line_of(int(found[1]))
            column = f"column {found[2]}: " if found[2] else ""
            return BadLine(
                line,
                column + error.message,
                hint=_TWICE if isinstance(error, AlreadyExists) else error.hint,
                detail=error.detail,
                sqlstate=error.sqlstate,
            )
        if isinstance(error, Rejected):
            rejected_line = self._line_of_id(f"{error.message} {error.detail or ''}")
            if rejected_line is not None:
                return Rejected(
                    f"line {rejected_line}: {error.message}",
                    hint=error.hint,
                    detail=error.detail,
                    sqlstate=error.sqlstate,
                )
        return error

    def _line_of_id(self, text: str) -> int | None:
        """The line whose row has the first id named in `text` that is one of ours."""
        for name in _UUID.findall(text):
            line = self._encoder.line_of_id(UUID(name).hex) or self._search(UUID(name).hex)
            if line is not None:
                return line
        return None

    def _search(self, wanted: str) -> int | None:
        """Read the file again for the line with that id."""
        if self._source == STDIN:
            return None
        try:
            with LineReader(self._source) as reader:
                for line in reader:
                    if wanted in line.decode("utf-8", "replace").replace("-", "").lower():
                        row = self._parser.row(line, reader.line).decode()
                        if self._encoder.id_of(row) == wanted:
                            return reader.line
        except FlywheelError:
            return None
        return None
