"""What a Python validator may return, what it is given, and what its errors say."""

from collections.abc import Callable
from typing import Any

import pytest
from psycopg import Connection, errors
from psycopg.types.json import Jsonb

Create = Callable[..., int]
Verdict = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("body", "status", "found"),
    [
        ("return True", "passed", {}),
        ("return False", "failed", {}),
        ("return None", "skipped", {}),
        ("return len(output) > 9, f'{len(output)} characters'", "failed", {"reason": "5 characters"}),
        ("return True, None", "passed", {"reason": None}),
        ("return {'passed': True, 'score': 3}", "passed", {"score": 3.0}),
        (
            "return {'passed': False, 'reason': 'no', 'label': 'de', 'confidence': 0.5, 'details': [1, None]}",
            "failed",
            {"reason": "no", "predicted_label": "de", "confidence": 0.5, "details": [1, None]},
        ),
        ("return {'passed': None, 'score': float('inf')}", "skipped", {"score": float("inf")}),
        ("return False, 'nul \\0 and half a pair \\ud800'", "failed", {"reason": "nul \ufffd and half a pair ?"}),
        ("return True, 'x' * 5000", "passed", {"reason": "x" * 1997 + "..."}),
        ("return {'passed': True, 'details': {'k': 'a\\0b\\ud800 \U0001f600'}}", "passed", {"details": {"k": "a\ufffdb? \U0001f600"}}),
    ],
)  # fmt: skip
def test_what_may_be_returned(
    create: Create, verdict: Verdict, body: str, status: str, found: dict[str, Any]
) -> None:
    create("v", f"{body}\noutput" if "output" not in body else body)
    got = verdict("v")
    assert got["status"] == status
    assert {key: got[key] for key in found} == found


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1", "returned an object of type int: return True, False or None"),
        ("return 'yes'", "returned a str of length 3"),
        ("return (True, 'a', 'b')", "returned a tuple of length 3"),
        ("return True, 5", "the reason is an object of type int, not text"),
        ("return {'ok': True}", "returned a dict with the key 'ok'; the keys are"),
        ("return {'score': 1}", "without the key 'passed'"),
        ("return {'passed': True, 'score': 'high'}", "the score is a str"),
        ("return {'passed': True, 'confidence': 2}", "the confidence 2"),
        ("return {'passed': True, 'details': {1, 2}}", "not JSON"),
        ("return {'passed': True, 'details': float('nan')}", "not JSON"),
        ("return {'passed': True, 'details': 'x' * 100000}", "more than 65536"),
        ("return [0] * 10 ** 7", "returned a list of length 10000000"),
        ("return 1 / 0", "line 1: ZeroDivisionError: division by zero"),
        ("def f(x):\n  return x[5]\n\nreturn f('')", "line 4, line 2 in f: IndexError: string index out of range"),
        ("import sys\nsys.exit(3)\nreturn True", "line 2: SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import no_such_module\nreturn True", "line 1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f(): return f()\nreturn f()", "RecursionError"),
        ("class E(Exception):\n  def __str__(self): raise E\nraise E", "line 3: E"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_an_error_and_names_validator_and_line(
    create: Create, verdict: Verdict, body: str, message: str
) -> None:
    create("careful", body)
    got = verdict("careful")
    assert (got["status"], got["passed"]) == ("error", None)
    assert got["error"].startswith('validator "careful"')
    assert message in got["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return (", "line 1: '(' was never closed"),
        ("x = 1\nreturn x +", "line 2"),
        ("len(output)", "returns nothing"),
        ("  ", "empty"),
        ("# nothing", "the body is empty"),
        ("return True\nyield output", None),
    ],
)
def test_a_body_that_does_not_compile_is_refused(
    create: Create, body: str, message: str | None
) -> None:
    if message is None:  # a generator compiles; what it returns is no verdict
        create("v", body)
        return
    with pytest.raises(errors.DatabaseError, match=r"refused|empty") as caught:
        create("v", body)
    assert caught.value.sqlstate == "LF001"
    assert message in str(caught.value)
    assert caught.value.diag.message_hint


def test_it_is_given_the_columns_it_names(create: Create, verdict: Verdict, db: Connection) -> None:
    create(
        "v",
        "return {'passed': True, 'details': [pipeline, user_id, input, attributes['n'], params['k'],"
        " started_at.isoformat(), type(started_at).__name__, ended_at, variant]}",
        params=Jsonb({"k": [1]}),
    )
    got = verdict(
        "v",
        pipeline="p",
        user_id="u",
        input="日本語 ' \\ \t",
        attributes=Jsonb({"n": {"a": 1.5}}),
        started_at="2026-01-02 03:04:05.678+09",
    )
    assert got["details"] == [
        "p", "u", "日本語 ' \\ \t", {"a": 1.5}, [1], "2026-01-01T18:04:05.678000+00:00", "datetime", None, None,
    ]  # fmt: skip
    row = db.execute("select reads from flywheel.validators where name = 'v'").fetchone()
    assert row == (
        ["pipeline", "variant", "user_id", "input", "started_at", "ended_at", "attributes", "params"],
    )  # fmt: skip


