"""`flywheel-db doctor`: what is broken is named, and the remedy it names mends it."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from psycopg import Connection

from flywheel_db import doctor
from flywheel_db.bundle import Bundle
from flywheel_db.doctor import schema

Connect = Callable[..., Connection]
Run = Callable[..., Any]


def trouble(dsn: str) -> list[tuple[str, str, str]]:
    """What is wrong, but for the age of this machine's pgvector, and schedules that no test runs."""
    return [
        (finding.name, finding.message, finding.remedy)
        for finding in doctor.examine(dsn)
        if finding.level != "ok" and finding.name not in ("pgvector", "schedules")
    ]


def test_a_fresh_database_is_well(flywheel: Run) -> None:
    ran = flywheel("doctor")
    assert ran.code == 0
    well = {row["name"] for row in ran.rows if row["level"] == "ok"}
    assert {"server", "schema", "roles", "rights", "triggers", "functions"} <= well
    assert {"compiled validators", "indexes", "orphans", "coverage", "replication role"} <= well
    assert {"python validators", "circuit breakers", "python code"} <= well
    assert not [row for row in ran.rows if row["level"] == "error"]


def test_a_table_for_people(flywheel: Run) -> None:
    ran = flywheel("doctor", "--table")
    assert "remedy" in ran.out
    assert "all 7 are there" in ran.out


def test_a_database_that_is_not_migrated(command: Run, new_database: Callable[..., str]) -> None:
    ran = command("doctor", "--dsn", new_database())
    assert ran.code == 1
    (found,) = [row for row in ran.rows if row["name"] == "schema"]
    assert (found["level"], found["remedy"]) == ("error", "run: flywheel-db migrate")
    assert "not migrated" in found["message"]


# (what breaks it, the finding, part of its message, what else is broken by it)
_BROKEN = [
    (
        "alter table flywheel.traces disable trigger _100_validate_inserted",
        "triggers",
        "_100_validate_inserted on traces is disabled",
    ),
    (
        "alter table flywheel.spans enable replica trigger _110_validate_updated",
        "triggers",
        "_110_validate_updated on spans fires on replicas only",
    ),
    (
        "alter table flywheel.spans enable always trigger _100_validate_inserted",
        "triggers",
        "_100_validate_inserted on spans fires on replicas too",
    ),
    (
        "drop trigger _200_delete_dependents on flywheel.traces",
        "triggers",
        "_200_delete_dependents on traces is missing",
    ),
    (
        "create or replace trigger _210_truncate_dependents after truncate on flywheel.spans"
        " for each statement execute function flywheel._tg_traces__truncate_dependents()",
        "triggers",
        "_210_truncate_dependents on spans calls _tg_traces__truncate_dependents",
    ),
    (
        "alter function flywheel._tg_traces__validate_inserted() owner to current_user",
        "functions",
        "_tg_traces__validate_inserted belongs to postgres, not to flywheel_validator",
    ),
    (
        "alter function flywheel._tg_spans__validate_updated() security invoker",
        "functions",
        "_tg_spans__validate_updated is not SECURITY DEFINER",
    ),
    (
        "alter function flywheel.sweep(integer) reset search_path",
        "functions",
        "sweep has no search_path of its own",
    ),
    (
        "grant execute on function flywheel.sweep(integer) to public",
        "functions",
        "everybody may execute sweep",
    ),
    (
        "update flywheel._validator_set set generation = generation + 1",
        "compiled validators",
        "not so: _generation",
    ),
    (
        "grant create on schema flywheel to flywheel_validator",
        "roles",
        "flywheel_validator may create objects",
    ),
    (
        "update pg_index set indisvalid = false"
        " where indexrelid = 'flywheel.traces_received_at_idx'::regclass",
        "indexes",
        "traces_received_at_idx is invalid",
    ),
    (
        "insert into flywheel._verdicts"
        " (trace_id, span_id, dimension_id, created_at, version_id, revision, status)"
        " values (gen_random_uuid(), flywheel._no_span(), 1, now(), 1, 1, 'passed')",
        "orphans",
        "1 verdicts without their trace or span",
    ),
    (
        "insert into flywheel._jobs (trace_id, span_id, version_id, revision, created_at)"
        " values (gen_random_uuid(), gen_random_uuid(), 1, 1, now())",
        "orphans",
        "1 jobs without their trace or span",
    ),
    (
        "update flywheel._verdicts set revision = 7",
        "orphans",
        "1 verdicts of an old revision",
    ),
    (
        "insert into flywheel._jobs (trace_id, span_id, version_id, revision, created_at)"
        " select trace_id, flywheel._no_span(), 1, 7, now() from flywheel.traces",
        "orphans",
        "1 jobs of an old revision",
    ),
    (
        "delete from flywheel._verdicts",
        "coverage",
        "verdicts are missing (v: 1)",
    ),
    (
        "insert into flywheel._breaches (version_id, created_at, error, opens_breaker) values"
        " (1, now() - interval '2 minutes', 'took 501 ms', false),"
        " (1, now() - interval '1 minute', 'took 502 ms', true)",
        "circuit breakers",
        "within ten minutes (the last: took 502 ms)",
    ),
    (
        "select flywheel.create_validator('it''s py', 'python', 'return True');"
        " drop function flywheel._python_1()",
        "python code",
        "it's py cannot run: its code, the function flywheel._python_1(), is missing",
    ),
    (
        "select flywheel.create_validator('py', 'python', 'return True');"
        " drop function flywheel._run_python",
        "python validators",
        "1 Python validator is queued and needs a worker",
    ),
    (
        "update flywheel._release set sha256 = '' where file = 'views/verdicts.sql'",
        "schema",
        "behind this release of flywheel-db; to do: replace views/verdicts.sql",
    ),
    (
        "update flywheel._alembic_version set version_num = 'from the future'",
        "schema",
        "revision from the future, which this release does not know",
    ),
]


