"""up, down, status, psql: the private local server."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from flywheel_db.cli.options import home_option, output_option
from flywheel_db.cli.output import Output


@click.command()
@home_option
@output_option
def up(home: Path | None, output: Output) -> None:
    """Start the private PostgreSQL server, making it first if there is none.

    It listens on a socket and the loopback address only. Calling it twice is safe.
    """
    from flywheel_db import server

    running = server.up(home)
    # The commands that connect know the home from the environment alone.
    named = f"export FLYWHEEL_HOME={shlex.quote(str(home.absolute()))}; " if home else ""
    output.done(
        f"PostgreSQL runs on port {running.port}: {running.dsn}\n"
        f"next: {named}flywheel-db migrate, then flywheel-db psql",
        _described(running),
    )


@click.command()
@home_option
@output_option
def down(home: Path | None, output: Output) -> None:
    """Stop the private server. Its data stays."""
    from flywheel_db import server

    stopped = server.down(home)
    output.done(
        "PostgreSQL stopped" if stopped else "PostgreSQL was not running", {"stopped": stopped}
    )


@click.command()
@home_option
@output_option
def status(home: Path | None, output: Output) -> None:
    """Say whether the private server runs, and where."""
    from flywheel_db import server

    running = server.status(home)
    if running is None:
        output.done("PostgreSQL is not running; start it: flywheel-db up", {"running": False})
    else:
        output.record(_described(running))


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
    options_metavar="",
)
@home_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PSQL ARGUMENTS]...")
def psql(home: Path | None, arguments: tuple[str, ...]) -> None:
    """Open psql on the private server, for example: flywheel-db psql -c 'select 1'."""
    from flywheel_db import server

    server.psql(home, arguments)


def _described(running: object) -> dict[str, object]:
    from flywheel_db.server import Server

    assert isinstance(running, Server)  # noqa: S101 - for the type checker
    return {
        "running": True,
        "dsn": running.dsn,
        "port": running.port,
        "data": str(running.data_dir),
        "log": str(running.log_file),
    }
