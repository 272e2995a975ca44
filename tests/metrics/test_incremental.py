"""What can be incremental and what is refused; streams and what they share; background work."""

import math
import threading
from collections.abc import Callable

import numpy as np
import psycopg
import pytest
from psycopg import Connection

BY_PIPELINE = "select pipeline, count(*) as n from flywheel.traces group by pipeline"


def _rows(session: Connection, query: str) -> list[tuple[object, ...]]:
    return session.execute(query.encode()).fetchall()


def _streams(session: Connection) -> list[tuple[object, ...]]:
    return _rows(session, "select fact, state from flywheel._metric_streams order by stream_id")


@pytest.mark.parametrize(
    ("query", "says", "instead"),
    [
        ("select count(distinct user_id) as n from flywheel.traces", "DISTINCT", "distinct_count"),
        (
            "select percentile_cont(0.5) within group (order by length(output)) as m from flywheel.traces",
            "percentile_cont", "flywheel.quantile",
        ),
        ("select array_agg(output) as a from flywheel.traces", "array_agg", "materialized"),
        ("select string_agg(output, ',') as a from flywheel.traces", "string_agg", "materialized"),
        (
            "select t.pipeline, count(*) as n from flywheel.traces t join flywheel.spans s using (trace_id) group by 1",
            "traces and spans", "materialized",
        ),
        (
            "select t.pipeline, count(*) as n from flywheel.traces t, flywheel.validators v group by 1",
            "joins traces before", "in a subquery",
        ),
        ("select name, count(*) as n from flywheel.validators group by 1", "reads none of", "materialized"),
        ("select pipeline, output from flywheel.traces", "neither grouped by", "Group by it"),
        (
            "select count(*) as n from flywheel.traces where started_at > now() - interval '1 day'",
            "depends on the time", "outer query",
        ),
        ("select date_trunc('day', started_at) as d, count(*) as n from flywheel.traces group by 1", "settings", "UTC"),
        (
            "select pipeline, status, count(*) as n from flywheel.traces group by rollup (pipeline, status)",
            "several sets", "outer query",
        ),
        (
            "select count(*) as n from flywheel.traces where exists (select from flywheel.spans s where s.trace_id = traces.trace_id)",
            "traces and spans", "materialized",
        ),
        (
            "select count(*) as n from flywheel.traces where pipeline in (select pipeline from flywheel.validators)",
            "subquery", "materialized",
        ),
        ("select validator, min(reason) as r from flywheel.verdicts group by 1", "column reason", "reads"),
        (
            "select count(*) as n from flywheel.current_labels where is_current",
            "column is_current", "reads trace_id, span_id, revision, validator",
        ),
        (
            "select jsonb_array_elements_text(attributes -> 'tags') as tag, count(*) as n from flywheel.traces group by 1",
            "returns many rows", "materialized",
        ),
        (
            "select pipeline, count(*) as n, (select count(*) from (values (1)) as v (x)) as one from flywheel.traces group by 1",
            "subquery stands", "outer query",
        ),
        (
            "select pipeline, count(*) as n from flywheel.traces group by 1 having count(*) > (select count(*) from (values (1)) as v (x))",
            "subquery stands", "outer query",
        ),
        ("select started_at::text as t, count(*) as n from flywheel.traces group by 1", "cast of timestamp with time zone to text", "outer query"),
        ("select (ended_at - started_at)::text as t, count(*) as n from flywheel.traces group by 1", "cast of interval to text", "outer query"),
        ("select score::text as t, count(*) as n from flywheel.verdicts group by 1", "cast of double precision to text", "outer query"),
        ("select max((attributes ->> 'd')::date) as d from flywheel.traces", "cast of text to date", "materialized"),
        ("select count(*) filter (where (attributes ->> 'd')::timestamptz > '2026-01-01') as n from flywheel.traces", "cast of text to timestamp", "materialized"),
        ("select count(*) as n from flywheel.traces where started_at <= current_timestamp", "current_timestamp", "outer query"),
        ("select count(*) filter (where started_at::date < current_date) as n from flywheel.traces", "current_date", "outer query"),
        ("select sum(age(ended_at, started_at)) as n from flywheel.traces", "age", "outer query"),
        (
            "select x.* from (values ('foo')) as d (name), lateral (select d.name as nm, count(*) as n from flywheel.verdicts as v group by v.validator) as x",
            "d.name", "join to the groups",
        ),
        ("select min(output collate \"C\") as lo from flywheel.traces", "collation", "materialized"),
        ("select count((pipeline, variant)) as n from flywheel.traces", "taken apart", "more simply"),
        ("select count(*) as n from flywheel.traces group by ()", "taken apart", "more simply"),
    ],
)  # fmt: skip
def test_what_cannot_be_incremental_is_refused_with_the_nearest_alternative(
    db: Connection, query: str, says: str, instead: str
) -> None:
    with pytest.raises(psycopg.Error, match=says) as refused, db.transaction():
        db.execute("select flywheel.create_metric('m', %s, 'incremental')", (query,))
    assert refused.value.sqlstate == "LF006"
    assert instead in (refused.value.diag.message_hint or "")
    # Kept in another way, it is fine, and the advice knows why.
    db.execute("select flywheel.create_metric('m', %s, 'materialized')", (query,))
    refusal = _rows(db, "select refusal from flywheel._metrics where name = 'm'")[0][0]
    assert says in str(refusal)


