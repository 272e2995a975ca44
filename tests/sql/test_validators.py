"""The life of a validator: create, test, alter, disable, enable, backfill, drop."""

from collections.abc import Callable

import pytest
from psycopg import Connection, errors
from psycopg.errors import Diagnostic

from flywheel_db.errors import from_psycopg


def _create(
    session: Connection, name: str = "short", body: str = "length(output) < 5", **options: object
) -> int:
    extra = "".join(f", {key} => %({key})s" for key in options)
    row = session.execute(
        f"select flywheel.create_validator(%(name)s, 'sql', %(body)s{extra})",  # type: ignore[arg-type]
        {"name": name, "body": body, **options},
    ).fetchone()
    assert row is not None
    return int(row[0])


def _put(session: Connection, *outputs: str | None) -> None:
    for output in outputs:
        session.execute("insert into flywheel.traces (output) values (%s)", (output,))


def test_create_returns_the_id_verdicts_carry(db: Connection) -> None:
    validator_id = _create(db)
    _put(db, "x")
    assert db.execute("select validator_id, version from flywheel.verdicts").fetchall() == [
        (validator_id, 1)
    ]


def test_a_name_is_used_once(db: Connection) -> None:
    _create(db)
    with pytest.raises(errors.DatabaseError, match="already") as caught:
        _create(db)
    assert caught.value.sqlstate == "LF201"


@pytest.mark.parametrize(
    "call",
    [
        "flywheel.enable_validator('nope')",
        "flywheel.disable_validator('nope')",
        "flywheel.drop_validator('nope')",
        "flywheel.alter_validator('nope', body => 'true')",
        "flywheel.test_validator('nope')",
        "flywheel.enable_validator(null)",
    ],
)
def test_an_unknown_name_is_named_with_those_there_are(db: Connection, call: str) -> None:
    _create(db, "one")
    with pytest.raises(errors.DatabaseError, match="no validator") as caught:
        db.execute(f"select {call}")  # type: ignore[arg-type]
    assert caught.value.sqlstate == "LF003"
    assert "one" in (caught.value.diag.message_hint or "")


def test_altering_makes_a_version_and_keeps_the_old_verdicts(db: Connection) -> None:
    _create(db, description="Keep it short.", pipeline="default")
    _put(db, "four", "fiveee")
    assert db.execute(
        "select flywheel.alter_validator('short', body => 'length(output) < 50')"
    ).fetchone() == (2,)
    _put(db, "fiveee")
    rows = db.execute(
        "select version, passed, reason from flywheel.verdicts order by 1, 2"
    ).fetchall()
    assert rows == [(1, False, "Keep it short."), (1, True, None), (2, True, None)]
    db.execute(
        "select flywheel.alter_validator('short', clear => array['description', 'pipeline'])"
    )
    row = db.execute(
        "select version, description, pipeline, body, enabled from flywheel.validators"
    ).fetchone()
    assert row == (3, None, None, "length(output) < 50", True)


def test_altering_a_disabled_validator_leaves_it_disabled(db: Connection) -> None:
    _create(db, enabled=False)
    db.execute("select flywheel.alter_validator('short', body => 'true')")
    _put(db, "x")
    assert db.execute("select count(*) from flywheel.verdicts").fetchone() == (0,)
    assert db.execute("select version, enabled from flywheel.validators").fetchone() == (2, False)


def test_clear_names_what_it_cannot_clear(db: Connection) -> None:
    _create(db)
    with pytest.raises(errors.DatabaseError, match="'body'") as caught:
        db.execute("select flywheel.alter_validator('short', clear => array['body'])")
    assert caught.value.sqlstate == "LF002"


def test_disabled_and_enabled_again(db: Connection) -> None:
    _create(db)
    _put(db, "a")
    db.execute("select flywheel.disable_validator('short')")
    _put(db, "b", "c")
    db.execute("select flywheel.enable_validator('short')")
    db.execute("select flywheel.enable_validator('short')")
    _put(db, "d")
    row = db.execute("select enabled, expected, decided, missing from flywheel.coverage").fetchone()
    assert row == (True, 2, 2, 0)


