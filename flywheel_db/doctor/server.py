"""What the server has to offer: its version, its extensions, its settings."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import Connection

from flywheel_db.doctor.finding import Finding, error, ok, warning

_MINIMUM = 15
_SAFE_VECTOR = (0, 8, 4)
INSTALL = "docker/install-postgres.sh installs it"


def check_version(connection: Connection) -> Iterator[Finding]:
    """PostgreSQL 15 or later, and not a standby."""
    major = connection.info.server_version // 10000
    if major < _MINIMUM:
        yield error("server", f"PostgreSQL {major}", f"use PostgreSQL {_MINIMUM} or later")
        return
    row = connection.execute("select pg_catalog.pg_is_in_recovery()").fetchone()
    if row is not None and row[0]:
        yield warning("server", f"PostgreSQL {major}, a standby", "write to its primary")
    else:
        yield ok("server", f"PostgreSQL {major}")


def check_replication_role(connection: Connection) -> Iterator[Finding]:
    """Under session_replication_role = replica no trigger of ours fires."""
    name = "replication role"
    found = False
    row = connection.execute(
        "select pg_catalog.current_setting('session_replication_role')"
    ).fetchone()
    if row is not None and row[0] == "replica":
        found = True
        yield error(
            name,
            "session_replication_role is replica: what this user inserts is not validated",
            "reset session_replication_role where it is set; then select * from flywheel.sweep()",
        )
    stored = connection.execute(
        """
        select coalesce(r.rolname, 'every role'), coalesce(d.datname, 'every database')
        from pg_catalog.pg_db_role_setting as s
        left join pg_catalog.pg_roles as r on r.oid = s.setrole
        left join pg_catalog.pg_database as d on d.oid = s.setdatabase
        where 'session_replication_role=replica' = any (s.setconfig)
          and (s.setdatabase = 0 or d.datname = pg_catalog.current_database())
        """
    ).fetchall()
    for role, database in stored:
        found = True
        yield error(
            name,
            f"session_replication_role is set to replica for {role} in {database}",
            "alter role (or database) ... reset session_replication_role",
        )
    if not found:
        yield ok(name, "origin: triggers fire")


def check_vector(connection: Connection) -> Iterator[Finding]:
    """pgvector is there, and of a version whose HNSW survives a VACUUM."""
    row = connection.execute(
        "select installed_version, default_version"
        " from pg_catalog.pg_available_extensions where name = 'vector'"
    ).fetchone()
    installed, available = row or (None, None)
    if installed is None and available is None:
        yield error("pgvector", "not available on this server", INSTALL)
    elif installed is None:
        yield error(
            "pgvector", f"{available} is available, not created", "run: flywheel-db migrate"
        )
    elif _version(installed) >= _SAFE_VECTOR:
        yield ok("pgvector", installed)
    else:
        newer = available is not None and _version(available) >= _SAFE_VECTOR
        yield warning(
            "pgvector",
            f"{installed} can corrupt an HNSW index during VACUUM; 0.8.4 or later does not",
            "alter extension vector update" if newer else "install pgvector 0.8.4 or later",
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())


def check_python(connection: Connection) -> Iterator[Finding]:
    """plpython3u, without which Python validators run in the worker only."""
    row = connection.execute(
        "select 1 from pg_catalog.pg_available_extensions where name = 'plpython3u'"
    ).fetchone()
    if row is None:
        yield warning(
            "plpython3u", "not available: SQL validators run, Python ones will not", INSTALL
        )
    else:
        yield ok("plpython3u", "available")
