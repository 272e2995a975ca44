"""Where Python is: inside the database, or, without plpython3u or a superuser, in the queue."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo, errors, sql

from flywheel_db import doctor, install, server
from flywheel_db.bundle import PYTHON_FILES, Bundle
from flywheel_db.errors import MigrationError
from flywheel_db.server import Server, find_binaries

# Roles are the cluster's, and test processes may share one.
PLAIN = f"plain_owner_{os.getpid()}"


def _queued_and_owed(session: psycopg.Connection) -> None:
    """Python validators and built-in checks are accepted, enqueued and counted; SQL ones run."""
    notices: list[str] = []
    session.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    session.execute("select flywheel.create_validator('short', 'python', 'return len(output) < 5')")
    session.execute("select flywheel.enable_builtin('no_repetition')")
    session.execute("select flywheel.enable_builtin('max_length', params => '{\"max\": 3}')")
    assert notices.count("this database has no Python inside, so the validator is queued") == 2
    session.execute("insert into flywheel.traces (output) values ('hello')")
    rows = session.execute(
        "select validator, decided, pending, missing from flywheel.coverage order by 1"
    ).fetchall()
    assert rows == [("max_length", 1, 0, 0), ("no_repetition", 0, 1, 0), ("short", 0, 1, 0)]
    modes = session.execute("select name, mode from flywheel.validators order by 1").fetchall()
    assert modes == [("max_length", "inline"), ("no_repetition", "queued"), ("short", "queued")]
    assert session.execute("select * from flywheel.check_input('x')").fetchall() == []
    with pytest.raises(errors.DatabaseError, match="must run inside the INSERT"):
        session.execute(
            "select flywheel.create_validator('r', 'python', 'return True', on_fail => 'reject')"
        )
    with pytest.raises(errors.DatabaseError, match="has no Python inside") as caught:
        session.execute("select * from flywheel.test_validator('short')")
    assert caught.value.sqlstate == "LF103"


def test_a_cluster_without_the_language(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PostgreSQL whose share directory has everything but plpython3u: programs find it beside them."""
    root = (
        Path(os.path.realpath("/tmp")) / f"flywheel-no-python-{tmp_path_factory.getbasetemp().name}"
    )
    bin_dir = find_binaries()

    def configured(what: str) -> Path:
        done = subprocess.run(
            [bin_dir / "pg_config", f"--{what}"], capture_output=True, text=True, check=True
        )
        return Path(done.stdout.strip())

    def moved(path: Path) -> Path:
        return root / path.relative_to("/")

    try:
        shutil.copytree(bin_dir, moved(bin_dir))
        for what in ("sharedir", "pkglibdir"):
            there = moved(configured(what))
            there.mkdir(parents=True)
            for entry in configured(what).iterdir():
                (there / entry.name).symlink_to(entry)
        extensions = moved(configured("sharedir")) / "extension"
        extensions.unlink()
        extensions.mkdir()
        for entry in (configured("sharedir") / "extension").iterdir():
            if "plpython3u" not in entry.name:
                (extensions / entry.name).symlink_to(entry)
        monkeypatch.setenv("FLYWHEEL_PG_BIN", str(moved(bin_dir)))
        private = server.up(root / "home")
        try:
            report = install.migrate(private.dsn)
            assert any("plpython3u is not available" in warning for warning in report.warnings)
            assert not {f"replace {name}" for name in PYTHON_FILES}.intersection(report.steps)
            assert not install.check(private.dsn).changed
            with psycopg.connect(private.dsn, autocommit=True) as session:
                _queued_and_owed(session)
            assert any(
                finding.level == "warning" and "queued" in finding.message
                for finding in doctor.examine(private.dsn)
            )
        finally:
            server.down(root / "home")
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def plain(
    new_database: Callable[..., str], server: Server, template: str
) -> Iterator[tuple[str, str]]:
    """A database, as its superuser and as its owner who is none."""
    superuser = new_database()
    with psycopg.connect(superuser, autocommit=True) as session:
        session.execute(f"create role {PLAIN} login createrole password 'x'")
        session.execute(
            sql.SQL(f"alter database {{}} owner to {PLAIN}").format(
                sql.Identifier(session.info.dbname)
            )
        )
        session.execute(
            "grant flywheel_admin, flywheel_writer, flywheel_labeler, flywheel_reader, flywheel_validator "
            f"to {PLAIN} with admin option"
        )
        session.execute("create extension vector")
    yield (
        superuser,
        conninfo.make_conninfo(
            superuser, user=PLAIN, password="x", host="127.0.0.1", port=server.port
        ),
    )
    with psycopg.connect(superuser, autocommit=True) as session:
        session.execute(f"drop schema flywheel cascade; drop owned by {PLAIN} cascade")
        session.execute(
            sql.SQL("alter database {} owner to postgres").format(
                sql.Identifier(session.info.dbname)
            )
        )
        session.execute(f"drop role {PLAIN}")


