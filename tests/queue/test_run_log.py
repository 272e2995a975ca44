"""The run log: each attempt, its prompt, its cost; and how it is forgotten."""

import json
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from psycopg import errors

Open = Callable[..., Any]


def test_each_attempt_has_a_row(judged: Any, account: Any) -> None:
    (trace_id,) = judged.insert()
    (job,) = judged.claim(worker="w1")
    judged.fail(job, "transient", "status 500", run=account(0, 0, messages=None, replies=[]))
    judged.later("1 minute")
    (job,) = judged.claim()
    judged.complete(job, status="failed", run=account(2, 150, replies=["?", '{"pass": false}']))
    columns = "trace_id, span_id, revision, validator, version, attempt, outcome, error, model, endpoint_model, requests, input_tokens, replies"
    assert judged.rows(f"select {columns} from flywheel.runs order by run_id") == [
        (trace_id, None, 1, "kind", 1, 1, "retry", "status 500", "judge", "m-1", 0, 0, []),
        (
            trace_id,
            None,
            1,
            "kind",
            1,
            2,
            "failed",
            None,
            "judge",
            "m-1",
            2,
            150,
            ["?", '{"pass": false}'],
        ),
    ]


@pytest.mark.parametrize(
    ("error_class", "outcome"),
    [("permanent", "dead"), ("configuration", "paused"), ("transient", "retry")],
)
def test_a_failure_says_what_became_of_the_job(
    judged: Any, account: Any, error_class: str, outcome: str
) -> None:
    judged.insert()
    (job,) = judged.claim()
    assert judged.fail(job, error_class, "x", run=account()) == outcome
    assert judged.rows("select outcome, error, attempt from flywheel.runs") == [(outcome, "x", 1)]


def test_a_result_without_a_run_is_not_logged(queue: Any) -> None:
    queue.check()
    queue.insert()
    queue.complete(*queue.claim())
    assert queue.rows("select * from flywheel.runs") == []


def test_what_is_dropped_is_not_logged(judged: Any, account: Any) -> None:
    judged.insert()
    (job,) = judged.claim()
    judged.session.execute("update flywheel.traces set output = 'new'")
    judged.complete(job, run=account())
    assert judged.fail(job, run=account()) == "stale"
    assert judged.rows("select * from flywheel.runs") == []


def test_the_system_message_is_stored_once(judged: Any, account: Any) -> None:
    judged.insert(5)
    for _ in range(2):
        judged.complete(*judged.claim(2), run=account())
    (job,) = judged.claim()
    judged.complete(job, run=account(messages=[{"role": "user", "content": "bare"}]))
    assert judged.rows("select content from flywheel._prompts") == [("Judge.",)]
    assert judged.rows("select distinct messages from flywheel._runs order by 1") == [
        ([{"role": "user", "content": "bare"}],),
        ([{"role": "user", "content": "hi"}],),
    ]
    assert judged.rows("select messages, count(*) from flywheel.runs group by 1 order by 2") == [
        ([{"role": "user", "content": "bare"}], 1),
        ([{"role": "system", "content": "Judge."}, {"role": "user", "content": "hi"}], 4),
    ]


@pytest.mark.parametrize(
    "messages",
    [[], {}, "text", [1], [{"role": "system"}], [{"role": "system", "content": None}], None],
)
def test_messages_of_any_shape_are_kept(judged: Any, account: Any, messages: Any) -> None:
    judged.insert()
    (job,) = judged.claim()
    assert judged.complete(job, run=account(messages=messages)) == (1, 0)
    assert judged.one("select count(*) from flywheel.runs") == 1
    kept = judged.one(
        "select messages is not distinct from nullif(%s::jsonb, 'null') from flywheel.runs",
        json.dumps(messages),
    )
    assert kept


def test_long_replies_are_cut(judged: Any, account: Any) -> None:
    judged.insert()
    (job,) = judged.claim()
    judged.complete(job, run=account(replies=["x" * 200_000]))
    assert judged.one("select length(replies[1]) from flywheel.runs") == 100_000


