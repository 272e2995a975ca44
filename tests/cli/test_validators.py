"""`flywheel-db validators`."""

from collections.abc import Callable
from typing import Any

import pytest
from psycopg import Connection

Connect = Callable[..., Connection]
Run = Callable[..., Any]


@pytest.fixture
def short(connect: Connect) -> Connection:
    """A validator that is not enabled, and three traces."""
    db = connect()
    db.execute(
        "select flywheel.create_validator('it''s short', 'sql', 'length(output) < 3',"
        " description => 'too long', enabled => false)"
    )
    db.execute("insert into flywheel.traces (output) values ('a'), ('bb'), ('ccc'), (null)")
    return db


def test_without_validators_the_list_is_empty(flywheel: Run) -> None:
    assert flywheel("validators", "list").out == ""
    assert "create one" in flywheel("validators", "list", "--table").out


def test_list_and_show(flywheel: Run, short: Connection) -> None:
    assert flywheel("validators", "list").row["name"] == "it's short"
    assert "length(output) < 3" in flywheel("validators", "list", "--table").out
    shown = flywheel("validators", "show", "it's short").row
    assert shown["body"] == "length(output) < 3"
    assert shown["enabled"] is False
    assert shown["coverage"]["expected"] == 0
    assert "description" in flywheel("validators", "show", "it's short", "--table").out


def test_test_stores_nothing(flywheel: Run, short: Connection) -> None:
    rows = flywheel("validators", "test", "it's short").rows
    assert sorted(row["status"] for row in rows) == ["failed", "passed", "passed", "skipped"]
    table = flywheel("validators", "test", "it's short", "-n", "2", "--table").out
    assert "1 failed" in table
    assert short.execute("select count(*) from flywheel.verdicts").fetchone() == (0,)


def test_enable_disable_drop(flywheel: Run, short: Connection) -> None:
    enabled = "select enabled from flywheel.validators"
    assert flywheel("validators", "enable", "it's short").row["enabled"] is True
    assert short.execute(enabled).fetchone() == (True,)
    assert (
        flywheel("validators", "disable", "it's short", "--table").out == "it's short is disabled\n"
    )
    assert short.execute(enabled).fetchone() == (False,)
    assert flywheel("validators", "drop", "it's short").row["dropped"] is True
    assert short.execute(enabled).fetchone() is None


def test_drop_keeps_verdicts_unless_told(flywheel: Run, short: Connection) -> None:
    count = "select count(*) from flywheel.verdicts"
    assert flywheel("validators", "backfill", "it's short").code == 0
    assert flywheel("validators", "drop", "it's short").code == 0
    assert short.execute(count).fetchone() == (4,)
    short.execute("select flywheel.create_validator('other', 'sql', 'true')")
    assert flywheel("validators", "backfill", "other").code == 0
    assert flywheel("validators", "drop", "other", "--delete-verdicts").code == 0
    assert short.execute(count).fetchone() == (4,)


def test_backfill_decides_older_rows(flywheel: Run, short: Connection) -> None:
    assert (
        flywheel("validators", "backfill", "it's short", "--since", "tomorrow").row["written"] == 0
    )
    assert flywheel("validators", "backfill", "it's short").row["written"] == 4
    assert flywheel("validators", "backfill", "it's short").row["written"] == 0


@pytest.mark.parametrize("verb", ["show", "test", "enable", "disable", "drop", "backfill"])
def test_a_name_that_is_none(flywheel: Run, short: Connection, verb: str) -> None:
    ran = flywheel("validators", verb, "none")
    assert ran.code == 3
    assert ran.err.startswith("error: there is no validator")
    assert "hint: " in ran.err
    assert ran.out == ""


def test_who_may_not(flywheel: Run, short: Connection, dsn: str) -> None:
    reader = f"{dsn} options='-c role=flywheel_reader'"
    ran = flywheel("validators", "enable", "it's short", "--dsn", reader)
    assert ran.code == 3
    assert "permission denied" in ran.err
    assert "hint: grant" in ran.err
