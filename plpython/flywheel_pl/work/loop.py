"""Claims jobs, has threads call the models, and records what came of it, batch by batch.

The main thread alone speaks to the database, and holds no transaction while it waits: it commits
before. The threads never see a signal, so that a cancellation reaches the main thread.
"""

from __future__ import annotations

import signal
import threading
from queue import Empty, SimpleQueue
from time import monotonic

from flywheel_pl.judges import hosts
from flywheel_pl.judges.judging import Judging
from flywheel_pl.judges.reply import CallFailed
from flywheel_pl.work.calls import Caller, Endpoint
from flywheel_pl.work.texts import Batch, Texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from flywheel_pl.work.database import Database

_TICK = 0.02  # seconds between two looks at what has come back
_LOOK = 0.2  # between two looks for a cancellation
_POLL = 0.5  # before another claim when one brought nothing
_KINDS = ["llm", "sql"]
_BATCH = 200
_GRACE = 10.0  # for calls in flight when the time is over
_MODELS = 30.0  # between two readings of the models
_SCHEDULES = 2.0  # between two looks for schedules that are due
_TASK = 10.0  # seconds that a scheduled task is given
_KEY = ("trace_id", "span_id", "version_id", "token")


class _Task:
    __slots__ = ("failure", "job", "judging", "key")

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.key = tuple(job[name] for name in _KEY)
        self.judging: Judging | None = None
        self.failure: CallFailed | None = None

    def reference(self) -> dict[str, Any]:
        return {name: self.job[name] for name in _KEY}

    def result(self) -> dict[str, Any]:
        if self.job["skipped_reason"] is not None:
            return self.reference() | {
                "status": "skipped",
                "skipped_reason": self.job["skipped_reason"],
                "run": {"requests": 0},
            }
        assert self.judging is not None  # noqa: S101  the threads make it
        return self.reference() | self.judging.result()


