"""validator_correlations and validator_associations() against scipy."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from scipy import stats


def _rows(db: Connection, query: str, *parameters: object) -> list[dict[str, Any]]:
    with db.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, parameters).fetchall()  # type: ignore[arg-type]


def _says(db: Connection, name: str, **options: str) -> None:
    """A validator that says what the attribute of its name says; nothing if it is not there."""
    more = "".join(f", {key} => '{value}'" for key, value in options.items())
    db.execute(
        f"select flywheel.create_validator(%s, 'sql', %s{more})",  # type: ignore[arg-type]
        (name, f"(attributes ->> '{name}')::boolean"),
    )


@pytest.fixture
def assertions(db: Connection, shared_data: Path) -> dict[str, dict[str, Any]]:
    """Real assertions over real outputs, each a validator; what they and people said, by output."""
    found: dict[str, dict[str, Any]] = {}
    with gzip.open(shared_data / "spade" / "assertion_results.jsonl.gz", "rt") as lines:
        for result in map(json.loads, lines):
            if result["pipeline"] == "statsbot" and result["response_id"] is not None:
                row = found.setdefault(result["response_id"], {"good": result["response_label"]})
                row[result["assertion"]] = result["passed"]
    names = {name for row in found.values() for name in row} - {"good"}
    for name in names:
        _says(db, name)
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into flywheel.traces (pipeline, attributes) values ('statsbot', %s)",
            [(Jsonb(row),) for row in found.values()],
        )
    return found


def test_pairs_of_real_assertions_equal_scipy(
    db: Connection, assertions: dict[str, dict[str, Any]]
) -> None:
    rows = _rows(db, "select * from flywheel.validator_correlations")
    names = sorted({name for row in assertions.values() for name in row} - {"good"})
    assert len(rows) == len(names) * (len(names) - 1)
    with_phi = 0
    for row in rows:
        pairs = np.array(
            [
                (not said[row["validator"]], not said[row["other_validator"]])
                for said in assertions.values()
                if row["validator"] in said and row["other_validator"] in said
            ],
            int,
        )
        a, b = pairs.T
        assert row["n"] == len(pairs)
        assert (row["failed"], row["other_failed"], row["both_failed"]) == (
            a.sum(), b.sum(), (a & b).sum(),
        )  # fmt: skip
        if a.sum():
            assert row["redundancy"] == pytest.approx((a & b).sum() / a.sum())
        else:
            assert row["redundancy"] is None
        if len(set(a)) == 2 and len(set(b)) == 2:
            with_phi += 1
            expected = stats.pearsonr(a, b)
            assert row["phi"] == pytest.approx(expected.statistic, abs=1e-9)
            low, high = expected.confidence_interval(0.95)
            assert row["phi_low"] == pytest.approx(low, abs=1e-9)
            assert row["phi_high"] == pytest.approx(high, abs=1e-9)
        else:
            assert (row["phi"], row["phi_low"], row["phi_high"]) == (None, None, None)
    assert with_phi > 10


def test_association_with_what_people_said_equals_scipy(
    db: Connection, assertions: dict[str, dict[str, Any]]
) -> None:
    db.execute("set local role flywheel_reader")
    rows = _rows(db, "select * from flywheel.validator_associations('attributes.good', 'statsbot')")
    with_correlation = 0
    for row in rows:
        said = [
            (result[row["validator"]], result["good"])
            for result in assertions.values()
            if row["validator"] in result and result["good"] is not None
        ]
        passed, good = np.array(said, int).T
        assert (row["n"], row["failed"]) == (len(said), (passed == 0).sum())
        if len(set(passed)) == 2:
            with_correlation += 1
            expected = stats.pointbiserialr(passed, good)
            assert row["correlation"] == pytest.approx(expected.statistic, abs=1e-9)
            low, high = stats.pearsonr(passed, good).confidence_interval(0.95)
            assert row["correlation_low"] == pytest.approx(low, abs=1e-9)
            assert row["correlation_high"] == pytest.approx(high, abs=1e-9)
            assert row["mean_if_passed"] == pytest.approx(good[passed == 1].mean())
            assert row["mean_if_failed"] == pytest.approx(good[passed == 0].mean())
    assert with_correlation > 5
    assert [abs(row["correlation"] or 0) for row in rows] == sorted(
        (abs(row["correlation"] or 0) for row in rows), reverse=True
    )


def test_association_of_real_runs_with_their_length(db: Connection, shared_data: Path) -> None:
    _says(db, "reward")
    with gzip.open(shared_data / "tau_airline" / "trajectories.jsonl.gz", "rt") as lines:
        runs = [json.loads(line) for line in lines]
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into flywheel.traces (attributes) values (%s)",
            [
                (Jsonb({"reward": bool(run["reward"]), "steps": {"n": len(run["messages"])}}),)
                for run in runs
            ],
        )
    (row,) = _rows(db, "select * from flywheel.validator_associations('attributes.steps.n')")
    expected = stats.pointbiserialr(
        [bool(run["reward"]) for run in runs], [len(run["messages"]) for run in runs]
    )
    assert row["n"] == len(runs)
    assert row["correlation"] == pytest.approx(expected.statistic, abs=1e-9)


def test_labels_and_scores_are_outcomes_too(db: Connection) -> None:
    _says(db, "a")
    _says(db, "b", score="(attributes ->> ''x'')::double precision")
    rng = np.random.default_rng(7)
    rows = [
        {"a": bool(a), "b": bool(b), "x": float(x), "y.z": bool(x > 0)}
        for a, b, x in zip(rng.integers(0, 2, 40), rng.integers(0, 2, 40), rng.normal(size=40), strict=True)
    ]  # fmt: skip
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into flywheel.traces (attributes) values (%s)", [(Jsonb(r),) for r in rows]
        )
    db.execute(
        "select flywheel.label(trace_id, 'a', (attributes ->> 'y.z')::boolean, labeler => 'me') from flywheel.traces"
    )
    x = [row["x"] for row in rows]
    good = [row["y.z"] for row in rows]
    for outcome, values, among in (
        ("score.b", x, ["a"]),
        ("label.a", good, ["a", "b"]),
        ("attributes.y.z", good, ["a", "b"]),
    ):
        found = _rows(db, "select * from flywheel.validator_associations(%s)", outcome)
        assert sorted(row["validator"] for row in found) == among
        for row in found:
            passed = [said[row["validator"]] for said in rows]
            assert row["correlation"] == pytest.approx(
                stats.pearsonr(np.array(passed, float), np.array(values, float)).statistic, abs=1e-9
            )


def test_a_span_that_fails_fails_its_trace(db: Connection) -> None:
    db.execute("select flywheel.create_validator('s', 'sql', 'output = ''ok''', subject => 'span')")
    for outputs, value in ((("ok", "ok"), 3), (("ok", "no"), 1), (("no",), 1), (("ok",), 3)):
        trace = db.execute(
            "insert into flywheel.traces (attributes) values (%s) returning trace_id",
            (Jsonb({"v": value}),),
        ).fetchone()
        assert trace is not None
        for output in outputs:
            db.execute(
                "insert into flywheel.spans (trace_id, output) values (%s, %s)", (trace[0], output)
            )
    (row,) = _rows(db, "select * from flywheel.validator_associations('attributes.v')")
    assert (row["n"], row["failed"], row["correlation"]) == (4, 2, 1.0)


def test_only_the_newest_version_is_compared(db: Connection) -> None:
    _says(db, "a")
    _says(db, "b")
    insert = "insert into flywheel.traces (attributes) values (%s)"
    db.execute(insert, (Jsonb({"a": True, "b": False}),))
    db.execute("select flywheel.alter_validator('a', $$(attributes ->> 'b')::boolean$$)")
    db.execute(insert, (Jsonb({"a": True, "b": False}),))
    rows = _rows(
        db, "select validator, version, n, both_failed from flywheel.validator_correlations"
    )
    assert sorted((r["validator"], r["version"], r["n"], r["both_failed"]) for r in rows) == [
        ("a", 2, 1, 1),
        ("b", 1, 1, 1),
    ]


@pytest.mark.parametrize(
    ("outcome", "says", "state"),
    [
        (None, "null", "LF002"),
        ("", "outcome", "LF002"),
        ("reward", "outcome", "LF002"),
        ("attributes.", "outcome", "LF002"),
        ("label.none", 'no validator "none"', "LF003"),
        ("score.none", 'no validator "none"', "LF003"),
    ],
)
def test_an_unknown_outcome_is_refused(
    db: Connection, outcome: str | None, says: str, state: str
) -> None:
    with pytest.raises(psycopg.Error, match=says) as refused:
        db.execute("select * from flywheel.validator_associations(%s)", (outcome,))
    assert refused.value.sqlstate == state
    assert refused.value.diag.message_hint


def test_a_constant_outcome_goes_with_nothing(db: Connection) -> None:
    _says(db, "a")
    db.execute(
        "insert into flywheel.traces (attributes)"
        " select jsonb_build_object('a', n % 3 = 0, 'v', 0.1) from generate_series(1, 100) as n"
    )
    (row,) = _rows(db, "select * from flywheel.validator_associations('attributes.v')")
    assert row["n"] == 100
    assert (row["correlation"], row["correlation_low"]) == (None, None)


@pytest.mark.parametrize(("offset", "size"), [(1.764e9, 1.0), (1e12, 50.0), (0.0, 1e149)])
def test_outcomes_far_from_0_and_large_ones(db: Connection, offset: float, size: float) -> None:
    _says(db, "a")
    chance = np.random.default_rng(7)
    values = offset + size * chance.uniform(size=300)
    passed = chance.uniform(size=300) < 0.4
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into flywheel.traces (attributes) values (%s)",
            [(Jsonb({"a": bool(p), "v": float(v)}),) for p, v in zip(passed, values, strict=True)],
        )
    # What nobody can square is left out.
    db.execute('insert into flywheel.traces (attributes) values (\'{"a": true, "v": 1e200}\')')
    (row,) = _rows(db, "select * from flywheel.validator_associations('attributes.v')")
    expected = stats.pearsonr(passed.astype(float), (values - offset) / size).statistic
    assert row["n"] == 300
    assert row["correlation"] == pytest.approx(expected, abs=1e-9)


def test_values_that_are_no_numbers_do_not_count(db: Connection) -> None:
    _says(db, "a")
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into flywheel.traces (attributes) values (%s)",
            [(Jsonb({"a": i % 2 == 0, "v": v}),) for i, v in enumerate([1, 2, "3", None, [4], {}])],
        )
        cursor.execute(
            'insert into flywheel.traces (attributes) values (\'{"a": true, "v": 1e400}\')'
        )
    (row,) = _rows(db, "select * from flywheel.validator_associations('attributes.v')")
    assert (row["n"], row["mean_if_passed"], row["mean_if_failed"]) == (2, 1.0, 2.0)
    assert _rows(db, "select * from flywheel.validator_associations('attributes.w')") == []
