"""Validators that run away: the INSERT goes on, the session is well, the next statement knows nothing."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from psycopg.types.json import Jsonb

RUNAWAYS = {
    "endless loop": "while True: pass\nreturn True",
    "catastrophic pattern": "import re\nreturn re.match(r'(a+)+$', 'a' * 60 + 'b') is None",
    "sleep": "import time\ntime.sleep(3600)\nreturn True",
    "waits for a socket": "import socket\na, b = socket.socketpair()\na.recv(1)\nreturn True",
    "endless allocation": "kept = []\nwhile True: kept.append('x' * 10 ** 7)\nreturn True",
    "one huge allocation": "return len(bytearray(10 ** 10)) > 0",
    "catches everything": "while True:\n  try:\n    while True: pass\n  except:\n    pass\nreturn True",
    "catches everything twice": (
        "while True:\n  try:\n    try:\n      while True: pass\n    except BaseException:\n      pass\n"
        "  except BaseException:\n    pass\nreturn True"
    ),
    "endless in finally": "try:\n  while True: pass\nfinally:\n  return None",
    "huge details": "return {'passed': True, 'details': [[0] * 10 ** 4] * 10 ** 4}",
    "endless recursion": "def f(n): return f(n + 1)\nreturn f(0)",
}


def _server_python(db: Connection) -> tuple[int, int]:
    db.execute(
        "create or replace function pg_temp.python() returns integer[] language plpython3u as $$"
        " import sys; return list(sys.version_info[:2]) $$"
    )
    row = db.execute("select pg_temp.python()").fetchone()
    assert row is not None
    return tuple(row[0])


@pytest.mark.parametrize("name", RUNAWAYS)
def test_a_runaway_costs_its_own_verdict(
    db: Connection, create: Callable[..., int], verdict: Callable[..., dict[str, Any]], name: str
) -> None:
    if name == "catches everything twice" and _server_python(db) >= (3, 12):
        pytest.skip("a known limit, told in docs/explanation/python-validators.md")
    create("runaway", RUNAWAYS[name], pipeline="p")
    create("well", "return len(output) == 5")
    db.execute("select flywheel.create_validator('sql', 'sql', 'length(output) = 5')")
    for _ in range(2):
        got = verdict("runaway", pipeline="p")
        assert got["status"] == "error", got
        assert got["error"].startswith('validator "runaway"')
        db.execute("delete from flywheel._breaches")
    assert verdict("well", pipeline="p")["passed"]
    # Nothing is left behind: no timer, no limit, no trace function.
    db.execute(
        "create or replace function pg_temp.state() returns text language plpython3u as $$"
        " import resource, signal, sys;"
        " return str((signal.getitimer(signal.ITIMER_PROF), resource.getrlimit(resource.RLIMIT_AS)[0], sys.gettrace())) $$"
    )
    assert db.execute("select pg_temp.state()").fetchone() == ("((0.0, 0.0), -1, None)",)
    assert db.execute(
        "select validator, decided, errored, missing from flywheel.coverage order by 1"
    ).fetchall() == [("runaway", 0, 3, 0), ("sql", 3, 0, 0), ("well", 3, 0, 0)]


def test_a_batch_gives_up_and_says_so(db: Connection, create: Callable[..., int]) -> None:
    create("slow", "while output == 'x': pass\nreturn True", budget=Jsonb({"time_ms": 50}))
    db.execute("insert into flywheel.traces (output) select 'x' from generate_series(1, 2500)")
    rows = db.execute(
        "select count(*), error from flywheel.verdicts group by error order by 1"
    ).fetchall()
    assert sum(count for count, _ in rows) == 2500
    assert all(error for _, error in rows)
    given_up = [count for count, error in rows if "OutOfTime" in error]
    assert 1 <= sum(given_up) <= 10  # of the first batch; later batches are not tried
    assert rows[-1][1].endswith("earlier rows of the statement used up its budget of 50 ms")


def test_one_bad_row_costs_only_itself(db: Connection, create: Callable[..., int]) -> None:
    create("v", "while output == '500': pass\nreturn True", budget=Jsonb({"time_ms": 200}))
    db.execute(
        "insert into flywheel.traces (output) select n::text from generate_series(1, 1000) n"
    )
    rows = db.execute(
        "select status, count(*) from flywheel.verdicts group by 1 order by 1"
    ).fetchall()
    assert rows == [("error", 1), ("passed", 999)]


def test_the_next_statement_tries_again(db: Connection, create: Callable[..., int]) -> None:
    create("v", "while output == 'x': pass\nreturn True", budget=Jsonb({"time_ms": 50}))
    db.execute("insert into flywheel.traces (output) select 'x' from generate_series(1, 20)")
    db.execute("insert into flywheel.traces (output) values ('fine')")
    rows = db.execute(
        "select t.output, v.status, count(*) from flywheel.verdicts v join flywheel.traces t using (trace_id) group by 1, 2 order by 1"
    ).fetchall()
    assert rows == [("fine", "passed", 1), ("x", "error", 20)]


ISOLATION = {
    "globals": ("global n\nn = globals().get('n', 0) + 1\nreturn n == 1"),
    "attributes": "attributes['seen'] = attributes.get('seen', 0) + 1\nreturn attributes['seen'] == 1",
    "params": "params['list'].append(1)\nreturn len(params['list']) == 1",
    "builtins": "seen = globals().setdefault('len', 0)\nreturn callable(len) is False or seen == 0",
    "its own name": "fresh = not hasattr(check, 'n') if 'check' in globals() else True\nreturn fresh",
}


@pytest.mark.parametrize("name", ISOLATION)
def test_nothing_is_left_for_the_next_row(
    db: Connection, create: Callable[..., int], name: str
) -> None:
    create("first", ISOLATION[name], params=Jsonb({"list": []}))
    create("second", ISOLATION[name], params=Jsonb({"list": []}))
    for _ in range(2):
        db.execute(
            "insert into flywheel.traces (output, attributes) select 'x', '{}' from generate_series(1, 3)"
        )
    assert db.execute("select distinct status from flywheel.verdicts").fetchall() == [("passed",)]


def test_one_validator_cannot_change_another_s_builtins(
    db: Connection, create: Callable[..., int]
) -> None:
    create(
        "vandal",
        # What it imports needs len itself.
        "import builtins, signal\nbuiltins.len = lambda _: 0\nsignal.signal(signal.SIGPROF, signal.SIG_IGN)\nreturn True",
    )
    create("victim", "return len(output) == 5")
    create("loop", "while True: pass\nreturn True")
    for _ in range(2):
        db.execute("insert into flywheel.traces (output) values ('hello')")
    rows = db.execute(
        "select validator, status, count(*) from flywheel.verdicts group by 1, 2 order by 1"
    ).fetchall()
    assert rows == [("loop", "error", 2), ("vandal", "passed", 2), ("victim", "passed", 2)]


def test_statement_timeout_still_works(db: Connection, create: Callable[..., int]) -> None:
    create("v", "while True: pass\nreturn True", budget=Jsonb({"time_ms": 1500}))
    db.execute("set local statement_timeout = 100")
    with pytest.raises(psycopg.errors.QueryCanceled), db.transaction():
        db.execute("insert into flywheel.traces (output) values ('x')")


def test_a_missing_runtime_is_an_error_verdict(db: Connection, create: Callable[..., int]) -> None:
    create("v", "return True")
    db.execute("alter function flywheel._run_python rename to _gone")
    db.execute("insert into flywheel.traces (output) values ('x'), ('y')")
    rows = db.execute("select status, error from flywheel.verdicts").fetchall()
    assert [status for status, _ in rows] == ["error", "error"]
    assert "_run_python" in rows[0][1]


def _tick(db: Connection, minutes: int) -> None:
    db.execute(
        "create or replace function flywheel.now() returns timestamptz language sql stable parallel safe "
        f"begin atomic select pg_catalog.now() + interval '{minutes} minutes'; end"  # type: ignore[arg-type]
    )


def _insert(db: Connection, output: str = "x") -> None:
    db.execute("insert into flywheel.traces (output) values (%s)", (output,))


def test_the_breaker_opens_and_closes(db: Connection, create: Callable[..., int]) -> None:
    create("v", "while output == 'x': pass\nreturn True", budget=Jsonb({"time_ms": 20}))
    for minutes in range(3):
        _tick(db, minutes)
        _insert(db)
    row = db.execute(
        "select mode, breaker_opened_at is not null from flywheel.validators"
    ).fetchone()
    assert row == ("queued", True)
    _insert(db, "after")
    assert db.execute(
        "select decided, errored, pending, missing from flywheel.coverage"
    ).fetchone() == (0, 3, 1, 0)
    db.execute("update flywheel.traces set output = 'changed' where output = 'after'")
    assert db.execute("select revision from flywheel._jobs").fetchall() == [(2,)]
    assert db.execute("select * from flywheel.check_input('hello')").fetchall() == []

    notices: list[str] = []
    db.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    db.execute("select flywheel.enable_validator('v')")
    assert "1 verdicts were enqueued meanwhile" in notices
    assert db.execute("select mode, breaker_opened_at from flywheel.validators").fetchone() == (
        "inline",
        None,
    )
    assert db.execute("select filled from flywheel.sweep()").fetchall() == [(1,)]
    assert db.execute(
        "select decided, errored, pending, missing from flywheel.coverage"
    ).fetchone() == (1, 3, 0, 0)


def test_the_breaker_stays_shut_for_what_is_rare(
    db: Connection, create: Callable[..., int]
) -> None:
    create("v", "while output == 'x': pass\nreturn True", budget=Jsonb({"time_ms": 20}))
    for minutes in (0, 0, 0, 11, 22, 33):
        _tick(db, minutes)
        _insert(db)
    assert db.execute("select mode from flywheel.validators").fetchone() == ("inline",)


def test_a_validator_that_rejects_is_never_moved(
    db: Connection, create: Callable[..., int]
) -> None:
    create(
        "v",
        "while output == 'x': pass\nreturn True",
        on_fail="reject",
        budget=Jsonb({"time_ms": 20}),
    )
    for minutes in range(5):
        _tick(db, minutes)
        _insert(db)
    assert db.execute("select mode, breaker_opened_at from flywheel.validators").fetchone() == (
        "inline",
        None,
    )


def test_a_dry_run_opens_no_breaker(db: Connection, create: Callable[..., int]) -> None:
    _insert(db)
    create("v", "while True: pass\nreturn True", enabled=False, budget=Jsonb({"time_ms": 20}))
    for minutes in range(4):
        _tick(db, minutes)
        rows = db.execute("select status from flywheel.test_validator('v')").fetchall()
        assert rows == [("error",)]
    assert db.execute("select count(*) from flywheel._breaches").fetchone() == (0,)


def test_a_new_version_starts_afresh(db: Connection, create: Callable[..., int]) -> None:
    create("v", "while output == 'x': pass\nreturn True", budget=Jsonb({"time_ms": 20}))
    for minutes in range(3):
        _tick(db, minutes)
        _insert(db)
    db.execute("select flywheel.alter_validator('v', body => 'return True')")
    _insert(db)
    assert db.execute("select passed from flywheel.verdicts where version = 2").fetchall() == [
        (True,)
    ]


def test_the_first_tick_finds_somebody_listening(connect: Callable[..., Connection]) -> None:
    """With the shortest of budgets the first tick comes while a fresh session still gets ready."""
    connect().execute(
        "select flywheel.create_validator('v', 'python', 'while True: pass\nreturn True', budget => '{\"time_ms\": 1}', on_fail => 'reject', on_error => 'allow')"
    )
    for _ in range(12):
        session = connect()
        session.execute("insert into flywheel.traces (output) values ('x')")
        assert session.execute("select 1").fetchone() == (1,)
