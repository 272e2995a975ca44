"""Which field of a line goes to which column, as the user wrote it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flywheel_db.errors import BadInput
from flywheel_db.transfer.rows.columns import SET_BY_DATABASE, Table
from flywheel_db.transfer.rows.exactjson import loads


@dataclass(frozen=True)
class Mapping:
    """What the user asked for: columns from fields, constants, and the fate of other fields.

    `fields` holds (column, field) pairs. With `by_name`, a field without a pair goes to the
    column of its name. A field is a key, or a dotted path of keys and list indexes.
    """

    table: Table
    fields: tuple[tuple[str, str], ...] = ()
    constants: tuple[tuple[str, Any], ...] = ()
    by_name: bool = True
    keep_rest: bool = True


def parse_mapping(
    table: Table,
    maps: Sequence[str] = (),
    sets: Sequence[str] = (),
    *,
    id_field: str | None = None,
    keep_rest: bool = True,
) -> Mapping:
    """A Mapping from `column=field` and `column=value` texts; BadInput names what is wrong.

    Without `maps` every field goes to the column of its name. With `maps`, exactly what they say.
    """
    fields: list[tuple[str, str]] = []
    for text in maps:
        column, source = _split(text, "--map", "column=field")
        _check_column(table, column)
        if column != "attributes" and any(column == other for other, _ in fields):
            raise BadInput(f"--map gives column {column} twice")
        fields.append((column, source))
    if id_field is not None:
        if any(column == table.id_column for column, _ in fields):
            raise BadInput(f"--id and --map both give column {table.id_column}")
        fields.append((table.id_column, id_field))
    constants: list[tuple[str, Any]] = []
    for text in sets:
        column, value = _split(text, "--set", "column=value")
        _check_column(table, column)
        if any(column == other for other, _ in constants):
            raise BadInput(f"--set gives column {column} twice")
        if column != "attributes" and any(column == other for other, _ in fields):
            raise BadInput(f"--map and --set both give column {column}")
        constants.append((column, _constant(table, column, value)))
    return Mapping(table, tuple(fields), tuple(constants), not maps, keep_rest)


def _split(text: str, option: str, form: str) -> tuple[str, str]:
    column, equals, value = text.partition("=")
    if not equals or not column or (option == "--map" and not value):
        raise BadInput(f"{option} {text}: write {form}")
    return column.strip(), value


def _check_column(table: Table, column: str) -> None:
    if column in table.column_names:
        return
    known = ", ".join(table.column_names)
    if column in SET_BY_DATABASE:
        raise BadInput(f"column {column} is set by the database", hint=f"columns: {known}")
    close = difflib.get_close_matches(column, table.column_names, n=1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    raise BadInput(f"{table.name} has no column {column}{meant}", hint=f"columns: {known}")


def _constant(table: Table, column: str, text: str) -> Any:
    if column != "attributes":
        return text
    try:
        value = loads(text)
    except ValueError as exc:
        raise BadInput(f"--set attributes: {exc}", hint='write {"key": "value"}') from None
    if not isinstance(value, dict):
        raise BadInput("--set attributes: not a JSON object", hint='write {"key": "value"}')
    return value
