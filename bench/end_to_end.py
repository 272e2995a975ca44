"""10,000 real traces from the INSERT to a pass rate: 5 SQL checks, and a judge whose recorded replies
are served again over HTTP.

The traces are instructions and answers of LLMBar, the replies those of the judges it recorded. The
table of ../shared/peers.md (2 cores, the same amount of work, 5 code checks, no judge) is told
beside it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import replay
from bench import common
from bench.common import Database, Options, Server, Session
from bench.report import Figure
from bench.workers import program
from replay import recorded

require = program.require

TRACES = 10_000
CONCURRENCY = 64
LATENCIES = (0.0, 0.2)
CHOICES = {"Output (a)": True, "Output (b)": False}
TEMPLATE = "Which answer is better? {{output}}\n\n{{attributes.reply}}"

# "ingest s / checks s / aggregate ms / peak MB / lost", measured elsewhere.
PEERS = {
    "Phoenix, PostgreSQL": "93 / 102 / 97 / 470 / 45,000 of 50,000 verdicts (asynchronous API)",
    "Phoenix, SQLite": "79 / 27 / 134 / 585 / 0",
    "MLflow, PostgreSQL": "50 / 453 / 156 / 3,120 / 0",
    "MLflow, SQLite": "23 / 474 / 117 / 3,120 / 0",
    "TruLens, PostgreSQL": "5 / 146 / 3,500 / 740 / 7,440 of 10,000 traces (default queue)",
    "TruLens, SQLite": "4 / 157 / 1,460 / 606 / 7,440 of 10,000 traces (default queue)",
    "Evidently, files": "0.05 / 8.9 / 81 / 404 / 0",
    "COPY and bare verdict rows": "0.05 / 0.12 / 12 / - / 0",
}

_COPY = "copy flywheel.traces (pipeline, input, output, attributes) from stdin"
_PASS_RATES = """
    select validator, day, sum(passed) / nullif(sum(n), 0) as rate
    from flywheel.pass_rates group by validator, day order by validator, day
