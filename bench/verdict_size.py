"""Bytes on disk per passing verdict: heap, keys, and everything else of the relation."""

from __future__ import annotations

from bench import common
from bench.common import VALIDATORS, Options, Server
from bench.report import Figure
from bench.texts import make_texts


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    rows = options.rows(20_000)
    database = server.database("verdict_size")
    database.create_validators()
    database.create_source(rows, make_texts(500, clean=True))
    with database.writer() as writer, database.admin() as admin:
        writer.run(common.INSERT_ALL)
        others = admin.one("select count(*) from flywheel._verdicts where status <> 'passed'")
        verdicts = admin.one("select count(*) from flywheel._verdicts")
        if others or verdicts != rows * len(VALIDATORS):
            raise AssertionError(f"{others} of {verdicts} verdicts did not pass")
        heap = admin.one("select pg_table_size('flywheel._verdicts')")
        keys = admin.one("select pg_indexes_size('flywheel._verdicts')")
    server.drop("verdict_size")
    return [
        Figure(
            "verdict_size",
            f"disk per passing verdict, keys included, of {verdicts:,} verdicts",
            (heap + keys) / verdicts,
            unit="bytes",
            at_most=200,
            parts={"heap": heap / verdicts, "keys": keys / verdicts},
        )
    ]
