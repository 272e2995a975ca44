"""Who gets which job, and what it is told to do."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from psycopg import errors

Open = Callable[..., Any]


def test_two_sessions_never_get_the_same_job_and_neither_waits(open_queue: Open) -> None:
    admin, first, second = open_queue(), open_queue(autocommit=False), open_queue(autocommit=False)
    admin.check()
    admin.insert(10)
    second.session.execute("set lock_timeout = '1ms'")
    mine = first.claim(6)
    yours = second.claim(6)
    assert len(mine) == 6
    assert len(yours) == 4
    assert not {job.trace_id for job in mine} & {job.trace_id for job in yours}
    assert {job.token for job in mine} != {job.token for job in yours}


def test_many_workers_get_each_job_once(open_queue: Open) -> None:
    admin = open_queue()
    admin.check()
    admin.check("other", subject="span")
    for trace_id in admin.insert(60):
        admin.insert_span(trace_id)
    got: list[Any] = []

    def work() -> None:
        session = open_queue()
        while jobs := session.claim(7):
            got.extend(jobs)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 120
    assert len({(job.trace_id, job.span_id, job.version_id) for job in got}) == 120


def test_a_claim_tells_all_a_worker_needs(judged: Any) -> None:
    (trace_id,) = judged.insert(output="fine")
    (job,) = judged.claim()
    assert job[:3] == (trace_id, None, job.version_id)
    assert job[4:9] == (1, "llm", "kind", 1, "judge")
    assert job.skipped_reason is None
    assert job.request["votes"] == 1
    assert job.request["body"]["model"] == "m-1"
    assert "fine" in job.request["body"]["messages"][-1]["content"]
    assert judged.jobs("attempts, worker, leased_until - flywheel.now() = '2 minutes'") == [
        (1, "w", True)
    ]


def test_a_claim_has_the_prompt_of_the_preview(judged: Any) -> None:
    (trace_id,) = judged.insert(output="fine")
    judged.judge("of spans", subject="span", body="Is {{output}} of {{node}} in {{pipeline}} kind?")
    judged.insert_span(trace_id)
    for job in judged.claim(2):
        preview = judged.one(
            "select request from flywheel.preview_prompts(%s) where trace_id = %s and span_id is not distinct from %s",
            job.validator,
            job.trace_id,
            job.span_id,
        )
        assert job.request == preview


def test_what_lacks_its_material_needs_no_call(judged: Any) -> None:
    judged.call("alter_model", "judge", requests_per_minute=10)
    judged.insert(3, output=None)
    jobs = judged.claim(3)
    assert {job.skipped_reason for job in jobs} == {"nothing to judge: output is null"}
    assert {job.request for job in jobs} == {None}
    judged.complete(*jobs, status="skipped", skipped_reason=jobs[0].skipped_reason)
    assert (
        judged.verdicts("status, skipped_reason")
        == [("skipped", "nothing to judge: output is null")] * 3
    )
    # Nor did they take requests from the minute.
    judged.insert(1)
    assert len(judged.claim()) == 1


def test_a_python_job_is_given_texts_in_the_order_of_its_columns(queue: Any) -> None:
    queue.call(
        "create_validator", "p", "python", "return bool(output and attributes and started_at)",
        mode="queued",
    )  # fmt: skip
    queue.insert(attributes='{"a": 1}', started_at="2026-01-02 03:04:05+00")
    (job,) = queue.claim()
    assert (job.kind, job.model) == ("python", None)
    spec = queue.call("python_validator", job.version_id)["spec"]
    assert '["output", "text"], ["started_at", "timestamp"], ["attributes", "json"]' in spec
    assert job.request == {"texts": ["ok", "2026-01-02T03:04:05.000000+00:00", '{"a": 1}']}


def test_a_span_s_job_names_the_span(queue: Any) -> None:
    queue.check(subject="span")
    (trace_id,) = queue.insert()
    span_id = queue.insert_span(trace_id)
    (job,) = queue.claim()
    assert (job.trace_id, job.span_id) == (trace_id, span_id)


def test_kinds_and_models_choose(queue: Any) -> None:
    queue.model()
    queue.model("other")
    queue.judge()
    queue.judge("strict", model="other")
    queue.check()
    queue.insert()
    assert queue.claim(9, ["python"]) == []
    assert [job.validator for job in queue.claim(9, ["llm"], models=["other"])] == ["strict"]
    assert queue.claim(9, ["llm"], models=[]) == []
    assert [job.validator for job in queue.claim(9, ["sql"], models=[])] == ["short"]
    assert [job.validator for job in queue.claim(9)] == ["kind"]


def test_a_claim_s_lease_keeps_others_away(queue: Any) -> None:
    queue.check()
    queue.insert()
    assert len(queue.claim(lease="1 minute")) == 1
    queue.later("59 seconds")
    assert queue.claim() == []
    queue.later("61 seconds")
    assert len(queue.claim()) == 1


def test_the_oldest_jobs_come_first(queue: Any) -> None:
    queue.check()
    old = []
    for minute in range(5):
        queue.later(f"{minute} minutes")
        old += queue.insert()
    assert [queue.claim()[0].trace_id for _ in range(5)] == old


def test_nothing_is_claimed_for_a_judge_that_is_not_approved(judged: Any) -> None:
    judged.session.execute("set local flywheel.require_prompt_approval = on")
    judged.insert()
    assert judged.claim() == []
    judged.call("approve_prompt", "kind")
    assert len(judged.claim()) == 1


def test_a_row_that_cannot_be_told_to_a_judge_dies_alone(judged: Any) -> None:
    judged.insert(5)
    bad = judged.insert(output="poison")[0]
    judged.insert(4)
    judged.session.execute(
        """
        alter function flywheel._judge_request rename to _sound_request;
        create function flywheel._judge_request(
          version flywheel._validator_versions, model flywheel._models, given jsonb,
          out request jsonb, out skipped_reason text
        ) language plpgsql as $$
        begin
          if given ->> 'output' = 'poison' then raise 'too long'; end if;
          select * from flywheel._sound_request(version, model, given) into request, skipped_reason;
        end $$
        """
    )
    jobs = judged.claim(10)
    assert len(jobs) == 9
    assert bad not in [job.trace_id for job in jobs]
    assert judged.jobs("trace_id, error_class, last_error", "state = 'dead'") == [
        (bad, "permanent", "the request cannot be written: too long")
    ]


@pytest.mark.parametrize(
    "options", ['{"max_attempts": "many"}', '{"votes": 2.5}', '{"max_attempts": 1e9}']
)
def test_params_of_another_language_do_not_matter(queue: Any, options: str) -> None:
    queue.check("odd", params=options, body="params is not null and output is not null")
    queue.insert()
    assert len(queue.claim()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("'  '", "the worker has no name"),
        ("'w', null", "kinds is null"),
        ("'w', '{sql}', 0", "max_jobs is 0"),
        ("'w', '{sql}', 10001", "max_jobs is 10001"),
        ("'w', '{sql}', 1, '0'", "the lease is 00:00:00"),
        ("'w', '{sql}', 1, null", "the lease is null"),
    ],
)
def test_a_claim_that_makes_no_sense_is_refused(queue: Any, arguments: str, message: str) -> None:
    with pytest.raises(errors.Error, match=message) as caught:
        queue.rows(f"select flywheel.claim_jobs({arguments})")
    assert caught.value.sqlstate == "LF002"


def test_a_truncate_and_claims_do_not_deadlock(open_queue: Open) -> None:
    """A claim has its locks in the order of a TRUNCATE, whatever it finds."""
    admin, worker, other = open_queue(), open_queue(autocommit=False), open_queue()
    admin.check()
    admin.model()
    admin.judge()
    admin.insert(3)
    assert len(worker.claim(1, ["sql"])) == 1
    truncating = threading.Thread(
        target=other.session.execute, args=["truncate flywheel.traces cascade"]
    )
    truncating.start()
    while not admin.one("select exists (select from pg_locks where not granted)"):
        pass
    assert len(worker.claim(1, ["llm"])) == 1
    worker.session.commit()
    truncating.join()
    assert admin.jobs() == []
