"""score_distributions against numpy."""

import gzip
import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Connection

# What is promised.
ERROR = 0.01 + 1e-9


def _scored(db: Connection, scores: list[str | float | None], pipeline: str = "p") -> None:
    """Traces whose validator has these scores."""
    db.execute(
        "select flywheel.create_validator('scored', 'sql', 'true', "
        "score => $$(attributes ->> 'x')::double precision$$) "
        "where not exists (select from flywheel.validators where name = 'scored')"
    )
    db.execute(
        "insert into flywheel.traces (pipeline, attributes) "
        "select %s, jsonb_build_object('x', x) from unnest(%s::text[]) as x",
        (pipeline, [None if score is None else str(score) for score in scores]),
    )


def _row(db: Connection, where: str = "true") -> dict[str, object]:
    columns = (
        "n, mean, stddev, min, max, p50, p90, p95, p99, histogram, validator, version, pipeline"
    )
    row = db.execute(
        f"select {columns} from flywheel.score_distributions where {where}"  # type: ignore[arg-type]
    ).fetchall()
    assert len(row) == 1
    return dict(zip(columns.split(", "), row[0], strict=True))


def _quantile(scores: np.ndarray, share: str) -> float:
    """The lowest score that so many do not exceed, as percentile_disc()."""
    return float(np.sort(scores)[math.ceil(Fraction(share) * len(scores)) - 1])


def _is_as_numpy_says(row: dict[str, object], scores: np.ndarray) -> None:
    assert row["n"] == len(scores)
    assert row["mean"] == pytest.approx(scores.mean(), rel=1e-9, abs=1e-300)
    if len(scores) > 1:
        # Digits that all scores share are not what they differ by: numpy loses them first.
        lost = 1e-15 * np.abs(scores).max()
        assert row["stddev"] == pytest.approx(scores.std(ddof=1), rel=1e-9, abs=lost)
    else:
        assert row["stddev"] is None
    assert row["min"] == scores.min()
    assert row["max"] == scores.max()
    for name, share in (("p50", "0.5"), ("p90", "0.9"), ("p95", "0.95"), ("p99", "0.99")):
        exact = _quantile(scores, share)
        assert row[name] == pytest.approx(exact, rel=ERROR), name
    histogram = row["histogram"]
    assert isinstance(histogram, list)
    values = np.array([value for value, _ in histogram])
    assert (np.diff(values) > 0).all()
    # Each score is counted by the value next to it, which is within the error.
    near = values[np.abs(scores[:, None] - values[None, :]).argmin(axis=1)]
    assert np.allclose(near, scores, rtol=ERROR, atol=1e-300)
    assert sum(count for _, count in histogram) == len(scores)


def test_real_lengths_and_times(db: Connection, shared_data: Path) -> None:
    with gzip.open(shared_data / "alpacaeval" / "outputs.jsonl.gz", "rt") as lines:
        lengths = [len(json.loads(line)["response"] or "") for line in lines]
    with gzip.open(shared_data / "alpacaeval" / "judgments.jsonl.gz", "rt") as lines:
        times = [json.loads(line)["time_s"] for line in lines]
    _scored(db, lengths, "lengths")
    _scored(db, [time for time in times if time is not None], "times")
    _is_as_numpy_says(_row(db, "pipeline = 'lengths'"), np.array(lengths, float))
    _is_as_numpy_says(
        _row(db, "pipeline = 'times'"), np.array([time for time in times if time is not None])
    )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    scores=st.lists(
        st.one_of(
            st.integers(-5, 5).map(float),
            st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-149),
            st.floats(1e-149, 1e149),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_any_scores(db: Connection, scores: list[float]) -> None:
    with db.transaction(force_rollback=True):
        _scored(db, [repr(score) for score in scores])
        row = _row(db)
    _is_as_numpy_says(row, np.array(scores))


def test_what_is_no_number_is_not_counted(db: Connection) -> None:
    _scored(
        db, ["NaN", "Infinity", "-Infinity", None, "1", "3", "1e149", "-1e149", "5e-324", "1e308"]
    )
    row = _row(db)
    assert row["n"] == 4
    assert (row["min"], row["max"]) == (-1e149, 1e149)


def test_verdicts_without_a_decision_do_not_count(db: Connection) -> None:
    db.execute(
        "select flywheel.create_validator('long', 'sql', 'length(output) > 3', score => 'length(output)')"
    )
    db.execute("insert into flywheel.traces (output) values ('a'), ('abcd'), (null)")
    assert _row(db)["n"] == 2


def test_rows_are_told_apart_by_version_and_dimension(db: Connection) -> None:
    _scored(db, [1, 2], "a")
    _scored(db, [3], "b")
    db.execute(
        "select flywheel.alter_validator('scored', score => $$2 * (attributes ->> 'x')::double precision$$)"
    )
    _scored(db, [3], "b")
    rows = db.execute(
        "select version, pipeline, n, max from flywheel.score_distributions order by 1, 2"
    ).fetchall()
    assert rows == [(1, "a", 2, 2.0), (1, "b", 1, 3.0), (2, "b", 1, 6.0)]


def test_incremental_equals_the_view_after_every_kind_of_change(
    connect: Callable[..., Connection],
) -> None:
    session = connect()
    _scored(session, [1, 2, 2.5, -3, 0, None], "before")
    session.execute("select flywheel.alter_metric('score_distributions', 'incremental')")
    session.execute("select flywheel.run_metric_tasks()")
    state = session.execute(
        "select storage, state from flywheel.metrics where name = 'score_distributions'"
    ).fetchone()
    assert state == ("incremental", "ready")
    query = session.execute(
        "select query from flywheel.metrics where name = 'score_distributions'"
    ).fetchone()
    assert query is not None
    rng = np.random.default_rng(2)

    def equals() -> None:
        order = " order by version, pipeline"
        kept = session.execute("select * from flywheel.score_distributions" + order).fetchall()
        computed = session.execute(f"select * from ({query[0]}) as q{order}").fetchall()  # type: ignore[arg-type]
        assert kept
        # Floats are added in another order.
        assert kept == [
            tuple(pytest.approx(v, rel=1e-12) if isinstance(v, float) else v for v in row)
            for row in computed
        ]

    equals()
    for pipeline in ("a", "b", "a"):
        _scored(session, [float(x) for x in rng.lognormal(1, 2, 200)], pipeline)
        equals()
    session.execute("update flywheel.traces set attributes = '{\"x\": 7}' where pipeline = 'a'")
    equals()
    session.execute("select flywheel.run_metric_tasks()")
    equals()
    session.execute("delete from flywheel.traces where pipeline = 'b' or attributes ->> 'x' = '-3'")
    equals()
    session.execute("update flywheel.traces set pipeline = 'c' where pipeline = 'before'")
    equals()
    session.execute("select flywheel.run_metric_tasks()")
    equals()
