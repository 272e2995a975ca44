"""Options that many commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flywheel_db.cli.output import Output

if TYPE_CHECKING:
    import psycopg

Command = Callable[..., Any]

dsn_option = click.option(
    "--dsn",
    envvar="FLYWHEEL_DSN",
    show_envvar=True,
    metavar="DSN",
    help="The database: postgresql://user@host/name, or host=... dbname=...",
)

home_option = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the private server.  [default: FLYWHEEL_HOME, or the user's data directory]",
)


def output_option(command: Command) -> Command:
    """Add --json and --table; the command gets an Output as `output`."""
    return click.option(
        "--json/--table",
        "output",
        default=None,
        callback=lambda ctx, param, value: Output(value),
        help="JSON lines, or a table.  [default: a table on a terminal, JSON in a pipe]",
    )(command)


def json_option(command: Command) -> Command:
    """Add --json alone, for commands whose --table names a table of the database."""
    return click.option(
        "--json/--no-json",
        "output",
        default=None,
        callback=lambda ctx, param, value: Output(value),
        help="A JSON line, or words.  [default: words on a terminal, JSON in a pipe]",
    )(command)


def resolve_dsn(dsn: str | None) -> str:
    """The database to use: the configured one, or else the running private server."""
    from flywheel_db.connection import configured_dsn
    from flywheel_db.errors import ConnectionFailed

    configured = configured_dsn(dsn)
    if configured is not None:
        return configured
    from flywheel_db import server

    running = server.status()
    if running is None:
        raise ConnectionFailed(
            "no database is given, and the private server is not running",
            hint="start it: flywheel-db up; or give --dsn, FLYWHEEL_DSN or the PG* variables",
        )
    return running.dsn


@contextmanager
def connected(dsn: str | None, *, autocommit: bool = False) -> Iterator[psycopg.Connection]:
    """A connection to the database that the user means; commits at the end."""
    from flywheel_db.connection import connect

    with connect(resolve_dsn(dsn), autocommit=autocommit) as connection:
        yield connection
