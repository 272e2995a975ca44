"""A plain client of the queue, as anybody could write it, in a process of its own.

It claims a batch, handles each job by one Python call, and completes the batch, over one connection.
The functions it calls keep all promises: the attempt is committed with the claim, a lease and a
token go with the job, and the verdict is written with its target locked.

    FLYWHEEL_DSN=... python -m bench.workers.plain --kind python --batch 1000
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from bench.workers.child import Child, start

_CLAIM = """
    select trace_id::text, span_id::text, version_id, token, request
    from flywheel.claim_jobs(%s, array[%s], %s)
"""
_COMPLETE = "select recorded, dropped from flywheel.complete_jobs(%s, %s)"


def spawn(dsn: str, *, batch: int, kind: str = "python", name: str = "plain") -> Child:
    """Start one; it drains the queue and tells jobs, dropped, seconds and claims."""
    return start(
        "bench.workers.plain", "--kind", kind, "--batch", str(batch), "--name", name, dsn=dsn
    )


def _noop(texts: Sequence[str | None]) -> bool:
    return True


def drain(
    dsn: str, kind: str, batch: int, name: str, handle: Callable[[Sequence[str | None]], bool]
) -> dict[str, Any]:
    """Work until nothing can be claimed, or a signal comes between two batches."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    # When each claim was made, what it took, and what it brought.
    claims: list[tuple[float, float, int]] = []
    jobs = dropped = 0
    with psycopg.connect(dsn, autocommit=True) as connection:
        begun = time.perf_counter()
        while not stopping:
            at, before = time.time(), time.perf_counter()
            rows = connection.execute(_CLAIM, (name, kind, batch)).fetchall()
            claims.append((at, time.perf_counter() - before, len(rows)))
            if not rows:
                break
            results = [
                {
                    "trace_id": trace_id,
                    "span_id": span_id,
                    "version_id": version_id,
                    "token": token,
                    "status": "passed" if handle((request or {}).get("texts", ())) else "failed",
                }
                for trace_id, span_id, version_id, token, request in rows
            ]
            row = connection.execute(_COMPLETE, (name, json.dumps(results))).fetchone()
            assert row is not None
            jobs, dropped = jobs + row[0], dropped + row[1]
        seconds = time.perf_counter() - begun
    return {"jobs": jobs, "dropped": dropped, "seconds": seconds, "claims": claims}


def main() -> None:
    """Drain, and print what it took as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers.plain", description=__doc__)
    parser.add_argument("--kind", default="python")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--name", default="plain")
    given = parser.parse_args()
    print(
        json.dumps(drain(os.environ["FLYWHEEL_DSN"], given.kind, given.batch, given.name, _noop)),
        flush=True,
    )


if __name__ == "__main__":
    main()