def test_code_that_could_be_dropped_does_not_run_in_every_insert(db: Connection) -> None:
    db.execute(
        "create schema app; create function app.f(text) returns text language sql immutable "
        "set search_path = pg_catalog, pg_temp as 'select $1'; grant usage on schema app to public"
    )
    query = "select app.f(pipeline) as p, count(*) as n from flywheel.traces group by 1"
    with pytest.raises(psycopg.Error, match="could drop"), db.transaction():
        db.execute("select flywheel.create_metric('m', %s, 'incremental')", (query,))
    db.execute("select flywheel.create_metric('m', %s)", (query,))


def test_an_aggregate_of_somebody_else_is_not_taken_for_a_function(db: Connection) -> None:
    db.execute(
        "create schema app; grant usage on schema app to public;"
        " create aggregate app.howmany(text) (sfunc = textcat, stype = text, initcond = '')"
    )
    query = "select pipeline, app.howmany(pipeline) as n from flywheel.traces group by pipeline"
    with pytest.raises(psycopg.Error, match="is updated is not known"), db.transaction():
        db.execute("select flywheel.create_metric('m', %s, 'incremental')", (query,))
    db.execute("select flywheel.create_metric('m', %s)", (query,))


def test_what_stands_around_the_aggregation_is_computed_when_read(db: Connection) -> None:
    db.execute(
        "select flywheel.create_metric('shares', $$with n as (select pipeline, count(*) as n from flywheel.traces group by 1) "
        "select pipeline, n, n / sum(n) over () as share, row_number() over (order by n desc) as place from n "
        "where n > 0 order by n desc limit 2$$, 'incremental')"
    )
    db.execute(
        "insert into flywheel.traces (pipeline) select unnest(array['a','a','a','b','b','c'])"
    )
    assert _rows(db, "select pipeline, n::int, share::float8, place::int from flywheel.shares") == [
        ("a", 3, 0.5, 1),
        ("b", 2, 1 / 3, 2),
    ]


def test_an_expression_that_raises_fails_no_insert(db: Connection) -> None:
    db.execute(
        "select flywheel.create_metric('costs', $$select pipeline, count(*) as n, "
        "sum((attributes ->> 'cost')::numeric) as cost from flywheel.traces group by pipeline$$, 'incremental')"
    )
    db.execute(
        "insert into flywheel.traces (pipeline, attributes) values ('a', '{\"cost\": 1.5}'), ('a', '{\"cost\": \"free\"}')"
    )
    assert _rows(db, "select n, cost::float8 from flywheel.costs") == [(2, 1.5)]
    db.execute("delete from flywheel.traces where attributes ->> 'cost' = 'free'")
    assert _rows(db, "select n, cost::float8 from flywheel.costs") == [(1, 1.5)]