def test_who_looks_at_all_names_is_given_all(create: Create, verdict: Verdict) -> None:
    create("v", "return 'status' in locals() and eval('output') == 'hello'")
    assert verdict("v", input="x")["status"] == "passed"


@pytest.mark.parametrize("column", ["input", "output"])
def test_a_null_text_is_skipped(create: Create, verdict: Verdict, column: str) -> None:
    create("v", f"return {column} == 'x', user_id")
    got = verdict("v", **{"input": "i", "output": "o", column: None})
    assert (got["status"], got["skipped_reason"]) == ("skipped", f"{column} is null")


def test_spans_have_their_own_columns(db: Connection, create: Create) -> None:
    create(
        "v",
        "return {'passed': cost_usd < 0.5, 'details': [pipeline, node, kind, model, input_tokens + 1, cost_usd]}",
        subject="span",
    )
    db.execute("insert into flywheel.traces (trace_id, pipeline) values (flywheel._no_span(), 'p')")
    db.execute(
        "insert into flywheel.spans (trace_id, node, kind, model, input_tokens, cost_usd)"
        " values (flywheel._no_span(), 'n', 'writer', 'm', 7, 0.25)"
    )
    row = db.execute("select passed, details from flywheel.verdicts").fetchone()
    assert row == (True, ["p", "n", "writer", "m", 8, 0.25])


def test_a_batch_keeps_rows_and_verdicts_together(db: Connection, create: Create) -> None:
    """Several batches, several validators, filters, and results that are sparse."""
    create("even", "n = int(output)\nreturn n % 2 == 0, f'n={n}' if n % 7 == 0 else None")
    create("big", "return {'passed': len(output) > 2, 'score': int(output)}", pipeline="a")
    create("odd_error", "return 1 // (int(output) % 2) == 1")
    db.execute(
        "select flywheel.create_validator('sql', 'sql', 'output::int % 2 = 0', score => 'output::int')"
    )
    db.execute(
        "insert into flywheel.traces (pipeline, output) "
        "select case when n % 3 = 0 then 'a' else 'b' end, n::text from generate_series(1, 3456) n"
    )
    wrong = db.execute(
        """
        select t.output, v.* from flywheel.traces t left join flywheel.verdicts v using (trace_id)
        where not case v.validator
          when 'even' then v.passed = (t.output::int % 2 = 0)
            and v.reason is not distinct from case when t.output::int % 7 = 0 then 'n=' || t.output end
          when 'big' then t.pipeline = 'a' and v.passed = (length(t.output) > 2) and v.score = t.output::int
          when 'odd_error' then
            case when t.output::int % 2 = 0 then v.status = 'error' and v.error like '%ZeroDivision%' else v.passed end
          when 'sql' then v.passed = (t.output::int % 2 = 0) and v.score = t.output::int
          else false end
        """
    ).fetchall()
    assert wrong == []
    counts = db.execute(
        "select validator, expected, missing from flywheel.coverage order by validator"
    ).fetchall()
    assert counts == [("big", 1152, 0), ("even", 3456, 0), ("odd_error", 3456, 0), ("sql", 3456, 0)]


def test_long_texts_make_small_batches(db: Connection, create: Create) -> None:
    create("v", "return len(output) == 600_000 and len(input) < 10")
    db.execute(
        "insert into flywheel.traces (input, output) select n::text, repeat('x', 600000) from generate_series(1, 60) n"
    )
    assert db.execute("select count(*) from flywheel.verdicts where passed").fetchone() == (60,)


def test_a_text_beyond_the_cap_is_an_error(create: Create, verdict: Verdict) -> None:
    create("v", "return len(output) < 5", budget=Jsonb({"max_chars": 10}))
    assert verdict("v", "x" * 10)["status"] == "failed"
    for length in (11, 50_000):
        got = verdict("v", "é" * length)
        assert got["status"] == "error"
        assert "output is longer than 10 characters" in got["error"]


