"""A clock that is set by hand, and tasks that do as they are told."""

from collections.abc import Callable
from typing import Any

import pytest
from psycopg import Connection, sql


def set_clock(session: Connection, moment: str) -> None:
    session.execute(
        sql.SQL(
            "create or replace function flywheel.now() returns timestamptz language sql stable "
            "parallel safe begin atomic select timestamptz {}; end"
        ).format(sql.Literal(moment))
    )


def _make_task(session: Connection, body: str, task: str = "index vectors") -> None:
    """Have a task do this, whatever it does otherwise."""
    row = session.execute(
        "select function from flywheel._tasks() where task = %s union all select 'index_vectors' limit 1",
        (task,),
    ).fetchone()
    assert row is not None
    name = sql.Identifier("flywheel", row[0])
    session.execute(sql.SQL("drop function if exists {}(double precision)").format(name))
    session.execute(
        sql.SQL(
            "create function {}(max_seconds double precision) returns jsonb language plpgsql as {}"
        ).format(name, sql.Literal(f"begin {body} end"))
    )


@pytest.fixture
def at(db: Connection) -> Callable[[str], None]:
    """Stop the clock of ``db``."""
    return lambda moment: set_clock(db, moment)


@pytest.fixture
def task(db: Connection) -> Callable[..., Any]:
    """Have a task of ``db`` do this; nothing else is scheduled."""
    db.execute("delete from flywheel._schedules")
    return lambda body, task="index vectors": _make_task(db, body, task)


@pytest.fixture
def make_task() -> Callable[..., None]:
    """Have a task of a session's database do this."""
    return _make_task