def test_an_operator_in_a_writers_path_is_not_called(connect: Callable[..., Connection]) -> None:
    """Names are bound when the metric is created, not when somebody inserts."""
    admin, writer = connect(), connect()
    admin.execute(
        "select flywheel.create_metric('m', $$select upper(pipeline) as p, count(*) filter (where status = 'ok') as n, "
        "sum(length(output)) as s from flywheel.traces where output <> '' group by 1$$, 'incremental')"
    )
    writer.execute(
        "create schema evil; create function evil.no(text, text) returns boolean language plpgsql as "
        "$$begin raise exception 'called'; end$$; "
        "create function evil.no1(text) returns text language plpgsql as $$begin raise exception 'called'; end$$; "
        "create function evil.upper(text) returns text language plpgsql as $$begin raise exception 'called'; end$$; "
        "create operator evil.= (leftarg = text, rightarg = text, function = evil.no); "
        "create operator evil.<> (leftarg = text, rightarg = text, function = evil.no); "
        "set search_path = evil, pg_catalog"
    )
    writer.execute("insert into flywheel.traces (pipeline, output) values ('a', 'xyz')")
    writer.execute("update flywheel.traces set output = 'xy'")
    assert _rows(admin, "select p, n, s from flywheel.m") == [("A", 1, 2)]
    writer.execute("delete from flywheel.traces")
    assert _rows(admin, "select p, n, s from flywheel.m") == []


def test_metrics_with_the_same_groups_share_a_stream(db: Connection) -> None:
    db.execute("select flywheel.create_metric('a', %s, 'incremental')", (BY_PIPELINE,))
    before = _streams(db)
    db.execute(
        "select flywheel.create_metric('b', $$select pipeline, count(*) * 2 as twice from flywheel.traces group by pipeline$$, 'incremental')"
    )
    assert _streams(db) == before
    # One measure more makes a stream that has both, and the old one goes.
    db.execute(
        "select flywheel.create_metric('c', $$select pipeline, max(length(output)) as hi from flywheel.traces group by pipeline$$, 'incremental')"
    )
    assert len(_streams(db)) == len(before)
    db.execute("insert into flywheel.traces (pipeline, output) values ('x', 'abc')")
    assert _rows(db, "select n, twice, hi from flywheel.a, flywheel.b, flywheel.c") == [(1, 2, 3)]
    # Whatever groups verdicts by what is looked up reads the stream of pass_rates.
    db.execute(
        "select flywheel.create_metric('d', $$select validator, day, count(*) as n from flywheel.verdicts "
        "where pipeline = 'x' group by 1, 2$$, 'incremental')"
    )
    assert sum(fact == "verdicts" for fact, _ in _streams(db)) == 1
    for name in "abcd":
        db.execute("select flywheel.drop_metric(%s)", (name,))
    assert _streams(db) == [("verdicts", "ready")]
    left = _rows(db, r"select relname from pg_class where relname ~ '^_stream_\d+$'")
    assert len(left) == 1


def test_dropping_an_incremental_metric_leaves_nothing(db: Connection) -> None:
    count = "select (select count(*) from pg_class), (select count(*) from pg_proc)"
    before = _rows(db, count)
    db.execute(
        "select flywheel.create_metric('m', $$select upper(pipeline) as p, sum((attributes ->> 'x')::int) as x, "
        "flywheel.distinct_count(user_id) as u from flywheel.traces group by 1$$, 'incremental')"
    )
    assert _rows(db, count) != before
    db.execute("select flywheel.drop_metric('m')")
    assert _rows(db, count) == before


def test_a_metric_made_while_somebody_writes_is_exact_before_and_after_it_is_built(
    connect: Callable[..., Connection],
) -> None:
    admin, writer = connect(), connect(autocommit=False)
    writer.execute("insert into flywheel.traces (pipeline) values ('a')")
    # Waits for the writer for a second, and then goes without.
    admin.execute("select flywheel.create_metric('m', %s, 'incremental')", (BY_PIPELINE,))
    state = "select state from flywheel.metrics where name = 'm'"
    assert _rows(admin, state) == [("building",)]
    admin.execute("insert into flywheel.traces (pipeline) values ('b')")
    assert _rows(admin, "select * from flywheel.m") == [("b", 1)]
    admin.execute("select flywheel.fold_metrics()")
    assert _rows(admin, state) == [("building",)]
    writer.commit()
    assert _rows(admin, "select * from flywheel.m order by 1") == [("a", 1), ("b", 1)]
    admin.execute("select flywheel.fold_metrics()")
    assert _rows(admin, state) == [("ready",)]
    assert _rows(admin, "select * from flywheel.m order by 1") == [("a", 1), ("b", 1)]


