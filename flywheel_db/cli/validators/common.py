"""What the commands of the group share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from flywheel_db.cli.options import Command, resolve_dsn

if TYPE_CHECKING:
    import psycopg


@contextmanager
def connected(dsn: str | None, *, autocommit: bool = False) -> Iterator[psycopg.Connection]:
    """A connection to the database that the user means; commits at the end."""
    from flywheel_db.connection import connect

    with connect(resolve_dsn(dsn), autocommit=autocommit) as connection:
        yield connection


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
