"""Whether schedules are run, whether what they run succeeds, and who removes what expires."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import Connection

from flywheel_db.doctor.finding import Finding, ok, warning

_SCHEDULES = "schedules"
_RETENTION = "retention"


def check_schedules(connection: Connection) -> Iterator[Finding]:
    """Schedules that nobody runs, and tasks that fail."""
    rows = connection.execute(
        """
        select s.name, s.state, s.next_run_at at time zone 'UTC', s.failures, s.last_error
        from flywheel.schedules as s
        where s.is_enabled
        order by s.next_run_at, s.name
        """
    ).fetchall()
    overdue = [row for row in rows if row[1] == "overdue"]
    failing = [row for row in rows if row[1] == "failing"]
    if overdue:
        names = ", ".join(row[0] for row in overdue)
        yield warning(
            _SCHEDULES,
            f"nobody runs {names}; due since {overdue[0][2]:%Y-%m-%d %H:%M:%S} UTC",
            "start flywheel-db worker, or have a scheduler call flywheel.work();"
            " once, by hand: select * from flywheel.run_schedules()",
        )
    for name, _, _, failures, last_error in failing:
        yield warning(
            _SCHEDULES,
            f"{name} fails, {failures} in a row: {last_error}",
            "mend the cause, or select flywheel.disable_schedule(...)",
        )
    if not overdue and not failing:
        yield ok(_SCHEDULES, f"{len(rows)} are on time" if rows else "there are none")


def check_retention(connection: Connection) -> Iterator[Finding]:
    """Whether somebody removes what has expired."""
    rows = connection.execute("select count(*) from flywheel.retention").fetchall()
    ((is_run,),) = connection.execute(
        "select exists (select from flywheel.schedules where task = 'retention' and is_enabled)"
    ).fetchall()
    rules = rows[0][0]
    if rules and not is_run:
        yield warning(
            _RETENTION,
            f"{rules} to apply, and no schedule does",
            "select flywheel.create_schedule('retention', 'retention', every => '5 minutes')",
        )
    else:
        yield ok(_RETENTION, f"{rules} to apply" if rules else "everything is kept")
