"""The log of 1,000,000 traces: vectors made searchable, and what that costs the writers.

First the log is filled and indexed up to its size less the part that is measured. That part is then
inserted and drained, from the first call until the last vector is in an HNSW index: that many a second
are made searchable, sustained.

Two figures say what writers pay. One session inserts as fast as it can with the log's policy `all` and
with `labelled`, and nothing else runs: what it costs to note the arrivals. And 2,500 traces a second are
offered in statements of 100, with and without a session that embeds and indexes them meanwhile: the
rate that is reached with over that without. (Two processors are full when a writer and the background
both take all they can get; that ratio is told beside.) The
lag is
measured trace by trace: from the commit of an INSERT at 500 a second until its own text finds it.
Recall is that of measure_index(): the 10 neighbours of sampled vectors, against exact scans.

"""

from __future__ import annotations

import statistics
import threading
import time

from bench.common import Database, Options, Server, Session, note
from bench.queries import questions
from bench.report import Figure

_INSERT = """
    insert into flywheel.traces (pipeline, input, output)
    select 'support', s.input, 'An answer.' from source.inputs as s where s.n >= %s and s.n < %s
"""


def _fill(admin: Session, texts: list[str]) -> None:
    admin.run(
        "create schema source; create table source.inputs (n integer primary key, input text)"
    )
    with admin.connection.cursor().copy("copy source.inputs from stdin") as copy:
        for n, text in enumerate(texts):
            copy.write_row((n, text))
    admin.run(
        "analyze source.inputs; grant usage on schema source to public; grant select on source.inputs to public"
    )


def _drain(admin: Session) -> None:
    """Until everything is embedded and indexed, but for the open segment."""
    while admin.one("select is_more from flywheel.embed_texts(2)"):
        pass
    # Not the merges: they wait for idle hours.
    while admin.one("select exists (select from flywheel._vector_segments where state = 'closed')"):
        admin.one("select is_more from flywheel.index_vectors(0)")


class _Background(threading.Thread):
    """A session that embeds and indexes, again and again."""

    def __init__(self, database: Database, *calls: str) -> None:
        super().__init__(daemon=True)
        self._database = database
        self._calls = calls or ("embed_texts", "index_vectors")
        self._stop_now = threading.Event()

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self._stop_now.set()
        self.join()

    def run(self) -> None:
        with self._database.worker() as session:
            while not self._stop_now.is_set():
                more = [
                    session.one(f"select is_more from flywheel.{call}(0.5)") for call in self._calls
                ]
                if not any(more):
                    self._stop_now.wait(0.1)


def _insert(writer: Session, start: int, seconds: float, count: int) -> float:
    """Traces a second in statements of 1,000, for so long."""
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        at = (start + done) % (count - 1000)
        writer.run(_INSERT, (at, at + 1000))
        done += 1000
    return done / (time.perf_counter() - begun)


def _offer(writer: Session, start: int, seconds: float, count: int, rate: int = 2500) -> float:
    """Traces a second that are reached when so many are offered, in statements of 100."""
    begun, done = time.perf_counter(), 0
    while (now := time.perf_counter() - begun) < seconds:
        if done >= now * rate:
            time.sleep(0.001)
            continue
        at = (start + done) % (count - 1000)
        writer.run(_INSERT, (at, at + 100))
        done += 100
    return done / (time.perf_counter() - begun)


