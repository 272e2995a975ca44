"""Where the database is, and a connection to it. Passwords never reach a message."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from flywheel_db.errors import ConnectionFailed, from_psycopg

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

APPLICATION_NAME = "flywheel-db"

# Any of these says that the user means a server of their own, read by libpq itself.
_PG_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE", "PGDATABASE", "PGUSER")


def configured_dsn(dsn: str | None, environ: Mapping[str, str] | None = None) -> str | None:
    """The connection string the user configured, or None when they configured nothing.

    `--dsn` wins over FLYWHEEL_DSN, which wins over the PG* variables. For those the answer is the
    empty string: libpq reads them itself.
    """
    env = os.environ if environ is None else environ
    if dsn:
        return dsn
    if env.get("FLYWHEEL_DSN"):
        return env["FLYWHEEL_DSN"]
    if any(env.get(name) for name in _PG_VARIABLES):
        return ""
    return None


def connect(dsn: str, *, autocommit: bool = False) -> psycopg.Connection:
    """Connect, or raise ConnectionFailed. The session's time zone is UTC."""
    import psycopg
    from psycopg import conninfo

    try:
        given = conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # libpq quotes the part it could not read, and that part may be the password.
        raise ConnectionFailed(
            "the connection string cannot be read",
            hint="write postgresql://user@host:5432/database, or host=... dbname=...",
        ) from None
    given.setdefault("application_name", APPLICATION_NAME)
    if "PGCONNECT_TIMEOUT" not in os.environ:
        given.setdefault("connect_timeout", 15)
    try:
        connection = psycopg.connect(conninfo.make_conninfo("", **given), autocommit=autocommit)
    except psycopg.Error as exc:
        secrets = (str(given.get("password") or ""), os.environ.get("PGPASSWORD", ""))
        raise _connection_failed(exc, secrets) from None
    try:
        _use_utc_and_utf8(connection)
    except psycopg.Error as exc:
        connection.close()
        raise from_psycopg(exc) from exc
    return connection


def _use_utc_and_utf8(connection: psycopg.Connection) -> None:
    autocommit = connection.autocommit
    connection.autocommit = True
    connection.execute("set timezone to 'UTC'; set client_encoding to 'UTF8'")
    connection.autocommit = autocommit


def without_secrets(text: str, secrets: tuple[str, ...] = ()) -> str:
    """`text` with passwords replaced by ***."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    text = re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", text)
    return re.sub(r"(password\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)", r"\1***", text, flags=re.IGNORECASE)


_HINTS = (
    ("authentication failed", "check the user name and the password (PGPASSWORD or ~/.pgpass)"),
    ("no password supplied", "give a password: PGPASSWORD, ~/.pgpass or the connection string"),
    ("no pg_hba.conf entry", "the server does not accept this user from this host"),
    ("does not exist", "create it first: createdb, createuser"),
    ("could not translate host name", "check the host name"),
    ("too many clients", "close other connections, or raise max_connections"),
    ("starting up", "try again in a moment"),
    ("definition of service", "check PGSERVICE and ~/.pg_service.conf"),
)
_DEFAULT_HINT = (
    "check --dsn, FLYWHEEL_DSN or the PG* variables; for a private local server: flywheel-db up"
)


def _connection_failed(exc: psycopg.Error, secrets: tuple[str, ...]) -> ConnectionFailed:
    message = without_secrets(str(exc).strip(), secrets).removeprefix("connection is bad: ")
    hint = next((hint for part, hint in _HINTS if part in message), _DEFAULT_HINT)
    return ConnectionFailed(message, hint=hint, sqlstate=exc.sqlstate)
