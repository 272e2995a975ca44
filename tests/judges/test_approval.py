"""flywheel.require_prompt_approval: no prompt is sent that nobody has signed off."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import Connection, errors, sql

Judges = Any

SETTING = "flywheel.require_prompt_approval"


def _require(session: Connection, value: str = "on") -> None:
    """For every session of the database, as an owner would."""
    database = sql.Identifier(session.info.dbname)
    session.execute(
        sql.SQL("alter database {} set {} = {}").format(
            database, sql.SQL(SETTING), sql.Literal(value)
        )
    )


def _health(judges: Judges) -> dict[str, tuple[str, str | None]]:
    rows = judges.session.execute(
        "select validator || ' ' || version, state, what_to_do from flywheel.queue_health"
    ).fetchall()
    return {name: (state, advice) for name, state, advice in rows}


def _approval(judges: Judges, name: str = "kind") -> Any:
    return judges.session.execute(
        "select approved_at is not null, approved_by from flywheel.validators where name = %s",
        (name,),
    ).fetchone()


def test_it_is_off_unless_somebody_turns_it_on(judges: Judges) -> None:
    judges.create("The reply is kind.", "kind")
    judges.insert(output="x")
    assert _approval(judges) == (False, None)
    assert [state for state, _ in _health(judges).values()] == ["no_worker"]
    assert len(judges.claim()) == 1


def test_nothing_is_claimed_before_the_prompt_is_approved(judges: Judges) -> None:
    _require(judges.session)
    judges.create("The reply is kind.", "kind")
    judges.call("create_validator", "brief", "sql", "length(output) < 9", mode="queued")
    judges.insert(output="x")
    assert [job["validator"] for job in judges.claim()] == ["brief"]
    assert judges.call("has_jobs", kinds=["llm"]) is False
    assert _health(judges)["kind 1"] == (
        "not_approved",
        "select flywheel.approve_prompt('kind', 1)",
    )

    assert judges.call("approve_prompt", "kind") == 1
    assert _approval(judges) == (True, "postgres")
    assert [job["validator"] for job in judges.claim()] == ["kind"]
    assert _health(judges)["kind 1"][0] != "not_approved"


def test_what_queue_health_says_can_be_run(judges: Judges) -> None:
    """Also about an older version, whose jobs are still there."""
    _require(judges.session)
    name = judges.create("The reply is kind.", "it's kind")
    judges.insert(output="a")
    judges.call("alter_validator", name, body="The reply is brief.")
    judges.insert(output="b")
    for state, advice in _health(judges).values():
        assert state == "not_approved"
        assert advice is not None
        judges.session.execute(advice)
    assert sorted(job["version"] for job in judges.claim()) == [1, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"body": "The reply is very kind."},
        {"params": {"votes": 3}},
        {"few_shot_k": 2},
        {"model": "other"},
        {"description": "another word about it"},
    ],
)
def test_a_new_version_needs_a_new_approval(judges: Judges, change: dict[str, Any]) -> None:
    _require(judges.session)
    judges.call("create_model", "other", "http://localhost:2/v1", "m-2")
    judges.create("The reply is kind.", "kind")
    judges.call("approve_prompt", "kind")
    judges.call("alter_validator", "kind", **change)
    judges.insert(output="x")
    assert _approval(judges) == (False, None)
    assert judges.claim() == []
    assert judges.call("approve_prompt", "kind") == 2
    assert [job["version"] for job in judges.claim()] == [2]


def test_other_instructions_of_ours_need_a_new_approval(judges: Judges) -> None:
    """A release that tells judges something else must not slip through."""
    _require(judges.session)
    judges.create("The reply is kind.", "kind")
    judges.create("Kind? {{output}}", "own words", params={"system": "Yes or no."})
    judges.insert(output="x")
    judges.call("approve_prompt", "kind")
    judges.call("approve_prompt", "own words")
    judges.session.execute(
        "create or replace function flywheel._answer_format(params jsonb) returns text language sql "
        "as $$select 'Answer as you like.'$$"
    )
    assert [job["validator"] for job in judges.claim()] == ["own words"]
    assert _approval(judges) == (False, None)
    judges.call("approve_prompt", "kind")
    assert [job["validator"] for job in judges.claim()] == ["kind"]


def test_what_was_approved_is_told_apart_to_the_letter(judges: Judges) -> None:
    """No two prompts have one digest, whatever they are made of."""
    bodies = ["a", "a\x1f{}", "a {}", 'a",{}', "a\n"]
    for body in bodies:
        judges.create(body)
    digests = judges.session.execute(
        "select count(distinct flywheel._prompt_sha256(v)) from flywheel._validator_versions as v"
    ).fetchone()
    assert digests == (len(bodies),)


@pytest.mark.parametrize("value", ["on", "true", "YES", "1", "t", " On ", "enabled", "required"])
@pytest.mark.parametrize("database", [True, False])
def test_what_is_not_clearly_off_is_on(judges: Judges, value: str, database: bool) -> None:
    if database:
        _require(judges.session, value)
    else:
        judges.session.execute("select set_config(%s, %s, true)", (SETTING, value))
    assert judges.call("_requires_approval") is True


@pytest.mark.parametrize("value", ["off", "false", "NO", "0", "f", "n", ""])
@pytest.mark.parametrize("database", [True, False])
def test_what_is_off_is_off(judges: Judges, value: str, database: bool) -> None:
    if database:
        _require(judges.session, value)
    else:
        judges.session.execute("select set_config(%s, %s, true)", (SETTING, value))
    assert judges.call("_requires_approval") is False


def test_a_session_cannot_get_around_its_database(
    committed: Judges, connect: Callable[..., Connection], maintenance: Connection
) -> None:
    _require(committed.session)
    role = f"worker_{committed.session.info.dbname}"
    maintenance.execute(f"create role {role} login in role flywheel_worker")  # type: ignore[arg-type]
    try:
        maintenance.execute(f"alter role {role} set {SETTING} = off")  # type: ignore[arg-type]
        committed.create("The reply is kind.", "kind")
        committed.insert(output="x")
        worker = connect(options=f"-c {SETTING}=off")
        worker.execute(f"set {SETTING} = off")  # type: ignore[arg-type]
        worker.execute(f"set role {role}")  # type: ignore[arg-type]
        claim = "select count(*) from flywheel.claim_jobs('w')"
        assert worker.execute(claim).fetchone() == (0,)
        assert worker.execute("select state from flywheel.queue_health").fetchall() == [
            ("not_approved",)
        ]
        committed.call("approve_prompt", "kind")
        assert worker.execute(claim).fetchone() == (1,)
        worker.close()
    finally:
        maintenance.execute(f"drop role {role}")  # type: ignore[arg-type]


def test_a_session_may_be_stricter_than_its_database(judges: Judges) -> None:
    judges.create("The reply is kind.", "kind")
    judges.insert(output="x")
    judges.session.execute(f"set local {SETTING} = on")
    assert judges.claim() == []
    judges.session.execute(f"set local {SETTING} = off")
    assert len(judges.claim()) == 1


def test_the_setting_of_the_database_counts_before_that_of_all_databases(judges: Judges) -> None:
    """Inside a transaction that is rolled back: it is a setting of the whole server."""
    judges.session.execute(f"alter role all set {SETTING} = on")
    assert judges.call("_requires_approval") is True
    _require(judges.session, "off")
    assert judges.call("_requires_approval") is False


def test_only_admins_approve_and_it_is_known_who_did(judges: Judges) -> None:
    judges.create("The reply is kind.", "kind")
    judges.session.execute("create role alice login in role flywheel_admin")
    for role in ("flywheel_writer", "flywheel_labeler", "flywheel_reader", "flywheel_worker"):
        judges.session.execute(f"set local role {role}")
        with pytest.raises(errors.InsufficientPrivilege), judges.session.transaction():
            judges.call("approve_prompt", "kind")
    judges.session.execute("reset role")
    judges.session.execute("set local session authorization alice")
    judges.call("approve_prompt", "kind", comment="read it twice")
    assert _approval(judges) == (True, "alice")
    judges.session.execute("set local session authorization default")

    # Somebody who approves the same again changes nothing: the first one did.
    judges.call("approve_prompt", "kind")
    assert _approval(judges) == (True, "alice")
    for role in ("flywheel_reader", "flywheel_labeler"):
        judges.session.execute(f"set local role {role}")
        assert _approval(judges) == (True, "alice")


@pytest.mark.parametrize(
    ("arguments", "sqlstate", "said"),
    [
        (("nobody",), "LF003", "there is no validator nobody"),
        (("brief",), "LF002", "brief has no prompt, its language is sql"),
        (("kind", 2), "LF003", "kind has no version 2"),
    ],
)
def test_what_cannot_be_approved_is_said(
    judges: Judges, arguments: tuple[Any, ...], sqlstate: str, said: str
) -> None:
    judges.create("The reply is kind.", "kind")
    judges.call("create_validator", "brief", "sql", "length(output) < 9")
    with pytest.raises(psycopg.Error, match=said) as refused:
        judges.call("approve_prompt", *arguments)
    assert refused.value.sqlstate == sqlstate
    assert refused.value.diag.message_hint


def test_a_dropped_name_that_comes_back_is_not_approved(judges: Judges) -> None:
    _require(judges.session)
    judges.create("The reply is kind.", "kind")
    judges.call("approve_prompt", "kind")
    judges.call("drop_validator", "kind")
    judges.create("The reply is kind.", "kind")
    judges.insert(output="x")
    assert judges.claim() == []
    assert _approval(judges) == (False, None)
