"""The order of the checks. Each runs in a savepoint of one read-only transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
from psycopg import Connection

from flywheel_db import install
from flywheel_db.connection import connect
from flywheel_db.doctor import data, embeddings, maintenance, python, queue, schema, server
from flywheel_db.doctor.finding import MIGRATE, Finding, error, ok, warning
from flywheel_db.errors import FlywheelError, from_psycopg

Check = Callable[[Connection], Iterator[Finding]]

# Counting verdicts reads all of them. What takes longer is for a quiet hour.
_PATIENCE = "60s"

_SERVER_CHECKS: tuple[tuple[str, Check], ...] = (
    ("server", server.check_version),
    ("replication role", server.check_replication_role),
    ("pgvector", server.check_vector),
    ("plpython3u", server.check_python),
)
_SCHEMA_CHECKS: tuple[tuple[str, Check], ...] = (
    ("roles", schema.check_roles),
    ("rights", schema.check_rights),
    ("triggers", schema.check_triggers),
    ("functions", schema.check_functions),
    ("compiled validators", schema.check_generation),
    ("indexes", schema.check_indexes),
    ("python validators", python.check_runtime),
    ("circuit breakers", python.check_breakers),
    ("python code", python.check_code),
    ("queue", queue.check_queue),
    ("dead letters", queue.check_dead),
    ("workers", queue.check_workers),
    ("embedders", embeddings.check_embedders),
    ("schedules", maintenance.check_schedules),
    ("retention", maintenance.check_retention),
    ("orphans", data.check_orphans),
    ("coverage", data.check_coverage),
)


def examine(dsn: str) -> list[Finding]:
    """Everything that was looked at, the well included. Raises ConnectionFailed."""
    with connect(dsn) as connection:
        connection.read_only = True
        findings = list(_run(connection, _SERVER_CHECKS))
        connection.rollback()
        migration = _check_migration(dsn, connection)
        findings.append(migration)
        if _has_schema(connection):
            findings += _run(connection, _SCHEMA_CHECKS)
    return findings


def _run(connection: Connection, checks: tuple[tuple[str, Check], ...]) -> Iterator[Finding]:
    for name, check in checks:
        try:
            with connection.transaction():
                connection.execute(f"set local statement_timeout = '{_PATIENCE}'")
                found = list(check(connection))
        except psycopg.errors.InsufficientPrivilege as exc:
            remedy = "run doctor as the owner of the schema flywheel, or as a superuser"
            yield warning(name, f"not examined: {exc.diag.message_primary}", remedy)
        except psycopg.errors.QueryCanceled:
            yield warning(name, f"not examined within {_PATIENCE}", "run doctor in a quiet hour")
        except psycopg.Error as exc:
            yield error(name, f"cannot be examined: {from_psycopg(exc).message}", MIGRATE)
        else:
            yield from found


def _check_migration(dsn: str, connection: Connection) -> Finding:
    name = "schema"
    try:
        report = install.check(dsn)
    except FlywheelError as exc:
        return error(name, exc.message, exc.hint or MIGRATE)
    except psycopg.errors.InsufficientPrivilege:
        if _has_schema(connection):
            remedy = "run doctor as the owner of the schema flywheel, or as a superuser"
            return warning(name, "this user may not see the schema's version", remedy)
        return error(name, "this user has no right to the schema flywheel", schema.GRANT)
    if not report.changed:
        return ok(name, f"revision {report.to_revision}, up to date")
    if report.from_revision is None:
        return error(name, "the database is not migrated", MIGRATE)
    online = [step for step in report.steps if step.startswith("online ")]
    if len(online) == len(report.steps):
        return error(name, f"unfinished online steps: {', '.join(online)}", MIGRATE)
    steps = ", ".join(report.steps[:5]) + (", ..." if len(report.steps) > 5 else "")
    return error(name, f"behind this release of flywheel-db; to do: {steps}", MIGRATE)


def _has_schema(connection: Connection) -> bool:
    with connection.transaction():
        row = connection.execute(
            "select exists (select from pg_catalog.pg_class as c"
            " join pg_catalog.pg_namespace as n on n.oid = c.relnamespace"
            " where n.nspname = 'flywheel' and c.relname = 'traces')"
        ).fetchone()
    return row is not None and bool(row[0])
