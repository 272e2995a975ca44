"""Commands that look and store nothing."""

from __future__ import annotations

import click

from flywheel_db.cli.options import dsn_option, output_option
from flywheel_db.cli.output import Output
from flywheel_db.cli.validators.common import connected

_LISTED = ("name", "version", "enabled", "language", "mode", "subject", "pipeline", "description")
_CATALOG = ("name", "sides", "language", "cost", "params", "description")
_TESTED = ("status", "reason", "score", "error", "input", "output", "trace_id")


@click.command("list")
@click.option("--builtin", is_flag=True, help="List the built-in checks, not the validators.")
@dsn_option
@output_option
def list_command(builtin: bool, dsn: str | None, output: Output) -> None:
    """List the validators, or the built-in checks that validators can be made of.

    For a validator without a description, the table shows its body.
    """
    from flywheel_db import catalog

    with connected(dsn) as connection:
        rows = catalog.builtins(connection) if builtin else catalog.validators(connection)
    if not builtin and not output.as_json:
        rows = [{**row, "description": row["description"] or row["body"]} for row in rows]
    output.rows(
        rows,
        columns=_CATALOG if builtin else _LISTED,
        empty="no validators; create one: select flywheel.create_validator(...),"
        " or flywheel-db validators enable NAME for a built-in check",
        caption="switch one on: flywheel-db validators enable NAME" if builtin else None,
    )


@click.command()
@click.argument("name")
@dsn_option
@output_option
def show(name: str, dsn: str | None, output: Output) -> None:
    """Show the definition of a validator and its coverage, or a built-in check.

    The built-in check is shown where no validator has the name.
    """
    from flywheel_db import catalog

    with connected(dsn) as connection:
        output.record(catalog.describe(connection, name))


@click.command("test")
@click.argument("name")
@click.option(
    "-n", "--rows", "count", type=click.IntRange(1), default=100, show_default=True,
    help="How many of the latest matching rows to try.",
)  # fmt: skip
@dsn_option
@output_option
def test_command(name: str, count: int, dsn: str | None, output: Output) -> None:
    """Run a validator over the latest rows it applies to. Nothing is stored."""
    from flywheel_db import catalog

    with connected(dsn) as connection:
        rows = catalog.trial(connection, name, count)
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["status"]] = row["status_count"]
    caption = ", ".join(f"{number} {status}" for status, number in counts.items())
    output.rows(rows, columns=_TESTED, empty="no row matches", caption=caption)