def test_a_dropped_name_goes_on_with_its_next_version(db: Connection) -> None:
    first = _create(db)
    _put(db, "x")
    db.execute("select flywheel.drop_validator('short')")
    assert db.execute("select count(*) from flywheel.validators").fetchone() == (0,)
    assert db.execute("select validator, version from flywheel.verdicts").fetchall() == [
        ("short", 1)
    ]
    assert _create(db) == first
    _put(db, "x")
    assert db.execute("select version from flywheel.verdicts order by 1").fetchall() == [(1,), (2,)]
    db.execute("select flywheel.drop_validator('short', delete_verdicts => true)")
    assert db.execute("select count(*) from flywheel._validators").fetchone() == (0,)
    assert db.execute("select count(*) from flywheel.verdicts").fetchone() == (0,)
    left = db.execute(
        r"select proname from pg_proc where proname ~ '^_(check|try)_\d+$'"
    ).fetchall()
    assert left == []


def test_filters(db: Connection) -> None:
    _create(db, "support", "true", pipeline="support")
    _create(db, "search", "true", subject="span", node="search")
    _create(db, "tools", "true", subject="span", kind="tool")
    _create(db, "support tools", "true", subject="span", kind="tool", pipeline="support")
    db.execute(
        "insert into flywheel.traces (trace_id, pipeline) values "
        "('00000000-0000-0000-0000-000000000001', 'support'), ('00000000-0000-0000-0000-000000000002', 'other')"
    )
    db.execute(
        "insert into flywheel.spans (trace_id, node, kind) "
        "select ('00000000-0000-0000-0000-00000000000' || t)::uuid, n, k "
        "from (values (1), (2)) t (t), (values ('search', 'tool'), ('write', 'writer'), (null, null)) s (n, k)"
    )
    rows = db.execute(
        "select validator, expected, decided from flywheel.coverage order by 1"
    ).fetchall()
    assert rows == [("search", 2, 2), ("support", 1, 1), ("support tools", 1, 1), ("tools", 2, 2)]


def test_equal_rates_see_the_same_traces_and_smaller_ones_a_part(db: Connection) -> None:
    for name, rate in (("a", 0.3), ("b", 0.3), ("c", 0.1), ("all", 1), ("none", 0)):
        _create(db, name, "true", sample_rate=rate)
    db.execute("insert into flywheel.traces (output) select 'x' from generate_series(1, 4000)")
    seen = {
        name: set(ids)
        for name, ids in db.execute(
            "select validator, array_agg(trace_id) from flywheel.verdicts group by 1"
        ).fetchall()
    }
    assert seen["a"] == seen["b"]
    assert seen["c"] < seen["a"] < seen["all"]
    assert "none" not in seen
    assert abs(len(seen["a"]) / 4000 - 0.3) < 0.05
    rows = db.execute("select validator, missing from flywheel.coverage").fetchall()
    assert {missing for _, missing in rows} == {0}


def test_a_queued_validator_enqueues(db: Connection) -> None:
    _create(db, mode="queued", sample_rate=0.5)
    _create(db, "spans", "true", subject="span", mode="queued")
    db.execute("insert into flywheel.traces (output) select 'x' from generate_series(1, 100)")
    db.execute("insert into flywheel.spans (trace_id) select trace_id from flywheel.traces limit 7")
    pending = dict(db.execute("select validator, pending from flywheel.coverage").fetchall())
    assert pending["spans"] == 7
    assert 20 < pending["short"] < 80
    db.execute("update flywheel.traces set output = 'y'")
    assert db.execute(
        "select distinct revision from flywheel.jobs where validator = 'short'"
    ).fetchall() == [(2,)]
    db.execute("select flywheel.drop_validator('short')")
    assert db.execute("select distinct validator from flywheel.jobs").fetchall() == [("spans",)]
    db.execute("delete from flywheel.spans")
    assert db.execute("select count(*) from flywheel.jobs").fetchone() == (0,)


