"""`flywheel-db validators`."""

import json
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
    assert "too long" in flywheel("validators", "list", "--table").out
    shown = flywheel("validators", "show", "it's short").row
    assert shown["body"] == "length(output) < 3"
    assert shown["enabled"] is False
    assert shown["coverage"]["expected"] == 0
    assert "description" in flywheel("validators", "show", "it's short", "--table").out


def test_a_validator_without_a_description_is_listed_with_its_body(
    flywheel: Run, connect: Connect
) -> None:
    connect().execute("select flywheel.create_validator('v', 'sql', 'true')")
    assert "true" in flywheel("validators", "list", "--table").out
    assert flywheel("validators", "list").row["description"] is None


def test_list_the_catalog(flywheel: Run) -> None:
    rows = {row["name"]: row for row in flywheel("validators", "list", "--builtin").rows}
    assert rows["max_length"]["params"] == {"max": 2000, "unit": "characters"}
    assert set(rows["max_length"]) == {
        "name",
        "sides",
        "language",
        "cost",
        "params",
        "description",
    }
    assert rows["language"]["language"] == "python"
    assert "validators enable" in flywheel("validators", "list", "--builtin", "--table").out


def test_show_a_builtin_where_no_validator_has_the_name(flywheel: Run) -> None:
    assert flywheel("validators", "show", "no_refusal").row["cost"] == "medium"
    assert flywheel("validators", "enable", "no_refusal", "--disabled").code == 0
    shown = flywheel("validators", "show", "no_refusal").row
    assert (shown["builtin"], shown["enabled"]) == ("no_refusal", False)
    assert {"body", "params", "budget", "breaker_opened_at", "coverage"} <= set(shown)


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


def test_enable_makes_a_validator_of_a_builtin(flywheel: Run, connect: Connect) -> None:
    made = flywheel(
        *("validators", "enable", "max_length", "--as", "brief", "--params", '{"max": 3}'),
        *("--pipeline", "support", "--on-fail", "reject", "--mode", "inline"),
    )
    assert made.row == {"name": "brief", "enabled": True, "builtin": "max_length"}
    row = (
        connect()
        .execute(
            "select name, enabled, builtin, params ->> 'max', pipeline, on_fail, mode"
            " from flywheel.validators"
        )
        .fetchone()
    )
    assert row == ("brief", True, "max_length", "3", "support", "reject", "inline")
    again = flywheel("validators", "enable", "max_length", "--as", "brief")
    assert again.code == 3
    assert "already" in again.err
    off = flywheel("validators", "enable", "max_length", "--disabled", "--table")
    assert (
        off.out == "max_length is made, and not enabled, made from the built-in check max_length\n"
    )
    assert flywheel("validators", "enable", "max_length").row == {
        "name": "max_length",
        "enabled": True,
        "builtin": None,
    }


def test_options_are_not_for_a_validator_that_exists(flywheel: Run, short: Connection) -> None:
    ran = flywheel("validators", "enable", "it's short", "--pipeline", "support")
    assert ran.code == 3
    assert "there is a validator it's short already" in ran.err
    assert "alter_validator('it''s short', ...)" in ran.err
    assert short.execute("select enabled from flywheel.validators").fetchone() == (False,)


def test_near_matches_of_both_kinds_are_named(flywheel: Run, short: Connection) -> None:
    ran = flywheel("validators", "enable", "Its Short")
    assert ran.code == 3
    assert "did you mean it's short" in ran.err
    assert "no_refusal" in flywheel("validators", "show", "refusal").err


@pytest.mark.parametrize("params", ["{", "[1]"])
def test_params_are_a_json_object(flywheel: Run, params: str) -> None:
    ran = flywheel("validators", "enable", "max_length", "--params", params)
    assert ran.code == 2
    assert "--params" in ran.err
    refused = flywheel("validators", "enable", "max_length", "--params", json.dumps({"most": 1}))
    assert refused.code == 3
    assert "no param 'most'" in refused.err


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
