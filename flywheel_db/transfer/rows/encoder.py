"""A parsed line to a line of COPY text, as a Mapping says."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from flywheel_db.errors import BadInput
from flywheel_db.transfer.rows.columns import SET_BY_DATABASE
from flywheel_db.transfer.rows.convert import NULL, Converter, Unfit, converter_for, escaped, shown
from flywheel_db.transfer.rows.exactjson import dumps
from flywheel_db.transfer.rows.mapping import Mapping

_MISSING = object()
_KEYS_REMEMBERED = 10_000


class FieldError(Exception):
    """A field of a line that does not fit its column."""

    def __init__(self, source: str, column: str, reason: str) -> None:
        self.source = source
        self.column = column
        where = f"field {source}" if source == column else f"field {source} (column {column})"
        super().__init__(f"{where}: {reason}")


@dataclass
class _Path:
    """A mapped field that is not a plain key."""

    column: int
    source: str
    steps: tuple[str, ...]
    # Objects on the way lose the mapped key, so that attributes do not repeat it. Lists stay
    # whole: without one element the others would change their index.
    prunes: bool = field(init=False)

    def __post_init__(self) -> None:
        self.prunes = not any(step.isdigit() for step in self.steps)


class RowEncoder:
    """Turns parsed lines into lines of COPY text, one field per column of the table."""

    def __init__(self, mapping: Mapping, *, started_at: str, id_prefix: str) -> None:
        """`started_at` is for rows that have none; ids are `id_prefix` and 11 hex digits."""
        table = mapping.table
        self._table = table
        self._keep_rest = mapping.keep_rest
        self._drop = SET_BY_DATABASE if mapping.by_name else frozenset[str]()
        self._id_prefix = id_prefix
        self._index = {column.name: at for at, column in enumerate(table.columns)}
        self._convert: list[Converter | None] = [
            None if column.kind == "attributes" else converter_for(column)
            for column in table.columns
        ]
        self._id_at = self._index[table.id_column]
        self._attributes_at = self._index["attributes"]
        self._required = [
            (at, column.name) for at, column in enumerate(table.columns) if column.required
        ]
        self._defaults = self._default_row(started_at, mapping.constants)
        self._constant_attributes: dict[str, Any] = dict(mapping.constants).get("attributes", {})
        self._plan: dict[str, list[int]] = {}
        self._paths: list[_Path] = []
        self._lay_out(mapping)
        self._unseen = {source for _, source in mapping.fields}
        self._keys: set[str] = set()
        self._first: dict[str, Any] | None = None
        self.by_name = mapping.by_name

    def _default_row(self, started_at: str, constants: Iterable[tuple[str, Any]]) -> list[str]:
        defaults = {"pipeline": "default", "status": "ok", "started_at": started_at}
        row = [defaults.get(column.name, NULL) for column in self._table.columns]
        row[self._attributes_at] = "{}"
        for name, value in constants:
            at = self._index[name]
            convert = self._convert[at]
            if convert is not None:
                try:
                    row[at] = convert(value)
                except Unfit as exc:
                    raise BadInput(f"--set {name}: {exc}") from None
        return row

    def _lay_out(self, mapping: Mapping) -> None:
        constant = {name for name, _ in mapping.constants if name != "attributes"}
        for name, source in mapping.fields:
            at = self._index[name]
            self._plan.setdefault(source, []).append(at)
            if "." in source:
                self._paths.append(_Path(at, source, tuple(source.split("."))))
        if mapping.by_name:
            mapped = {name for name, _ in mapping.fields}
            for column in self._table.columns:
                if column.name not in mapped and column.name not in constant:
                    self._plan.setdefault(column.name, []).append(self._index[column.name])

    def encode(self, line: dict[str, Any], number: int) -> str:
        """The COPY text of `line`, without the newline. `number` makes its id if it has none.

        Raises FieldError.
        """
        if self._first is None:
            self._first = line
        if self._unseen:
            self._look_for_unseen(line)
        if self._paths:
            line, found = self._take_paths(line)
        else:
            found = ()
        row = self._defaults.copy()
        attributes: dict[str, Any] | None = None
        rest: dict[str, Any] = {}
        plan, converters, attributes_at = self._plan, self._convert, self._attributes_at
        for key, value in line.items():
            targets = plan.get(key)
            if targets is None:
                rest[key] = value
                continue
            if value is None:
                continue
            for at in targets:
                convert = converters[at]
                if convert is None:
                    attributes = _merged(attributes, value, key)
                    continue
                try:
                    row[at] = convert(value)
                except Unfit as exc:
                    raise self._field_error(key, at, exc) from None
        for path, value in found:
            convert = converters[path.column]
            if convert is None:
                attributes = _merged(attributes, value, path.source)
                continue
            try:
                row[path.column] = convert(value)
            except Unfit as exc:
                raise self._field_error(path.source, path.column, exc) from None
        if rest:
            for name in self._drop:
                rest.pop(name, None)
            if self._keep_rest:
                attributes = rest if attributes is None else {**rest, **attributes}
        if self._constant_attributes:
            attributes = {**(attributes or {}), **self._constant_attributes}
        if attributes:
            row[attributes_at] = escaped(dumps(attributes))
        if row[self._id_at] == NULL:
            row[self._id_at] = f"{self._id_prefix}{number:011x}"
        for at, name in self._required:
            if row[at] == NULL:
                raise FieldError(name, name, "missing")
        return "\t".join(row)

    def id_of(self, row: str) -> str:
        """The id in a line of COPY text, as 32 hex digits."""
        return row.split("\t", self._id_at + 1)[self._id_at].lower()

    def line_of_id(self, identifier: str) -> int | None:
        """The line whose generated id is `identifier` (32 hex digits), or None."""
        if not identifier.startswith(self._id_prefix):
            return None
        return int(identifier.removeprefix(self._id_prefix), 16)

    def _field_error(self, source: str, at: int, exc: Unfit) -> FieldError:
        return FieldError(source, self._table.columns[at].name, str(exc))

    def _take_paths(
        self, line: dict[str, Any]
    ) -> tuple[dict[str, Any], tuple[tuple[_Path, Any], ...]]:
        """`line` without the fields that paths lead to, and those fields."""
        found = []
        for path in self._paths:
            if path.source in line:  # a key with a dot in it; the plan has it
                continue
            value = _walk(line, path.steps)
            if value is not _MISSING and value is not None:
                found.append((path, value))
        # All paths are read before one is cut out: two columns may want the same field.
        for path, _ in found:
            if path.prunes and self._keep_rest:
                line = _without(line, path.steps)
        return line, tuple(found)

    def _look_for_unseen(self, line: dict[str, Any]) -> None:
        self._unseen = {
            source
            for source in self._unseen
            if source not in line
            and ("." not in source or _walk(line, tuple(source.split("."))) is _MISSING)
        }
        if len(self._keys) < _KEYS_REMEMBERED:
            self._keys.update(line)
            for key, value in line.items():
                if isinstance(value, dict):
                    self._keys.update(f"{key}.{inner}" for inner in value)

    def warnings(self) -> list[str]:
        """Mapped fields that no line had, and fields that look as if a --map was forgotten."""
        if self._first is None:
            return []
        texts = []
        for source in sorted(self._unseen):
            close = difflib.get_close_matches(source, sorted(self._keys), n=3, cutoff=0.5)
            meant = f"; close names: {', '.join(close)}" if close else ""
            texts.append(f"no line has the field {source}{meant}")
        if not self.by_name:
            names = [
                name
                for name in self._table.column_names
                if name in self._first and name not in self._plan
            ]
            if names:
                kept = "kept in attributes" if self._keep_rest else "dropped"
                texts.append(
                    f"named like a column but not mapped, so {kept}: {', '.join(names)}"
                    f" (--map {names[0]}={names[0]} would import it)"
                )
        return texts


def _merged(attributes: dict[str, Any] | None, value: Any, source: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FieldError(source, "attributes", f"{shown(value)} is not an object")
    return value if attributes is None else {**attributes, **value}


def _walk(value: Any, steps: tuple[str, ...]) -> Any:
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step, _MISSING)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return _MISSING
    return value


def _without(line: dict[str, Any], steps: tuple[str, ...]) -> dict[str, Any]:
    """A copy of `line` without the field at `steps`, and without objects that this left empty."""
    head, tail = steps[0], steps[1:]
    if not isinstance(line, dict) or head not in line:
        return line
    copy = dict(line)
    if not tail:
        del copy[head]
        return copy
    inner = _without(copy[head], tail)
    if inner == {}:
        del copy[head]
    else:
        copy[head] = inner
    return copy
