"""``flywheel-db migrate``: tables by frozen revisions, everything else re-applied when it changed.

One transaction under one advisory lock. In it, in this order: the schema and pgvector, the roles
and functions that column defaults need, the Alembic revisions, the replaceable files with the
triggers last, the compiled validators. Locks on tables are waited for two seconds at a time, so
that a migration never makes the application's writers queue behind it for long. Steps that cannot
run in a transaction (``create index concurrently``) follow, each recorded when it is done.
"""

import io
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import Connection, Error, errors, sql
from psycopg.rows import TupleRow
from sqlalchemy import Connection as Borrowed
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from flywheel_db.bundle import PYTHON_FILES, Bundle, SqlFile
from flywheel_db.connection import connect
from flywheel_db.errors import MigrationError

_ADVISORY_LOCK = 0x666C7977_68656C  # "flywhel"
_LOCK_TIMEOUT = "2s"
_ATTEMPTS = 90

Report = Callable[[str], None]


@dataclass(frozen=True)
class OnlineStep:
    """A statement that cannot run in a transaction; ``index`` is the index it builds, if any."""

    name: str
    statement: str
    index: str | None = None


@dataclass(frozen=True)
class MigrationReport:
    """What a migration did, would do, or found nothing to do."""

    from_revision: str | None
    to_revision: str
    steps: tuple[str, ...]
    changed: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Plan:
    current: str | None
    head: str
    revisions: tuple[str, ...]
    files: tuple[SqlFile, ...]
    online: tuple[OnlineStep, ...]
    warnings: tuple[str, ...] = field(default=())

    @property
    def is_empty(self) -> bool:
        return not (self.revisions or self.files or self.online)

    @property
    def steps(self) -> tuple[str, ...]:
        return (
            *(f"revision {revision}" for revision in self.revisions),
            *(f"replace {file.name}" for file in self.files),
            *(f"online {step.name}" for step in self.online),
        )

    def report(self) -> MigrationReport:
        return MigrationReport(
            self.current, self.head, self.steps, not self.is_empty, self.warnings
        )


def check(dsn: str, *, bundle: Bundle | None = None) -> MigrationReport:
    """Say what ``migrate`` would do. Executes nothing and takes no lock on a user's table."""
    with connect(dsn) as connection:
        return _plan(connection, bundle or Bundle.shipped()).report()


def migrate(
    dsn: str,
    *,
    dry_run: bool = False,
    report: Report = lambda _: None,
    bundle: Bundle | None = None,
) -> MigrationReport:
    """Bring a database to this release. Safe to repeat, and in many processes at once.

    With ``dry_run`` everything transactional is executed and rolled back.

    Raises:
        MigrationError: what stands in the way, and what to do about it.
    """
    bundle = bundle or Bundle.shipped()
    with connect(dsn) as connection:
        plan = _plan(connection, bundle)
        connection.rollback()
        if plan.is_empty:
            return plan.report()
        done = _apply_patiently(connection, bundle, dry_run=dry_run, report=report)
        if not dry_run:
            _run_online_steps(connection, bundle, report)
        return done.report()


def script(dsn: str | None = None, *, bundle: Bundle | None = None) -> str:
    """Return the migration as one SQL script, for a database administrator to run with psql.

    Without a dsn it is the fresh install; with one, what that database lacks.
    """
    bundle = bundle or Bundle.shipped()
    if dsn is None:
        revisions = tuple(_revisions(bundle, None))
        online = tuple(step for _, step in _online_steps(bundle))
        plan = _Plan(None, revisions[-1], revisions, bundle.files, online)
    else:
        with connect(dsn) as connection:
            plan = _plan(connection, bundle)
    parts = [
        "-- Written by flywheel-db migrate --sql. Run it with psql -v ON_ERROR_STOP=1 -f.",
        "begin;",
        f"select pg_advisory_xact_lock({_ADVISORY_LOCK});",
        f"set local lock_timeout = '{_LOCK_TIMEOUT}';",
        _LOCK_VALIDATORS,
        _PREPARE,
        *(_file_script(file) for file in plan.files if file in bundle.before_tables),
    ]
    if plan.revisions:
        buffer = io.StringIO()
        config = _alembic_config(bundle, buffer)
        command.upgrade(config, f"{plan.current or 'base'}:head", sql=True)
        parts.append(buffer.getvalue())
    parts += [_file_script(file) for file in plan.files if file in bundle.after_tables]
    recorded = sql.SQL(_RECORD_FILE).format
    parts += [recorded(file.name, file.sha256).as_string() for file in plan.files]
    if plan.files:
        parts.append("select flywheel._recompile();")
    parts.append("commit;")
    for step in plan.online:
        parts.append(f"{step.statement};")
        parts.append(sql.SQL(_RECORD_STEP).format(step.name).as_string())
    return "\n\n".join(parts) + "\n"