def test_a_stream_that_somebody_may_still_write_to_is_dropped_later(
    connect: Callable[..., Connection],
) -> None:
    admin, writer = connect(), connect(autocommit=False)
    admin.execute("select flywheel.create_metric('m', %s, 'incremental')", (BY_PIPELINE,))
    writer.execute("insert into flywheel.traces (pipeline) values ('a')")
    admin.execute("select flywheel.drop_metric('m')")
    assert ("traces", "retired") in _streams(admin)
    writer.execute("insert into flywheel.traces (pipeline) values ('a')")
    admin.execute("select flywheel.fold_metrics()")
    assert ("traces", "retired") in _streams(admin)
    writer.commit()
    admin.execute("select flywheel.fold_metrics()")
    assert all(fact != "traces" for fact, _ in _streams(admin))


def test_writers_of_one_group_do_not_wait_for_each_other(
    connect: Callable[..., Connection],
) -> None:
    admin = connect()
    admin.execute("select flywheel.create_metric('m', %s, 'incremental')", (BY_PIPELINE,))
    sessions = [connect(autocommit=False) for _ in range(3)]
    for session in sessions:
        session.execute("set lock_timeout = '100ms'")
        session.execute("insert into flywheel.traces (pipeline) values ('a')")
    # Nor does a fold wait for them.
    admin.execute("set lock_timeout = '100ms'")
    admin.execute("select flywheel.fold_metrics()")
    for session in sessions:
        session.commit()
    assert _rows(admin, "select * from flywheel.m") == [("a", 3)]


def test_who_folds_second_finds_nothing_to_wait_for(connect: Callable[..., Connection]) -> None:
    admin, first = connect(), connect(autocommit=False)
    admin.execute("select flywheel.create_metric('m', %s, 'incremental')", (BY_PIPELINE,))
    admin.execute("insert into flywheel.traces (pipeline) values ('a')")
    assert _rows(first, "select flywheel.fold_metrics()")[0][0] == 1
    admin.execute("set lock_timeout = '100ms'")
    assert _rows(admin, "select flywheel.fold_metrics()") == [(0,)]
    assert _rows(admin, "select * from flywheel.m") == [("a", 1)]
    first.commit()
    assert _rows(admin, "select * from flywheel.m") == [("a", 1)]