class Work:
    """One run of flywheel.work()."""

    def __init__(
        self, queue: Database, environ: Mapping[str, str], allowed: str, lease: float
    ) -> None:
        self._queue = queue
        self._environ = environ
        self._allowed = hosts.AllowedHosts.parse(
            allowed.split(","), how="have a superuser name it in flywheel.allowed_hosts: {}"
        )
        self._lease = lease
        self._texts = Texts(queue)
        self._todo: SimpleQueue[_Task | Batch | None] = SimpleQueue()
        self._done: SimpleQueue[_Task | Batch] = SimpleQueue()
        self._held: dict[tuple[Any, ...], _Task] = {}
        self._callers: list[Caller] = []
        self._threads: list[threading.Thread] = []
        self._endpoints: dict[str, Endpoint] = {}
        self._without: dict[str, tuple[str, ...]] = {}
        self._stopping = False
        self.refused: dict[str, str] = {}
        self.recorded = self.dropped = self.failed = 0

    def run(self, max_seconds: float, concurrency: int) -> None:
        """Work until nothing is left to claim, or the time is over."""
        now = beat = looked = scheduled = monotonic()
        deadline = now + max_seconds
        read = claim_at = now - _MODELS
        is_resting = False
        try:
            while now < deadline + _GRACE:
                if now >= read + _MODELS:
                    self._read_models()
                    read = now
                if scheduled <= now < deadline:
                    if self._count():  # a task may take long, and a lease should not end under it
                        self._extend()
                        beat = now
                    rest = self._queue.run_schedule(min(_TASK, deadline - now))
                    now = monotonic()
                    scheduled = now + (_SCHEDULES if rest is None else rest)
                    is_resting = bool(rest)
                free = concurrency - self._count()
                # A few free places are not worth a claim while the others are at work.
                if claim_at <= now < deadline and (free * 8 >= concurrency or not self._count()):
                    claimed = self._claim(free, concurrency)
                    claim_at = now if claimed == free else now + _POLL
                if not self._count() and (
                    now >= deadline
                    or (min(claim_at, scheduled) > now and not is_resting and not self._is_more())
                ):
                    return
                done = self._collect(_TICK)
                if done:
                    self._record(done)
                    claim_at = min(claim_at, monotonic() + _TICK)
                now = monotonic()
                for caller in self._callers:
                    if caller.deadline is not None and now > caller.deadline:
                        caller.abort()
                if now > beat + self._lease / 3:
                    self._extend()
                    beat = now
                if now > looked + _LOOK:
                    self._queue.look()
                    looked = now
        finally:
            self._stop()

    @property
    def embedded(self) -> int:
        """Texts that got their vector."""
        return self._texts.embedded

    def _count(self) -> int:
        return len(self._held) + len(self._texts.held)

    def _is_more(self) -> bool:
        return self._queue.is_more(_KINDS, sorted(self._endpoints))

    def _read_models(self) -> None:
        self._endpoints, self.refused = {}, {}
        for row in self._queue.models():
            problem = self._allowed.why_refused(row["base_url"]) or hosts.why_no_key(
                row["api_key_env"], self._environ
            )
            if problem is None:
                self._endpoints[row["name"]] = Endpoint(row)
            else:
                self.refused[row["name"]] = problem

    def _claim(self, free: int, concurrency: int) -> int:
        """Claim jobs and hand them to the threads; returns how many there were."""
        limits = {name: endpoint.max_concurrency for name, endpoint in self._endpoints.items()}
        jobs = self._queue.claim(
            _KINDS, free, sorted(name for name, limit in limits.items() if limit is None)
        )
        for name, limit in sorted(limits.items()):
            if limit is not None:
                busy = sum(task.job["model"] == name for task in self._held.values())
                room = min(limit - busy, free - len(jobs))
                if room > 0:
                    jobs += self._queue.claim(["llm"], room, [name])
        sql = [_Task(job) for job in jobs if job["kind"] == "sql"]
        if sql:
            self._run_sql(sql)
        for job in jobs:
            if job["kind"] == "sql":
                continue
            task = _Task(job)
            self._held[task.key] = task
            if task.job["skipped_reason"] is not None:
                self._done.put(task)
            elif job["model"] not in self._endpoints:  # another definition since it was claimed
                problem = f"the model {job['model']} is not served"
                task.failure = CallFailed("configuration", problem)
                self._done.put(task)
            else:
                self._todo.put(task)
        batches = self._texts.claim(self._endpoints, free - len(jobs))
        for batch in batches:
            self._todo.put(batch)
        while len(self._threads) < min(concurrency, self._count()):
            self._start_thread()
        return len(jobs) + len(batches)

    def _run_sql(self, tasks: list[_Task]) -> None:
        try:
            recorded, dropped = self._queue.run_sql([task.reference() for task in tasks])
        except Exception as error:  # an interrupt is none
            if len(tasks) == 1:
                failure = CallFailed("permanent", str(error) or type(error).__name__)
                self._queue.fail(tasks[0].reference(), failure, None)
                self.failed += 1
                return
            for task in tasks:
                self._run_sql([task])
            return
        self.recorded += recorded
        self.dropped += dropped

    def _start_thread(self) -> None:
        caller = Caller(self._environ)
        thread = threading.Thread(target=self._serve, args=(caller,), daemon=True)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            thread.start()  # inherits the mask
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._callers.append(caller)
        self._threads.append(thread)

    def _serve(self, caller: Caller) -> None:
        while (task := self._todo.get()) is not None and not self._stopping:
            try:
                if isinstance(task, Batch):
                    task.run(caller)
                else:
                    self._judge(caller, task)
            except CallFailed as failure:
                task.failure = failure
            except Exception as error:  # of ours: the job is tried again
                task.failure = CallFailed("transient", f"{type(error).__name__}: {error}")
            self._done.put(task)
        caller.abort()

    def _judge(self, caller: Caller, task: _Task) -> None:
        model = task.job["model"]
        endpoint = self._endpoints[model]
        judging = task.judging = Judging(task.job["request"], self._without.get(model, ()))
        while (body := judging.body()) is not None:
            start = monotonic()
            try:
                reply = caller.call(endpoint, body)
            except CallFailed as failure:
                if not judging.refuse(failure):
                    raise
                self._without[model] = judging.without
                continue
            judging.accept(reply, monotonic() - start)

    def _collect(self, seconds: float) -> list[_Task | Batch]:
        """What comes back within a moment, which lasts until it is over: a batch costs less."""
        found: list[_Task | Batch] = []
        end = monotonic() + seconds
        try:
            while len(found) < _BATCH:
                found.append(self._done.get(timeout=max(end - monotonic(), 0)))
        except Empty:
            pass
        return [task for task in found if isinstance(task, Batch) or task.key in self._held]

    def _record(self, found: list[_Task | Batch]) -> None:
        for batch in found:
            if isinstance(batch, Batch):
                self._texts.record(batch)
        tasks = [task for task in found if isinstance(task, _Task)]
        done = [task for task in tasks if task.failure is None]
        if done:
            self._complete(done)
        for task in tasks:
            if task.failure is not None:
                run = None if task.judging is None else task.judging.run()
                self._queue.fail(task.reference(), task.failure, run)
                self.failed += 1
        for task in tasks:
            self._held.pop(task.key, None)

    def _complete(self, tasks: list[_Task]) -> None:
        try:
            recorded, dropped = self._queue.complete([task.result() for task in tasks])
        except Exception as error:
            if len(tasks) == 1:
                # The database does not take it, and will not next time.
                failure = CallFailed("permanent", f"the result was refused: {error}")
                self._queue.fail(tasks[0].reference(), failure, None)
                self.failed += 1
                return
            for task in tasks:
                self._complete([task])
            return
        self.recorded += recorded
        self.dropped += dropped

    def _extend(self) -> None:
        self._texts.extend()
        kept = self._queue.extend([task.reference() for task in self._held.values()])
        held = {tuple(job[name] for name in _KEY) for job in kept}
        for key in [key for key in self._held if key not in held]:
            del self._held[key]  # its result would be dropped
            self.dropped += 1

    def _stop(self) -> None:
        """End the threads and give back what was not finished."""
        self._stopping = True
        for _ in self._threads:
            self._todo.put(None)
        if self._count():
            for caller in self._callers:
                caller.abort()
        for thread in self._threads:
            thread.join(2)
        self._texts.release()
        if self._held:
            self._queue.release([task.reference() for task in self._held.values()])
            self._held.clear()