def test_cost_by_the_prices_of_the_time(judged: Any, account: Any) -> None:
    judged.at("2026-01-01 00:00:00+00")
    judged.call("set_price", "judge", 2, 8)
    judged.call("set_price", "judge", 1, 4, Decimal("0.5"), valid_from="2026-02-01 00:00:00+00")
    judged.insert(5)
    jobs = judged.claim(5, lease="1 day")
    used = account(1, 1000, cached_tokens=400, output_tokens=100)
    judged.at("2025-12-31 23:59:59+00")
    judged.complete(jobs[0], run=used)
    judged.at("2026-01-31 23:59:59+00")
    judged.complete(jobs[1], run=used)  # without a price of their own, cached tokens cost the same
    judged.at("2026-02-01 00:00:00+00")
    judged.complete(jobs[2], run=used)
    judged.complete(jobs[3], run=used | {"cached_tokens": 5000})
    assert judged.rows("select cost_usd::float from flywheel.runs order by run_id") == [
        (None,),
        ((1000 * 2 + 100 * 8) / 1e6,),
        ((600 * 1 + 400 * 0.5 + 100 * 4) / 1e6,),
        ((5000 * 0.5 + 100 * 4) / 1e6,),
    ]
    assert judged.one(
        "select input_price, cached_input_price, output_price from flywheel.models"
    ) == (1, 0.5, 4)
    # Later prices change nothing that was.
    judged.call("set_price", "judge", 100, 100)
    assert judged.one("select max(cost_usd) < 0.01 from flywheel.runs")


def test_usage_is_by_model_and_utc_day(judged: Any, account: Any) -> None:
    judged.model("other", input_price=1, output_price=1)
    judged.judge("strict", model="other")
    judged.insert(3)
    judged.session.execute("update flywheel._jobs set run_at = '-infinity'")
    judged.at("2026-03-01 23:59:00+00")
    jobs = judged.claim(6, lease="1 day")
    judged.complete(*jobs[:3], run=account(2, 10, cached_tokens=4, output_tokens=1))
    judged.at("2026-03-02 00:01:00+00")
    judged.complete(*jobs[3:], run=account(2, 10, cached_tokens=4, output_tokens=1))
    judged.insert()
    judged.fail(judged.claim(2)[0], "permanent", run=account(5, 70))
    assert judged.rows(
        "select day::text, sum(requests)::int, sum(input_tokens)::int, sum(cached_tokens)::int, sum(output_tokens)::int "
        "from flywheel._usage group by 1 order by 1"
    ) == [("2026-03-01", 6, 30, 12, 3), ("2026-03-02", 11, 100, 12, 3)]
    today = judged.rows("select name, requests_today from flywheel.models order by 1")
    assert sum(n for _, n in today) == 11


@pytest.mark.parametrize("subject", ["trace", "span"])
def test_deleting_what_was_judged_deletes_its_runs(judged: Any, account: Any, subject: str) -> None:
    judged.call("drop_validator", "kind")
    judged.judge("kind of", subject=subject)
    for trace_id in judged.insert(2):
        judged.insert_span(trace_id)
    judged.complete(*judged.claim(2), run=account())
    if subject == "span":
        judged.session.execute("delete from flywheel.spans where trace_id = %s", [trace_id])
        assert judged.one("select count(*) from flywheel.runs") == 1
    judged.session.execute("delete from flywheel.traces")
    assert judged.rows("select * from flywheel._runs") == []


def log(queue: Any, account: Any, n: int, **run: Any) -> None:
    queue.insert(n)
    queue.complete(*queue.claim(n), run=account(**run))


def test_purge_removes_what_is_beyond_thirty_days(judged: Any, account: Any) -> None:
    log(judged, account, 3)
    judged.later("29 days")
    log(judged, account, 2)
    assert dict(judged.rows("select * from flywheel.purge()")) == {
        "runs": 0,
        "prompts": 0,
        "workers": 0,
    }
    judged.later("31 days")
    assert dict(judged.rows("select * from flywheel.purge()"))["runs"] == 3
    assert judged.one("select count(*) from flywheel.runs") == 2
    assert judged.verdicts() == [("passed",)] * 5


def test_purge_is_bounded_and_goes_on(judged: Any, account: Any) -> None:
    log(judged, account, 5)
    judged.later("31 days")
    assert [dict(judged.rows("select * from flywheel.purge(2)"))["runs"] for _ in range(4)] == [
        2,
        2,
        1,
        0,
    ]