def test_folding_goes_on_while_metrics_come_and_go(connect: Callable[..., Connection]) -> None:
    admin = connect()
    admin.execute(
        "insert into flywheel.traces (pipeline) select 'p' || n from generate_series(1, 500) as n"
    )
    is_done = threading.Event()
    failed: list[psycopg.Error] = []

    def fold(session: Connection) -> None:
        while not is_done.is_set():
            try:
                session.execute("select flywheel.fold_metrics()")
            except psycopg.Error as error:
                failed.append(error)

    threads = [threading.Thread(target=fold, args=(connect(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(12):
            admin.execute("select flywheel.create_metric('m', %s, 'incremental')", (BY_PIPELINE,))
            admin.execute(
                "insert into flywheel.traces (pipeline) select 'p' || n from generate_series(1, 500) as n"
            )
            admin.execute(
                "select flywheel.alter_metric('m', query => %s)",
                (BY_PIPELINE.replace("as n", f"as n, sum(length(output) + {number}) as s"),),
            )
            admin.execute("update flywheel.traces set variant = 'b' where pipeline = 'p7'")
            admin.execute("select flywheel.refresh_metric('m')")
            admin.execute("select flywheel.drop_metric('m')")
    finally:
        is_done.set()
        for thread in threads:
            thread.join()
    assert failed == []
    admin.execute("select flywheel.fold_metrics()")
    assert all(fact != "traces" for fact, _ in _streams(admin))


def test_metrics_are_changed_under_read_committed_only(connect: Callable[..., Connection]) -> None:
    admin = connect()
    admin.execute("begin isolation level repeatable read")
    with pytest.raises(psycopg.Error) as refused:
        admin.execute("select flywheel.create_metric('m', %s, 'incremental')", (BY_PIPELINE,))
    assert refused.value.sqlstate == "LF107"


def test_rows_written_around_the_triggers_are_counted_after_a_refresh(
    connect: Callable[..., Connection],
) -> None:
    admin = connect()
    admin.execute("select flywheel.create_metric('m', %s, 'incremental')", (BY_PIPELINE,))
    admin.execute("set session_replication_role = replica")
    admin.execute("insert into flywheel.traces (pipeline) values ('a')")
    admin.execute("set session_replication_role = origin")
    assert _rows(admin, "select * from flywheel.m") == []
    admin.execute("select flywheel.refresh_metric('m')")
    assert _rows(admin, "select * from flywheel.m") == [("a", 1)]


# ------------------------------------------------------------------------------------ sketches


@pytest.mark.parametrize("count", [9_000, 10_500, 12_000, 16_000])
def test_distinct_counts_have_no_bias_where_estimators_meet(db: Connection, count: int) -> None:
    """30 sets of values: the mean error is within three standard errors of the mean."""
    rows = _rows(
        db,
        "select flywheel.distinct_count(format('%s/%s', s, n)) from generate_series(1, 30) as s,"
        f" generate_series(1, {count}) as n group by s",
    )
    errors = np.array([float(str(found)) / count - 1 for (found,) in rows])
    assert abs(errors.mean()) < 3 * 0.0162 / math.sqrt(30)
    assert math.sqrt((errors**2).mean()) < 0.0162 * 1.45


@pytest.mark.parametrize("p", [0.0, 0.01, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("kind", ["lognormal", "normal", "small integers"])
def test_quantiles_are_within_one_per_cent(db: Connection, kind: str, p: float) -> None:
    chance = np.random.default_rng(7)
    values = {
        "lognormal": chance.lognormal(3, 2, 5000),
        "normal": chance.normal(0, 1000, 5000),
        "small integers": chance.integers(-3, 40, 5000).astype(float),
    }[kind]
    found = db.execute(
        "select flywheel.quantile(%s) within group (order by x) from unnest(%s::float8[]) as x",
        (p, values.tolist()),
    ).fetchone()
    exact = float(np.quantile(values, p, method="inverted_cdf"))
    assert found is not None
    assert math.isclose(found[0], exact, rel_tol=0.0101), (found[0], exact)


def test_quantiles_of_what_is_no_number(db: Connection) -> None:
    query = "select flywheel.quantile(%s) within group (order by x) from unnest(%s::float8[]) as x"
    values = [-math.inf, 0.0, 5e-324, 1.7e308, math.inf, math.nan, None]
    found = [db.execute(query, (p, values)).fetchone() for p in (0.0, 0.3, 0.8, 1.0)]
    assert [f[0] for f in found if f is not None][:3] == [-math.inf, 0.0, math.inf]
    assert found[3] is not None
    assert math.isnan(found[3][0])
    assert db.execute(query, (0.5, [])).fetchone() == (None,)
    assert db.execute(query, (2.0, [1.0])).fetchone() == (None,)


@pytest.mark.parametrize("count", [0, 1, 10, 500, 5_000, 60_000])
def test_distinct_counts_are_within_their_error(db: Connection, count: int) -> None:
    found = db.execute(
        "select flywheel.distinct_count('user ' || i %% greatest(%s, 1)) filter (where %s > 0) "
        "from generate_series(1, %s) as i", (count, count, 2 * count),
    ).fetchone()  # fmt: skip
    assert found is not None
    # Four standard errors of 1.04 / sqrt(4096); the seed is fixed, so this is no lottery.
    assert abs(found[0] - count) <= max(0, 4 * 1.04 / 64 * count)