# The lock of flywheel._begin_change().
_LOCK_VALIDATORS = "select pg_advisory_xact_lock(hashtextextended('flywheel._validator_set', 0));"

_RECORD_FILE = """\
insert into flywheel._release (file, sha256) values ({}, {})
on conflict (file) do update set sha256 = excluded.sha256, applied_at = now();"""

_RECORD_STEP = "insert into flywheel._online_steps (step) values ({}) on conflict do nothing;"

_PREPARE = """\
set local check_function_bodies = off;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
create schema if not exists flywheel;
create extension if not exists vector schema flywheel;"""


def _file_script(file: SqlFile) -> str:
    return f"-- {file.name}\n{file.text}"


def _can_have_python(connection: Connection[TupleRow]) -> bool:
    row = connection.execute(
        "select (select rolsuper from pg_roles where rolname = current_user)"
        " and exists (select from pg_available_extensions where name = 'plpython3u')"
    ).fetchone()
    return row is not None and bool(row[0])


def _alembic_config(bundle: Bundle, output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output or io.StringIO())
    config.set_main_option("script_location", str(bundle.migrations).replace("%", "%%"))
    return config


def _revisions(bundle: Bundle, current: str | None) -> Iterator[str]:
    """Yield the revisions after ``current``, oldest first."""
    directory = ScriptDirectory.from_config(_alembic_config(bundle))
    known = [revision.revision for revision in directory.walk_revisions()][::-1]
    if current is None:
        yield from known
    elif current in known:
        yield from known[known.index(current) + 1 :]
    else:
        raise MigrationError(
            f"the database is at revision {current}, which this release does not know",
            hint="It was migrated by a newer flywheel-db. Upgrade the package: "
            "pip install --upgrade flywheel-db",
        )


def _online_steps(bundle: Bundle) -> Iterator[tuple[str, OnlineStep]]:
    directory = ScriptDirectory.from_config(_alembic_config(bundle))
    for revision in reversed(list(directory.walk_revisions())):
        for step in getattr(revision.module, "online", ()):
            yield revision.revision, step


def _plan(connection: Connection[TupleRow], bundle: Bundle) -> _Plan:
    """Compare the database with the bundle, reading nothing but our own bookkeeping."""
    directory = ScriptDirectory.from_config(_alembic_config(bundle))
    head = directory.get_current_head()
    if head is None:
        raise MigrationError("the bundle holds no migrations", hint="Reinstall the package.")
    version = connection.info.server_version
    if version < 150000:
        raise MigrationError(
            f"the server is PostgreSQL {version // 10000}",
            hint="flywheel-db needs PostgreSQL 15 or later.",
        )

    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise MigrationError(
            f"the database's encoding is {encoding}",
            hint="flywheel-db needs UTF8, for texts in any language: "
            "createdb --encoding=UTF8 --template=template0 NAME",
        )

    current: str | None = None
    applied: dict[str, str] = {}
    done: set[str] = set()
    row = connection.execute(
        "select to_regclass('flywheel._alembic_version'), to_regclass('flywheel._release'),"
        " to_regclass('flywheel.traces')"
    ).fetchone()
    assert row is not None  # noqa: S101  a SELECT without FROM has a row
    if row[0] is not None:
        found = connection.execute("select version_num from flywheel._alembic_version").fetchone()
        current = found[0] if found else None
    elif row[2] is not None:
        raise MigrationError(
            "the schema flywheel exists and was not made by flywheel-db migrate",
            hint="Rename or drop it: alter schema flywheel rename to something_else",
        )
    if current is not None and row[1] is not None:
        applied = dict(connection.execute("select file, sha256 from flywheel._release").fetchall())
        done = {name for (name,) in connection.execute("select step from flywheel._online_steps")}
    return _Plan(
        current,
        head,
        tuple(_revisions(bundle, current)),
        tuple(_changed_files(bundle, applied, _can_have_python(connection))),
        tuple(step for _, step in _online_steps(bundle) if step.name not in done),
        tuple(_warnings(connection)),
    )


