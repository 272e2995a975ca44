"""What a claim reads and writes, whatever the length of the queue. Counted, not timed."""

import re
from collections.abc import Callable
from typing import Any

import pytest

Open = Callable[..., Any]


@pytest.fixture
def explained(open_queue: Open) -> tuple[Any, list[str]]:
    """A session that hands over the plans of all its statements."""
    queue = open_queue()
    plans: list[str] = []
    queue.session.execute(
        "load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on; "
        "set auto_explain.log_level = 'notice'; set client_min_messages = 'notice'"
    )
    queue.session.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
    return queue, plans


def scans(plans: list[str], table: str) -> set[str]:
    """The ways in which plans read a table."""
    found = set()
    for plan in plans:
        for line in plan.splitlines():
            if match := re.match(
                rf"\s*(?:->\s+)?(.*(?:Scan|Index Scan using \S+)) on {table}\b", line
            ):
                found.add(match[1])
    return found


def fill(queue: Any, versions: int, traces: int, **options: object) -> None:
    for n in range(versions):
        queue.check(f"v{n}", **options)
    queue.insert(traces)


@pytest.mark.parametrize("begun_empty", [True, False])
def test_jobs_are_found_by_index_and_place(
    open_queue: Open, explained: tuple[Any, list[str]], begun_empty: bool
) -> None:
    """Also where the session's plans were made when there was nothing, as those of an idle worker are."""
    admin = open_queue()
    queue, plans = explained
    admin.check("first")
    if begun_empty:
        admin.session.execute("vacuum analyze flywheel._jobs, flywheel.traces, flywheel._verdicts")
        for _ in range(8):
            assert queue.claim() == []
            queue.rows("select * from flywheel.extend_lease('w', '[]')")
        admin.insert()
        for _ in range(8):
            (job,) = queue.claim()
            queue.extend(job)
            queue.release(job)
        queue.complete(*queue.claim())
        admin.insert(50)
        for _ in range(8):
            queue.complete(*queue.claim(3))
    fill(admin, 4, 20_000)
    if not begun_empty:
        admin.session.execute("analyze flywheel._jobs, flywheel.traces")
    plans.clear()
    jobs = queue.claim(100)
    queue.extend(*jobs)
    queue.release(jobs[0])
    queue.complete(*jobs[1:50])
    queue.run_sql(*jobs[50:])
    queue.fail(queue.claim()[0])
    assert len(jobs) == 100
    assert scans(plans, "_jobs") <= {
        "Index Scan using _jobs_claim_idx", "Index Only Scan using _jobs_claim_idx", "Tid Scan",
        "Index Scan using _jobs_pkey", "Index Only Scan using _jobs_pkey",
    }  # fmt: skip
    assert {"Index Scan using _jobs_claim_idx", "Tid Scan", "Index Scan using _jobs_pkey"} <= scans(
        plans, "_jobs"
    )
    # Nor at any price: a plan that seems to cost that much is compiled, which takes longer than to run it.
    assert not [plan for plan in plans if re.search(r"cost=\d{9}", plan)]
    # Who names a job finds it by its key, and not among all that are pending.
    named = [plan for plan in plans if "k.token" in plan and "_jobs" in plan]
    assert len(named) >= 4
    assert scans(named, "_jobs") == {"Index Scan using _jobs_pkey"}
    locking = [plan for plan in plans if "LockRows" in plan]
    assert scans(locking, "traces") == {"Index Scan using traces_pkey"}


def test_a_claim_is_a_hot_update(queue: Any) -> None:
    fill(queue, 2, 5_000)
    counted = (
        "select pg_stat_get_xact_tuples_updated('flywheel._jobs'::regclass), "
        "pg_stat_get_xact_tuples_hot_updated('flywheel._jobs'::regclass)"
    )
    updated, hot = queue.one(counted)
    queue.claim(1_000)
    assert queue.one(counted) == (updated + 1_000, hot + 1_000)


def test_leases_are_extended_and_given_back_in_hot_updates(open_queue: Open) -> None:
    queue = open_queue()
    fill(queue, 1, 2_000)
    jobs = queue.claim(500)
    queue.extend(*jobs)
    queue.extend(*jobs)
    queue.release(*jobs)
    queue.rows("select pg_stat_force_next_flush()")
    updated, hot = queue.one(
        "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname = '_jobs'"
    )
    assert updated == 2_000
    assert hot >= 1_900  # a page that others look at is not pruned at that moment


PASSED = "select pg_stat_get_xact_tuples_returned('flywheel._jobs_claim_idx'::regclass)"


def passed_by(queue: Any, claim: Callable[[], Any]) -> int:
    """How many entries of the index a claim passes."""
    before = queue.one(PASSED)
    claim()
    return int(queue.one(PASSED) - before)


