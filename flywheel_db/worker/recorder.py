"""Writes what jobs came to, in batches, and keeps what cannot be written until it can."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from flywheel_db.errors import FlywheelError
from flywheel_db.worker import logs
from flywheel_db.worker.counters import Counters
from flywheel_db.worker.job import Holdings, Job
from flywheel_db.worker.queue import Failure, Queue, is_fatal, is_passing

_GATHER_SECONDS = 0.05
_BATCH = 100
_LONGEST_WAIT = 5.0

Result = dict[str, Any]


class Recorder:
    """Takes results and failures; `run` writes them until it is cancelled."""

    def __init__(self, queue: Queue, worker: str, holdings: Holdings, counters: Counters) -> None:
        self._queue = queue
        self._worker = worker
        self._holdings = holdings
        self._counters = counters
        self._results: list[tuple[Job, Result]] = []
        self._failures: list[tuple[Job, Failure]] = []
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._writing = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._results) + len(self._failures)

    def finish(self, job: Job, result: Result) -> None:
        """A job has its verdict."""
        self._holdings.finish(job)
        self._results.append((job, result))
        self._tell()

    async def fail(self, job: Job, failure: Failure) -> None:
        """A job has none, and why. Its place is free when the database knows.

        An endpoint that fails at once must not be asked again before its breaker or the pause of
        the validator can take effect.
        """
        logs.info(
            "a job failed",
            validator=job.validator,
            model=job.model,
            attempt=job.attempt,
            error_class=failure.kind,
            error=failure.message,
            **_target(job),
        )
        try:
            await self._fail(job, failure)
        except FlywheelError:
            self._holdings.finish(job)
            self._failures.append((job, failure))
            self._tell()

    def _tell(self) -> None:
        self._arrived.set()
        if len(self) >= _BATCH:
            self._full.set()

    async def run(self) -> None:
        """Write for ever.

        Raises:
            FlywheelError: this worker may not write any more.
        """
        wait = 0.0
        while True:
            await self._arrived.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), max(_GATHER_SECONDS, wait))
            try:
                await self.flush()
                wait = 0.0
            except FlywheelError as error:
                if is_fatal(error):
                    raise
                wait = min(max(2 * wait, 0.1), _LONGEST_WAIT)
                logs.warning(
                    "results cannot be written yet and are kept",
                    kept=len(self),
                    error=error.message,
                )

    async def flush(self) -> None:
        """Write what there is.

        Raises:
            FlywheelError: the database cannot take it now; nothing is lost.
        """
        async with self._writing:
            self._arrived.clear()
            self._full.clear()
            try:
                while self._results:
                    batch = self._results[:_BATCH]
                    await self._complete(batch)
                    del self._results[: len(batch)]
                while self._failures:
                    job, failure = self._failures[0]
                    await self._fail(job, failure)
                    del self._failures[0]
            except FlywheelError:
                self._arrived.set()
                raise

    async def _complete(self, batch: Sequence[tuple[Job, Result]]) -> None:
        results = [job.reference() | result for job, result in batch]
        try:
            recorded, dropped = await self._queue.complete(self._worker, results)
        except FlywheelError as error:
            if is_passing(error) or is_fatal(error):
                raise
            if len(batch) > 1:
                # One of them cannot be stored. The others must not suffer.
                for one in batch:
                    await self._complete([one])
                return
            job, result = batch[0]
            message = f"the verdict cannot be recorded: {error.message}"
            await self._fail(job, Failure("permanent", message))
            return
        if dropped:
            logs.debug("stale results were dropped", recorded=recorded, dropped=dropped)
        for job, result in batch:
            self._settle(job, str(result["status"]))

    async def _fail(self, job: Job, failure: Failure) -> None:
        try:
            outcome = await self._queue.fail(self._worker, job, failure)
        except FlywheelError as error:
            if is_passing(error) or is_fatal(error):
                raise
            if failure.run is not None:
                await self._fail(job, failure._replace(run=None))
                return
            # Its lease ends by itself.
            logs.warning("a failure cannot be recorded", error=error.message, **_target(job))
            outcome = "lost"
        if outcome == "paused":
            logs.warning(
                "a validator is paused", validator=job.validator, model=job.model,
                error=failure.message,
            )  # fmt: skip
        self._settle(job, outcome)

    def _settle(self, job: Job, outcome: str) -> None:
        self._holdings.drop(job)
        self._counters.jobs[job.kind, outcome] += 1


def _target(job: Job) -> dict[str, Any]:
    return {"trace_id": job.trace_id} | ({"span_id": job.span_id} if job.span_id else {})
