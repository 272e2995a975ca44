"""The views: coverage adds up, pass_rates agree with statsmodels, failures read well."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Connection
from statsmodels.stats.proportion import proportion_confint


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(n=st.integers(1, 10**9), share=st.floats(0, 1))
def test_wilson_interval_agrees_with_statsmodels(db: Connection, n: int, share: float) -> None:
    passed = round(n * share)
    row = db.execute(
        "select centre - margin, centre + margin from flywheel._wilson_interval(%s, %s)",
        (passed, n),
    ).fetchone()
    assert row is not None
    expected = proportion_confint(passed, n, alpha=0.05, method="wilson")
    np.testing.assert_allclose(row, expected, rtol=1e-9, atol=1e-12)


def test_the_interval_of_nothing_is_null(db: Connection) -> None:
    row = db.execute("select centre, margin from flywheel._wilson_interval(0, 0)").fetchone()
    assert row == (None, None)


def test_pass_rates_group_by_every_dimension(db: Connection) -> None:
    db.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 5')")
    db.execute(
        "insert into flywheel.traces (pipeline, variant, environment, release, started_at, output) values "
        "('a', null, 'prod', 'v1', '2026-01-01 23:30+00', 'x'), ('a', null, 'prod', 'v1', '2026-01-01 01:00+00', 'too long'), "
        "('a', 'B', 'prod', 'v1', '2026-01-01 02:00+00', 'x'), ('a', null, 'prod', 'v2', '2026-01-01 02:00+00', 'x'), "
        "('b', null, null, null, '2026-01-02 00:30+01', null)"
    )
    rows = db.execute(
        "select pipeline, variant, environment, release, day::text, n, passed, failed, skipped, rate "
        "from flywheel.pass_rates order by pipeline, release, variant nulls first"
    ).fetchall()
    assert rows == [
        ("a", None, "prod", "v1", "2026-01-01", 2, 1, 1, 0, 0.5),
        ("a", "B", "prod", "v1", "2026-01-01", 1, 1, 0, 0, 1.0),
        ("a", None, "prod", "v2", "2026-01-01", 1, 1, 0, 0, 1.0),
        ("b", None, None, None, "2026-01-01", 0, 0, 0, 1, None),
    ]


def test_dimensions_are_those_of_the_moment_of_the_verdict(db: Connection) -> None:
    db.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 5')")
    db.execute("insert into flywheel.traces (variant, output) values ('A', 'x')")
    db.execute("update flywheel.traces set variant = 'B'")
    assert db.execute("select variant from flywheel.pass_rates").fetchall() == [("A",)]


@pytest.mark.parametrize(("storage", "reads"), [("incremental", "_stream_"), ("view", "_verdicts")])
def test_pass_rates_read_no_trace(db: Connection, storage: str, reads: str) -> None:
    """Large texts cannot slow a scan that never comes near them."""
    db.execute("select flywheel.alter_metric('pass_rates', %s)", (storage,))
    plan = db.execute("explain (format json) select * from flywheel.pass_rates").fetchone()
    assert "'traces'" not in str(plan)
    assert reads in str(plan)


def test_failures_reads_like_a_report(db: Connection) -> None:
    db.execute(
        "select flywheel.create_validator('short', 'sql', 'length(output) < 5', "
        "reason => $$length(output) || ' characters'$$)"
    )
    db.execute(
        "select flywheel.create_validator('cited', 'sql', $$output ~ '\\[\\d+\\]'$$, description => 'No source.')"
    )
    db.execute(
        "insert into flywheel.traces (pipeline, user_id, input, output) values ('support', 'ann', 'why?', 'because [1]'), "
        "('support', 'bob', 'how?', 'so')"
    )
    rows = db.execute(
        "select validator, reason, pipeline, user_id, input, output from flywheel.failures order by validator desc"
    ).fetchall()
    assert rows == [
        ("short", "11 characters", "support", "ann", "why?", "because [1]"),
        ("cited", "No source.", "support", "bob", "how?", "so"),
    ]


def test_recent_failures_come_from_their_index(db: Connection) -> None:
    db.execute("select flywheel.create_validator('rare', 'sql', $$output <> '7'$$)")
    db.execute(
        "insert into flywheel.traces (output) select i::text from generate_series(1, 5000) i"
    )
    db.execute("analyze flywheel._verdicts")
    plan = db.execute(
        "explain select * from flywheel.failures order by created_at desc limit 20"
    ).fetchall()
    assert "_verdicts_failed_idx" in str(plan)


@pytest.mark.parametrize("mode", ["inline", "queued"])
def test_coverage_always_adds_up(db: Connection, mode: str) -> None:
    db.execute(
        "select flywheel.create_validator('a', 'sql', 'output::int > 5', mode => %s)", (mode,)
    )
    db.execute("insert into flywheel.traces (output) values ('1'), ('9'), ('x'), (null)")
    row = db.execute(
        "select expected, decided, errored, skipped, pending, dead, missing, "
        "expected = decided + errored + skipped + pending + dead + missing from flywheel.coverage"
    ).fetchone()
    assert row == ((4, 2, 1, 1, 0, 0, 0, True) if mode == "inline" else (4, 0, 0, 0, 4, 0, 0, True))