@pytest.mark.parametrize(("breaks", "name", "message"), _BROKEN, ids=[row[2] for row in _BROKEN])
def test_what_is_broken_is_named_and_its_remedy_mends_it(
    dsn: str, connect: Connect, command: Run, breaks: str, name: str, message: str
) -> None:
    db = connect(options="-c allow_system_table_mods=on")
    db.execute("select flywheel.create_validator('v', 'sql', 'true')")
    db.execute("insert into flywheel.traces (input) values ('x')")
    assert trouble(dsn) == []
    db.execute(breaks.encode())

    found = [entry for entry in trouble(dsn) if entry[0] == name and message in entry[1]]
    assert len(found) == 1, trouble(dsn)
    ran = command("doctor", "--strict", "--dsn", dsn)
    assert ran.code == 1

    remedy = found[0][2]
    assert remedy
    if "pip install" in remedy:
        return
    for step in remedy.split("; "):
        if "flywheel-db migrate" in step:
            assert command("migrate", "--dsn", dsn).code == 0
        else:
            db.execute(step.encode())
    assert trouble(dsn) == []


def test_sessions_that_fire_no_trigger(dsn: str, connect: Connect) -> None:
    found = trouble(f"{dsn} options='-c session_replication_role=replica'")
    assert [entry[0] for entry in found] == ["replication role"]
    assert "what this user inserts is not validated" in found[0][1]


def test_a_role_for_which_no_trigger_fires(dsn: str, connect: Connect) -> None:
    db = connect()
    role = f"silent_{db.info.dbname}"
    db.execute(f"create role {role}")
    db.execute(
        f"alter role {role} in database {db.info.dbname} set session_replication_role = 'replica'"
    )
    try:
        (found,) = trouble(dsn)
        assert found[0] == "replication role"
        assert f"set to replica for {role} in {db.info.dbname}" in found[1]
    finally:
        db.execute(f"drop role {role}")


