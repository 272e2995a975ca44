"""Results: recorded once, about the revision that was judged, or not at all."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from psycopg import Connection, errors
from psycopg.types.json import Jsonb

Open = Callable[..., Any]


def test_a_result_becomes_a_verdict_with_all_it_says(judged: Any) -> None:
    (trace_id,) = judged.insert()
    (job,) = judged.claim()
    said = {
        "score": 7.5,
        "reason": "short",
        "confidence": 0.5,
        "predicted_label": "A",
        "details": {"votes": [1, 0]},
        "duration_ms": 12.5,
    }
    assert judged.complete(job, status="failed", **said) == (1, 0)
    columns = "trace_id, span_id, revision, validator, version, status, passed, score, reason, confidence, predicted_label, details, duration_ms"
    assert judged.verdicts(columns) == [
        (trace_id, None, 1, "kind", 1, "failed", False, *[said[name] for name in ("score", "reason", "confidence", "predicted_label", "details", "duration_ms")])
    ]  # fmt: skip
    assert judged.jobs() == []


@pytest.mark.parametrize("subject", ["trace", "span"])
def test_completing_twice_and_in_two_halves(queue: Any, subject: str) -> None:
    queue.check(subject=subject)
    for trace_id in queue.insert(6):
        queue.insert_span(trace_id)
    jobs = queue.claim(6)
    assert len(jobs) == 6
    assert queue.complete(*jobs[:3]) == (3, 0)
    assert queue.complete(*jobs) == (3, 3)
    assert queue.complete(*jobs) == (0, 6)
    assert queue.verdicts() == [("passed",)] * 6
    assert queue.missing() == 0


def test_a_job_named_twice_in_a_batch_counts_once(queue: Any) -> None:
    queue.check()
    queue.insert()
    (job,) = queue.claim()
    assert queue.complete(job, job) == (1, 1)
    assert queue.verdicts() == [("passed",)]


def test_results_of_traces_and_spans_and_several_validators_in_one_batch(queue: Any) -> None:
    queue.check()
    queue.check("other")
    queue.check("of spans", subject="span")
    for trace_id in queue.insert(3):
        queue.insert_span(trace_id)
        queue.insert_span(trace_id)
    jobs = queue.claim(100)
    assert queue.complete(*jobs) == (12, 0)
    assert queue.rows("select validator, decided, missing from flywheel.coverage order by 1") == [
        ("of spans", 6, 0),
        ("other", 3, 0),
        ("short", 3, 0),
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"trace_id": "x"},
            'result 2 of 3 cannot be read: invalid input syntax for type uuid: "x"',
        ),
        ({"score": "high"}, "result 2 of 3 cannot be read: invalid input syntax for type double"),
        ({"status": None}, "its status is null, not passed"),
        ({"status": "good"}, "its status is good, not passed"),
        ({"confidence": 1.5}, "its confidence is 1.5, not from 0 to 1"),
        ({"confidence": "NaN"}, "its confidence is NaN"),
        ({"token": None}, "it has no trace_id, no version_id or no token"),
        ({"trace_id": None}, "it has no trace_id"),
        ({"version_id": 1e12}, "result 2 of 3 cannot be read"),
        ({"duration_ms": 1e300}, "result 2 of 3 cannot be read"),
        ({"run": [1]}, "its run is no object"),
        ({"run": {"requests": "many"}}, 'the requests of its run is "many", not a number'),
        ({"run": {"input_tokens": -1}}, "the input_tokens of its run is -1"),
        ({"run": {"latency_ms": 1e300}}, "the latency_ms of its run is"),
        ({"run": {"output_tokens": [1]}}, "the output_tokens of its run is"),
    ],
)
def test_a_malformed_result_is_named_and_nothing_is_lost(
    queue: Any, change: dict[str, Any], problem: str
) -> None:
    queue.check()
    queue.insert(3)
    jobs = queue.claim(3)
    results = [job.key | {"status": "passed"} for job in jobs]
    results[1] |= change
    with pytest.raises(errors.Error) as caught, queue.session.transaction():
        queue.rows("select flywheel.complete_jobs('w', %s)", json.dumps(results))
    assert caught.value.sqlstate == "LF002"
    assert problem in str(caught.value)
    assert "Nothing of the batch was recorded" in (caught.value.diag.message_hint or "")
    assert queue.verdicts() == []
    assert queue.complete(*jobs) == (3, 0)


@pytest.mark.parametrize("results", ["null", "{}", "[1]", "[null]", "7"])
def test_what_is_no_array_of_objects_is_refused(queue: Any, results: str) -> None:
    with pytest.raises(errors.Error) as caught:
        queue.rows("select flywheel.complete_jobs('w', %s)", results)
    assert caught.value.sqlstate == "LF002"
    assert "trace_id, span_id, version_id and token" in (caught.value.diag.message_hint or "")


def test_a_run_may_leave_out_or_null_its_numbers(judged: Any) -> None:
    judged.insert(2)
    first, second = judged.claim(2)
    assert judged.complete(first, run={}) == (1, 0)
    assert judged.complete(second, run={"requests": None, "messages": "text", "replies": {}}) == (
        1,
        0,
    )
    assert (
        judged.rows("select requests, input_tokens, replies from flywheel.runs")
        == [(0, 0, None)] * 2
    )


def test_an_unknown_job_is_dropped(queue: Any) -> None:
    queue.check()
    queue.insert(2)
    good, other = queue.claim(2)
    assert queue.complete(
        good, other._replace(version_id=987), other._replace(token=1), other._replace(span_id=other.trace_id)
    ) == (1, 3)  # fmt: skip
    assert queue.fail(other._replace(version_id=987)) == "stale"
    assert queue.complete(other) == (1, 0)


def test_a_disabled_validator_s_jobs_are_still_done(queue: Any) -> None:
    queue.check()
    queue.insert(2)
    (job,) = queue.claim()
    queue.call("disable_validator", "short")
    assert queue.complete(job) == (1, 0)
    (job,) = queue.claim()
    assert queue.complete(job) == (1, 0)
    assert queue.missing() == 0


def test_a_dropped_validator_s_results_are_dropped(queue: Any) -> None:
    queue.check()
    queue.check("gone for good")
    queue.insert()
    jobs = queue.claim(2)
    queue.call("drop_validator", "short")
    queue.call("drop_validator", "gone for good", True)
    assert queue.complete(*jobs) == (0, 2)
    assert queue.run_sql(*jobs) == (0, 2)
    assert [queue.fail(job) for job in jobs] == ["stale", "stale"]
    assert queue.verdicts() == []
    assert queue.rows("select * from flywheel.queue_health") == []


def test_a_job_of_an_older_version_gives_that_version_s_verdict(queue: Any) -> None:
    queue.check()
    queue.insert()
    (job,) = queue.claim()
    queue.call("alter_validator", "short", body="length(output) < 99")
    queue.insert()
    assert queue.complete(job) == (1, 0)
    (newer,) = queue.claim(9)
    assert queue.complete(newer) == (1, 0)
    assert sorted(queue.verdicts("version, status")) == [(1, "passed"), (2, "passed")]
    assert queue.missing() == 0


def test_sql_jobs_are_decided_in_the_database(queue: Any) -> None:
    queue.check(score="length(output)", reason="'too long'")
    queue.check("of spans", subject="span")
    (short,) = queue.insert(output="ok")
    queue.insert(output="not short")
    queue.insert_span(short, output="four")
    jobs = queue.claim(9, ["sql"])
    assert queue.run_sql(*jobs[:1]) == (1, 0)
    assert queue.run_sql(*jobs) == (2, 1)
    assert sorted(queue.verdicts("validator, status, score")) == [
        ("of spans", "failed", None),
        ("short", "failed", 9.0),
        ("short", "passed", 2.0),
    ]
    assert queue.jobs() == []


def test_only_sql_is_decided_in_the_database(judged: Any) -> None:
    judged.insert()
    (job,) = judged.claim()
    with pytest.raises(errors.Error, match="a job is not of a validator in SQL") as caught:
        judged.run_sql(job)
    assert caught.value.sqlstate == "LF002"


def test_a_large_batch(judged: Any, account: Any) -> None:
    """Joins of arrays by cached plans, which a nested loop would take minutes for."""
    judged.check("short", subject="span")
    trace_ids = judged.insert(5_000)
    judged.session.execute(
        "insert into flywheel.spans (trace_id, output) select unnest(%s::uuid[]), 'ok'", [trace_ids]
    )
    for _ in range(6):
        judged.complete(*judged.claim(10), run=account())
    jobs = judged.claim(10_000, ["sql"])
    jobs += jobs[:2]  # named twice
    results = [job.key | {"status": "passed", "run": account()} for job in jobs]
    judged.session.execute("set local statement_timeout = '5s'")
    recorded, dropped, busy = judged.one(
        "select * from flywheel.complete_jobs('w', %s)", Jsonb(results)
    )
    assert (recorded + dropped, busy) == (len(results), 0)
    assert recorded >= 4_900
    assert judged.one("select count(*) from flywheel.runs") >= recorded


def test_a_worker_needs_no_right_on_any_table(db: Connection, judged: Any, account: Any) -> None:
    judged.check(subject="span")
    judged.call("create_validator", "p", "python", "return True", mode="queued")
    (trace_id,) = judged.insert()
    judged.insert_span(trace_id)
    judged.insert(3)
    db.execute("create role some_worker login")
    db.execute("grant flywheel_worker to some_worker")
    db.execute("set local session authorization some_worker")
    worker_id = judged.call("start_worker", "w", 1, {"kinds": ["llm", "sql", "python"]})
    judged.call("worker_alive", worker_id, {"concurrency": 3})
    jobs = {job.kind: job for job in judged.claim(99)}
    assert set(jobs) == {"llm", "python", "sql"}
    judged.call("python_validator", jobs["python"].version_id)
    assert len(judged.extend(*jobs.values())) == 3
    assert judged.run_sql(jobs["sql"]) == (1, 0)
    assert judged.complete(jobs["llm"], run=account()) == (1, 0)
    assert judged.fail(jobs["python"], run=account()) == "retry"
    judged.rows("select flywheel.release_jobs('w', '[]'), flywheel.purge(), flywheel.has_jobs()")
    views = (
        "jobs",
        "models",
        "queue_health",
        "workers",
        "embedders",
        "index_health",
        "schedules",
    )
    for view in views:
        judged.rows(f"select * from flywheel.{view}")
    judged.call("stop_worker", worker_id)

    def refused(query: str) -> bool:
        with pytest.raises(errors.InsufficientPrivilege), db.transaction():
            db.execute(query)  # type: ignore[call-overload]
        return True

    tables = db.execute(
        "select c.oid::regclass::text, c.relkind::text from pg_class c where c.relnamespace = 'flywheel'::regnamespace "
        "and c.relkind in ('r', 'v') and c.relname <> all (%s)",
        (list(views),),
    ).fetchall()
    assert {"flywheel.traces", "flywheel._jobs", "flywheel.runs", "flywheel._labels"} < {
        name for name, _ in tables
    }
    for name, kind in tables:
        assert refused(f"select from {name}")
        assert kind == "v" or refused(f"delete from {name}")
    assert refused("insert into flywheel.traces (output) values ('x')")
    assert refused("update flywheel.traces set output = 'x'")
    assert refused("update flywheel._jobs set token = 1")
    assert refused("select flywheel.retry_dead()")
    assert refused("select flywheel.sweep()")
    assert refused("select flywheel.resume_validator('kind')")
    assert refused("select flywheel.create_model('x', 'http://x', 'x')")
    assert refused("select flywheel._claim_candidates('{llm}', null, now(), 0)")
    db.execute("reset session authorization")
