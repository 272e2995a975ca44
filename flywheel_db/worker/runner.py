"""Does the jobs: calls of judges here, Python in its processes, SQL in the database."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, Protocol

from flywheel_pl.judges.judging import Judging
from flywheel_pl.judges.reply import CallFailed, Reply

from flywheel_db.errors import FlywheelError
from flywheel_db.worker import logs
from flywheel_db.worker.catalog import Catalog, Model
from flywheel_db.worker.counters import Counters
from flywheel_db.worker.job import Holdings, Job
from flywheel_db.worker.queue import Failure, Queue, is_fatal, is_passing
from flywheel_db.worker.recorder import Recorder


class Caller(Protocol):
    """Calls one model."""

    without: tuple[str, ...]

    async def call(self, body: dict[str, Any]) -> Reply:
        """The reply, or CallFailed."""


class Pool(Protocol):
    """Runs Python validators in processes."""

    async def run(
        self, version_info: dict[str, Any], rows: list[list[str | None]]
    ) -> list[dict[str, Any]]:
        """A result for each row."""

    async def close(self) -> None:
        """End the processes."""


class Runner:
    """Starts claimed jobs, at most so many judges at once, and hands on what they come to."""

    def __init__(
        self,
        *,
        worker: str,
        concurrency: int,
        queue: Queue,
        catalog: Catalog,
        callers: Callable[[Model], Caller],
        python: Callable[[], Pool],
        holdings: Holdings,
        recorder: Recorder,
        counters: Counters,
    ) -> None:
        # Jobs that came back without a result, to be released.
        self.unwanted: list[Job] = []
        self._worker = worker
        self._concurrency = concurrency
        self._queue = queue
        self._catalog = catalog
        self._callers = callers
        self._new_pool = python
        self._pool: Pool | None = None
        self._holdings = holdings
        self._recorder = recorder
        self._counters = counters
        self._waiting: deque[Job] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._calling = 0
        self._is_stopping = False

    def start(self, jobs: Iterable[Job]) -> None:
        """Begin what was claimed, or as soon as there is a place."""
        ordered = sorted(jobs, key=lambda job: (job.kind, job.version_id))
        for job in ordered:
            self._holdings.add(job)
        if self._is_stopping:
            self._waiting.extend(ordered)
            return
        groups = groupby(ordered, key=lambda job: (job.kind, job.version_id))
        sql: list[Job] = []
        for (kind, _), group in groups:
            members = list(group)
            for job in members:
                if job.skipped_reason is not None:
                    self._skip(job, job.skipped_reason)
            todo = [job for job in members if job.skipped_reason is None]
            if kind == "llm":
                self._waiting.extend(todo)
            elif kind == "sql":
                sql += todo
            elif todo:
                self._spawn(self._run_python(todo), todo)
        if sql:
            self._spawn(self._run_sql(sql), sql)
        self._fill()

    def stop_starting(self) -> None:
        """Let what has begun go on, and begin nothing more."""
        self._is_stopping = True

    def take_waiting(self) -> list[Job]:
        """Give up the jobs that have not begun."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    async def finish(self, seconds: float) -> None:
        """Wait until all that has begun has ended, at most so long."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def close(self) -> None:
        """Cancel what is still under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._pool is not None:
            await self._pool.close()

    def _skip(self, job: Job, reason: str) -> None:
        self._recorder.finish(job, {"status": "skipped", "skipped_reason": reason})

    def _fill(self) -> None:
        while self._waiting and self._calling < self._concurrency and not self._is_stopping:
            job = self._waiting.popleft()
            if self._holdings.get(job.key) is None:  # lost while it waited
                continue
            self._calling += 1
            self._spawn(self._run_judge(job), [job]).add_done_callback(self._free)

    def _free(self, task: asyncio.Task[None]) -> None:
        self._calling -= 1
        self._fill()

    def _spawn(self, work: Any, jobs: Sequence[Job]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(self._guard(work, jobs))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if len(jobs) == 1:
            held = self._holdings.get(jobs[0].key)
            if held is not None:
                held.task = task
        return task

    async def _guard(self, work: Any, jobs: Sequence[Job]) -> None:
        """A mistake of ours costs these jobs an attempt, and nothing else."""
        try:
            await work
        except Exception as exc:
            logs.LOGGER.exception("a job crashed", extra={"fields": {"jobs": len(jobs)}})
            message = f"the worker failed: {type(exc).__name__}: {exc}"
            for job in jobs:
                held = self._holdings.get(job.key)
                if held is not None and not held.is_finished:
                    await self._recorder.fail(job, Failure("transient", message))

    async def _run_judge(self, job: Job) -> None:
        model = self._catalog.served.get(job.model or "")
        if model is None or job.request is None:
            # Altered or dropped since the claim: whoever serves it now may have it.
            self.unwanted.append(job)
            self._holdings.finish(job)
            return
        caller = self._callers(model)
        judging = Judging(job.request, caller.without)
        while (body := judging.body()) is not None:
            begun = time.monotonic()
            try:
                reply = await self._call(caller, model.name, body)
            except CallFailed as failure:
                if judging.refuse(failure):
                    caller.without = judging.without
                    continue
                await self._recorder.fail(
                    job,
                    Failure(failure.kind, failure.message, failure.retry_after, judging.run()),
                )
                return
            judging.accept(reply, time.monotonic() - begun)
        self._recorder.finish(job, judging.result())

    async def _call(self, caller: Caller, model: str, body: dict[str, Any]) -> Reply:
        counters = self._counters
        counters.in_flight += 1
        begun = time.monotonic()
        outcome = "cancelled"
        try:
            reply = await caller.call(body)
            outcome = "ok"
        except CallFailed as failure:
            outcome = failure.kind
            raise
        finally:
            counters.in_flight -= 1
            counters.call(model, outcome, time.monotonic() - begun)
        counters.tokens[model, "input"] += reply.input_tokens
        counters.tokens[model, "cached"] += reply.cached_tokens
        counters.tokens[model, "output"] += reply.output_tokens
        return reply

    async def _run_python(self, jobs: Sequence[Job]) -> None:
        try:
            info = await self._queue.python_validator(jobs[0].version_id)
        except FlywheelError as error:
            await self._refuse(jobs, error, "configuration")
            return
        if self._pool is None:
            self._pool = self._new_pool()
        rows = [(job.request or {}).get("texts") or [] for job in jobs]
        for job, result in zip(jobs, await self._pool.run(info, rows), strict=True):
            self._recorder.finish(job, result)

    async def _run_sql(self, jobs: Sequence[Job]) -> None:
        try:
            _, dropped = await self._queue.run_sql(self._worker, jobs)
        except FlywheelError as error:
            if is_passing(error) or is_fatal(error) or len(jobs) == 1:
                await self._refuse(jobs, error, "transient")
                return
            # All or nothing: one that raises must not keep the others from their verdicts.
            for job in jobs:
                await self._run_sql([job])
            return
        for job in jobs:
            self._holdings.drop(job)
        self._counters.jobs["sql", "decided"] += len(jobs) - dropped
        self._counters.jobs["sql", "stale"] += dropped

    async def _refuse(self, jobs: Sequence[Job], error: FlywheelError, kind: str) -> None:
        if is_passing(error):
            kind = "transient"
        for job in jobs:
            await self._recorder.fail(job, Failure(kind, error.message))