def test_where_python_runs(dsn: str, connect: Connect) -> None:
    def place(session: str) -> doctor.Finding:
        (found,) = [entry for entry in doctor.examine(session) if entry.name == "python validators"]
        return found

    inside = place(dsn)
    assert inside.level == "ok"
    assert re.search(r"inside the database \(Python 3\.\d+\)$", inside.message)
    # Who may not run Python code is told the rest.
    assert place(f"{dsn} options='-c role=flywheel_reader'").message.endswith("(Python 3.x)")
    connect().execute("drop function flywheel._run_python")
    assert (place(dsn).level, place(dsn).remedy) == ("ok", "")
    assert "no validator needs it" in place(dsn).message


def test_a_validator_that_is_off_has_no_breaker_to_close(dsn: str, connect: Connect) -> None:
    db = connect()
    db.execute("select flywheel.create_validator('v', 'sql', 'true', enabled => false)")
    db.execute(
        "insert into flywheel._breaches (version_id, created_at, error, opens_breaker)"
        " values (1, now(), 'slow', true)"
    )
    assert trouble(dsn) == []


def test_code_made_before_python_came(dsn: str, connect: Connect) -> None:
    db = connect()
    with db.transaction():
        db.execute("alter function flywheel._run_python rename to _run_python_later")
        db.execute("select flywheel.create_validator('py', 'python', 'return True')")
        db.execute("alter function flywheel._run_python_later rename to _run_python")
    (found,) = trouble(dsn)
    assert found[0] == "python code"
    assert "py was made before Python was inside the database, and stays queued" in found[1]
    db.execute(found[2].encode())
    assert trouble(dsn) == []
    assert db.execute("select mode from flywheel.validators").fetchone() == ("inline",)


def test_a_user_without_rights(dsn: str, connect: Connect) -> None:
    db = connect()
    role = f"nobody_{db.info.dbname}"
    db.execute(f"create role {role}")
    try:
        found = trouble(f"{dsn} options='-c role={role}'")
        assert ("rights", "this user has no right to the schema flywheel", schema.GRANT) in found
    finally:
        db.execute(f"drop role {role}")


def test_a_reader_is_told_what_it_may_not_see(dsn: str) -> None:
    found = {
        name: message for name, message, _ in trouble(f"{dsn} options='-c role=flywheel_reader'")
    }
    assert "permission denied" in found["orphans"]
    assert "coverage" not in found
    assert "rights" not in found


