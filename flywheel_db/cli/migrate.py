"""migrate: bring a database to this release."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from flywheel_db.cli.options import dsn_option, output_option, resolve_dsn
from flywheel_db.cli.output import Output, warn

if TYPE_CHECKING:
    from flywheel_db.install import MigrationReport


@click.command()
@dsn_option
@click.option("--check", is_flag=True, help="Only say what is to do; exit code 1 if anything is.")
@click.option("--dry-run", is_flag=True, help="Do it, then roll it back.")
@click.option(
    "--sql",
    "as_sql",
    is_flag=True,
    help="Print the SQL instead: what the --dsn database lacks, or without --dsn a fresh install.",
)
@output_option
@click.pass_context
def migrate(
    ctx: click.Context, dsn: str | None, check: bool, dry_run: bool, as_sql: bool, output: Output
) -> None:
    """Install flywheel-db in a database, or bring it to this release.

    Safe to repeat, safe in many processes at once, and safe with live writers. With nothing to do
    it takes no lock on the tables.
    """
    from flywheel_db import install

    if check + dry_run + as_sql > 1:
        raise click.UsageError("--check, --dry-run and --sql exclude each other")
    if as_sql:
        click.echo(install.script(dsn), nl=False)
        return
    target = resolve_dsn(dsn)
    if check:
        found = install.check(target)
        _show(found, "would change", output)
        ctx.exit(1 if found.changed else 0)
    report = install.migrate(target, dry_run=dry_run, report=output.line)
    _show(report, "rolled back" if dry_run else "done", output)


def _show(report: MigrationReport, what: str, output: Output) -> None:
    for text in report.warnings:
        warn(text)
    if output.as_json:
        output.record({**asdict(report), "outcome": what if report.changed else "nothing to do"})
        return
    if not report.changed:
        click.echo(f"nothing to do: the database is at revision {report.to_revision}")
        return
    came_from = report.from_revision or "nothing"
    click.echo(f"{what}: from {came_from} to revision {report.to_revision}")
    if what == "would change":
        for step in report.steps:
            click.echo(f"  {step}")
