"""A queue in memory, a worker on it, and models that are replay endpoints."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from flywheel_pl.judges.hosts import AllowedHosts

import replay
from flywheel_db.errors import BadInput, FlywheelError
from flywheel_db.worker.catalog import Model
from flywheel_db.worker.job import Job, Key
from flywheel_db.worker.loop import Worker
from flywheel_db.worker.options import Options
from flywheel_db.worker.queue import Failure, Run


def model(base_url: str, name: str = "judge", **fields: Any) -> Model:
    given: dict[str, Any] = {
        "provider": "openai",
        "api_version": None,
        "api_key_env": None,
        "timeout_seconds": 5.0,
        "max_concurrency": None,
    }
    return Model(name=name, base_url=base_url, **(given | fields))


def judge_request(text: str = "hello", votes: int = 1, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {
        "body": {"model": "m-1", "messages": messages, "temperature": 0} | body,
        "reading": {"choices": None, "threshold": None},
        "votes": votes,
    }


@dataclass
class FakeQueue:
    """The queue of a database, without one. `trouble` may raise before each call, by its name."""

    served: list[Model] = field(default_factory=list)
    todo: list[Job] = field(default_factory=list)
    held: dict[Key, Job] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: list[tuple[Job, Failure]] = field(default_factory=list)
    released: list[Job] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    sql_batches: list[list[str]] = field(default_factory=list)
    infos: list[dict[str, Any]] = field(default_factory=list)
    claims: list[tuple[int, tuple[str, ...], tuple[str, ...]]] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    poisoned: set[str] = field(default_factory=set)
    due: int = 0
    stopped: int = 0
    schedules: list[Run] = field(default_factory=list)
    trouble: Callable[[str], None] = lambda name: None
    tell: Callable[[], None] | None = None
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def add(self, count: int = 1, *, notify: bool = False, **fields: Any) -> list[Job]:
        """Enqueue jobs whose trace_id is t1, t2, ..."""
        made = []
        for _ in range(count):
            number = next(self._numbers)
            given: dict[str, Any] = {
                "trace_id": f"t{number}", "span_id": None, "version_id": 1, "token": number,
                "attempt": 1, "kind": "llm", "validator": "polite", "version": 1,
                "model": "judge", "request": judge_request(f"t{number}"), "skipped_reason": None,
            }  # fmt: skip
            made.append(Job(**(given | fields)))
        self.todo += made
        if notify and self.tell is not None:
            self.tell()
        return made

    async def start(self, name: str, info: dict[str, Any]) -> int:
        self.trouble("start")
        self.infos.append(info)
        return 1

    async def beat(self, worker_id: int, info: dict[str, Any]) -> None:
        self.trouble("beat")
        self.infos.append(info)

    async def stop(self, worker_id: int) -> None:
        self.trouble("stop")
        self.stopped += 1

    async def models(self) -> list[Model]:
        self.trouble("models")
        return list(self.served)

    async def claim(
        self, worker: str, kinds: Sequence[str], most: int, lease: float, models: Sequence[str]
    ) -> list[Job]:
        self.trouble("claim")
        self.claims.append((most, tuple(kinds), tuple(models)))
        found = [
            job
            for job in self.todo
            if job.kind in kinds and (job.kind != "llm" or job.model in models)
        ][:most]
        for job in found:
            self.todo.remove(job)
            self.held[job.key] = job
        await asyncio.sleep(0)
        return found

    async def complete(self, worker: str, results: Sequence[dict[str, Any]]) -> tuple[int, int]:
        self.trouble("complete")
        if any(result["trace_id"] in self.poisoned for result in results):
            raise BadInput("a value is out of range", sqlstate="22003")
        self.batches.append(len(results))
        recorded = 0
        for result in results:
            if self._settle(result):
                self.results[result["trace_id"]] = result
                recorded += 1
        return recorded, len(results) - recorded

    async def fail(self, worker: str, job: Job, failure: Failure) -> str:
        self.trouble("fail")
        self.failures.append((job, failure))
        self.held.pop(job.key, None)
        return {"transient": "retry", "permanent": "dead", "configuration": "paused"}[failure.kind]

    async def extend(self, worker: str, jobs: Iterable[Job], lease: float) -> set[Any]:
        self.trouble("extend")
        return {job.key for job in jobs if job.key in self.held and job.trace_id not in self.lost}

    async def release(self, worker: str, jobs: Iterable[Job]) -> int:
        self.trouble("release")
        for job in jobs:
            self.released.append(job)
            self.held.pop(job.key, None)
        return len(self.released)

    async def run_sql(self, worker: str, jobs: Iterable[Job]) -> tuple[int, int]:
        self.trouble("run_sql")
        jobs = list(jobs)
        self.sql_batches.append([job.trace_id for job in jobs])
        if any(job.trace_id in self.poisoned for job in jobs):
            raise FlywheelError("division by zero", sqlstate="22012")
        for job in jobs:
            self.held.pop(job.key)
        return len(jobs), 0

    async def python_validator(self, version_id: int) -> dict[str, Any]:
        self.trouble("python_validator")
        return {"version_id": version_id, "spec": "{}", "body": "return True", "code": 0}

    async def run_schedule(self, max_seconds: float) -> Run | None:
        self.trouble("run_schedule")
        await asyncio.sleep(0)
        return self.schedules.pop(0) if self.schedules else None

    async def is_due(self, kinds: Sequence[str], models: Sequence[str]) -> bool:
        self.due -= 1
        return self.due >= 0

    async def backlog(self) -> tuple[int, float]:
        return len(self.todo), 0.25

    async def listen(self, tell: Callable[[], None]) -> None:
        self.trouble("listen")
        self.tell = tell
        await asyncio.Event().wait()

    def _settle(self, result: dict[str, Any]) -> bool:
        key = (result["trace_id"], result["span_id"], result["version_id"], result["token"])
        return result["trace_id"] not in self.lost and self.held.pop(key, None) is not None


class FakePool:
    """Runs Python validators by counting their texts."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, list[list[str | None]]]] = []
        self.closed = False

    async def run(
        self, version_info: dict[str, Any], rows: list[list[str | None]]
    ) -> list[dict[str, Any]]:
        self.calls.append((version_info["version_id"], rows))
        return [{"status": "passed", "score": len(row)} for row in rows]

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def queue() -> FakeQueue:
    return FakeQueue()


