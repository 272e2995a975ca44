"""300 single-row INSERTs in one transaction with a validator that raises: no subtransaction.

Two witnesses. The transaction takes exactly one transaction id. Another session that reads the
table meanwhile never looks into the server's subtransaction log, which it has to as soon as a
session has more than 64. A control shows that both would notice: the same INSERTs, each under a
savepoint.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.common import Database, Options, Server, Session, Validator
from bench.report import Figure
from bench.texts import LENGTH

INSERTS = 300

# Raises on every output that is not JSON.
PARTIAL = Validator("has_a", "(output::jsonb) ? 'a'")


@dataclass(frozen=True)
class _Seen:
    xids: int
    lookups: int
    errors: int


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    database = server.database("subtransactions")
    database.create_validators((PARTIAL,))
    seen = [_observe(database, savepoints=False) for _ in range(options.rounds)]
    control = _observe(database, savepoints=True)
    server.drop("subtransactions")
    if control.xids <= INSERTS or not control.lookups:
        raise AssertionError(f"the control shows no subtransactions: {control}")
    # Other sessions of the server, autovacuum among them, may take an id meanwhile; ours is in all.
    xids = min(s.xids for s in seen)
    lookups = min(s.lookups for s in seen)
    return [
        Figure(
            "subtransactions",
            f"{INSERTS} INSERTs in one transaction with a validator that raises: transaction ids"
            " beyond the first, and looks of another session into the subtransaction log",
            xids - 1 + lookups,
            unit="",
            at_most=0,
            parts={
                "ids": xids,
                "looks": lookups,
                "error verdicts": seen[-1].errors,
                "control's ids": control.xids,
                "control's looks": control.lookups,
            },
        )
    ]


def _observe(database: Database, *, savepoints: bool) -> _Seen:
    broken = "x" * LENGTH
    with database.admin() as admin, database.writer() as writer, database.admin() as other:
        before = _log_reads(other)
        with writer.connection.transaction():
            first = writer.one("select pg_current_xact_id()::text::bigint")
            for n in range(INSERTS):
                output = '{"a": 1}' if n % 2 else broken
                if savepoints:
                    writer.run("savepoint s")
                writer.run(
                    "insert into flywheel.traces (input, output) values ('x', %s)", (output,)
                )
                if savepoints:
                    writer.run("release savepoint s")
            # An id that is taken and done after theirs: only then are theirs looked up at all.
            next_id = other.one("select pg_current_xact_id()::text::bigint")
            for _ in range(3):
                other.one("select count(*) from flywheel.traces")
                other.one("select count(*) from flywheel._verdicts")
            looked = _log_reads(other) - before
        errors = admin.one("select count(*) from flywheel._verdicts where status = 'error'")
        admin.run("truncate flywheel.traces")
    return _Seen(next_id - first, looked, errors)


def _log_reads(session: Session) -> int:
    """Pages of the subtransaction log looked at since the server started, by all sessions."""
    session.one("select pg_stat_force_next_flush()::text")
    found: int = session.one(
        "select sum(blks_hit + blks_read) from pg_stat_slru"
        " where lower(name) in ('subtrans', 'subtransaction')"
    )
    return int(found)
