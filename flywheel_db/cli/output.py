"""Two ways to print: tables for people, JSON lines for programs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from flywheel_db.errors import FlywheelError

_NARROW = 20
# What a terminal would obey. Texts of traces come from anybody.
_CONTROL = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)
}
_LEVELS = {"ok": "green", "warning": "yellow", "error": "red", "passed": "green", "failed": "red"}


class Output:
    """Prints rows and single objects to standard output, one way or the other."""

    def __init__(self, as_json: bool | None) -> None:
        """None: tables on a terminal, JSON lines anywhere else."""
        self.as_json = not sys.stdout.isatty() if as_json is None else as_json

    def rows(
        self,
        rows: Iterable[Mapping[str, Any]],
        *,
        columns: Sequence[str] | None = None,
        empty: str = "nothing to show",
        caption: str | None = None,
    ) -> None:
        """Print rows. A table shows `columns` only; JSON has every key.

        Where the terminal is too narrow for a table that can be read, each row is a record, as in
        psql with \\x auto.
        """
        if self.as_json:
            for row in rows:
                click.echo(to_json(row))
            return
        from rich.table import Table
        from rich.text import Text

        listed = list(rows)
        if not listed:
            click.echo(empty)
            return
        names = list(columns) if columns is not None else list(listed[0])
        widths = {
            name: max(len(name), *(len(shorten(row.get(name))) for row in listed)) for name in names
        }
        if sum(min(width, _NARROW) + 3 for width in widths.values()) >= console().width:
            self._records(listed, names, caption)
            return
        table = Table(caption=caption, caption_justify="left", header_style="bold")
        for name in names:
            widest = max(len(shorten(row.get(name))) for row in listed)
            table.add_column(name, overflow="fold", max_width=60, no_wrap=widest <= _NARROW)
        for row in listed:
            cells = (shorten(row.get(name)) for name in names)
            table.add_row(*(Text(cell, style=_LEVELS.get(cell, "")) for cell in cells))
        console().print(table)

    def _records(
        self, rows: Sequence[Mapping[str, Any]], names: Sequence[str], caption: str | None
    ) -> None:
        for row in rows:
            self.record({name: row.get(name) for name in names})
            click.echo()
        if caption:
            click.echo(caption)

    def record(self, values: Mapping[str, Any]) -> None:
        """Print one object: a line a key, or one line of JSON."""
        if self.as_json:
            click.echo(to_json(values))
            return
        width = max(map(len, values), default=0)
        for name, value in values.items():
            text = as_text(value).replace("\n", "\n" + " " * (width + 2))
            click.echo(f"{name:<{width}}  {text}".rstrip())

    def done(self, text: str, values: Mapping[str, Any]) -> None:
        """Print what was done: a sentence for people, an object for programs."""
        click.echo(to_json(values) if self.as_json else text)

    def line(self, text: str) -> None:
        """Print a line for people; programs are not told."""
        if not self.as_json:
            click.echo(text)


def console(*, stderr: bool = False) -> Console:
    """A rich console on today's standard output or standard error."""
    from rich.console import Console

    return Console(stderr=stderr)


def to_json(value: Any) -> str:
    """Compact JSON on one line."""
    try:
        return json.dumps(value, ensure_ascii=False, default=_plain, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, default=_plain)


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become texts."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        return str(float(value))
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)


def as_text(value: Any) -> str:
    """A value for a person: nothing for null, yes and no, JSON for objects."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict | list | tuple):
        return to_json(value).translate(_CONTROL)
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).translate(_CONTROL)


def shorten(value: Any, limit: int = 200) -> str:
    """A value for a cell of a table."""
    text = as_text(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def warn(text: str) -> None:
    """A warning on standard error."""
    click.secho(f"warning: {text}", fg="yellow", err=True)


def print_error(error: FlywheelError) -> None:
    """An error on standard error: what happened, and what to do about it."""
    click.secho(f"error: {error.message}", fg="red", err=True)
    if error.detail:
        click.echo(f"detail: {error.detail}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)