def _changed_files(
    bundle: Bundle, applied: dict[str, str], can_have_python: bool
) -> Iterator[SqlFile]:
    """Yield what to re-apply; with anything new come the privileges, which name every object."""
    changed = {file.name for file in bundle.files if applied.get(file.name) != file.sha256}
    if changed.intersection(PYTHON_FILES) and not can_have_python:
        if applied.keys() & set(PYTHON_FILES):
            raise MigrationError(
                "the Python runtime in the database must be replaced, which only a superuser can",
                hint="Run flywheel-db migrate as a superuser, where plpython3u is available.",
            )
        changed.difference_update(PYTHON_FILES)
    for file in bundle.files:
        if file.name in changed or (changed and file.name == "privileges.sql"):
            yield file


def _warnings(connection: Connection[TupleRow]) -> Iterator[str]:
    available = connection.execute(
        "select name, coalesce(installed_version, default_version)"
        " from pg_available_extensions where name in ('vector', 'plpython3u')"
    ).fetchall()
    versions: dict[str, str] = dict(available)
    vector = versions.get("vector")
    if vector is not None and tuple(int(n) for n in vector.split(".")[:3]) < (0, 8, 4):
        yield (
            f"pgvector {vector} can corrupt an HNSW index during VACUUM; 0.8.4 or later does not."
        )
    if "plpython3u" not in versions:
        yield (
            "plpython3u is not available: SQL validators run inside the INSERT, Python ones "
            "are queued for a worker."
        )
    elif not _can_have_python(connection) and not _has_python(connection):
        yield (
            "only a superuser can install Python inside the database: until one runs migrate, "
            "Python validators are queued for a worker."
        )


def _has_python(connection: Connection[TupleRow]) -> bool:
    row = connection.execute(
        "select exists (select from pg_proc where proname = '_run_python'"
        " and pronamespace = to_regnamespace('flywheel'))"
    ).fetchone()
    return row is not None and bool(row[0])