@pytest.fixture
def pool() -> FakePool:
    return FakePool()


@pytest.fixture
def endpoint() -> Iterator[replay.Endpoint]:
    with replay.Endpoint() as running:
        yield running


Work = Callable[..., Worker]


@pytest.fixture
def work(queue: FakeQueue, pool: FakePool) -> Work:
    """Run a worker on the queue; by default until nothing is left."""

    def run(
        during: Callable[[Worker], Any] | None = None, *, callers: Any = None, **options: Any
    ) -> Worker:
        given: dict[str, Any] = {
            "dsn": "", "name": "w1", "drain": True, "poll": 0.01, "concurrency": 8,
            "hosts": AllowedHosts.parse(["127.0.0.1"]),
        }  # fmt: skip

        async def main() -> Worker:
            from flywheel_db.worker.client import Callers

            clients = Callers()
            worker = Worker(
                Options(**(given | options)),
                queue,
                callers=callers or clients.get,
                python=lambda: pool,
            )
            running = asyncio.create_task(worker.run())
            try:
                if during is not None:
                    await during(worker)
                await asyncio.wait_for(running, 20)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                await clients.close()
            return worker

        return asyncio.run(main())

    return run


async def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.fixture
def eventually() -> Callable[..., Any]:
    return until


@pytest.fixture
def make_model() -> Callable[..., Model]:
    return model


@pytest.fixture
def make_request() -> Callable[..., dict[str, Any]]:
    return judge_request


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.delenv("FLYWHEEL_ALLOWED_HOSTS", raising=False)
    level, handlers = logging.root.level, list(logging.root.handlers)
    yield
    logging.root.setLevel(level)
    logging.root.handlers[:] = handlers
