"""Whether verdicts and jobs fit the traces and spans they are about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

from psycopg import Connection

from flywheel_db.doctor.finding import SWEEP, Finding, error, ok, warning

_ORPHANS: tuple[tuple[str, LiteralString], ...] = (
    (
        "verdicts without their trace or span",
        "select count(*) from flywheel._verdicts as v where not exists ("
        " select from flywheel._targets as g"
        " where g.trace_id = v.trace_id and g.span_id = v.span_id)",
    ),
    (
        "jobs without their trace or span",
        "select count(*) from flywheel._jobs as j where not exists ("
        " select from flywheel._targets as g"
        " where g.trace_id = j.trace_id and g.span_id = j.span_id)",
    ),
    (
        "verdicts of an old revision",
        "select count(*) from flywheel._verdicts as v"
        " join flywheel._targets as g on g.trace_id = v.trace_id and g.span_id = v.span_id"
        " where g.revision <> v.revision",
    ),
    (
        "jobs of an old revision",
        "select count(*) from flywheel._jobs as j"
        " join flywheel._targets as g on g.trace_id = j.trace_id and g.span_id = j.span_id"
        " where g.revision <> j.revision",
    ),
)


def check_orphans(connection: Connection) -> Iterator[Finding]:
    """Verdicts and jobs whose target is gone or has moved on."""
    well = True
    for what, query in _ORPHANS:
        row = connection.execute(query).fetchone()
        if row is not None and row[0]:
            well = False
            yield error("orphans", f"{row[0]} {what}", SWEEP)
    if well:
        yield ok("orphans", "none")


def check_coverage(connection: Connection) -> Iterator[Finding]:
    """Verdicts that are owed and neither written nor enqueued."""
    rows = connection.execute(
        "select validator, missing from flywheel.coverage where missing > 0 order by validator"
    ).fetchall()
    if rows:
        each = ", ".join(f"{validator}: {missing}" for validator, missing in rows)
        yield warning("coverage", f"verdicts are missing ({each})", SWEEP)
    else:
        yield ok("coverage", "no verdict is missing")
