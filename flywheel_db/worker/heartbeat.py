"""What a worker does by the clock: keep its leases, tell that it lives, look up models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from flywheel_db.errors import FlywheelError
from flywheel_db.worker import logs
from flywheel_db.worker.catalog import Catalog
from flywheel_db.worker.job import Holdings
from flywheel_db.worker.options import Options
from flywheel_db.worker.queue import Queue, is_fatal

_MODELS_SECONDS = 30


class Heartbeat:
    """Runs until it is cancelled."""

    def __init__(
        self,
        options: Options,
        queue: Queue,
        catalog: Catalog,
        holdings: Holdings,
        *,
        worker_id: int,
        info: Callable[[], dict[str, Any]],
    ) -> None:
        self._options = options
        self._queue = queue
        self._catalog = catalog
        self._holdings = holdings
        self._worker_id = worker_id
        self._info = info

    async def run(self) -> None:
        """Beat every third of a lease.

        Raises:
            FlywheelError: the database needs a newer worker.
        """
        beat = self._options.lease / 3
        models_at = time.monotonic() + _MODELS_SECONDS
        while True:
            wait = min(beat, _MODELS_SECONDS)
            try:
                await self._keep_leases()
                if time.monotonic() >= models_at:
                    await look_up_models(self._queue, self._catalog)
                    models_at = time.monotonic() + _MODELS_SECONDS
                await self._queue.beat(self._worker_id, self._info())
            except FlywheelError as error:
                if is_fatal(error):
                    raise
                logs.warning("the heartbeat was missed, trying again", error=error.message)
                wait = min(beat, 1)
            await asyncio.sleep(wait)

    async def _keep_leases(self) -> None:
        # Jobs that the database decides are locked by the statement that does, and would be waited
        # for. Nobody else can claim them meanwhile.
        asked = [held.job for held in self._holdings if held.job.kind != "sql"]
        if not asked:
            return
        kept = await self._queue.extend(self._options.name, asked, self._options.lease)
        for job in asked:
            if job.key in kept:
                continue
            # Its row was changed or deleted, or somebody else has it: the answer is of no use.
            lost = self._holdings.get(job.key)
            if lost is None or lost.is_finished:
                continue
            self._holdings.drop(job)
            if lost.task is not None:
                lost.task.cancel()
            logs.info("a job is not ours any more", validator=job.validator, trace_id=job.trace_id)


async def look_up_models(queue: Queue, catalog: Catalog) -> None:
    """Read the models, and tell which are refused from now on."""
    for name, reason in catalog.update(await queue.models()).items():
        logs.warning("a model is not served here", model=name, reason=reason)
