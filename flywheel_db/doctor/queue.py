"""Whether what is queued is being decided, and if not, why."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from psycopg import Connection

from flywheel_db.doctor.finding import Finding, ok, warning

_QUEUE = "queue"
_DEAD = "dead letters"
_WORKERS = "workers"

_HEALTH = "select * from flywheel.queue_health"
_WORKER = "start one: flywheel-db worker; or have a scheduler call flywheel.work()"

#: A backlog younger than this is nobody's fault.
_PATIENCE = 300.0


def check_queue(connection: Connection) -> Iterator[Finding]:
    """Jobs that wait, by validator."""
    rows = connection.execute(
        """
        select h.validator, h.version, h.state, h.pending, h.oldest_seconds, h.what_to_do
        from flywheel.queue_health as h
        where h.pending > 0
        order by h.validator, h.version
        """
    ).fetchall()
    well = True
    for validator, version, state, pending, oldest, what_to_do in rows:
        if state == "running" or oldest < _PATIENCE:
            continue
        well = False
        age = timedelta(seconds=int(oldest))
        yield warning(
            _QUEUE,
            f"{validator} (version {version}): {pending} pending, the oldest for {age};"
            f" {state.replace('_', ' ')}",
            _WORKER
            if state == "no_worker" and what_to_do.startswith("no worker is")
            else what_to_do,
        )
    if well:
        pending = sum(row[3] for row in rows)
        yield ok(_QUEUE, f"{pending} jobs are pending" if pending else "nothing is pending")


def check_dead(connection: Connection) -> Iterator[Finding]:
    """Jobs that have used up their attempts."""
    rows = connection.execute(
        """
        select h.validator, h.version, h.dead, h.last_error
        from flywheel.queue_health as h
        where h.dead > 0
        order by h.validator, h.version
        """
    ).fetchall()
    for validator, version, dead, last_error in rows:
        yield warning(
            _DEAD,
            f"{validator} (version {version}): {dead} jobs have used up their attempts"
            f" (the last error: {last_error})",
            "look at flywheel.jobs where state = 'dead', mend the cause, then run:"
            " select flywheel.retry_dead()",
        )
    if not rows:
        yield ok(_DEAD, "none")


def check_workers(connection: Connection) -> Iterator[Finding]:
    """Who is at work, who is lost, and what none of them may call."""
    rows = connection.execute(
        """
        select w.name, w.state, w.last_seen_at, w.refused
        from flywheel.workers as w
        where w.state = 'alive'
          or w.state = 'lost' and w.last_seen_at > flywheel.now() - interval '1 day'
        order by w.state, w.worker_id
        """
    ).fetchall()
    alive = [row for row in rows if row[1] == "alive"]
    for name, state, last_seen_at, _ in rows:
        if state == "lost":
            yield warning(
                _WORKERS,
                f"{name} was last seen at {last_seen_at:%Y-%m-%d %H:%M:%S} UTC and did not say"
                " good-bye; its jobs have gone back to the queue",
                "look at its log, and start it again",
            )
    for name, _, _, refused in alive:
        for model, problem in sorted((refused or {}).items()):
            yield warning(_WORKERS, f"{name} does not call the model {model}: {problem}", _HEALTH)
    if alive:
        yield ok(_WORKERS, f"{len(alive)} at work")
    elif not rows:
        yield ok(_WORKERS, "none is running, which is well while nothing is queued")