def test_an_owner_who_is_no_superuser(plain: tuple[str, str]) -> None:
    superuser, owner = plain
    report = install.migrate(owner)
    assert any("only a superuser can install Python" in warning for warning in report.warnings)
    with psycopg.connect(owner, autocommit=True) as session:
        _queued_and_owed(session)
    # A superuser migrates: what is queued stays so until its body is given again by one.
    assert install.migrate(superuser).changed
    assert not install.migrate(owner).changed
    with psycopg.connect(owner, autocommit=True) as session:
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute("select flywheel.create_validator('other', 'python', 'return True')")
        with pytest.raises(errors.InsufficientPrivilege, match="not made by a superuser"):
            session.execute("select flywheel.alter_validator('short', mode => 'inline')")
        session.execute("select flywheel.alter_validator('no_repetition', mode => 'inline')")
    with psycopg.connect(superuser, autocommit=True) as session:
        session.execute(
            "select flywheel.alter_validator('short', body => 'return len(output) < 5', mode => 'inline')"
        )
        session.execute("insert into flywheel.traces (output) values ('hello')")
        rows = session.execute(
            "select validator, status from flywheel.verdicts order by version desc, 1"
        ).fetchall()
        assert {("short", "failed"), ("no_repetition", "skipped")} <= set(rows) or (
            "no_repetition",
            "passed",
        ) in rows
        assert ("short", "failed") in rows


def test_a_new_runtime_asks_for_a_superuser(plain: tuple[str, str], next_runtime: Bundle) -> None:
    superuser, owner = plain
    install.migrate(owner)
    install.migrate(superuser)
    with pytest.raises(MigrationError, match="Python runtime") as caught:
        install.migrate(owner, bundle=next_runtime)
    assert "as a superuser" in (caught.value.hint or "")


@pytest.fixture
def next_runtime(tmp_path: Path) -> Bundle:
    """A release with another Python runtime."""
    shipped = Bundle.shipped()
    shutil.copytree(shipped.sql, tmp_path / "sql")
    template = tmp_path / "sql" / PYTHON_FILES[0]
    text = template.read_text().replace("{{release}}", "'next'")
    text = text.replace(
        'GD["flywheel_pl"] = (RELEASE,',
        "from flywheel_pl import runtime\nruntime._failure = lambda error, validator: runtime.Verdict(3, 'explained by the next release')\n"
        'GD["flywheel_pl"] = (RELEASE,',
    )
    template.write_text(text)
    return Bundle(tmp_path / "sql", shipped.migrations)


def test_live_sessions_follow_an_upgrade(dsn: str, next_runtime: Bundle) -> None:
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("select flywheel.create_validator('v', 'python', 'return 1 / 0')")
        session.execute("insert into flywheel.traces (output) values ('x')")
        install.migrate(dsn, bundle=next_runtime)
        session.execute("insert into flywheel.traces (output) values ('y')")
        errors_found = session.execute(
            "select error from flywheel.verdicts order by created_at"
        ).fetchall()
        assert [error for (error,) in errors_found] == [
            'validator "v", line 1: ZeroDivisionError: division by zero',
            "explained by the next release",
        ]


def test_it_survives_dump_and_restore(dsn: str, new_database: Callable[..., str]) -> None:
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(
            "select flywheel.create_validator('v', 'python', 'return len(output) < 5, \"it''s\"')"
        )
        session.execute("select flywheel.enable_builtin('no_sensitive_information')")
    copy = new_database()
    dump = subprocess.run(
        [find_binaries() / "pg_dump", f"--dbname={dsn}"], capture_output=True, check=True
    )
    subprocess.run(
        [find_binaries() / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", f"--dbname={copy}"],
        input=dump.stdout, capture_output=True, check=True,
    )  # fmt: skip
    with psycopg.connect(copy, autocommit=True) as session:
        session.execute("insert into flywheel.traces (output) values ('a.smith@example.com')")
        rows = session.execute(
            "select validator, status, reason from flywheel.verdicts order by 1"
        ).fetchall()
    assert rows == [
        ("no_sensitive_information", "failed", "e-mail address a...@example.com at character 1"),
        ("v", "failed", "it's"),
    ]
    assert not install.check(copy).changed
