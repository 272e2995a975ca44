"""What the commands of the group share."""

from __future__ import annotations

import json
from typing import Any

import click

from flywheel_db.cli.options import Command


class _JsonObject(click.ParamType[dict[str, Any]]):
    name = "json"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        try:
            found = json.loads(value)
        except ValueError as exc:
            self.fail(f"{value} is not JSON: {exc}", param, ctx)
        if not isinstance(found, dict):
            self.fail(f'{value} is not a JSON object like {{"max": 2000}}', param, ctx)
        return found


def params_option(command: Command) -> Command:
    """Add --params for a built-in check."""
    return click.option(
        "--params",
        type=_JsonObject(),
        metavar="JSON",
        help="Params of the built-in check, as a JSON object. What it takes: list --builtin.",
    )(command)
