"""The validators of a database and the built-in checks: look one up, try it, switch it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, LiteralString

from flywheel_db.errors import BadInput, UnknownValidator

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import DictRow

_NEAR = 5


@dataclass(frozen=True)
class BuiltinOptions:
    """How a validator is made from a built-in check. None is the default of enable_builtin()."""

    name: str | None = None
    params: dict[str, Any] | None = None
    pipeline: str | None = None
    mode: str | None = None
    on_fail: str | None = None
    enabled: bool = True


@dataclass(frozen=True)
class Enabled:
    """What enabling came to: `builtin` is the check a validator was made from just now, if any."""

    name: str
    enabled: bool
    builtin: str | None = None


def validators(connection: psycopg.Connection) -> list[DictRow]:
    """The newest version of each validator."""
    return _rows(connection, "select * from flywheel.validators order by name")


def builtins(connection: psycopg.Connection) -> list[DictRow]:
    """The catalog of built-in checks."""
    return _rows(connection, "select * from flywheel.builtin_validators order by name")


def describe(connection: psycopg.Connection, name: str) -> dict[str, Any]:
    """A validator with its coverage, or else the built-in check of that name.

    Raises UnknownValidator.
    """
    found = _rows(connection, "select * from flywheel.validators where name = %s", name)
    if found:
        counts = _rows(
            connection,
            "select expected, decided, errored, skipped, pending, dead, missing"
            " from flywheel.coverage where validator = %s",
            name,
        )
        return {**found[0], "coverage": counts[0] if counts else None}
    builtin = _rows(connection, "select * from flywheel.builtin_validators where name = %s", name)
    if builtin:
        return builtin[0]
    raise _unknown(connection, name)


def require(connection: psycopg.Connection, name: str) -> None:
    """Nothing if there is a validator of that name. Raises UnknownValidator."""
    if _rows(connection, "select from flywheel.validators where name = %s", name):
        return
    if _rows(connection, "select from flywheel.builtin_validators where name = %s", name):
        raise UnknownValidator(
            f"there is no validator {name}, only a built-in check of that name",
            hint=f"try it without making one: --builtin {name}; or make one:"
            f" flywheel-db validators enable {name}",
        )
    raise _unknown(connection, name)


def is_judge(connection: psycopg.Connection, name: str) -> bool:
    """Whether a validator asks an LLM."""
    query = "select from flywheel.validators where name = %s and language = 'llm'"
    return bool(_rows(connection, query, name))


def trial(connection: psycopg.Connection, name: str, count: int) -> list[DictRow]:
    """What a validator says of the latest `count` rows it applies to. Stores nothing."""
    return _rows(connection, "select * from flywheel.test_validator(%s, %s)", name, count)


def verdict_count(connection: psycopg.Connection, name: str) -> int:
    """How many verdicts a validator has."""
    query = "select count(*) as n from flywheel.verdicts where validator = %s"
    found: int = _rows(connection, query, name)[0]["n"]
    return found


def enable(connection: psycopg.Connection, name: str, options: BuiltinOptions) -> Enabled:
    """Enable the validator `name`, or make one from the built-in check `name`.

    A validator that exists goes before a built-in check of its name; with `options.name` the
    built-in check is meant. Raises BadInput for options that an existing validator cannot take,
    and UnknownValidator.
    """
    exists = "select from flywheel.validators where name = %s"
    if options.name is None and _rows(connection, exists, name):
        if options != BuiltinOptions():
            raise BadInput(
                f"there is a validator {name} already, and options are for making one",
                hint=f"leave them out, make another of the built-in check with --as OTHER, or"
                f" change this one: select flywheel.alter_validator({quoted(name)}, ...)",
            )
        connection.execute("select flywheel.enable_validator(%s)", [name])
        return Enabled(name, enabled=True)
    if not _rows(connection, "select from flywheel.builtin_validators where name = %s", name):
        raise _unknown(connection, name)
    made = options.name or name
    create_from_builtin(connection, name, made, options)
    return Enabled(made, options.enabled, builtin=name)


def create_from_builtin(
    connection: psycopg.Connection, builtin: str, name: str, options: BuiltinOptions
) -> None:
    """Make the validator `name` from a built-in check. Raises what enable_builtin() does."""
    connection.execute(
        "select flywheel.enable_builtin(builtin => %s, name => %s, params => %s, pipeline => %s,"
        " mode => %s, on_fail => %s, enabled => %s)",
        [
            builtin,
            name,
            json.dumps(options.params or {}),
            options.pipeline,
            options.mode or "inline",
            options.on_fail or "record",
            options.enabled,
        ],
    )


def quoted(text: str) -> str:
    """`text` as an SQL literal, for statements that people are shown."""
    return "'" + text.replace("'", "''") + "'"


def _unknown(connection: psycopg.Connection, name: str) -> UnknownValidator:
    near = near_matches(
        name,
        [row["name"] for row in validators(connection)],
        [row["name"] for row in builtins(connection)],
    )
    meant = f"did you mean {', '.join(near)}? " if near else ""
    return UnknownValidator(
        f"there is no validator {name}, nor a built-in check of that name",
        hint=f"{meant}list them: flywheel-db validators list, and list --builtin",
    )


def near_matches(name: str, *known: Iterable[str]) -> list[str]:
    """At most five names that `name` may have been meant for, the most alike first."""
    by_folded = {other.casefold(): other for names in known for other in names}
    folded = name.casefold()
    close = get_close_matches(folded, by_folded, n=_NEAR)
    close += [other for other in by_folded if folded in other and other not in close]
    return [by_folded[other] for other in close[:_NEAR]]


def _rows(connection: psycopg.Connection, query: LiteralString, *values: Any) -> list[DictRow]:
    from psycopg.rows import dict_row

    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, values).fetchall()
