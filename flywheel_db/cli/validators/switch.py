"""Commands that change which rows are checked."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from flywheel_db.cli.options import connected, dsn_option, output_option
from flywheel_db.cli.output import Output
from flywheel_db.cli.validators.common import params_option

_ENABLE_EPILOG = """\
\b
Examples:
  flywheel-db validators enable max_length --params '{"max": 500}' --pipeline support
  flywheel-db validators enable no_refusal --as 'never refuses' --on-fail reject
  flywheel-db validators enable 'never refuses'
"""


@click.command(epilog=_ENABLE_EPILOG)
@click.argument("name")
@click.option("--as", "made", metavar="NAME", help="Name of the new validator.  [default: NAME]")
@params_option
@click.option("--pipeline", metavar="PIPELINE", help="Only rows of this pipeline.")
@click.option(
    "--mode", type=click.Choice(["inline", "queued"]),
    help="Inside the INSERT, or by a worker.  [default: inline]",
)  # fmt: skip
@click.option(
    "--on-fail", type=click.Choice(["record", "reject"]),
    help="Record a failing verdict, or refuse the statement.  [default: record]",
)  # fmt: skip
@click.option("--disabled", is_flag=True, help="Make the validator, and leave it switched off.")
@dsn_option
@output_option
def enable(
    name: str,
    made: str | None,
    params: dict[str, Any] | None,
    pipeline: str | None,
    mode: str | None,
    on_fail: str | None,
    disabled: bool,
    dsn: str | None,
    output: Output,
) -> None:
    """Check every row that arrives from now on.

    NAME is a validator, or else a built-in check, of which a validator is made. The options are
    for making one; --as NAME makes another where a validator has the check's name already.
    """
    from flywheel_db import catalog

    options = catalog.BuiltinOptions(made, params, pipeline, mode, on_fail, not disabled)
    with connected(dsn) as connection:
        done = catalog.enable(connection, name, options)
    state = "enabled" if done.enabled else "made, and not enabled"
    origin = f", made from the built-in check {done.builtin}" if done.builtin else ""
    output.done(f"{done.name} is {state}{origin}", asdict(done))


@click.command()
@click.argument("name")
@dsn_option
@output_option
def disable(name: str, dsn: str | None, output: Output) -> None:
    """Stop checking new rows. Verdicts stay."""
    with connected(dsn) as connection:
        connection.execute("select flywheel.disable_validator(%s)", [name])
    output.done(f"{name} is disabled", {"name": name, "enabled": False})


@click.command()
@click.argument("name")
@click.option("--delete-verdicts", is_flag=True, help="Delete what it found, too.")
@dsn_option
@output_option
def drop(name: str, delete_verdicts: bool, dsn: str | None, output: Output) -> None:
    """Drop a validator. Its verdicts stay unless told otherwise."""
    with connected(dsn) as connection:
        connection.execute(
            "select flywheel.drop_validator(name => %s, delete_verdicts => %s)",
            [name, delete_verdicts],
        )
    output.done(f"{name} is dropped", {"name": name, "dropped": True})


@click.command()
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
    from flywheel_db import catalog

    with connected(dsn, autocommit=True) as connection:
        before = catalog.verdict_count(connection, name)
        # One message of the simple protocol: the procedure commits, and must be a statement alone.
        connection.execute("call flywheel.backfill(%s, %s, %s)", [name, since, until])
        written = catalog.verdict_count(connection, name) - before
    output.done(f"{name}: {written} rows decided", {"name": name, "written": written})
