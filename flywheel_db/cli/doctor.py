"""doctor: what is missing or unsafe, and how to mend it."""

from __future__ import annotations

from dataclasses import asdict

import click

from flywheel_db.cli.options import dsn_option, output_option, resolve_dsn
from flywheel_db.cli.output import Output


@click.command()
@dsn_option
@click.option("--strict", is_flag=True, help="Exit code 1 for warnings too.")
@output_option
@click.pass_context
def doctor(ctx: click.Context, dsn: str | None, strict: bool, output: Output) -> None:
    """Name what is missing or unsafe in a database, and how to mend it.

    Changes nothing. The exit code is 1 if there is an error.
    """
    from flywheel_db.doctor import examine

    findings = examine(resolve_dsn(dsn))
    output.rows(map(asdict, findings), columns=("level", "name", "message", "remedy"))
    bad = {"error", "warning"} if strict else {"error"}
    ctx.exit(1 if any(finding.level in bad for finding in findings) else 0)
