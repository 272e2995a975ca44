"""A backlog of 500,000 jobs drained by 4 plain clients: what a claim takes in its first and its last
tenth, and how large the table of jobs gets meanwhile."""

from __future__ import annotations

import threading
import time

from bench import backlog
from bench.backlog import BATCH, percentile
from bench.common import Database, Options, Server
from bench.report import Figure

JOBS = 500_000


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    jobs = options.rows(JOBS)
    database = server.database("drain")
    backlog.create_noop(database)
    backlog.fill(server, database, jobs)
    sizes = _Sizes(database)
    begun = time.perf_counter()
    with sizes, backlog.plain_clients(database) as clients:
        while any(client.is_running for client in clients):
            time.sleep(0.2)
        seconds = time.perf_counter() - begun
        found = [client.result() for client in clients]
    remaining = backlog.left(database)
    server.drop("drain")
    if remaining:
        raise RuntimeError(f"{remaining:,} of {jobs:,} jobs are left")

    # When it was, what it took, what it brought.
    claims = sorted(tuple(claim) for one in found for claim in one["claims"] if claim[2])
    first: list[float] = []
    last: list[float] = []
    done = 0
    for _, took, brought in claims:
        if done < jobs / 10:
            first.append(took * 1000)
        elif done >= jobs * 9 / 10:
            last.append(took * 1000)
        done += brought
    _, table, indexes = sizes.first
    dead, largest_table, largest_indexes = sizes.highest
    return [
        Figure(
            "drain_claims",
            f"median time of a claim of {BATCH} in the last tenth of {jobs:,} jobs, over that in the"
            " first",
            percentile(last, 50) / percentile(first, 50),
            parts={
                "first p50 ms": percentile(first, 50),
                "first p99 ms": percentile(first, 99),
                "last p50 ms": percentile(last, 50),
                "last p99 ms": percentile(last, 99),
                "drained a second": jobs / seconds,
            },
        ),
        Figure(
            "drain_bloat",
            f"largest size of the table of jobs with its indexes while {jobs:,} were drained, over"
            " that at first",
            (largest_table + largest_indexes) / (table + indexes),
            parts={
                "most dead rows": dead,
                "largest table MB": largest_table / 1e6,
                "largest indexes MB": largest_indexes / 1e6,
                "table MB at first": table / 1e6,
                "indexes MB at first": indexes / 1e6,
            },
        ),
    ]


class _Sizes:
    """Watches the table of jobs: dead rows, bytes of the table, bytes of its indexes."""

    _QUERY = """
        select s.n_dead_tup, pg_relation_size(s.relid), pg_indexes_size(s.relid)
        from pg_stat_user_tables as s where s.relid = 'flywheel._jobs'::regclass
    """

    def __init__(self, database: Database) -> None:
        self._session = database.admin()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.first = self.highest = self._look()

    def __enter__(self) -> _Sizes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._session.connection.close()

    def _look(self) -> tuple[int, int, int]:
        row = self._session.connection.execute(self._QUERY.encode()).fetchone()
        assert row is not None
        return row[0], row[1], row[2]

    def _watch(self) -> None:
        while not self._done.wait(0.5):
            now, most = self._look(), self.highest
            self.highest = max(most[0], now[0]), max(most[1], now[1]), max(most[2], now[2])
