"""Four sessions at once doing everything there is: nothing deadlocks, nothing is lost, nothing is done twice."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

Open = Callable[..., Any]

OPERATIONS = 500


class Storm:
    """One session that does whatever its dice say."""

    def __init__(self, queue: Any, account: Callable[..., Any], seed: int) -> None:
        self.queue = queue
        self.account = account
        self.dice = random.Random(seed)
        self.held: list[Any] = []
        self.recorded: list[Any] = []
        self.done: Counter[str] = Counter()

    def run(self, failed: list[BaseException]) -> None:
        names = {
            "claim": 10, "complete": 10, "run_sql": 4, "fail": 3, "release": 2, "extend": 3, "update": 4,
            "backwards": 2, "update_span": 3, "move": 1, "delete": 1, "delete_span": 1, "insert": 4, "sweep": 1,
            "retry_dead": 1, "purge": 1, "resume": 1, "late": 1,
        }  # fmt: skip
        for name in self.dice.choices(list(names), list(names.values()), k=OPERATIONS):
            try:
                getattr(self, name)()
                self.done[name] += 1
            except BaseException as error:
                failed.append(error)
                return

    def some(self, n: int) -> list[Any]:
        jobs = self.dice.sample(self.held, min(n, len(self.held)))
        self.held = [job for job in self.held if job not in jobs]
        return jobs

    def ids(self, n: int, table: str = "traces") -> list[Any]:
        return [
            row[0]
            for row in self.queue.rows(
                f"select trace_id from flywheel.{table} tablesample bernoulli (20) limit {n}"
            )
        ]

    def claim(self) -> None:
        self.held += self.queue.claim(self.dice.randint(1, 12))

    def complete(self) -> None:
        jobs = [job for job in self.some(8) if job.kind != "sql"]
        results = [
            job.key | ({"status": "passed", "run": self.account(1, 50)} if job.skipped_reason is None else {"status": "skipped"})
            for job in jobs
        ]  # fmt: skip
        self.dice.shuffle(results)
        if results:
            recorded, dropped, busy = self.queue.call("complete_jobs", "w", Jsonb(results))
            assert recorded + dropped + busy == len(results)

    def run_sql(self) -> None:
        jobs = [job for job in self.some(8) if job.kind == "sql"]
        if jobs:
            self.queue.run_sql(*jobs)

    def late(self) -> None:
        """A job that may long be somebody else's."""
        for job in self.some(2):
            self.queue.complete(job, status="failed") if job.kind != "sql" else None

    def fail(self) -> None:
        for job in self.some(2):
            error_class = self.dice.choice(["transient", "transient", "permanent", "configuration"])
            wait = self.dice.choice([None, None, "1 second"])
            self.queue.fail(job, error_class, "storm", retry_after=wait, run=self.account(1, 10))

    def release(self) -> None:
        if jobs := self.some(3):
            self.queue.release(*jobs)

    def extend(self) -> None:
        jobs = list(self.held)
        self.dice.shuffle(jobs)
        if jobs:
            self.queue.extend(*jobs)

    def update(self) -> None:
        self.queue.session.execute(
            "update flywheel.traces set output = output || '.' where trace_id = any(%s)",
            [self.ids(1)],
        )

    def backwards(self) -> None:
        """Several traces in one transaction, against the order of their keys."""
        with lock_of_applications, self.queue.session.transaction():
            for trace_id in sorted(self.ids(3), reverse=True):
                self.queue.session.execute(
                    "update flywheel.traces set output = output || '-' where trace_id = %s",
                    [trace_id],
                )

    def update_span(self) -> None:
        self.queue.session.execute(
            "update flywheel.spans set output = output || '.' where trace_id = any(%s)",
            [self.ids(1, "spans")],
        )

    def move(self) -> None:
        self.queue.session.execute(
            "update flywheel.traces set pipeline = %s where trace_id = any(%s)",
            [self.dice.choice(["default", "other"]), self.ids(1)],
        )

    def delete(self) -> None:
        self.queue.session.execute(
            "delete from flywheel.traces where trace_id = any(%s)", [self.ids(1)]
        )

    def delete_span(self) -> None:
        self.queue.session.execute(
            "delete from flywheel.spans where trace_id = any(%s)", [self.ids(1, "spans")]
        )

    def insert(self) -> None:
        for trace_id in self.queue.insert(self.dice.randint(1, 3)):
            self.queue.insert_span(trace_id)

    def sweep(self) -> None:
        with lock_of_applications:
            self.queue.rows("select * from flywheel.sweep(20)")

    def retry_dead(self) -> None:
        self.queue.call("retry_dead")

    def purge(self) -> None:
        self.queue.rows("select * from flywheel.purge()")

    def resume(self) -> None:
        self.queue.call("resume_validator", self.dice.choice(["kind", "limited", "short"]))


