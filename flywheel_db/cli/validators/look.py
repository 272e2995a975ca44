"""Commands that look and store nothing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from flywheel_db.cli.options import connected, dsn_option, output_option
from flywheel_db.cli.output import Output

if TYPE_CHECKING:
    import psycopg

    from flywheel_db.worker.try_out import Preview

_LISTED = ("name", "version", "enabled", "language", "mode", "subject", "pipeline", "description")
_CATALOG = ("name", "sides", "language", "cost", "params", "description")
_TESTED = ("status", "reason", "score", "error", "input", "output", "trace_id")
_JUDGMENTS = ("status", "reason", "score", "error", "prompt", "trace_id")
_ASKED = ("prompt", "skipped_reason", "cost_usd", "trace_id")
_TRIED, _JUDGED = 100, 5


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
    "-n", "--rows", "count", type=click.IntRange(1), metavar="N",
    help="How many of the latest matching rows to try.  [default: 100; 5 for a judge]",
)  # fmt: skip
@click.option(
    "--prompts", is_flag=True, help="Of a judge: only show what it would be asked. Calls nothing."
)
@click.option(
    "--allow-host", "allow_hosts", multiple=True, metavar="HOST",
    help="Of a judge: a host that may be called; repeatable, as for the worker."
    "  [default: FLYWHEEL_ALLOWED_HOSTS]",
)  # fmt: skip
@dsn_option
@output_option
def test_command(
    name: str,
    count: int | None,
    prompts: bool,
    allow_hosts: tuple[str, ...],
    dsn: str | None,
    output: Output,
) -> None:
    """Run a validator over the latest rows it applies to. Nothing is stored.

    A judge is called from here, with the keys in this environment; the calls cost money.
    """
    from flywheel_db import catalog

    with connected(dsn) as connection:
        if catalog.is_judge(connection, name):
            _test_judge(connection, name, count or _JUDGED, prompts, allow_hosts, output)
            return
        if prompts or allow_hosts:
            raise click.UsageError(f"--prompts and --allow-host are for judges; {name} is none")
        rows = catalog.trial(connection, name, count or _TRIED)
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["status"]] = row["status_count"]
    caption = ", ".join(f"{number} {status}" for status, number in counts.items())
    output.rows(rows, columns=_TESTED, empty="no row matches", caption=caption)


def _test_judge(
    connection: psycopg.Connection,
    name: str,
    count: int,
    prompts: bool,
    allow_hosts: tuple[str, ...],
    output: Output,
) -> None:
    from flywheel_db.worker.options import hosts_allowed
    from flywheel_db.worker.try_out import previews, try_out

    asked = previews(connection, name, count)
    if prompts:
        shown = [{**asdict(preview), "prompt": preview.prompt} for preview in asked]
        output.rows(shown, columns=_ASKED, empty="no row matches", caption=_cost(asked))
        return
    trials = try_out(connection, name, asked, hosts_allowed(allow_hosts, os.environ))
    counts = Counter(trial.status for trial in trials)
    caption = ", ".join(f"{number} {status}" for status, number in counts.items())
    output.rows(
        map(asdict, trials), columns=_JUDGMENTS, empty="no row matches",
        caption=f"{caption}; {_cost(asked)}",
    )  # fmt: skip


def _cost(asked: Sequence[Preview]) -> str:
    costs = [preview.cost_usd for preview in asked]
    if any(cost is None for cost in costs):
        return "the model has no price, so the cost is not known"
    known = sum(float(cost) for cost in costs if cost is not None)
    text = f"about ${known:.4f} for these"
    per_day = asked[0].cost_usd_per_day if asked else None
    return text if per_day is None else f"{text}, ${per_day:.2f} a day"