def test_an_update_judges_again(db: Connection, create: Create) -> None:
    create("v", "return len(output) < 4, output")
    db.execute("insert into flywheel.traces (output) values ('long one')")
    db.execute("update flywheel.traces set output = 'ok'")
    rows = db.execute("select revision, passed, reason from flywheel.verdicts").fetchall()
    assert rows == [(2, True, "ok")]


def test_sampling_matches_sql(db: Connection, create: Create) -> None:
    create("v", "return True", sample_rate=0.3)
    db.execute("select flywheel.create_validator('s', 'sql', 'true', sample_rate => 0.3)")
    db.execute("insert into flywheel.traces (output) select 'x' from generate_series(1, 1500)")
    row = db.execute(
        "select count(*) filter (where validator = 'v'), count(*) filter (where validator = 's'),"
        " count(distinct trace_id) from flywheel.verdicts"
    ).fetchone()
    assert row is not None
    assert row[0] == row[1] == row[2]
    assert 350 < row[0] < 550


def test_late_rows_and_dry_runs(db: Connection, create: Create) -> None:
    db.execute("insert into flywheel.traces (output) values ('a'), ('bbbb')")
    create("v", "return len(output) < 3, output", enabled=False)
    rows = db.execute(
        "select passed, reason from flywheel.test_validator('v') order by reason"
    ).fetchall()
    assert rows == [(True, "a"), (False, "bbbb")]
    assert db.execute("select count(*) from flywheel.verdicts").fetchone() == (0,)
    db.execute("select flywheel.enable_validator('v')")
    db.execute("set local session_replication_role = replica")
    db.execute("insert into flywheel.traces (output) values ('cc')")
    db.execute("set local session_replication_role = origin")
    assert db.execute("select missing from flywheel.coverage").fetchone() == (1,)
    assert db.execute("select validator, filled from flywheel.sweep()").fetchall() == [("v", 1)]
    assert db.execute("select reason, passed from flywheel.verdicts").fetchall() == [("cc", True)]


def test_given_rows(db: Connection, create: Create) -> None:
    create(
        "v",
        "return pipeline == 'p' and len(output) < 3, str(attributes)",
        pipeline="p",
        sample_rate=0,
    )
    rows = db.execute(
        "select n, status, reason from flywheel.evaluate('v', %s)",
        (
            Jsonb(
                [
                    {"output": "a", "attributes": {"k": 1}},
                    {"output": "long"},
                    {"input": "no output"},
                ]
            ),
        ),
    ).fetchall()
    assert rows == [(1, "passed", "{'k': 1}"), (2, "failed", "{}"), (3, "skipped", None)]
    with pytest.raises(errors.DatabaseError, match="not a JSON array"):
        db.execute("select flywheel.evaluate('v', '{}')")


def test_the_gate_asks_what_reads_no_output(db: Connection, create: Create) -> None:
    create("in", "return 'bad' not in input, 'it says bad'", sample_rate=0)
    create("out", "return len(output) > 3")
    create("broken", "return input[99] == 'x'", on_error="reject")
    rows = db.execute(
        "select validator, passed, reason from flywheel.check_input('so bad')"
    ).fetchall()
    assert rows == [
        (
            "broken",
            False,
            'error: validator "broken", line 1: IndexError: string index out of range',
        ),
        ("in", False, "it says bad"),
    ]


def test_reject_stops_the_statement(db: Connection, create: Create) -> None:
    create("short", "return len(output) < 4, f'{len(output)} characters'", on_fail="reject")
    with (
        pytest.raises(errors.DatabaseError, match='the validator "short" rejects trace') as caught,
        db.transaction(),
    ):
        db.execute("insert into flywheel.traces (output) values ('ok'), ('too long')")
    assert caught.value.sqlstate == "LF010"
    assert caught.value.diag.message_detail == "8 characters"
    db.execute("insert into flywheel.traces (output) values ('ok')")
    assert db.execute("select count(*) from flywheel.verdicts where passed").fetchone() == (1,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": "1"}, "score and reason are SQL expressions"),
        ({"budget": Jsonb({"time": 5})}, "the budget has the key 'time'"),
        ({"budget": Jsonb({"time_ms": 0})}, "the budget's time_ms is 0"),
        ({"budget": Jsonb([1])}, "not a JSON object"),
    ],
)
def test_options_that_make_no_sense(create: Create, options: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.DatabaseError, match=message) as caught:
        create("v", "return True", **options)
    assert caught.value.sqlstate == "LF001"


def test_a_budget_is_not_for_sql(db: Connection) -> None:
    with pytest.raises(errors.DatabaseError, match="a budget is for Python"):
        db.execute(
            "select flywheel.create_validator('v', 'sql', 'true', budget => '{\"time_ms\": 5}')"
        )