"""


@dataclass(frozen=True)
class Course:
    """One run: seconds of each step, what it needed, what was lost."""

    ingest: float
    judge: float
    aggregate_ms: float
    worker_mb: float
    ingest_backend_mb: float | None
    judge_backend_mb: float | None
    lost: int
    errored: int
    # What stands in the way of jobs that are left.
    why: str | None


def run(server: Server, options: Options) -> list[Figure]:
    """Measure; nothing where the data are not."""
    if not recorded.DATA.is_dir():
        common.note(f"left out: there is no folder {recorded.DATA.name} beside the checkout")
        return []
    traces = list(islice(_traces(), options.rows(TRACES)))
    rounds = min(options.rounds, 3)
    courses: dict[float, list[Course]] = {latency: [] for latency in LATENCIES}
    for n in range(rounds):
        for latency in LATENCIES:
            courses[latency].append(_course(server, traces, latency))
            common.note(
                f"round {n + 1} of {rounds}, {latency * 1000:.0f} ms: {courses[latency][-1]}"
            )

    both = [course for found in courses.values() for course in found]
    fast, slow = (
        common.median([course.judge for course in courses[latency]]) for latency in LATENCIES
    )
    why = next((course.why for course in both if course.why), None)
    ideal = len(traces) * LATENCIES[1] / CONCURRENCY
    return [
        Figure(
            "end_to_end",
            f"COPY of {len(traces):,} traces, 5 SQL checks decided and 1 judge queued; the peers:"
            " ingest s / checks s / aggregate ms / peak MB / lost",
            common.median([course.ingest for course in both]),
            unit="s",
            parts={
                "judge s, no latency": fast,
                "judge s, 200 ms": slow,
                f"judge s, 200 ms, ideal at {CONCURRENCY} at a time": ideal,
                "aggregate ms": common.median([course.aggregate_ms for course in both]),
                "peak MB of the worker": max(course.worker_mb for course in both),
                "peak MB of the session that ingests": _most(both, "ingest_backend_mb"),
                "peak MB of a session of the worker": _most(both, "judge_backend_mb"),
                **PEERS,
            },
        ),
        Figure(
            "end_to_end_lost",
            f"of {len(traces):,} traces and {6 * len(traces):,} verdicts, how many are not there",
            max(course.lost for course in both),
            unit="rows",
            at_most=0,
            parts={
                "replies without a verdict": max(course.errored for course in both),
                **({"why": why} if why else {}),
            },
        ),
    ]


def _most(courses: list[Course], name: str) -> float | None:
    found = [value for course in courses if (value := getattr(course, name)) is not None]
    return max(found) if found else None


def _traces() -> Iterator[tuple[str, str, str]]:
    """Instruction, answer, and the marker of the reply that judged it."""
    examples = {row["id"]: row for row in recorded.rows(recorded.DATA, "llmbar/examples")}
    for n, row in enumerate(recorded.rows(recorded.DATA, "llmbar/judgments")):
        if row["completion"]:
            example = examples[row["example_id"]]
            yield example["input"], example["output_1"], f"[[replay:llmbar:{n}]]"


def _course(server: Server, traces: list[tuple[str, str, str]], latency: float) -> Course:
    database = server.database("end_to_end")
    database.create_validators()
    arguments = ("--answer", "marker:llmbar", "--latency", str(latency))
    with replay.spawn(*arguments) as endpoint:
        program.create_judge(database, endpoint.base_url, TEMPLATE, params={"choices": CHOICES})
        server.checkpoint()
        with database.writer() as writer:
            begun = time.perf_counter()
            with writer.connection.cursor().copy(_COPY) as copy:
                for question, answer, marker in traces:
                    copy.write_row(("llmbar", question, answer, f'{{"reply": "{marker}"}}'))
            ingest = time.perf_counter() - begun
            ingest_mb = _peak_mb(writer.pid)
        begun = time.perf_counter()
        with program.Worker(
            database.worker_dsn, endpoint.authority, "--concurrency", str(CONCURRENCY), "--drain"
        ) as worker:
            judge_mb = _watch(database, worker)
            ended = worker.finish()
        judge = time.perf_counter() - begun
    with database.admin() as session:
        aggregate = min(session.timed(_PASS_RATES).wall for _ in range(5)) * 1000
        lost, errored, why = _lost(session, len(traces))
    server.drop("end_to_end")
    return Course(
        ingest, judge, aggregate, ended.peak_bytes / 1e6, ingest_mb, judge_mb, lost, errored, why
    )


def _peak_mb(pid: int) -> float | None:
    """The most memory a process had, what it shares with others included; None if it cannot be read."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return None
    return int(line.split()[1]) * 1024 / 1e6


def _watch(database: Database, worker: program.Worker) -> float | None:
    """Until the worker ends, look at its sessions; the most memory one had."""
    most: float | None = None
    query = b"select pid from pg_stat_activity where usename = %s"
    with database.admin() as session:
        while not worker.has_ended():
            for (pid,) in session.connection.execute(query, (common.WORKER,)).fetchall():
                most = max(most or 0, _peak_mb(pid) or 0) or None
            time.sleep(0.5)
    return most


def _lost(session: Session, traces: int) -> tuple[int, int, str | None]:
    """Traces and verdicts that are not there, verdicts of unreadable replies, and why jobs are left."""
    stored = session.one("select count(*) from flywheel.traces")
    row = session.connection.execute(
        b"select sum(decided + errored + skipped), sum(pending + dead + missing), sum(errored)"
        b" from flywheel.coverage"
    ).fetchone()
    assert row is not None
    why = session.connection.execute(
        b"select string_agg(concat_ws(': ', state, what_to_do, last_error), '; ')"
        b" from flywheel.queue_health"
    ).fetchone()
    assert why is not None
    return traces - stored + 6 * traces - int(row[0]), int(row[2]), why[0]