def test_it_changes_nothing(dsn: str, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a check that wants to write cannot."""

    def writes(connection: Connection) -> Any:
        connection.execute("truncate flywheel.traces")
        yield from ()

    monkeypatch.setattr(doctor.examination, "_SCHEMA_CHECKS", (("evil", writes),))
    (found,) = trouble(dsn)
    assert "read-only transaction" in found[1]


def test_a_role_that_is_missing_is_named(db: Connection) -> None:
    db.execute("alter role flywheel_reader rename to flywheel_reader_gone")
    (finding,) = schema.check_roles(db)
    assert (finding.level, finding.message) == ("error", "missing: flywheel_reader")


def test_a_validator_role_with_powers_is_named(db: Connection) -> None:
    db.execute("alter role flywheel_validator bypassrls")
    (finding,) = schema.check_roles(db)
    assert "has powers of its own" in finding.message
    db.execute(finding.remedy.encode())
    assert [finding.level for finding in schema.check_roles(db)] == ["ok"]


class _Answers:
    """A connection on which every query has the same answer."""

    def __init__(self, version: int, *rows: tuple[Any, ...]) -> None:
        self.info = self
        self.server_version = version
        self._rows = list(rows)

    def execute(self, query: str) -> "_Answers":
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows[0] if self._rows else None


@pytest.mark.parametrize(
    ("check", "connection", "level", "message"),
    [
        ("check_version", _Answers(140012, (False,)), "error", "PostgreSQL 14"),
        ("check_version", _Answers(170001, (True,)), "warning", "standby"),
        ("check_vector", _Answers(150000), "error", "not available"),
        ("check_vector", _Answers(150000, (None, "0.8.6")), "error", "not created"),
        ("check_vector", _Answers(150000, ("0.8.0", "0.8.0")), "warning", "can corrupt"),
        ("check_vector", _Answers(150000, ("0.8.0", "0.8.6")), "warning", "can corrupt"),
        ("check_vector", _Answers(150000, ("0.10.0", "0.10.0")), "ok", "0.10.0"),
        ("check_python", _Answers(150000), "warning", "not available"),
    ],
)
def test_servers_that_lack_something(check: str, connection: Any, level: str, message: str) -> None:
    (finding,) = getattr(doctor.server, check)(connection)
    assert finding.level == level
    assert message in finding.message
    assert bool(finding.remedy) == (level != "ok")


def test_it_knows_who_runs_validators_as_shipped() -> None:
    """The list in the code is the one in privileges.sql, and no trigger escapes the pattern."""
    files = {file.name: file.text for file in Bundle.shipped().files}
    block = files["privileges.sql"].split("owner to flywheel_validator")[0].rsplit("array[", 1)[1]
    names = re.findall(r"'(\w+)'", block.split("]")[0])
    assert sorted(names) == sorted(schema.RUN_AS_VALIDATOR)
    made = files["triggers/triggers.sql"].count("execute function flywheel.")
    assert len(schema.shipped_triggers()) == made > 10


def test_a_server_that_does_not_answer(command: Run) -> None:
    ran = command("doctor", "--dsn", "host=/nowhere port=1")
    assert ran.code == 4
    assert "Traceback" not in ran.err


def _backlog(session: Connection, age: str) -> None:
    session.execute("select flywheel.create_model('judge', 'http://127.0.0.1:9/v1', 'm')")
    session.execute(
        "select flywheel.create_validator('kind', 'llm', 'It is kind.', model => 'judge')"
    )
    session.execute("insert into flywheel.traces (output) select 'x' from generate_series(1, 3)")
    session.execute("update flywheel._jobs set created_at = now() - %s::interval", (age,))


def test_no_worker_for_an_hour(dsn: str, connect: Connect) -> None:
    session = connect()
    _backlog(session, "1 hour")
    assert trouble(dsn) == [
        (
            "queue",
            "kind (version 1): 3 pending, the oldest for 1:00:00; no worker",
            "start one: flywheel-db worker; or have a scheduler call flywheel.work()",
        )
    ]
    row = session.execute("select state, oldest_seconds >= 3600 from flywheel.queue_health")
    assert row.fetchone() == ("no_worker", True)


def test_what_has_just_been_queued_is_no_trouble(dsn: str, connect: Connect) -> None:
    _backlog(connect(), "1 minute")
    assert trouble(dsn) == []
    assert ("queue", "3 jobs are pending") in [(f.name, f.message) for f in doctor.examine(dsn)]


def test_jobs_that_died_and_a_worker_that_was_lost(dsn: str, connect: Connect) -> None:
    session = connect()
    _backlog(session, "1 hour")
    session.execute("update flywheel._jobs set state = 'dead', last_error = 'it said no'")
    session.execute("select flywheel.start_worker('host-1', 1)")
    session.execute("update flywheel._workers set last_seen_at = now() - interval '1 hour'")
    found = trouble(dsn)
    assert [entry[0] for entry in found] == ["dead letters", "workers"]
    assert "3 jobs have used up their attempts (the last error: it said no)" in found[0][1]
    assert "host-1 was last seen at" in found[1][1]
    session.execute("select flywheel.retry_dead()")
    session.execute("select flywheel.stop_worker(worker_id) from flywheel.workers")
    assert [entry[1][:16] for entry in trouble(dsn)] == ["kind (version 1)"]


def test_a_model_that_no_worker_may_call(dsn: str, connect: Connect) -> None:
    session = connect()
    _backlog(session, "1 hour")
    session.execute(
        """select flywheel.start_worker('w', 1, '{"refused": {"judge": "the host is not allowed"}}')"""
    )
    assert trouble(dsn) == [
        (
            "queue",
            "kind (version 1): 3 pending, the oldest for 1:00:00; no worker",
            "no worker that runs may call this model: the host is not allowed",
        ),
        (
            "workers",
            "w does not call the model judge: the host is not allowed",
            "select * from flywheel.queue_health",
        ),
    ]