def _lag(database: Database, seconds: float) -> list[float]:
    """Seconds from the commit of a trace until it is found by its own text."""
    found: list[float] = []
    with database.writer() as writer, database.admin() as admin:
        end = time.perf_counter() + seconds
        n = 0
        while time.perf_counter() < end:
            n += 1
            text = f"a question of a kind that was never asked before number {n} {time.time()}"
            writer.run("insert into flywheel.traces (pipeline, input) values ('lag', %s)", (text,))
            committed = time.perf_counter()
            while not admin.one(
                "select exists (select from flywheel._nearest(1, 'log', flywheel._hash_vector(%s), 1) where similarity > 0.999)",
                (text,),
            ):
                time.sleep(0.02)
            found.append(time.perf_counter() - committed)
    return found


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    count = options.rows(1_000_000)
    measured = min(100_000, count // 2)
    texts, _ = questions(count, 10)
    database = server.database("log_index")
    with database.admin() as admin, database.writer() as writer:
        _fill(admin, texts)
        begun = time.perf_counter()
        for n in range(0, count - measured, 50_000):
            writer.run(_INSERT, (n, min(n + 50_000, count - measured)))
            _drain(admin)
            note(f"{n + 50_000:,} traces after {time.perf_counter() - begun:.0f} s")
        filled = (count - measured) / (time.perf_counter() - begun)

        # The last part, from the first INSERT to the last index.
        begun = time.perf_counter()
        for n in range(count - measured, count, 1000):
            writer.run(_INSERT, (n, n + 1000))
        inserted = time.perf_counter() - begun
        _drain(admin)
        rate = measured / (time.perf_counter() - begun - inserted)
        admin.run("select flywheel.measure_index(50, 10)")
        health = admin.connection.execute(
            b"select recall, parts, tail, index_ms, exact_ms, bytes from flywheel.index_health where store = 'log'"
        ).fetchone()
        assert health is not None
        recall, parts, tail, index_ms, exact_ms, size = health

        seconds = min(options.seconds, 6)
        noted: dict[str, list[float]] = {"all": [], "labelled": []}
        flooded, offered, reached = [], [], []
        for n in range(options.rounds):
            # Who comes first in a round finds the server busy with what the last one left.
            for policy in sorted(noted, reverse=n % 2 == 1):
                admin.run(f"select flywheel.set_index_policy('{policy}')")
                noted[policy].append(_insert(writer, n * 1000, seconds, count))
            admin.run("select flywheel.set_index_policy('all'); truncate flywheel._arrivals")
            offered.append(_offer(writer, n * 7000, seconds, count))
            _drain(admin)
            with _Background(database):
                reached.append(_offer(writer, n * 7000, seconds, count))
                flooded.append(_insert(writer, n * 1000, seconds / 2, count))
            admin.run("truncate flywheel._arrivals")
            note(
                f"round {n + 1}: offered {offered[-1]:,.0f} a second, {reached[-1]:,.0f} with the background"
            )
        _drain(admin)
        # As the schedules of one worker do it: two tasks at a time, so no merge holds up what arrives.
        with _Background(database, "embed_texts"), _Background(database, "index_vectors"):
            lags = _lag(database, 15)
    server.drop("log_index")
    detail = {
        "parts": parts,
        "tail": tail,
        "query ms": index_ms,
        "exact ms": exact_ms,
        "GB": size / 1e9,
        "the whole log at": filled,
    }
    return [
        Figure("log_index", f"log of {count:,} traces: vectors embedded and indexed a second, one session", rate, unit="/s", at_least=2000, parts=detail),
        Figure("log_index", "recall of 10 neighbours against an exact scan", recall, at_least=0.95, parts=detail),
        Figure(
            "log_index", "INSERT of 1,000 traces: rate when arrivals are noted over when they are not",
            statistics.median(noted["all"]) / statistics.median(noted["labelled"]), at_least=0.95,
            parts={"noted /s": statistics.median(noted["all"]), "not noted /s": statistics.median(noted["labelled"])},
        ),
        Figure(
            "log_index", "2,500 traces a second offered: rate reached with the background at work over without",
            statistics.median(reached) / statistics.median(offered), at_least=0.95,
            parts={
                "without /s": statistics.median(offered), "with it /s": statistics.median(reached),
                "a writer that takes all it can, with it over without": statistics.median(flooded) / statistics.median(noted["all"]),
            },
        ),
        Figure("log_index", "lag: from the commit of a trace until its own text finds it, median", statistics.median(lags), unit="s", parts={"p95 s": sorted(lags)[int(len(lags) * 0.95)], "traces": len(lags)}),
    ]  # fmt: skip
