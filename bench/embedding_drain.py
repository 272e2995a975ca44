"""Texts a second through `flywheel-db worker` with an embeddings endpoint of 50 ms.

The worker keeps four requests of 64 texts in flight: at 50 ms each that allows 5,120 texts a second.
A vector has 384 numbers. The rate is taken from the moment the worker has started to when it has
drained the queue. The endpoint makes and writes the vectors meanwhile, on the same machine.
"""

from __future__ import annotations

import time

import replay
from bench import common
from bench.common import Database, Options, Server
from bench.report import Figure
from bench.texts import make_texts
from bench.workers import program

require = program.require

TEXTS = 20_000
ROUNDS = 3
LATENCY = 0.05
DIMENSIONS = 384

_STORE = "select flywheel._store_table(e.embedder_id, 'log') from flywheel._embedders as e where e.state = 'active'"


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    count = options.rows(TEXTS)
    database = server.database("embedding_drain")
    database.create_source(count, make_texts(min(count, 1000)))
    rates = []
    with replay.spawn("--latency", str(LATENCY), "--dimensions", str(DIMENSIONS)) as endpoint:
        with database.admin() as session:
            session.run(
                f"select flywheel.create_model('e', '{endpoint.base_url}', 'e-1');"
                f"select flywheel.create_embedder('small', 'openai', {DIMENSIONS}, 'e');"
                "select flywheel.use_embedder('small')"
            )
            session.run("select flywheel.embed_texts(1)")
        for n in range(min(options.rounds, ROUNDS)):
            rates.append(_drain(server, database, endpoint, count))
            common.note(f"round {n + 1}: {rates[-1]:.0f} texts a second")
        requests = endpoint.count
    server.drop("embedding_drain")
    return [
        Figure(
            "embedding_drain",
            f"texts a second through flywheel-db worker, endpoint of {LATENCY * 1000:.0f} ms,"
            f" {DIMENSIONS} dimensions; {count:,} texts",
            common.median(rates),
            unit="texts",
            at_least=1000,
            parts={"texts a request": count * len(rates) / requests},
        )
    ]


def _drain(server: Server, database: Database, endpoint: replay.Process, count: int) -> float:
    with database.admin() as session:
        session.run(common.EMPTY)
    with database.writer() as writer:
        writer.run(common.INSERT_ALL)
    with database.admin() as session:
        while session.one("select is_more from flywheel.embed_texts(5)"):
            pass
    server.checkpoint()
    with program.Worker(
        database.worker_dsn,
        endpoint.authority,
        "--kinds",
        "embeddings",
        "--no-schedules",
        "--drain",
    ) as worker:
        worker.finish()
        seconds = time.time() - worker.started_at()
    with database.admin() as session:
        stored = session.one(f"select count(*) from {session.one(_STORE)}")
    if stored != count:
        raise RuntimeError(f"{stored} of {count} texts have a vector")
    return count / seconds