def spread(queue: Any) -> None:
    """Jobs as if they had arrived one after the other, an hour ago."""
    queue.session.execute(
        """
        update flywheel._jobs as j set run_at = flywheel.now() - interval '1 hour' + n.n * interval '1 millisecond'
        from (select ctid, row_number() over (order by trace_id) as n from flywheel._jobs) as n
        where n.ctid = j.ctid
        """
    )


def test_a_claim_does_not_pass_what_is_backing_off(open_queue: Open) -> None:
    admin, worker = open_queue(), open_queue(autocommit=False)
    fill(admin, 1, 5_000)
    admin.session.execute(
        "update flywheel._jobs set run_at = flywheel.now() + interval '1 hour', attempts = 1"
    )
    admin.session.execute("vacuum flywheel._jobs")
    assert passed_by(worker, worker.claim) < 10
    worker.insert(3)
    assert passed_by(worker, lambda: worker.claim(3)) < 10
    worker.session.rollback()


def test_a_claim_passes_what_is_leased_once_in_a_while(queue: Any) -> None:
    fill(queue, 1, 6_000)
    spread(queue)
    assert len(queue.claim(5_000)) == 5_000
    assert passed_by(queue, queue.claim) >= 5_000
    for n in range(1, 50):
        queue.later(f"{n} milliseconds")
        assert passed_by(queue, lambda: queue.claim(2)) < 300
    # Jobs that come back in front are seen when it looks from there again.
    queue.session.execute(
        "update flywheel._jobs set leased_until = null where run_at = (select min(run_at) from flywheel._jobs)"
    )
    first = queue.one("select trace_id from flywheel._jobs order by run_at limit 1")
    queue.later("40 milliseconds")
    assert queue.claim()[0].trace_id != first
    queue.later("2 seconds")
    assert queue.claim()[0].trace_id == first


def test_the_mark_goes_when_the_front_is_short_again(queue: Any) -> None:
    fill(queue, 1, 3_000)
    spread(queue)
    jobs = queue.claim(2_000)
    queue.claim()
    assert queue.rows(
        "select priority, valid_until > flywheel.now() from flywheel._claim_marks"
    ) == [(0, True)]
    queue.release(*jobs)
    queue.later("2 seconds")
    assert queue.claim()[0].trace_id == min(job.trace_id for job in jobs)
    assert queue.rows("select * from flywheel._claim_marks") == []


def test_jobs_of_the_last_seconds_are_never_passed_over(queue: Any) -> None:
    """A transaction that is committed late brings jobs that are older than others."""
    fill(queue, 1, 3_000)
    spread(queue)
    queue.claim(3_000)
    queue.claim()
    assert queue.one(
        "select run_at = flywheel.now() - interval '5 seconds' from flywheel._claim_marks"
    )
    (late,) = queue.insert()
    queue.session.execute(
        "update flywheel._jobs set run_at = run_at - interval '4 seconds' where trace_id = %s",
        [late],
    )
    assert [job.trace_id for job in queue.claim()] == [late]


def test_a_long_transaction_does_not_make_every_claim_pass_what_is_done(open_queue: Open) -> None:
    """It still sees the deleted jobs, and so no index entry of theirs may go."""
    admin, reader, worker = open_queue(), open_queue(autocommit=False), open_queue(autocommit=False)
    fill(admin, 1, 4_000)
    spread(admin)
    reader.session.execute("set transaction isolation level repeatable read")
    assert reader.one("select count(*) from flywheel.traces") == 4_000
    for _ in range(6):
        admin.complete(*admin.claim(500))
    # The first may look from the front; then once in a second or so.
    counts = [passed_by(worker, worker.claim) for _ in range(20)]
    assert sorted(counts)[-2] < 1_200, counts
    worker.session.rollback()
    reader.session.rollback()


def test_a_few_claims_at_once_look_from_the_front(open_queue: Open) -> None:
    """When a mark ends, one claim tries; the others go on from it."""
    admin, first, second = open_queue(), open_queue(autocommit=False), open_queue(autocommit=False)
    fill(admin, 1, 3_000)
    spread(admin)
    admin.claim(2_000)
    admin.claim()
    admin.later("5 seconds")
    assert passed_by(first, first.claim) >= 2_000
    assert passed_by(second, second.claim) < 100
    # One that hangs does not keep the front from being seen.
    second.later("60 seconds")
    assert passed_by(second, second.claim) >= 2_000


def test_the_number_of_versions_does_not_multiply_what_is_read(queue: Any) -> None:
    fill(queue, 30, 100)
    assert passed_by(queue, queue.claim) <= 40


def test_marks_of_dropped_validators_are_purged(queue: Any) -> None:
    fill(queue, 1, 3_000)
    spread(queue)
    queue.claim(3_000)
    queue.claim()
    queue.call("drop_validator", "v0", True)
    assert len(queue.rows("select * from flywheel._claim_marks")) == 1
    queue.rows("select * from flywheel.purge()")
    assert queue.rows("select * from flywheel._claim_marks") == []