def _apply_patiently(
    connection: Connection[TupleRow], bundle: Bundle, *, dry_run: bool, report: Report
) -> _Plan:
    """Apply in one transaction; start again when a lock was not to be had in time."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _apply_once(connection, bundle, dry_run=dry_run, report=report)
        except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
            if attempt == _ATTEMPTS:
                raise MigrationError(
                    "a lock on flywheel's tables was not to be had: " + str(error).strip(),
                    hint="A long transaction holds them. Find it in pg_stat_activity, end it or "
                    "wait for it, and run migrate again; nothing was changed.",
                ) from error
            report(f"waiting for a lock held by another session (attempt {attempt})")
            time.sleep(random.uniform(0.2, 1.0))  # noqa: S311
        except errors.DependentObjectsStillExist as error:
            raise MigrationError(
                "objects of yours depend on something that must change: "
                + (error.diag.message_detail or str(error)),
                hint="Drop them, run migrate, and make them again. Nothing was changed.",
            ) from error
        except errors.InsufficientPrivilege as error:
            raise MigrationError(
                str(error).strip(),
                hint="Migrate as a superuser; or as the owner of the database, with CREATEROLE,"
                " after a superuser has run: create extension vector. Where the roles exist,"
                f" also: grant flywheel_validator, flywheel_metric to {connection.info.user}",
            ) from error
        except (errors.UndefinedFile, errors.FeatureNotSupported) as error:
            raise MigrationError(
                str(error).strip(),
                hint="The server lacks pgvector: docker/install-postgres.sh installs it, and most "
                "managed services offer it as the extension vector.",
            ) from error
    raise AssertionError("unreachable")


def _apply_once(
    connection: Connection[TupleRow], bundle: Bundle, *, dry_run: bool, report: Report
) -> _Plan:
    # Alembic speaks through SQLAlchemy, which borrows our connection and its transaction.
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool
    )
    try:
        with engine.connect() as shared, shared.begin() as transaction:
            # Waited for without a limit: whoever holds it is migrating and will be done soon.
            connection.execute("select pg_advisory_xact_lock(%s)", (_ADVISORY_LOCK,))
            plan = _plan(connection, bundle)
            _apply(connection, shared, bundle, plan, report)
            if dry_run:
                transaction.rollback()
            return plan
    except DBAPIError as error:
        if isinstance(error.orig, Error):
            raise error.orig from error
        raise


def _apply(
    connection: Connection[TupleRow],
    shared: Borrowed,
    bundle: Bundle,
    plan: _Plan,
    report: Report,
) -> None:
    if not (plan.revisions or plan.files):
        return
    connection.execute(sql.SQL("set local lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT)))
    # Before any of its functions are replaced: an admin may be changing the set right now.
    connection.execute(_LOCK_VALIDATORS.encode())
    _run(connection, _PREPARE)
    changed = set(plan.files)
    for file in bundle.before_tables:
        if file in changed:
            report(f"replace {file.name}")
            _run(connection, file.text)
    if plan.revisions:
        report(f"revisions {', '.join(plan.revisions)}")
        config = _alembic_config(bundle)
        config.attributes["connection"] = shared
        command.upgrade(config, "head")
    for file in bundle.after_tables:
        if file in changed:
            report(f"replace {file.name}")
            _run(connection, file.text)
    if plan.files:
        # The compiler may be among the files.
        connection.execute("select flywheel._recompile()")
    for file in plan.files:
        connection.execute(sql.SQL(_RECORD_FILE).format(file.name, file.sha256))


def _run(connection: Connection[TupleRow], text: str) -> None:
    # psycopg asks for a literal; this text comes from our own files.
    connection.execute(text.encode())


def _run_online_steps(connection: Connection[TupleRow], bundle: Bundle, report: Report) -> None:
    """Run what cannot be in a transaction: one process at a time, each step recorded."""
    connection.commit()
    connection.autocommit = True
    # Not waited for inside a statement: its snapshot would hold up the index that the holder of the
    # lock is building, each waiting for the other.
    while not _try_advisory_lock(connection):
        time.sleep(random.uniform(0.1, 0.3))  # noqa: S311
    try:
        for step in _plan(connection, bundle).online:
            report(f"online {step.name}")
            if step.index is not None:
                _drop_invalid_index(connection, step.index)
            connection.execute(step.statement.encode())
            connection.execute(sql.SQL(_RECORD_STEP).format(step.name))
    finally:
        connection.execute("select pg_advisory_unlock(%s)", (_ADVISORY_LOCK + 1,))
        connection.autocommit = False


def _try_advisory_lock(connection: Connection[TupleRow]) -> bool:
    row = connection.execute("select pg_try_advisory_lock(%s)", (_ADVISORY_LOCK + 1,)).fetchone()
    return row is not None and bool(row[0])


def _drop_invalid_index(connection: Connection[TupleRow], index: str) -> None:
    """Remove what an interrupted ``create index concurrently`` leaves behind."""
    invalid = connection.execute(
        "select from pg_index where indexrelid = to_regclass(%s) and not indisvalid", (index,)
    ).fetchone()
    if invalid is not None:
        schema, name = index.split(".")
        connection.execute(
            sql.SQL("drop index concurrently {}").format(sql.Identifier(schema, name))
        )