def test_test_validator_stores_nothing(db: Connection) -> None:
    _put(db, "good", "too long", None, "not json")
    _create(db, enabled=False, reason="'length ' || length(output)")
    rows = db.execute(
        "select output, status, passed, reason, status_count from flywheel.test_validator('short', 10)"
    ).fetchall()
    assert sorted(rows, key=str) == sorted(
        [
            ("good", "passed", True, "length 4", 1),
            ("too long", "failed", False, "length 8", 2),
            (None, "skipped", None, None, 1),
            ("not json", "failed", False, "length 8", 2),
        ],
        key=str,
    )
    assert len(db.execute("select * from flywheel.test_validator('short', 2)").fetchall()) == 2
    assert db.execute("select count(*) from flywheel.verdicts").fetchone() == (0,)
    assert db.execute("select count(*) from flywheel._dimensions").fetchone() == (0,)
    with pytest.raises(errors.DatabaseError, match="n is 0"):
        db.execute("select * from flywheel.test_validator('short', 0)")


def test_test_validator_looks_at_matching_rows_only(db: Connection) -> None:
    _create(
        db,
        "tool",
        "output is not null",
        enabled=False,
        subject="span",
        kind="tool",
        pipeline="support",
    )
    db.execute(
        "with t as (insert into flywheel.traces (pipeline) values ('support'), ('other') returning trace_id) "
        "insert into flywheel.spans (trace_id, kind, input) select trace_id, k, k from t, unnest(array['tool', 'agent']) k"
    )
    rows = db.execute(
        "select status, input, span_id is null from flywheel.test_validator('tool')"
    ).fetchall()
    assert rows == [("failed", "tool", False)]


def test_explain_shows_the_compiled_statement(db: Connection) -> None:
    _create(db)
    row = db.execute("select flywheel.explain_validators('traces')").fetchone()
    assert row is not None
    assert "insert into flywheel._verdicts" in row[0]
    assert "Generation 1 of the validator set: 1 in SQL, 0 in Python, 0 queued" in row[0]
    with pytest.raises(errors.DatabaseError, match="nothing compiled for 'verdicts'"):
        db.execute("select flywheel.explain_validators('verdicts')")


def test_backfill_commits_and_resumes(connect: Callable[..., Connection]) -> None:
    session = connect()
    session.execute(
        "insert into flywheel.traces (output) select repeat('x', i) from generate_series(1, 25) i"
    )
    _create(session)
    _put(session, "new")
    session.execute("call flywheel.backfill('short', batch_size => 10)")
    row = session.execute("select expected, decided, missing from flywheel.coverage").fetchone()
    assert row == (26, 26, 0)
    session.execute("delete from flywheel._verdicts where status = 'failed'")
    session.execute("call flywheel.backfill('short', batch_size => 7)")
    assert session.execute("select expected, decided from flywheel.coverage").fetchone() == (26, 26)
    before = session.execute("select ctid from flywheel._verdicts order by 1").fetchall()
    session.execute("call flywheel.backfill('short')")
    assert session.execute("select ctid from flywheel._verdicts order by 1").fetchall() == before


def test_backfill_of_a_range_of_spans_and_of_queued(connect: Callable[..., Connection]) -> None:
    session = connect()
    session.execute(
        "insert into flywheel.spans (trace_id, received_at, kind) "
        "select flywheel.uuidv7(), timestamptz '2026-01-01' + i * interval '1 day', 'tool' from generate_series(0, 9) i"
    )
    _create(session, "tool", "true", subject="span", kind="tool")
    _create(session, "later", "true", subject="span", mode="queued")
    session.execute("call flywheel.backfill('tool', since => '2026-01-03', until => '2026-01-06')")
    session.execute("call flywheel.backfill('later', since => '2026-01-09', batch_size => 1)")
    rows = session.execute(
        "select validator, expected, decided, pending from flywheel.coverage order by 1"
    )
    assert rows.fetchall() == [("later", 2, 0, 2), ("tool", 3, 3, 0)]


