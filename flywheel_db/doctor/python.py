"""Where Python validators run, which of them have been moved, and whether their code is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

import psycopg
from psycopg import Connection

from flywheel_db.catalog import quoted
from flywheel_db.doctor.finding import MIGRATE, REAPPLY, SWEEP, Finding, error, ok, warning
from flywheel_db.doctor.server import INSTALL

_PLACE = "python validators"
_BREAKERS = "circuit breakers"
_CODE = "python code"

_VERSION: LiteralString = """
do language plpython3u $$
import sys
plpy.execute("select pg_catalog.set_config('flywheel.python_version', '%d.%d', true)" % sys.version_info[:2])
$$
"""  # noqa: E501 - one statement of Python


def check_runtime(connection: Connection) -> Iterator[Finding]:
    """Whether Python validators run inside the INSERT, or wait for a worker."""
    row = connection.execute(
        """
        select
          exists (select from pg_catalog.pg_extension as e where e.extname = 'plpython3u'),
          exists (
            select from pg_catalog.pg_proc as p
            where p.proname = '_run_python' and p.pronamespace = 'flywheel'::regnamespace
          ),
          exists (
            select from pg_catalog.pg_available_extensions as a where a.name = 'plpython3u'
          ),
          (select count(*) from flywheel.validators as v where v.language = 'python' and v.enabled)
        """
    ).fetchone()
    assert row is not None  # noqa: S101 - a select without from has a row
    has_language, has_runtime, is_available, count = row
    if has_language and has_runtime:
        version = _python_version(connection)
        yield ok(_PLACE, f"Python validators run inside the database (Python {version})")
    elif count == 0:
        yield ok(_PLACE, "Python does not run inside the database, and no validator needs it")
    else:
        # Where the language is there without the runtime, migrate may believe that it applied it.
        migrate = f"{REAPPLY if has_language else MIGRATE} (as a superuser)"
        yield warning(
            _PLACE,
            f"Python does not run inside the database: {_python_validators(count)} queued and"
            f" {'needs' if count == 1 else 'need'} a worker",
            migrate if is_available else f"{INSTALL}; then {migrate}; or run a worker",
        )


def _python_validators(count: int) -> str:
    return "1 Python validator is" if count == 1 else f"{count} Python validators are"


def _python_version(connection: Connection) -> str:
    """Such as 3.11. Only a superuser may ask; for others it is 3.x."""
    try:
        with connection.transaction():
            connection.execute(_VERSION)
            row = connection.execute(
                "select pg_catalog.current_setting('flywheel.python_version')"
            ).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return "3.x"
    return row[0] if row is not None else "3.x"


def check_breakers(connection: Connection) -> Iterator[Finding]:
    """Validators that were moved to the queue for exceeding their budget again and again."""
    rows = connection.execute(
        """
        select v.name, v.breaker_opened_at, e.error
        from flywheel.validators as v
        left join lateral (
          select b.error
          from flywheel._validator_versions as r
          join flywheel._breaches as b on b.version_id = r.version_id
          where r.validator_id = v.validator_id and r.version = v.version
          order by b.created_at desc, b.opens_breaker desc
          limit 1
        ) as e on true
        where v.enabled and v.breaker_opened_at is not null
        order by v.name
        """
    ).fetchall()
    for name, opened_at, last in rows:
        yield warning(
            _BREAKERS,
            f"{name} is queued since {opened_at:%Y-%m-%d %H:%M} UTC: it exceeded its budget three"
            f" times within ten minutes (the last: {last}). Make it cheaper, or raise its budget"
            " with flywheel.alter_validator(); then close the breaker",
            f"select flywheel.enable_validator({quoted(name)}); {SWEEP}",
        )
    if not rows:
        yield ok(_BREAKERS, "none is open")


def check_code(connection: Connection) -> Iterator[Finding]:
    """The code of each Python validator is a function, which somebody may have dropped."""
    rows = connection.execute(
        """
        select v.name, '_python_' || r.code_id, p.oid is null
        from flywheel.validators as v
        join flywheel._validator_versions as r
          on r.validator_id = v.validator_id and r.version = v.version
        left join pg_catalog.pg_proc as p
          on p.proname = '_python_' || r.code_id
          and p.pronamespace = 'flywheel'::regnamespace and p.pronargs = 0
        left join pg_catalog.pg_language as l on l.oid = p.prolang
        where r.code_id is not null
          and (
            p.oid is null
            or l.lanname <> 'plpython3u' and exists (
              select from pg_catalog.pg_proc as q
              where q.proname = '_run_python' and q.pronamespace = 'flywheel'::regnamespace
            )
          )
        order by v.name
        """
    ).fetchall()
    for name, function, is_missing in rows:
        # A new version with the same body: the code is made by whoever gives it, a superuser.
        again = f"(select body from flywheel.validators where name = {quoted(name)})"  # noqa: S608
        alter = f"select flywheel.alter_validator({quoted(name)}, body => {again}"
        if is_missing:
            yield error(
                _CODE,
                f"{name} cannot run: its code, the function flywheel.{function}(), is missing",
                f"{alter})",
            )
        else:
            yield warning(
                _CODE,
                f"{name} was made before Python was inside the database, and stays queued",
                f"{alter}, mode => 'inline')",
            )
    if not rows:
        yield ok(_CODE, "the code of every Python validator is there")
