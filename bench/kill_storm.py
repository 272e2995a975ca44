"""20,000 judge jobs and 50 kills: of worker processes, of their sessions, of the server itself.

The endpoint answers a share of the calls wrongly: 500, a web page, 2 MB, half a body, nothing, 429.
Three workers and a loop of flywheel.work() are at it. A session that is killed with -9 takes the
whole server down, which recovers by itself. What is counted in the end is counted before a sweep.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import replay
from bench import common, storm
from bench.common import Options, Server
from bench.report import Figure
from bench.workers import program
from flywheel_db import server as private

require = program.require

JOBS = 20_000
KILLS = {"worker": 24, "backend": 12, "terminate": 14}
LATENCY = 0.035
FAULTY = 0.03


def run(server: Server, options: Options) -> list[Figure]:
    """Measure, on a server of its own: it is going to be killed."""
    jobs = options.rows(JOBS)
    share = jobs / JOBS
    kills = {kind: max(2, round(times * share)) for kind, times in KILLS.items()}
    home = Path(tempfile.mkdtemp(prefix="flywheel-storm-"))
    shutil.rmtree(home)
    try:
        plan = storm.Plan(jobs=jobs, kills=kills, procedure=16)
        arguments = (
            "--latency", str(LATENCY), "--faulty", str(FAULTY), "--faults", storm.FAULTS,
        )  # fmt: skip
        with (
            replay.spawn(*arguments) as endpoint,
            storm.Storm(private.up(home), endpoint.base_url, plan) as one,
        ):
            found = one.run(common.note)
            calls = endpoint.count
    finally:
        private.down(home)
        shutil.rmtree(home, ignore_errors=True)

    total = sum(found.kills.values())
    told = f"{jobs:,} judge jobs, {total} kills, {FAULTY:.0%} of the answers wrong"
    return [
        Figure(
            "kill_storm_missing",
            f"verdicts that are owed and neither there nor queued: {told}",
            found.missing + found.coverage["missing"],
            unit="verdicts",
            at_most=0,
            parts={
                **found.coverage,
                "filled by the sweep": found.swept,
                "orphans": found.orphans,
                "of an old revision": found.old,
                "died and were tried again": found.died,
                "traces changed": found.edited,
                "traces deleted": found.deleted,
                "seconds": found.seconds,
            },
        ),
        Figure(
            "kill_storm_duplicates",
            f"verdicts written twice for one revision of a trace: {told}",
            found.duplicates,
            unit="verdicts",
            at_most=0,
            parts={
                "runs with a verdict": found.verdict_runs,
                **{f"runs: {name}": n for name, n in found.runs.items()},
                "calls": calls,
                "calls over verdicts": calls / max(found.verdict_runs, 1),
                **{f"kills: {kind}": n for kind, n in found.kills.items()},
                "workers that ended by themselves": len(found.ended),
                "of which said": "; ".join(sorted(set(found.ended))) or None,
            },
        ),
        Figure(
            "kill_storm_stale",
            f"verdicts of deleted traces or of an old revision, before the sweep: {told}",
            found.orphans + found.old,
            unit="verdicts",
            at_most=0,
        ),
    ]
