"""demo: the whole loop on sample traces."""

from __future__ import annotations

import click

from flywheel_db.cli.output import console, warn


@click.command()
@click.option("--dsn", metavar="DSN", help="Another database; FLYWHEEL_DSN is not looked at.")
def demo(dsn: str | None) -> None:
    """Load sample traces, and show what the validators found and what to try next.

    Without --dsn it runs in the private server, which it starts.
    """
    from flywheel_db import install
    from flywheel_db.demo import run

    if dsn is None:
        from flywheel_db import server

        dsn = server.up().dsn
    for text in install.migrate(dsn, report=lambda _: None).warnings:
        warn(text)
    run(dsn, console())
