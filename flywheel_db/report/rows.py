"""Labelled rows from a file of JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from json import JSONDecodeError
from typing import Any

from flywheel_db.errors import BadLine
from flywheel_db.transfer.reader import LineReader
from flywheel_db.transfer.rows.convert import shown
from flywheel_db.transfer.rows.exactjson import ExactNumber, dumps, has_nul, loads, lone_surrogate

_HINT = "the file must hold one JSON object per line; for an array: jq -c '.[]' FILE"
_UNSTORABLE = (("the NUL character", has_nul), ("half a surrogate pair", lone_surrogate))


@dataclass(frozen=True)
class Labels:
    """Which field says whether a row is bad, and which of its values do.

    Without `bad` and `good` the field is a boolean, true for a good row. With one of them, every
    other value means the opposite; with both, a row with any other value has no label.
    """

    field: str = "passed"
    bad: tuple[str, ...] = ()
    good: tuple[str, ...] = ()

    def is_bad(self, value: Any) -> bool | None:
        """Whether the label says bad; None if it says nothing. Raises ValueError."""
        if value is None:
            return None
        if not self.bad and not self.good:
            if isinstance(value, bool):
                return not value
            raise ValueError(f"is {shown(value)}, neither true nor false")
        if isinstance(value, dict | list):
            raise ValueError(f"is {shown(value)}, not a text, a number or a boolean")
        if any(_means(text, value) for text in self.bad):
            return True
        if any(_means(text, value) for text in self.good):
            return False
        if self.bad and self.good:
            return None
        return not self.bad


@dataclass(frozen=True)
class Fields:
    """Where in a line the row is. A field is a key, or a dotted path of keys and list indexes."""

    labels: Labels = Labels()
    input: str = "input"
    output: str = "output"
    attributes: str | None = None


@dataclass(frozen=True)
class LabelledRow:
    """A row as JSON text for the database, and what its label says; None if it has no label."""

    line: int
    json: str
    input: str | None
    output: str | None
    is_bad: bool | None


def read_rows(reader: LineReader, fields: Fields) -> Iterator[LabelledRow]:
    """The rows of a file in order; blank lines are passed over. Raises BadLine."""
    for line in reader:
        if line.strip():
            yield _row(_object(line, reader.line), reader.line, fields)


def _object(line: bytes, number: int) -> dict[str, Any]:
    try:
        value = loads(str(line, "utf-8"))
    except UnicodeDecodeError as exc:
        raise BadLine(
            number,
            f"invalid UTF-8 at byte {exc.start + 1} of the line",
            hint="convert the file to UTF-8, or mend the line",
        ) from None
    except JSONDecodeError as exc:
        reason = f"invalid JSON: {exc.msg} (column {exc.pos + 1})"
        raise BadLine(number, reason, hint=_HINT) from None
    except ValueError as exc:  # NaN, or an integer of thousands of digits
        raise BadLine(number, f"invalid JSON: {exc}", hint="mend the line") from None
    except RecursionError:
        raise BadLine(number, "nested too deeply", hint="mend or remove the line") from None
    if not isinstance(value, dict):
        raise BadLine(number, f"not a JSON object: {shown(value)}", hint=_HINT)
    return value


def _row(line: dict[str, Any], number: int, fields: Fields) -> LabelledRow:
    labels = fields.labels
    try:
        is_bad = labels.is_bad(_at(line, labels.field))
    except ValueError as exc:
        raise BadLine(
            number,
            f"the label {labels.field} {exc}",
            hint="say which values mean a bad row and which a good one: --bad VALUE, --good VALUE;"
            " or name another field: --label FIELD",
        ) from None
    if is_bad is None:
        return LabelledRow(number, "", None, None, None)
    row: dict[str, Any] = {
        "input": _text(_at(line, fields.input)),
        "output": _text(_at(line, fields.output)),
    }
    if row["input"] is None and row["output"] is None:
        raise BadLine(
            number,
            f"neither the field {fields.input} nor the field {fields.output} is there",
            hint=f"name the fields: --input FIELD, --output FIELD. The line has: {', '.join(line)}",
        )
    if fields.attributes is not None:
        attributes = _at(line, fields.attributes)
        if not isinstance(attributes, dict | None):
            raise BadLine(
                number,
                f"the attributes {fields.attributes} are {shown(attributes)}, not an object",
                hint="name a field with a JSON object: --attributes FIELD",
            )
        row["attributes"] = attributes
    for problem, find in _UNSTORABLE:
        path = find(row)
        if path is not None:
            raise BadLine(
                number,
                f"the {path} holds {problem}, which PostgreSQL cannot store",
                hint="mend or remove the line",
            )
    return LabelledRow(number, dumps(row), row["input"], row["output"], is_bad)


def _at(line: dict[str, Any], field: str) -> Any:
    if field in line:
        return line[field]
    value: Any = line
    for step in field.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str | None) else dumps(value)


def _means(text: str, value: Any) -> bool:
    if isinstance(value, bool):
        return text == ("true" if value else "false")
    if isinstance(value, str):
        return text == value
    try:
        return Decimal(text) == Decimal(
            value.text if isinstance(value, ExactNumber) else repr(value)
        )
    except InvalidOperation:
        return False