def test_prompts_go_when_nothing_needs_them(judged: Any, account: Any) -> None:
    log(judged, account, 1, messages=[{"role": "system", "content": "Old."}])
    log(judged, account, 1)
    judged.later("20 days")
    log(judged, account, 1)
    judged.later("33 days")
    assert dict(judged.rows("select * from flywheel.purge()")) == {
        "runs": 2,
        "prompts": 1,
        "workers": 0,
    }
    assert judged.rows("select content from flywheel._prompts") == [("Judge.",)]
    assert judged.one("select messages -> 0 ->> 'content' from flywheel.runs") == "Judge."


def set_for_database(queue: Any, value: str) -> None:
    name = queue.one("select current_database()")
    queue.session.execute(f"alter database {name} set flywheel.run_retention = '{value}'")


def test_the_retention_is_a_setting_of_the_database(judged: Any, account: Any) -> None:
    log(judged, account, 1)
    set_for_database(judged, "2 days")
    judged.later("1 day")
    assert dict(judged.rows("select * from flywheel.purge()"))["runs"] == 0
    judged.later("49 hours")
    assert dict(judged.rows("select * from flywheel.purge()"))["runs"] == 1


def test_a_worker_s_session_cannot_shorten_it(judged: Any, account: Any) -> None:
    log(judged, account, 1)
    judged.session.execute("set local flywheel.run_retention = '0'")
    judged.later("1 day")
    assert dict(judged.rows("select * from flywheel.purge()"))["runs"] == 0
    judged.session.execute("set local flywheel.run_retention = '90 days'")
    judged.later("60 days")
    assert dict(judged.rows("select * from flywheel.purge()"))["runs"] == 0


@pytest.mark.parametrize("value", ["a month or so", "-1 day", "99999999999999999999 days"])
def test_a_retention_that_is_no_interval_is_refused(judged: Any, value: str) -> None:
    set_for_database(judged, value)
    with pytest.raises(errors.Error, match=r"the setting flywheel.run_retention is") as caught:
        judged.rows("select flywheel.purge()")
    assert caught.value.sqlstate == "LF002"


@pytest.mark.parametrize("max_rows", [0, None])
def test_a_purge_of_nothing_is_refused(judged: Any, max_rows: int | None) -> None:
    with pytest.raises(errors.Error, match="max_rows is") as caught:
        judged.rows("select flywheel.purge(%s)", max_rows)
    assert caught.value.sqlstate == "LF002"


def test_purge_forgets_workers_as_old(judged: Any) -> None:
    judged.call("start_worker", "old", 1)
    judged.later("31 days")
    judged.call("start_worker", "new", 1)
    assert dict(judged.rows("select * from flywheel.purge()"))["workers"] == 1
    assert judged.rows("select name from flywheel.workers") == [("new",)]


def test_a_prompt_that_is_being_purged_comes_back_with_its_next_run(
    open_queue: Open, account: Any
) -> None:
    admin, purger = open_queue(), open_queue(autocommit=False)
    admin.model()
    admin.judge()
    log(admin, account, 1)
    admin.later("60 days")
    admin.insert()
    (job,) = admin.claim()
    assert dict(purger.rows("select * from flywheel.purge()")) == {
        "runs": 1,
        "prompts": 1,
        "workers": 0,
    }
    recording = threading.Thread(target=lambda: admin.complete(job, run=account()))
    recording.start()
    purger.session.execute("select pg_sleep(0.1)")
    purger.session.commit()
    recording.join()
    assert admin.one("select messages -> 0 ->> 'content' from flywheel.runs") == "Judge."


def test_a_purge_waits_for_nobody_and_nobody_for_it(open_queue: Open, account: Any) -> None:
    admin, purger, application = (
        open_queue(),
        open_queue(autocommit=False),
        open_queue(autocommit=False),
    )
    admin.model()
    admin.judge()
    log(admin, account, 4)
    admin.later("60 days")
    for session in (admin, purger):
        session.session.execute("set lock_timeout = '1ms'")
    purger.session.commit()
    application.session.execute(
        "delete from flywheel.traces where trace_id = (select min(trace_id::text)::uuid from flywheel.traces)"
    )
    assert dict(purger.rows("select * from flywheel.purge()"))["runs"] == 3
    log(admin, account, 1, messages=[{"role": "system", "content": "Another."}])
