"""metric_advice and explain_metric; request_metric and the interval for what is not decided."""

import math
from collections.abc import Callable

import pytest
from psycopg import Connection
from statsmodels.stats.proportion import proportion_confint


def _advice(session: Connection, name: str) -> dict[str, object]:
    cursor = session.execute("select * from flywheel.metric_advice where name = %s", (name,))
    row = cursor.fetchone()
    assert row is not None
    assert cursor.description is not None
    return dict(zip([c.name for c in cursor.description], row, strict=True))


def test_advice_counts_reads_without_a_write(connect: Callable[..., Connection]) -> None:
    admin = connect()
    admin.execute("select flywheel.create_metric('m', 'select count(*) as n from flywheel.traces')")
    for _ in range(3):
        reader = connect(options="-c default_transaction_read_only=on")
        reader.execute("select * from flywheel.m")
        reader.execute("select n from flywheel.m where n > 5")
        # A session reports what it has done when it ends.
        reader.close()
    for _ in range(200):
        if _advice(admin, "m")["reads"] == 6:
            break
        admin.execute("select pg_stat_clear_snapshot()")
    assert _advice(admin, "m")["reads"] == 6


def test_advice_is_measured_in_the_background_and_says_why(
    connect: Callable[..., Connection],
) -> None:
    admin = connect()
    admin.execute(
        "insert into flywheel.traces (pipeline, output) select 'p', repeat('x', i % 100) from generate_series(1, 2000) i"
    )
    for name, query, storage in (
        ("cheap", "select pipeline, count(*) as n from flywheel.traces group by 1", "view"),
        ("kept", "select pipeline, count(*) as n from flywheel.traces group by 1", "incremental"),
        ("lists", "select pipeline, array_agg(output) as n from flywheel.traces group by 1", "materialized"),
    ):  # fmt: skip
        admin.execute("select flywheel.create_metric(%s, %s, %s)", (name, query, storage))
    before = _advice(admin, "cheap")
    assert before["recommended"] is None
    assert "not measured" in str(before["why"])
    admin.execute("select flywheel.refresh_metrics()")
    for name in ("cheap", "kept", "lists"):
        found = _advice(admin, name)
        assert found["recommended"] in ("view", "incremental", "materialized")
        assert float(str(found["read_ms"])) > 0
        assert float(str(found["plain_ms"])) > 0
        assert found["measured_at"] is not None
    assert float(str(_advice(admin, "kept")["write_ms_per_1000_rows"])) > 0
    assert int(str(_advice(admin, "kept")["size_bytes"])) > 0
    assert _advice(admin, "cheap")["size_bytes"] == 0


@pytest.mark.parametrize(
    ("plain_ms", "refusal", "recommended"),
    [
        (3, None, "view"),
        (5000, None, "incremental"),
        (5000, "array_agg() cannot", "materialized"),
        (3, "array_agg() cannot", "view"),
    ],
)
def test_the_recommendation_follows_the_numbers(
    db: Connection, plain_ms: float, refusal: str | None, recommended: str
) -> None:
    db.execute("select flywheel.create_metric('m', 'select count(*) as n from flywheel.traces')")
    db.execute(
        "update flywheel._metrics set plain_ms = %s, read_ms = %s, refusal = %s, measured_at = now() where name = 'm'",
        (plain_ms, plain_ms, refusal),
    )
    found = _advice(db, "m")
    assert found["recommended"] == recommended
    if recommended == "materialized":
        assert "00:08:20" in str(found["why"])
        assert "array_agg" in str(found["why"])


def test_a_metric_that_is_hardly_read_is_a_view(db: Connection) -> None:
    db.execute("select flywheel.create_metric('m', 'select count(*) as n from flywheel.traces')")
    db.execute(
        "update flywheel._metrics set plain_ms = 5000, read_ms = 5000, measured_at = now(),"
        " created_at = now() - interval '1 week' where name = 'm'"
    )
    assert _advice(db, "m")["recommended"] == "view"


def test_an_incremental_metric_that_reads_no_faster_is_better_stored(db: Connection) -> None:
    db.execute(
        "select flywheel.create_metric('m', 'select count(*) as n from flywheel.traces', 'incremental')"
    )
    db.execute(
        "update flywheel._metrics set plain_ms = 400, read_ms = 700, measured_at = now() where name = 'm'"
    )
    found = _advice(db, "m")
    assert found["recommended"] == "materialized"
    assert "no faster incremental, 700.0 ms" in str(found["why"])


def test_a_query_that_takes_for_ever_is_not_run_to_be_measured(db: Connection) -> None:
    db.execute(
        "select flywheel.create_metric('heavy', 'select count(*) as n from generate_series(1, 20000000000)')"
    )
    db.execute(
        "select flywheel.create_metric('due', 'select count(*) as n from flywheel.traces', 'materialized', '1 second')"
    )
    db.execute("update flywheel._metrics set refreshed_at = '2026-01-01' where name = 'due'")
    db.execute("set statement_timeout = '60s'")
    assert db.execute("select flywheel.refresh_metrics()").fetchone() == (1,)
    assert float(str(_advice(db, "heavy")["plain_ms"])) > 100_000
    assert float(str(_advice(db, "due")["plain_ms"])) < 10_000


