"""What leaves the machine and comes back: a dump, a wheel."""

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from flywheel_db import install
from flywheel_db.server import find_binaries


def test_dump_and_restore(
    dsn: str, new_database: Callable[..., str], tmp_path: Path, dump: Callable[[str], str]
) -> None:
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(
            "select flywheel.create_validator('short', 'sql', 'length(output) < 5', on_fail => 'reject')"
        )
        session.execute(
            "select flywheel.create_validator('json', 'sql', '(output::jsonb) is not null', reason => 'output')"
        )
        session.execute("insert into flywheel.traces (output) values ('{}'), ('x')")
        for name, query in {
            "lengths": "select pipeline, max(length(output)) as hi from flywheel.traces group by 1",
            "opinions": "select validator, count(*) as n, avg(passed::int) as rate from flywheel.current_labels group by 1",
        }.items():
            session.execute("select flywheel.create_metric(%s, %s, 'incremental')", (name, query))
        session.execute(
            "select flywheel.label(trace_id, 'short', output = 'x') from flywheel.traces"
        )
    file = tmp_path / "flywheel.dump"
    binaries = find_binaries()
    subprocess.run([binaries / "pg_dump", "-Fc", "-f", file, "-d", dsn], check=True)
    restored = new_database()
    subprocess.run([binaries / "pg_restore", "--exit-on-error", "-d", restored, file], check=True)
    assert not install.check(restored).changed
    assert dump(restored) == dump(dsn)
    with psycopg.connect(restored, autocommit=True) as session:
        query = "select validator, decided, errored, missing from flywheel.coverage order by 1"
        assert session.execute(query).fetchall() == [("json", 1, 1, 0), ("short", 2, 0, 0)]
        session.execute("insert into flywheel.traces (output) values ('[]')")
        assert session.execute(query).fetchall() == [("json", 2, 1, 0), ("short", 3, 0, 0)]
        # Metrics go on from where they were.
        assert session.execute("select hi from flywheel.lengths").fetchall() == [(2,)]
        session.execute("delete from flywheel.traces where output <> 'x'")
        assert session.execute("select hi from flywheel.lengths").fetchall() == [(1,)]
        session.execute("select flywheel.label(trace_id, 'short', false) from flywheel.traces")
        opinions = session.execute("select validator, n, rate from flywheel.opinions").fetchall()
        assert opinions == [("short", 2, 0)]
        session.execute("select flywheel.alter_validator('short', body => 'true')")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as it would be published."""
    out = tmp_path_factory.mktemp("dist")
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", out, root],
        check=True,
        capture_output=True,
    )
    return next(out.glob("*.whl"))


def test_the_wheel_in_an_empty_environment(
    wheel: Path, new_database: Callable[..., str], tmp_path: Path
) -> None:
    """Nothing of the checkout is needed: the SQL travels in the wheel."""
    home = tmp_path / "env"
    venv.create(home, with_pip=True)
    subprocess.run([home / "bin" / "pip", "install", "--quiet", wheel], check=True)
    dsn = new_database()
    environment = {**os.environ, "FLYWHEEL_DSN": dsn, "PYTHONPATH": ""}
    program = home / "bin" / "flywheel-db"
    for command in ((program, "migrate"), (program, "migrate", "--check"), (program, "doctor")):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    with psycopg.connect(dsn) as session:
        session.execute("insert into flywheel.traces (output) values ('from a wheel')")
