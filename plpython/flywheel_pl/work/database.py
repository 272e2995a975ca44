"""The queue's functions, called from PL/Python. Each call is committed when it returns."""

from __future__ import annotations

from json import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flywheel_pl.judges.reply import CallFailed

_QUERIES = {
    "models": ("select * from flywheel.models", ()),
    "claim": (
        "select * from flywheel.claim_jobs($1, $2, $3, $4, $5)",
        ("text", "text[]", "integer", "interval", "text[]"),
    ),
    "complete": ("select * from flywheel.complete_jobs($1, $2)", ("text", "jsonb")),
    "fail": (
        "select flywheel.fail_job($1, $2, $3, $4, $5, $6) as outcome",
        ("text", "jsonb", "text", "text", "interval", "jsonb"),
    ),
    "extend": ("select * from flywheel.extend_lease($1, $2, $3)", ("text", "jsonb", "interval")),
    "release": ("select flywheel.release_jobs($1, $2)", ("text", "jsonb")),
    "run_sql": ("select * from flywheel.run_sql_jobs($1, $2)", ("text", "jsonb")),
    "is_more": ("select flywheel.has_jobs($1, $2) as is_more", ("text[]", "text[]")),
    "start": ("select flywheel.start_worker($1, 1, $2) as worker_id", ("text", "jsonb")),
    "alive": ("select flywheel.worker_alive($1, $2)", ("bigint", "jsonb")),
    "stop": ("select flywheel.stop_worker($1)", ("bigint",)),
    "schedule": (
        "select r.status, r.error, coalesce((r.result ->> 'rest_seconds')::float8, 0) as rest"
        " from flywheel.run_schedules($1, 1) as r",
        ("double precision",),
    ),
    "claim_texts": (
        "select * from flywheel.claim_embeddings($1, '{openai}', 64, $2, $3)",
        ("text", "interval", "text[]"),
    ),
    "complete_texts": (
        "select * from flywheel.complete_embeddings($1, $2, $3, $4)",
        ("text", "jsonb", "text[]", "jsonb"),
    ),
    "fail_texts": (
        "select flywheel.fail_embeddings($1, $2, $3, $4, $5)",
        ("text", "jsonb", "text", "text", "interval"),
    ),
    "extend_texts": (
        "select flywheel.extend_embeddings($1, $2, $3)",
        ("text", "jsonb", "interval"),
    ),
    "release_texts": ("select flywheel.release_embeddings($1, $2)", ("text", "jsonb")),
    "look": ("select 1", ()),
}


class Interrupted(BaseException):
    """The session was told to stop: no error of a job, so no Exception."""