def test_explain_shows_the_compiled_statements(db: Connection) -> None:
    db.execute(
        "select flywheel.create_metric('m', 'select pipeline, count(*) as n from flywheel.traces group by 1', 'incremental')"
    )
    row = db.execute("select flywheel.explain_metric('m')").fetchone()
    assert row is not None
    assert row[0].count("insert into flywheel._stream_") == 3
    assert "create view flywheel.m" in row[0]
    db.execute("select flywheel.alter_metric('m', 'materialized')")
    row = db.execute("select flywheel.explain_metric('m')").fetchone()
    assert row is not None
    assert "by refresh_metric() only" in row[0]


# ---------------------------------------------------------------------------- what is not decided


@pytest.mark.parametrize(("passed", "decided", "expected"), [(8, 10, 10_000_000), (0, 7, 10**9)])
def test_the_interval_of_a_small_sample_is_wilsons(
    db: Connection, passed: int, decided: int, expected: int
) -> None:
    row = db.execute(
        "select rate, low, high from flywheel.rate_interval(%s, %s, %s)",
        (passed, decided, expected),
    ).fetchone()
    assert row is not None
    low, high = proportion_confint(passed, decided, method="wilson")
    assert row[0] == passed / decided
    assert math.isclose(row[1], low, rel_tol=1e-5, abs_tol=1e-9)
    assert math.isclose(row[2], high, rel_tol=1e-5)


def test_the_interval_closes_as_more_is_decided(db: Connection) -> None:
    widths = []
    for decided in (10, 50, 90, 100):
        row = db.execute(
            "select high - low, rate, low, high from flywheel.rate_interval(%s, %s, 100)",
            (decided // 2, decided),
        ).fetchone()
        assert row is not None
        widths.append(row[0])
        assert row[2] <= row[1] <= row[3]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == 0
    assert db.execute("select low, high from flywheel.rate_interval(0, 0, 5)").fetchone() == (0, 1)


@pytest.mark.parametrize("n", [1, 3, 16, 78, 172, 256, 1140])
def test_intervals_hold_their_rate_to_the_last_digit(db: Connection, n: int) -> None:
    low = "select low, rate, high from flywheel.rate_interval(%s, %s, %s)"
    for passed in (0, 1, n):
        row = db.execute(low, (passed, n, 3 * n)).fetchone()
        assert row is not None
        assert row[0] <= row[1] <= row[2]
    assert db.execute(low, (0, n, 3 * n)).fetchone()[0] == 0  # type: ignore[index]
    assert db.execute(low, (n, n, 3 * n)).fetchone()[2] == 1  # type: ignore[index]
    db.execute("select flywheel.create_validator('all', 'sql', 'true')")
    db.execute("select flywheel.create_validator('none', 'sql', 'false')")
    db.execute("insert into flywheel.traces (output) select 'x' from generate_series(1, %s)", (n,))
    ends = "select validator, rate_low, rate_high from flywheel.pass_rates order by 1"
    (all_pass, none_pass) = db.execute(ends).fetchall()
    assert all_pass[2] == 1
    assert none_pass[1] == 0


def test_requesting_a_metric_enqueues_what_its_judges_lack(db: Connection) -> None:
    db.execute(
        "select flywheel.create_model('judge', base_url => 'http://localhost:1', model => 'm')"
    )
    for name, rate in (("kind", 0.0), ("other", 0.0)):
        db.execute(
            "select flywheel.create_validator(%s, 'llm', 'The reply is kind.', model => 'judge', sample_rate => %s, pipeline => 'a')",
            (name, rate),
        )
    db.execute(
        "select flywheel.create_metric('kindness', $$select r.* from (select count(*) filter (where v.passed) as passed, "
        "count(*) filter (where v.passed is not null) as decided, (select count(*) from flywheel.traces where pipeline = 'a') as expected "
        "from flywheel.verdicts v where v.validator = 'kind') c, flywheel.rate_interval(c.passed, c.decided, c.expected) r$$)"
    )
    db.execute(
        "insert into flywheel.traces (pipeline, input, output) select p, 'q', 'a' from unnest(array['a','a','a','b']) p"
    )
    assert db.execute("select count(*) from flywheel._jobs").fetchone() == (0,)
    assert db.execute("select low, high from flywheel.kindness").fetchone() == (0, 1)
    assert db.execute("select flywheel.request_metric('kindness', max_jobs => 2)").fetchone() == (
        2,
    )
    assert db.execute("select flywheel.request_metric('kindness')").fetchone() == (1,)
    assert db.execute("select flywheel.request_metric('kindness')").fetchone() == (0,)
    jobs = db.execute("select distinct validator from flywheel.jobs").fetchall()
    assert jobs == [("kind",)]
    # A metric of metrics lacks what they lack; one that names no validator, what any judge does.
    db.execute("delete from flywheel._jobs")
    db.execute(
        "select flywheel.create_metric('twice', 'select 2 * rate as n from flywheel.kindness')"
    )
    assert db.execute("select flywheel.request_metric('twice')").fetchone() == (3,)
    db.execute(
        "select flywheel.create_metric('all_scores', 'select sum(n) as n from flywheel.score_distributions')"
    )
    assert db.execute("select flywheel.request_metric('all_scores')").fetchone() == (3,)
    db.execute("delete from flywheel._jobs")
    assert db.execute("select flywheel.request_metric('low_performers')").fetchone() == (6,)
    assert db.execute("select flywheel.request_metric('usage')").fetchone() == (0,)
