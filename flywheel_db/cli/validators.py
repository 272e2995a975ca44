"""validators: look at them, try them, switch them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString

import click

from flywheel_db.cli.options import dsn_option, output_option, resolve_dsn
from flywheel_db.cli.output import Output
from flywheel_db.errors import UnknownValidator

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import DictRow

_LISTED = ("name", "enabled", "subject", "pipeline", "on_fail", "body")
_TESTED = ("status", "reason", "score", "error", "input", "output", "trace_id")


@click.group()
def validators() -> None:
    """Look at validators, try them, switch them on and off.

    They are created in SQL: select flywheel.create_validator(...).
    """


@validators.command("list")
@dsn_option
@output_option
def list_command(dsn: str | None, output: Output) -> None:
    """List the validators."""
    with _connected(dsn) as connection:
        rows = _rows(connection, "select * from flywheel.validators order by name")
    output.rows(
        rows,
        columns=_LISTED,
        empty="no validators; create one: select flywheel.create_validator(...)",
    )


@validators.command()
@click.argument("name")
@dsn_option
@output_option
def show(name: str, dsn: str | None, output: Output) -> None:
    """Show the definition of a validator and its coverage."""
    with _connected(dsn) as connection:
        found = _rows(connection, "select * from flywheel.validators where name = %s", name)
        if not found:
            raise UnknownValidator(
                f"there is no validator {name}", hint="list them: flywheel-db validators list"
            )
        counts = _rows(
            connection,
            "select expected, decided, errored, skipped, pending, dead, missing"
            " from flywheel.coverage where validator = %s",
            name,
        )
    output.record({**found[0], "coverage": counts[0] if counts else None})


@validators.command("test")
@click.argument("name")
@click.option(
    "-n", "--rows", "count", type=click.IntRange(1), default=100, show_default=True,
    help="How many of the latest matching rows to try.",
)  # fmt: skip
@dsn_option
@output_option
def test_command(name: str, count: int, dsn: str | None, output: Output) -> None:
    """Run a validator over the latest rows it applies to. Nothing is stored."""
    with _connected(dsn) as connection:
        rows = _rows(connection, "select * from flywheel.test_validator(%s, %s)", name, count)
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["status"]] = row["status_count"]
    caption = ", ".join(f"{number} {status}" for status, number in counts.items())
    output.rows(rows, columns=_TESTED, empty="no row matches", caption=caption)


@validators.command()
@click.argument("name")
@dsn_option
@output_option
def enable(name: str, dsn: str | None, output: Output) -> None:
    """Check every row that arrives from now on."""
    with _connected(dsn) as connection:
        connection.execute("select flywheel.enable_validator(%s)", [name])
    output.done(f"{name} is enabled", {"name": name, "enabled": True})


@validators.command()
@click.argument("name")
@dsn_option
@output_option
def disable(name: str, dsn: str | None, output: Output) -> None:
    """Stop checking new rows. Verdicts stay."""
    with _connected(dsn) as connection:
        connection.execute("select flywheel.disable_validator(%s)", [name])
    output.done(f"{name} is disabled", {"name": name, "enabled": False})


@validators.command()
@click.argument("name")
@click.option("--delete-verdicts", is_flag=True, help="Delete what it found, too.")
@dsn_option
@output_option
def drop(name: str, delete_verdicts: bool, dsn: str | None, output: Output) -> None:
    """Drop a validator. Its verdicts stay unless told otherwise."""
    with _connected(dsn) as connection:
        connection.execute(
            "select flywheel.drop_validator(name => %s, delete_verdicts => %s)",
            [name, delete_verdicts],
        )
    output.done(f"{name} is dropped", {"name": name, "dropped": True})


@validators.command()
@click.argument("name")
@click.option("--since", metavar="TIME", default="-infinity", help="Only rows received since then.")
@click.option("--until", metavar="TIME", default="infinity", help="Only rows received before then.")
@dsn_option
@output_option
def backfill(name: str, since: str, until: str, dsn: str | None, output: Output) -> None:
    """Run a validator over rows that arrived before it.

    Commits in batches; call it again to go on after an interruption. TIME is anything PostgreSQL
    reads as a timestamp.
    """
    with _connected(dsn, autocommit=True) as connection:
        before = _coverage(connection, name)
        # One message of the simple protocol: the procedure commits, and must be a statement alone.
        _simple(connection, "call flywheel.backfill(%s, %s, %s)", name, since, until)
        written = _coverage(connection, name) - before
    output.done(f"{name}: {written} rows decided", {"name": name, "written": written})


def _coverage(connection: psycopg.Connection, name: str) -> int:
    query = "select count(*) as n from flywheel.verdicts where validator = %s"
    found: int = _rows(connection, query, name)[0]["n"]
    return found


@contextmanager
def _connected(dsn: str | None, *, autocommit: bool = False) -> Iterator[psycopg.Connection]:
    from flywheel_db.connection import connect

    with connect(resolve_dsn(dsn), autocommit=autocommit) as connection:
        yield connection


def _rows(connection: psycopg.Connection, query: LiteralString, *values: Any) -> list[DictRow]:
    from psycopg.rows import dict_row

    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, values).fetchall()


def _simple(connection: psycopg.Connection, query: LiteralString, *values: Any) -> None:
    connection.execute(query, values)
