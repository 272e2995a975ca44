"""validators: look at them, try them, switch them."""

from __future__ import annotations

import click

from flywheel_db.cli.validators.look import list_command, show, test_command
from flywheel_db.cli.validators.report import report_command
from flywheel_db.cli.validators.switch import backfill, disable, drop, enable


@click.group()
def validators() -> None:
    """Look at validators, try them, switch them on and off.

    They are created in SQL: select flywheel.create_validator(...); or, of a built-in check, here:
    flywheel-db validators enable NAME.
    """


for _command in (
    list_command,
    show,
    test_command,
    report_command,
    enable,
    disable,
    drop,
    backfill,
):
    validators.add_command(_command)