class Database:
    """The queue as flywheel_pl.work.loop uses it. ``plpy`` is the module of that name."""

    def __init__(self, plpy: Any, worker: str, lease: float) -> None:
        self._plpy = plpy
        self._worker = worker
        self._lease = f"{lease} seconds"
        self._plans: dict[str, Any] = {}
        spi = plpy.spiexceptions
        self._interrupts = (spi.QueryCanceled, spi.AdminShutdown, spi.CrashShutdown)
        self.worker_id = 0

    def _call(self, name: str, *values: Any) -> Any:
        try:
            plan = self._plans.get(name)
            if plan is None:
                query, types = _QUERIES[name]
                plan = self._plans[name] = self._plpy.prepare(query, list(types))
            rows = self._plpy.execute(plan, list(values))
        except self._interrupts as error:
            raise Interrupted from error
        found = list(rows)
        self._plpy.commit()
        return found

    def start(self, info: dict[str, Any]) -> None:
        """Introduce this worker."""
        self.worker_id = self._call("start", self._worker, dumps(info))[0]["worker_id"]
        self._worker = f"{self._worker} #{self.worker_id}"

    def stop(self) -> None:
        """Say good-bye."""
        self._call("stop", self.worker_id)

    def models(self) -> list[dict[str, Any]]:
        """The rows of flywheel.models."""
        return [dict(row) for row in self._call("models")]

    def claim(self, kinds: list[str], wanted: int, models: list[str]) -> list[dict[str, Any]]:
        """Claim jobs; the request of each is read."""
        rows = self._call("claim", self._worker, kinds, wanted, self._lease, models)
        jobs = [dict(row) for row in rows]
        for job in jobs:
            if job["request"] is not None:
                job["request"] = loads(job["request"])
        return jobs

    def complete(self, results: list[dict[str, Any]]) -> tuple[int, int]:
        """Record results: (recorded, dropped)."""
        return self._write("complete", dumps(results))

    def _write(self, name: str, given: str) -> tuple[int, int]:
        """Again while a trace is kept locked. What is not written then is done again by others."""
        recorded = 0
        for _ in range(10):
            row = self._call(name, self._worker, given)[0]
            recorded += row["recorded"]
            if not row["busy"]:
                break
        return recorded, row["dropped"] + row["busy"] - (recorded - row["recorded"])

    def fail(self, job: dict[str, Any], failure: CallFailed, run: dict[str, Any] | None) -> str:
        """Record a failure; returns what becomes of the job."""
        wait = None if failure.retry_after is None else f"{failure.retry_after} seconds"
        written = None if run is None else dumps(run)
        row = self._call(
            "fail", self._worker, dumps(job), failure.kind, failure.message, wait, written
        )[0]
        return str(row["outcome"])

    def extend(self, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Extend leases; returns the jobs that are still ours."""
        self._call("alive", self.worker_id, None)
        rows = self._call("extend", self._worker, dumps(jobs), self._lease)
        return [dict(row) for row in rows]

    def release(self, jobs: list[dict[str, Any]]) -> None:
        """Give jobs back."""
        self._call("release", self._worker, dumps(jobs))

    def run_sql(self, jobs: list[dict[str, Any]]) -> tuple[int, int]:
        """Decide jobs of queued SQL validators: (recorded, dropped)."""
        return self._write("run_sql", dumps(jobs))

    def is_more(self, kinds: list[str], models: list[str]) -> bool:
        """Whether there are jobs that may yet be claimed."""
        return bool(self._call("is_more", kinds, models)[0]["is_more"])

    def run_schedule(self, max_seconds: float) -> float | None:
        """Run a schedule that is due, in a transaction of its own.

        Returns the seconds until it has more to do, or None if none was due.
        """
        rows = self._call("schedule", max_seconds)
        if rows and rows[0]["status"] == "canceled":
            # Noted as a failure of the task; it was meant for all of us.
            raise Interrupted from self._interrupts[0](rows[0]["error"])
        return float(rows[0]["rest"]) if rows else None

    def claim_texts(self, models: list[str]) -> dict[str, Any] | None:
        """Claim a batch of texts; its request is read."""
        rows = self._call("claim_texts", self._worker, self._lease, models)
        if not rows:
            return None
        row = dict(rows[0])
        row["request"] = loads(row["request"])
        return row

    def complete_texts(self, batch: str, vectors: list[str | None], run: dict[str, int]) -> int:
        """Record vectors; returns how many were stored."""
        row = self._call("complete_texts", self._worker, batch, vectors, dumps(run))[0]
        return int(row["recorded"])

    def fail_texts(self, batch: str, failure: CallFailed) -> None:
        """Record why there are none."""
        wait = None if failure.retry_after is None else f"{failure.retry_after} seconds"
        self._call("fail_texts", self._worker, batch, failure.kind, failure.message, wait)

    def extend_texts(self, batch: str) -> None:
        """Extend a lease."""
        self._call("extend_texts", self._worker, batch, self._lease)

    def release_texts(self, batch: str) -> None:
        """Give texts back."""
        self._call("release_texts", self._worker, batch)

    def look(self) -> None:
        """Notice a cancellation."""
        self._call("look")
