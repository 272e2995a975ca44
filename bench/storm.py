"""Judges that are killed while they work: worker processes, their sessions, the server itself.

A server of its own, an endpoint that answers a share of the calls wrongly, workers that are started
again whenever they are killed, and rows that are changed and deleted meanwhile. What is there in
the end is counted before anything could repair it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import psycopg
from psycopg import sql

from bench.toll import Outcome
from bench.workers.program import Worker
from flywheel_db.install import migrate
from flywheel_db.server import Server

_PROCEDURE = "storm work()"
_SESSIONS = f"""
    select a.pid from pg_stat_activity as a
    where a.datname = current_database()
      and a.application_name in ('flywheel-db worker', '{_PROCEDURE}')
"""
_COUNTS = """
    select count(*) filter (where state = 'pending'), count(*) filter (where state = 'dead')
    from flywheel._jobs
"""
_FAILING = ("cut", "html", "huge", "server_error")

# Of each fault, as `python -m replay --faults` takes them. After a 429 all wait for a second, and a
# call that hangs lasts until its time is over, so there are fewer of these.
FAULTS = ",".join(_FAILING * 3 + ("hang", "rate_limited"))


@dataclass(frozen=True)
class Plan:
    """What happens. Kills are by kind: worker, backend (kill -9), terminate."""

    jobs: int
    kills: dict[str, int]
    workers: int = 3
    concurrency: int = 32
    # Calls at a time of a loop of flywheel.work(); 0 for none.
    procedure: int = 0
    lease: float = 5
    timeout: float = 2
    edited: int = 20
    deleted: int = 5
    seed: int = 1
    seconds: float = 1200


class Storm:
    """One storm on a private server, whose other databases would suffer, too."""

    def __init__(self, server: Server, base_url: str, plan: Plan) -> None:
        self._server = server
        self._dsn = server.dsn_of("storm")
        self._base_url = base_url
        self._host = base_url.removeprefix("http://").removesuffix("/v1")
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._session: psycopg.Connection | None = None
        self._workers: list[Worker] = []
        self._stopping = threading.Event()
        self._deadline = 0.0
        self.outcome = Outcome()

    def __enter__(self) -> Storm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        for worker in self._workers:
            with worker:
                pass
        if self._session is not None:
            self._session.close()

    def run(self, note: Callable[[str], None] = lambda text: None) -> Outcome:
        """Set up, kill, let them finish, and count."""
        begun = time.monotonic()
        self._deadline = begun + self._plan.seconds
        ids = self._set_up()
        procedure = threading.Thread(target=self._call_procedure, daemon=True)
        if self._plan.procedure:
            procedure.start()
        self._workers = [self._new_worker() for _ in range(self._plan.workers)]
        kinds = [kind for kind, times in self._plan.kills.items() for _ in range(times)]
        self._random.shuffle(kinds)
        # So far the backlog goes down before each: all come while there is work.
        marks = sorted((self._random.uniform(0.1, 0.95) for _ in kinds), reverse=True)
        for n, (kind, mark) in enumerate(zip(kinds, marks, strict=True), 1):
            self._wait_until_pending(mark * self._plan.jobs)
            self._kill(kind)
            self._meddle(ids)
            if n % 5 == 0:
                note(f"{n} of {len(kinds)} kills, {self._counts()[0]:,} jobs left")
        self._finish(note)
        self._stopping.set()
        if procedure.is_alive():
            procedure.join()
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            # One that has just been started may not know the signal yet.
            if worker.wait().status != -signal.SIGTERM:
                worker.finish()
        self.outcome.count(self._query)
        self.outcome.seconds = time.monotonic() - begun
        return self.outcome

    def _set_up(self) -> list[str]:
        with psycopg.connect(self._server.dsn_of("postgres"), autocommit=True) as session:
            session.execute("create database storm template template0")
        migrate(self._dsn)
        self._query("set flywheel.allowed_hosts = ''")  # or ALTER SYSTEM does not know it
        host = sql.Literal(self._host)
        self._query(sql.SQL("alter system set flywheel.allowed_hosts = {}").format(host))
        self._query(
            "select flywheel.create_model('judge', %s, 'replayed', timeout_seconds => %s)",
            (self._base_url, self._plan.timeout),
        )
        self._query(
            "select flywheel.create_validator('kind', 'llm', 'It is kind.', model => 'judge')"
        )
        # Some have nothing to judge.
        rows = self._query(
            """
            insert into flywheel.traces (input, output)
            select 'question ' || i, case when i %% 100 > 0 then 'answer ' || i end
            from generate_series(1, %s) as i
            returning trace_id::text
            """,
            (self._plan.jobs,),
        )
        return [row[0] for row in rows]

    def _new_worker(self) -> Worker:
        return Worker(
            self._dsn, self._host, "--concurrency", str(self._plan.concurrency),
            "--lease", str(self._plan.lease), "--poll", "0.2", "--kinds", "llm",
        )  # fmt: skip

    def _call_procedure(self) -> None:
        """As a scheduler would, again and again."""
        while not self._stopping.is_set():
            try:
                with psycopg.connect(
                    self._dsn, autocommit=True, application_name=_PROCEDURE
                ) as session:
                    session.execute("call flywheel.work(5, %s)", (self._plan.procedure,))
            except psycopg.OperationalError:
                pass
            self._stopping.wait(0.2)

    def _query(
        self, query: str | sql.Composed, parameters: Sequence[Any] | None = None
    ) -> list[Any]:
        """All rows; a server that restarts is waited for. What it changes may be done twice."""
        give_up = time.monotonic() + 60
        while True:
            try:
                if self._session is None or self._session.closed:
                    self._session = psycopg.connect(self._dsn, autocommit=True)
                given = query.encode() if isinstance(query, str) else query
                cursor = self._session.execute(given, parameters)
                return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                if self._session is not None:
                    self._session.close()
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.05)

    def _counts(self) -> tuple[int, int]:
        """Pending and dead jobs."""
        row = self._query(_COUNTS)[0]
        return row[0], row[1]

    def _tend(self) -> None:
        """Start workers again that have ended by themselves."""
        for n, worker in enumerate(self._workers):
            if worker.has_ended():
                last = (worker.log() or [{"message": ""}])[-1]
                self.outcome.ended.append(str(last.get("error") or last["message"]))
                self._replace(n)
        if time.monotonic() > self._deadline:
            pending, dead = self._counts()
            raise RuntimeError(f"it takes too long: {pending} jobs are pending, {dead} are dead")

    def _replace(self, n: int) -> None:
        with self._workers[n] as worker:
            worker.kill()
        self._workers[n] = self._new_worker()

    def _wait_until_pending(self, most: float) -> None:
        while self._counts()[0] > most:
            self._tend()
            time.sleep(0.02)

    def _kill(self, kind: str) -> None:
        if kind == "worker":
            self._replace(self._random.randrange(len(self._workers)))
        else:
            give_up = time.monotonic() + 30
            while not (sessions := self._query(_SESSIONS)):
                if time.monotonic() > give_up:
                    raise RuntimeError("no worker has a session")
                time.sleep(0.05)
            pid = int(self._random.choice(sessions)[0])
            if kind == "terminate":
                self._query("select pg_terminate_backend(%s)", (pid,))
            elif self._is_of_server(pid):
                os.kill(pid, 9)
        self.outcome.kills[kind] += 1

    def _is_of_server(self, pid: int) -> bool:
        """Whether this is still a session of our server, and not a process that has its number."""
        lines = (self._server.data_dir / "postmaster.pid").read_text().split()
        found = subprocess.run(
            ["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return found.stdout.strip() == lines[0]

    def _meddle(self, ids: list[str]) -> None:
        """Change some rows, which are to be judged again, and delete some."""
        edited = self._random.sample(ids, min(self._plan.edited, len(ids)))
        self._query(
            "update flywheel.traces set output = 'edited ' || clock_timestamp()"
            " where trace_id = any(%s::uuid[])",
            (edited,),
        )
        deleted = self._random.sample(ids, min(self._plan.deleted, len(ids)))
        self._query("delete from flywheel.traces where trace_id = any(%s::uuid[])", (deleted,))
        ids[:] = list(set(ids) - set(deleted))
        self.outcome.edited += len(edited)
        self.outcome.deleted += len(deleted)

    def _finish(self, note: Callable[[str], None]) -> None:
        """Wait until nothing is left; what died of the faults is tried again."""
        told = time.monotonic()
        while True:
            pending, dead = self._counts()
            if pending == 0 and dead == 0:
                return
            if pending == 0:
                self.outcome.died += dead
                self._query("select flywheel.retry_dead()")
            self._tend()
            if time.monotonic() > told + 20:
                note(f"{pending:,} jobs left, {dead:,} dead")
                told = time.monotonic()
            time.sleep(0.1)
