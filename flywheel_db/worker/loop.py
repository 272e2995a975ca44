"""A worker from its start to its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Any

from flywheel_db.errors import FlywheelError
from flywheel_db.worker import logs
from flywheel_db.worker.catalog import Catalog, Model
from flywheel_db.worker.claims import Claimer
from flywheel_db.worker.counters import Counters
from flywheel_db.worker.embeddings.loop import Embedding
from flywheel_db.worker.heartbeat import Heartbeat, look_up_models
from flywheel_db.worker.job import Holdings, Job
from flywheel_db.worker.options import Options
from flywheel_db.worker.queue import Queue
from flywheel_db.worker.recorder import Recorder
from flywheel_db.worker.runner import Caller, Pool, Runner
from flywheel_db.worker.schedules import Schedules

# At the end, the database gets so long to take what there is.
_LAST_SECONDS = 5


class Worker:
    """Claims, works and records until it is stopped."""

    def __init__(
        self,
        options: Options,
        queue: Queue,
        *,
        callers: Callable[[Model], Caller],
        python: Callable[[], Pool],
        embedding: Callable[[Catalog, Counters], Embedding] | None = None,
    ) -> None:
        self.counters = Counters()
        self.catalog = Catalog(options.hosts)
        self.holdings = Holdings()
        self._options = options
        self._queue = queue
        self._recorder = Recorder(queue, options.name, self.holdings, self.counters)
        self._runner = Runner(
            worker=options.name,
            concurrency=options.concurrency,
            queue=queue,
            catalog=self.catalog,
            callers=callers,
            python=python,
            holdings=self.holdings,
            recorder=self._recorder,
            counters=self.counters,
        )
        self._claimer = Claimer(options, queue, self.catalog, self.holdings, self._runner.start)
        self._schedules = Schedules(queue, self.counters)
        self._embedding = embedding(self.catalog, self.counters) if embedding else None
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()

    def stop(self) -> None:
        """Stop claiming and finish what is under way; asked again, give it back at once."""
        if self._stopping.is_set():
            self._hurrying.set()
        self._stopping.set()

    async def run(self) -> None:
        """Work.

        Raises:
            FlywheelError: the database is not for this worker, or could not be reached at first.
        """
        options = self._options
        await look_up_models(self._queue, self.catalog)
        worker_id = await self._queue.start(options.name, self._info())
        logs.info(
            "started",
            worker=options.name,
            concurrency=options.concurrency,
            kinds=",".join(options.kinds),
            models=",".join(sorted(self.catalog.served)),
        )
        heartbeat = Heartbeat(
            options, self._queue, self.catalog, self.holdings, worker_id=worker_id, info=self._info
        )
        claiming = asyncio.create_task(self._claimer.run())
        stopping = asyncio.create_task(self._stopping.wait())
        scheduling = asyncio.create_task(self._run_schedules())
        embedding = asyncio.create_task(self._run_embedding())
        working = asyncio.create_task(_all(claiming, scheduling, embedding))
        # These go on while calls in flight are finished.
        serving = [
            asyncio.create_task(work)
            for work in (self._recorder.run(), heartbeat.run(), self._listen(), self._give_back())
        ]
        if self._embedding is not None:
            serving.append(asyncio.create_task(self._embedding.keep_leases()))
        try:
            done, _ = await asyncio.wait(
                [working, stopping, *serving],
                timeout=options.max_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            broken = next((task.exception() for task in done if task.exception()), None)
            self._schedules.stop()
            if self._embedding is not None:
                self._embedding.stop()
            await self._stop_claiming(claiming, embedding)
            if broken is None:
                await self._wait_for_calls(scheduling)
            await _end(*serving)
            await self._runner.close()
            if self._embedding is not None:
                await self._embedding.close()
            await self._say_goodbye(worker_id)
            if broken is not None:
                raise broken
        finally:
            await _end(working, claiming, stopping, scheduling, embedding, *serving)
            await self._runner.close()
            if self._embedding is not None:
                await self._embedding.close()

    async def _run_schedules(self) -> None:
        if self._options.schedules:
            await self._schedules.run(drain=self._options.drain)

    async def _run_embedding(self) -> None:
        if self._embedding is not None:
            await self._embedding.run()

    async def _stop_claiming(self, *claiming: asyncio.Task[None]) -> None:
        """Give back what has not begun, for others to do."""
        self._runner.stop_starting()
        self._claimer.stop()
        # Not cancelled: the database may have committed the claim, and its jobs would be nobody's.
        await asyncio.wait(claiming, timeout=_LAST_SECONDS)
        waiting = self._runner.take_waiting()
        logs.info("stopping", in_flight=self.counters.in_flight, given_back=len(waiting))
        with suppress(FlywheelError, TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                await self._release(waiting)

    async def _say_goodbye(self, worker_id: int) -> None:
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await self._recorder.flush()
                await self._release([held.job for held in self.holdings])
                await self._queue.stop(worker_id)
        except (FlywheelError, TimeoutError) as error:
            logs.warning(
                "the database was not told; what it lacks is done again when the leases end",
                not_recorded=len(self._recorder),
                error=str(error) or "no answer",
            )
        logs.info("stopped", jobs=sum(self.counters.jobs.values()))

    async def _wait_for_calls(self, scheduling: asyncio.Task[None]) -> None:
        hurrying = asyncio.create_task(self._hurrying.wait())
        finishing = asyncio.create_task(self._finish(scheduling))
        await asyncio.wait([hurrying, finishing], return_when=asyncio.FIRST_COMPLETED)
        await _end(hurrying, finishing)

    async def _finish(self, scheduling: asyncio.Task[None]) -> None:
        grace = min(self._options.grace, self._options.lease)
        waits = [self._runner.finish(grace), asyncio.wait([scheduling], timeout=grace)]
        if self._embedding is not None:
            waits.append(self._embedding.finish(grace))
        await asyncio.gather(*waits)

    async def _release(self, jobs: list[Job]) -> None:
        if not jobs:
            return
        await self._queue.release(self._options.name, jobs)
        for job in jobs:
            self.holdings.drop(job)
            self.counters.jobs[job.kind, "released"] += 1

    async def _give_back(self) -> None:
        """Release what was claimed for a model that is not served any more."""
        while True:
            await asyncio.sleep(1)
            unwanted = self._runner.unwanted
            if unwanted:
                with suppress(FlywheelError):
                    await look_up_models(self._queue, self.catalog)
                    await self._release(list(unwanted))
                    unwanted.clear()

    async def _listen(self) -> None:
        """Be woken by notifications. They are a hint: without them, jobs are found by looking."""
        while True:
            try:
                await self._queue.listen(self._claimer.jobs_have_come)
            except FlywheelError as error:
                logs.debug("not listening, trying again", error=error.message)
            await asyncio.sleep(min(self._options.poll, 1))

    def _info(self) -> dict[str, Any]:
        return {
            "kinds": list(self._options.kinds),
            "concurrency": self._options.concurrency,
            "release": version("flywheel-db"),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "refused": self.catalog.refused,
        }


async def _all(*tasks: asyncio.Task[None]) -> None:
    """Wait for all, or the first that fails; they go on if nobody waits any more."""
    await asyncio.gather(*map(asyncio.shield, tasks))


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def stopped_by_signals(worker: Worker) -> Iterator[None]:
    """SIGTERM and SIGINT stop a worker; a second one has it give back what it does."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, worker.stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