def test_backfill_inside_a_transaction_does_nothing_and_says_why(
    connect: Callable[..., Connection],
) -> None:
    session = connect(autocommit=False)
    _put(session, "x")
    _create(session)
    session.commit()
    notices: list[str] = []
    session.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    with pytest.raises(errors.InvalidTransactionTermination) as caught:
        session.execute("call flywheel.backfill('short')")
    assert any("outside BEGIN" in notice for notice in notices)
    assert "autocommit" in (from_psycopg(caught.value).hint or "")
    session.rollback()
    assert session.execute("select count(*) from flywheel.verdicts").fetchone() == (0,)


def test_backfill_takes_parameters(connect: Callable[..., Connection]) -> None:
    """The extended protocol starts transaction and statement at different times."""
    session = connect()
    _put(session, "x")
    _create(session)
    session.execute("call flywheel.backfill(%s, batch_size => %s)", ("short", 10))
    assert session.execute("select decided from flywheel.coverage").fetchone() == (1,)


def test_two_versions_side_by_side(connect: Callable[..., Connection]) -> None:
    """A changed criterion is backfilled beside the old one, never mixed into it."""
    session = connect()
    _create(session)
    _put(session, "four", "fiveee")
    session.execute("select flywheel.alter_validator('short', body => 'length(output) < 3')")
    session.execute("call flywheel.backfill('short')")
    rows = session.execute(
        "select version, passed, failed from flywheel.pass_rates order by 1"
    ).fetchall()
    assert rows == [(1, 1, 1), (2, 0, 2)]


def test_an_admin_without_superuser_can_do_all_of_it(connect: Callable[..., Connection]) -> None:
    session = connect()
    session.execute(
        "do $$ begin create role ai_engineer; exception when duplicate_object then null; end $$"
    )
    session.execute("grant flywheel_admin to ai_engineer")
    session.execute("set role ai_engineer")
    _create(session)
    _put(session, "four", "fiveee")
    session.execute("select * from flywheel.test_validator('short')")
    session.execute("select flywheel.alter_validator('short', body => 'length(output) < 9')")
    session.execute("select flywheel.explain_validators('spans')")
    session.execute("call flywheel.backfill('short')")
    session.execute("select flywheel.disable_validator('short')")
    session.execute("select flywheel.enable_validator('short')")
    session.execute("select * from flywheel.sweep()")
    session.execute("select * from flywheel.check_input('x')")
    assert session.execute("select expected from flywheel.coverage").fetchone() == (4,)
    session.execute("delete from flywheel.traces where output = 'four'")
    session.execute("select flywheel.drop_validator('short', delete_verdicts => true)")
    session.execute("truncate flywheel.traces")


def test_a_sweep_of_less_than_nothing(db: Connection) -> None:
    with pytest.raises(errors.DatabaseError, match="max_targets is -1") as caught:
        db.execute("select * from flywheel.sweep(-1)")
    assert caught.value.sqlstate == "LF002"


def test_a_missing_body(db: Connection) -> None:
    with pytest.raises(errors.DatabaseError, match="body is empty") as caught:
        db.execute("select flywheel.create_validator('x', 'sql', null)")
    assert caught.value.sqlstate == "LF001"


def test_a_check_that_reads_nothing_is_pointed_out(db: Connection) -> None:
    """In a subquery an unqualified name is the inner table's column: a check of the wrong thing."""
    notices: list[str] = []

    def note(notice: Diagnostic) -> None:
        notices.append(notice.message_primary or "")

    db.add_notice_handler(note)
    _create(db, "x", "exists (select from flywheel.traces as t where t.user_id = user_id)")
    db.remove_notice_handler(note)
    assert notices == ["the validator reads no column of the row"]
