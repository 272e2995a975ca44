"""20 concurrent `migrate` on a fresh database, and one with nothing to do behind a held lock."""

from __future__ import annotations

import subprocess
import time

from bench import common
from bench.common import Options, Server, Session
from bench.report import Figure

PROCESSES = 20


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    dsn = server.empty_database("migrate")
    start = time.perf_counter()
    running = [_migrate(dsn) for _ in range(PROCESSES)]
    failures = [said for said in map(_outcome, running) if said is not None]
    seconds = time.perf_counter() - start
    for said in failures[:3]:
        common.note(f"a migrate failed: {said}")

    locks = 0
    with Session(dsn, autocommit=False) as holder, Session(dsn) as watcher:
        holder.run("lock table flywheel.traces in access exclusive mode")
        behind = time.perf_counter()
        process = _migrate(dsn)
        while process.poll() is None and time.perf_counter() - behind < 60:
            locks += watcher.one(
                "select count(*) from pg_locks where relation = 'flywheel.traces'::regclass"
                " and pid <> %s",
                (holder.pid,),
            )
        waited = time.perf_counter() - behind
        stuck = process.poll() is None
        if stuck:
            process.kill()
        blocked = _outcome(process)
    server.drop("migrate")
    return [
        Figure(
            "migrate_concurrent",
            f"failures of {PROCESSES} concurrent migrate on a fresh database",
            len(failures),
            unit="",
            at_most=0,
            parts={"all done after s": seconds},
        ),
        Figure(
            "migrate_nothing",
            "failures of, and locks seen on traces by, a migrate with nothing to do while a"
            " transaction holds traces in ACCESS EXCLUSIVE mode",
            locks + (blocked is not None),
            unit="",
            at_most=0,
            parts={"done after s": waited, "said": blocked or "nothing to do"},
        ),
    ]


def _migrate(dsn: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        common.command("migrate", "--dsn", dsn),
        env=common.child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _outcome(process: subprocess.Popen[str]) -> str | None:
    """What a failed process said; None if it succeeded."""
    said, _ = process.communicate()
    return None if process.returncode == 0 else said.strip()
