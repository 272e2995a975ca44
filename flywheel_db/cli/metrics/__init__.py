"""metrics: list them, look at one, refresh one."""

from __future__ import annotations

import click

from flywheel_db.cli.metrics.look import advice_command, list_command, refresh_command, show


@click.group()
def metrics() -> None:
    """Look at metrics: pass rates, scores, usage, what fails, and your own.

    They are created in SQL: select flywheel.create_metric(...). Each is a view of its name.
    """


for _command in (list_command, show, refresh_command, advice_command):
    metrics.add_command(_command)