# An application that goes backwards deadlocks with one that goes forwards, and with a sweep, which
# does: no worker is needed for that. What is tested is that workers add nothing to it.
lock_of_applications = threading.Lock()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm(open_queue: Open, account: Any, seed: int) -> None:
    admin = open_queue()
    admin.model()
    admin.model("other", requests_per_minute=60_000, tokens_per_minute=100_000_000)
    admin.judge()
    admin.judge("limited", model="other")
    admin.judge("of spans", subject="span", pipeline="default")
    admin.check()
    admin.check("short spans", subject="span")
    for trace_id in admin.insert(60):
        admin.insert_span(trace_id)

    failed: list[BaseException] = []
    storms = [Storm(open_queue(), account, seed * 10 + n) for n in range(4)]
    threads = [threading.Thread(target=storm.run, args=[failed]) for storm in storms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    done = sum((storm.done for storm in storms), Counter())
    assert sum(done.values()) == 4 * OPERATIONS
    assert len(done) == 18

    # Everything is left lying; the leases end, and one worker finishes.
    admin.later("1 hour")
    admin.rows("select * from flywheel.sweep()")
    assert admin.missing() == 0
    for validator in ("kind", "limited", "of spans", "short", "short spans"):
        admin.call("resume_validator", validator)
    for model in ("judge", "other"):
        admin.call("alter_model", model, description="again")
    for hour in range(2, 12):
        admin.later(f"{hour} hours")
        admin.call("retry_dead")
        while jobs := admin.claim(100, lease="1 minute"):
            admin.complete(*[job for job in jobs if job.kind != "sql"])
            admin.run_sql(*[job for job in jobs if job.kind == "sql"])
    assert admin.jobs() == []
    expected, decided, missing = admin.one(
        "select sum(expected)::int, sum(decided)::int, sum(missing)::int from flywheel.coverage"
    )
    assert (decided, missing) == (expected, 0)
    # Each target has its verdict, about its present revision, and each verdict a target.
    assert (
        admin.one(
            """
        select count(*) from flywheel._verdicts as v
        left join flywheel._targets as g using (trace_id, span_id, revision)
        where g.trace_id is null
        """
        )
        == 0
    )
    assert admin.one("select count(*) = %s from flywheel._verdicts", expected)
    assert (
        admin.one(
            "select count(*) from flywheel._runs as r where not exists (select from flywheel.traces as t where t.trace_id = r.trace_id)"
        )
        == 0
    )


def test_two_admins_and_two_workers_at_once(open_queue: Open, account: Any) -> None:
    """Everything an admin changes while workers are at it."""
    admin = open_queue()
    admin.model()
    admin.judge()
    admin.check()
    admin.insert(50)
    stop = threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        session = open_queue()
        try:
            while not stop.is_set():
                jobs = session.claim(5)
                judged = [job for job in jobs if job.kind == "llm"]
                if judged:
                    session.complete(*judged[1:], run=account())
                    session.fail(judged[0], "transient", run=account())
                if sql := [job for job in jobs if job.kind == "sql"]:
                    session.run_sql(*sql)
                session.insert(2)
        except BaseException as error:
            failed.append(error)

    def administer(name: str) -> None:
        session = open_queue()
        try:
            for n in range(25):
                session.model(f"{name}{n}", input_price=1, output_price=1)
                session.judge(f"{name}{n}", model=f"{name}{n}")
                session.call("alter_model", "judge", requests_per_minute=100_000 + n)
                session.call("set_price", "judge", 1, n, valid_from=f"2026-01-{n + 1:02}")
                session.call("prioritize_validator", "kind", n % 3)
                session.call("alter_validator", f"{name}{n}", body=f"It is kind, {n}.")
                session.call("disable_validator", f"{name}{n}")
                session.call("resume_validator", "kind")
                session.call("retry_dead")
                session.call("drop_validator", f"{name}{n}", n % 2 == 0)
                session.call("drop_model", f"{name}{n}")
        except BaseException as error:
            failed.append(error)

    admins = [threading.Thread(target=administer, args=[name]) for name in ("a", "b")]
    workers = [threading.Thread(target=work) for _ in range(2)]
    for thread in admins + workers:
        thread.start()
    for thread in admins:
        thread.join()
    stop.set()
    for thread in workers:
        thread.join()
    assert not [error for error in failed if isinstance(error, psycopg.Error)], failed
    assert not failed
    admin.rows("select * from flywheel.sweep()")
    assert admin.missing() == 0
