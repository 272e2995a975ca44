"""A second release to migrate to: the shipped bundle, copied and changed."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import conninfo

from flywheel_db.bundle import Bundle
from flywheel_db.server import find_binaries

# The newest revision that is shipped.
HEAD = max(path.stem for path in (Bundle.shipped().migrations / "versions").glob("[0-9]*.py"))[:4]

NEXT_REVISION = '''
"""A later revision: a column, and an index built outside the transaction."""
from alembic import op
from flywheel_db.install import OnlineStep

revision = "next"
down_revision = "HEAD"
online = (
    OnlineStep(
        "next index on session_id",
        "create index concurrently if not exists traces_session_id_idx on flywheel.traces (session_id)",
        index="flywheel.traces_session_id_idx",
    ),
)


def upgrade() -> None:
    op.execute("alter table flywheel.traces add column tenant text")
    op.execute("comment on column flywheel.traces.tenant is 'Tenant of the trace.'")
'''


@pytest.fixture
def head() -> str:
    """The newest revision that is shipped."""
    return HEAD


@pytest.fixture
def copied(tmp_path: Path) -> Bundle:
    """A copy of the shipped bundle to change at will."""
    shipped = Bundle.shipped()
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(shipped.sql, tmp_path / "sql", ignore=ignore)
    shutil.copytree(shipped.migrations, tmp_path / "migrations", ignore=ignore)
    return Bundle(tmp_path / "sql", tmp_path / "migrations")


@pytest.fixture
def next_release(copied: Bundle) -> Bundle:
    """A release with a revision, an online step, a grown view, a new and a changed function."""
    (copied.migrations / "versions" / "next_next.py").write_text(
        NEXT_REVISION.replace("HEAD", HEAD)
    )
    view = copied.sql / "views" / "jobs.sql"
    view.write_text(
        view.read_text().replace("\nfrom", ",\n  r.body\nfrom", 1)
        + "\ncomment on column flywheel.jobs.body is 'Body of the check.';\n"
    )
    (copied.sql / "functions" / "hello.sql").write_text(
        "create or replace function flywheel.hello() returns text language sql immutable "
        "begin atomic select 'hello'; end;\n"
        "comment on function flywheel.hello() is 'New in this release.';\n"
    )
    gate = copied.sql / "functions" / "gate.sql"
    gate.write_text(gate.read_text().replace("'not: ' || v.body", "'does not hold: ' || v.body"))
    return copied


@pytest.fixture
def dump() -> Callable[[str], str]:
    """The schema of a database as pg_dump prints it: comments, grants and owners included."""

    def run(dsn: str) -> str:
        done = subprocess.run(
            [find_binaries() / "pg_dump", "--schema-only", "--schema=flywheel", f"--dbname={dsn}"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "COMMENT ON TABLE flywheel.traces" in done.stdout
        # Newer clients fence the dump with a random word.
        lines = [
            line
            for line in done.stdout.splitlines()
            if not line.startswith(("\\restrict", "\\unrestrict"))
        ]
        return "\n".join(lines)

    return run


@pytest.fixture
def psql(tmp_path: Path) -> Callable[[str, str], None]:
    """Run a script with psql, stopping at the first error."""

    def run(dsn: str, script: str) -> None:
        file = tmp_path / "script.sql"
        file.write_text(script)
        done = subprocess.run(
            [
                find_binaries() / "psql",
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-f",
                file,
                "-d",
                conninfo.make_conninfo(dsn),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return run
