"""The process: what a worker needs around it, from the command line to the exit."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from flywheel_db.errors import MissingExtra
from flywheel_db.worker.database import Database
from flywheel_db.worker.loop import Worker, stopped_by_signals
from flywheel_db.worker.options import Options

if TYPE_CHECKING:
    from rich.console import Console

    from flywheel_db.worker.catalog import Catalog, Model
    from flywheel_db.worker.client import Caller as Client
    from flywheel_db.worker.counters import Counters
    from flywheel_db.worker.embeddings.loop import Embedding
    from flywheel_db.worker.runner import Pool


_PR_SET_DUMPABLE = 4  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is shown of a worker, and where."""

    # Draw the progress line here.
    console: Console | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None


def require_extra() -> None:
    """Check that what a worker needs is installed.

    Raises:
        MissingExtra: it is not.
    """
    missing = [
        name for name in ("openai", "prometheus_client", "psycopg_pool") if find_spec(name) is None
    ]
    if missing:
        raise MissingExtra(
            f"the worker needs {', '.join(missing)}, which is not installed",
            hint="pip install 'flywheel-db[worker]'",
        )


def run(options: Options, surroundings: Surroundings | None = None) -> None:
    """Work until a signal comes, or what the options say is done.

    Raises:
        FlywheelError: the database cannot be reached at first, or is not for this worker.
    """
    require_extra()
    if "python" in options.kinds:
        _hide_memory()
    asyncio.run(_run(options, surroundings or Surroundings()))


def _hide_memory() -> None:
    """Keep other processes of this user, validators among them, from our memory and environment.

    On Linux /proc/PID/environ then belongs to root. Nobody can dump or trace the process either.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


async def _run(options: Options, surroundings: Surroundings) -> None:
    async with AsyncExitStack() as stack:
        queue = await stack.enter_async_context(Database(options.dsn))
        callers = _callers(options, stack)
        worker = Worker(
            options,
            queue,
            callers=callers,
            python=_python_pool,
            embedding=_embedding(options, queue, callers),
        )
        stack.enter_context(stopped_by_signals(worker))
        if surroundings.metrics_port is not None:
            from flywheel_db.worker.metrics import served

            stack.enter_context(
                served(worker.counters, surroundings.metrics_host, surroundings.metrics_port)
            )
        if surroundings.console is not None:
            from flywheel_db.worker.progress import shown

            await stack.enter_async_context(shown(queue, worker.counters, surroundings.console))
        await worker.run()


def _embedding(
    options: Options, database: Database, callers: Callable[[Model], Client]
) -> Callable[[Catalog, Counters], Embedding] | None:
    if "embeddings" not in options.kinds:
        return None
    from flywheel_db.worker.embeddings.batch import DatabaseTexts
    from flywheel_db.worker.embeddings.local import LocalModels
    from flywheel_db.worker.embeddings.loop import Embedding

    return lambda catalog, counters: Embedding(
        options,
        DatabaseTexts(database.rows),
        catalog,
        counters,
        callers=callers,
        local=lambda: LocalModels(options.name),
    )


def _callers(options: Options, stack: AsyncExitStack) -> Callable[[Model], Client]:
    if not {"llm", "embeddings"} & set(options.kinds):

        def none(model: Model) -> Client:
            raise AssertionError(f"{model.name}: no job that calls a model was asked for")

        return none
    # A second of imports: before the first job, not under it.
    from flywheel_db.worker.client import Callers

    callers = Callers()
    stack.push_async_callback(callers.close)
    return callers.get


def _python_pool() -> Pool:
    from flywheel_db.worker.python_jobs import PythonPool

    return PythonPool()
