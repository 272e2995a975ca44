"""What a review found: bodies and values that reach further than their verdict. Each is a test."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from psycopg import Connection, errors
from psycopg.types.json import Jsonb

from flywheel_db import install
from flywheel_db.errors import MigrationError

Create = Callable[..., int]
Verdict = Callable[..., dict[str, Any]]

LOOPS_WHERE_NOBODY_LOOKS = {
    "message of its exception": "class E(Exception):\n  def __str__(self):\n    while True: pass\nraise E()",
    "release of its result": "class D(dict):\n  def __del__(self):\n    while True: pass\nreturn D(passed=True)",
    "release of a global": "global x\nclass D(dict):\n  def __del__(self):\n    while True: pass\nx = D()\nreturn True",
    "release of a local": "class D:\n  def __del__(self):\n    while True: pass\nd = D()\nreturn True",
    "looking into its result": "class D(dict):\n  def __contains__(self, k):\n    while True: pass\n  __iter__ = keys = items = get = __contains__\nreturn D(passed=True)",
    "deep recursion": "import sys\nsys.setrecursionlimit(100_000)\ndef f(): f()\nf()\nreturn True",
}


@pytest.mark.parametrize("name", LOOPS_WHERE_NOBODY_LOOKS)
def test_it_is_watched_wherever_its_code_runs(
    create: Create, verdict: Verdict, db: Connection, name: str
) -> None:
    create("v", LOOPS_WHERE_NOBODY_LOOKS[name])
    create("well", "return len(output) == 5")
    got = verdict("v")
    assert got["status"] == "error", got
    assert verdict("well")["status"] == "passed"


@pytest.mark.parametrize(
    "body",
    [
        "class E(Exception):\n  def __str__(self): raise SystemExit(3)\nraise E()",
        "class M(type):\n  def __getattribute__(c, n): raise KeyboardInterrupt\nclass E(Exception, metaclass=M): pass\nraise E()",
        "return {'passed': True, 'confidence': 1e-50}",
        "import sys\nsys.setrecursionlimit(200_000)\nd = []\nfor _ in range(20_000): d = [d]\nreturn {'passed': True, 'details': d}",
        "class S(str):\n  def __len__(self): return 10 ** 9\n  def __getitem__(self, i): raise ValueError\nreturn False, S('abc')",
        "import os\nos.chdir('/tmp')\nreturn True",
        "import locale\nlocale.setlocale(locale.LC_ALL, 'C')\nreturn True",
        "import sys, gc\nsys.setprofile(lambda *a: None)\ngc.disable()\nreturn True",
    ],
)  # fmt: skip
def test_another_validator_never_feels_it(db: Connection, create: Create, body: str) -> None:
    create("odd", body + "\nreturn True" if "return" not in body.rsplit("\n", 1)[-1] else body)
    create(
        "well",
        "import gc, sys\nreturn gc.isenabled() and sys.getprofile() is None and sys.getrecursionlimit() < 5000",
    )
    for _ in range(2):
        db.execute("insert into flywheel.traces (output) select 'x' from generate_series(1, 3)")
    rows = db.execute(
        "select distinct status from flywheel.verdicts where validator = 'well'"
    ).fetchall()
    assert rows == [("passed",)]
    # The backend is still at home: it opens its files by relative paths.
    db.execute("create table made_afterwards (n integer); insert into made_afterwards values (1)")


@pytest.mark.parametrize(
    "text", ["a \\u0000 b", "\\\\u0000", "back\\\\\\u0000slash", "\\ud800 \U0001f600", "\\"]
)
def test_a_text_that_is_quoted_in_details_comes_back(
    create: Create, verdict: Verdict, text: str
) -> None:
    create("v", "return {'passed': True, 'details': {'quote': output}}")
    assert verdict("v", text)["details"] == {"quote": text}


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("attributes", '{"n": 1%s}' % ("0" * 5000), "attributes cannot be read"),
        ("started_at", "20000-01-01", "started_at cannot be read"),
    ],
)
def test_a_value_python_cannot_hold_is_one_error(
    db: Connection, create: Create, column: str, value: str, message: str
) -> None:
    create("v", f"return len(str({column})) > 0, output")
    good = "{}" if column == "attributes" else "2026-01-01"
    db.execute(
        f"insert into flywheel.traces (output, {column}) values ('a', %s), ('b', %s), ('c', %s)",  # type: ignore[arg-type]
        (good, value, good),
    )
    rows = db.execute(
        "select t.output, v.status, v.reason from flywheel.verdicts v join flywheel.traces t using (trace_id) order by 1"
    ).fetchall()
    assert rows == [("a", "passed", "a"), ("b", "error", None), ("c", "passed", "c")]
    row = db.execute("select error from flywheel.verdicts where status = 'error'").fetchone()
    assert row is not None
    assert message in row[0]
    assert db.execute("select count(*) from flywheel._breaches").fetchone() == (0,)


FORGED: list[dict[str, Any]] = [
    {"reads": ["output", "x=__import__('os').system('false')"]},
    {"reads": ["output", "lambda"]},
    {"reads": ["nothing"]},
    {"builtin": "_params"},
    {"builtin": "../../os"},
    {"code": "1(); import os"},
]


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_spec_runs_nothing(db: Connection, create: Create, forged: dict[str, Any]) -> None:
    """The owner of the tables may be no superuser: what is compiled in is checked in Python."""
    create("v", "return output")
    entry = {
        "version": 1, "name": "v", "code": None, "function": None, "builtin": None, "reads": ["output"],
        "params": {}, "time_ms": 500, "memory_mb": 256, "max_chars": 100, **forged,
    }  # fmt: skip
    spec = {
        "columns": [
            ["output", "text"],
            ["x=__import__('os').system('false')", "text"],
            ["lambda", "text"],
        ],
        "validators": [entry],
    }
    try:
        with db.transaction():
            row = db.execute(
                "select encode(codes, 'hex'), errors from flywheel._run_python(%s, array[array['a'], array['b'], array['c']], 1, null, '{}', 1)",
                (json.dumps(spec),),
            ).fetchone()
    except errors.ExternalRoutineException:
        return
    assert row is not None
    assert row[0] == "03"


def test_a_number_that_comes_again_is_other_code(
    db: Connection, create: Create, verdict: Verdict
) -> None:
    """A session outlives a schema that is dropped and made again."""
    create("old", "return False, 'old code'")
    assert verdict("old")["reason"] == "old code"
    db.execute("select flywheel.drop_validator('old', delete_verdicts => true)")
    db.execute(
        "select setval('flywheel._python_code_id_seq', currval('flywheel._python_code_id_seq') - 1)"
    )
    create("new", "return True, 'new code'")
    assert verdict("new")["reason"] == "new code"


def test_a_gate_in_a_read_only_transaction(db: Connection, create: Create) -> None:
    create("v", "while 'x' in input: pass\nreturn True", budget=Jsonb({"time_ms": 20}))
    with db.transaction():
        db.execute("set local transaction_read_only = on")
        rows = db.execute("select validator, passed from flywheel.check_input('x')").fetchall()
    assert rows == [("v", None)]


def test_notes_of_breaches_stay_few(db: Connection, create: Create) -> None:
    create(
        "v",
        "while 'x' in output: pass\nreturn True",
        on_fail="reject",
        budget=Jsonb({"time_ms": 20}),
    )
    for n in range(8):
        db.execute(
            "create or replace function flywheel.now() returns timestamptz language sql stable parallel safe "
            f"begin atomic select pg_catalog.now() + interval '{n} seconds'; end"  # type: ignore[arg-type]
        )
        db.execute("insert into flywheel.traces (output) values ('x')")
    assert db.execute("select count(*) from flywheel._breaches").fetchone() == (3,)


def test_another_encoding_is_refused(new_database: Callable[..., str]) -> None:
    import psycopg
    from psycopg import conninfo, sql

    dsn = new_database()
    name = str(conninfo.conninfo_to_dict(dsn)["dbname"]) + "_latin1"
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(
            sql.SQL("create database {} encoding 'LATIN1' locale 'C' template template0").format(
                sql.Identifier(name)
            )
        )
        try:
            with pytest.raises(MigrationError, match="encoding is LATIN1"):
                install.migrate(conninfo.make_conninfo(dsn, dbname=name))
        finally:
            session.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
