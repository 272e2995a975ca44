"""Cron expressions, against a reference that looks at one minute after the other."""

import calendar
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Connection

MONTHS = [name.lower() for name in calendar.month_abbr]
WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def holds(field: str, value: int, lowest: int, highest: int, names: list[str]) -> bool:
    """Whether a value is in a field: crontab(5), read literally."""

    def number(text: str) -> int:
        return names.index(text) if text in names else int(text)

    for part in field.split(","):
        where, _, step = part.partition("/")
        if where == "*":
            first, last = lowest, highest
        elif "-" in where:
            first, last = map(number, where.split("-"))
        else:
            first = number(where)
            last = highest if step else first
        if value in range(first, last + 1, int(step or 1)):
            return True
    return False


def is_due(cron: str, moment: datetime) -> bool:
    minute, hour, day, month, weekday = cron.lower().split()
    dow = moment.isoweekday() % 7
    on_weekday = holds(weekday, dow, 0, 7, WEEKDAYS) or (
        dow == 0 and holds(weekday, 7, 0, 7, WEEKDAYS)
    )
    on_day = holds(day, moment.day, 1, 31, [])
    restricted = not day.startswith("*") and not weekday.startswith("*")
    return (
        holds(minute, moment.minute, 0, 59, [])
        and holds(hour, moment.hour, 0, 23, [])
        and holds(month, moment.month, 1, 12, MONTHS)
        and (on_day or on_weekday if restricted else on_day and on_weekday)
    )


def reference(cron: str, after: datetime) -> datetime | None:
    moment = after.replace(second=0, microsecond=0) + timedelta(minutes=1)
    end = moment + timedelta(days=366 * 9)
    hour = cron.split()[1]
    while moment < end:
        if is_due(cron, moment):
            return moment
        if not is_due(f"* * {' '.join(cron.split()[2:])}", moment):  # not on this day
            moment = moment.replace(hour=0, minute=0) + timedelta(days=1)
        elif not holds(hour, moment.hour, 0, 23, []):
            moment = moment.replace(minute=0) + timedelta(hours=1)
        else:
            moment += timedelta(minutes=1)
    return None


@st.composite
def fields(draw: st.DrawFn, place: int) -> str:
    lowest, highest = RANGES[place]
    names = {3: MONTHS, 4: WEEKDAYS}.get(place, [])

    def written(value: int) -> str:
        named = value < len(names) and names[value] != "" and draw(st.booleans())
        return names[value] if named else str(value)

    parts = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(
            st.sampled_from(["value", "range", "star"] if not parts else ["value", "range"])
        )
        first = draw(st.integers(lowest, highest))
        last = draw(st.integers(first, highest))
        text = {"value": written(first), "range": f"{written(first)}-{written(last)}", "star": "*"}[
            kind
        ]
        if draw(st.booleans()) and kind != "value":
            text += f"/{draw(st.integers(1, highest))}"
        parts.append(text)
        if kind == "star":
            break
    return ",".join(parts)


crons = st.builds(" ".join, st.tuples(*(fields(place) for place in range(5))))
moments = st.datetimes(datetime(1999, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))


def next_run(db: Connection, cron: str, after: datetime) -> datetime:
    row = db.execute("select flywheel._next_cron(%s, %s)", (cron, after)).fetchone()
    assert row is not None
    found: datetime = row[0]
    return found.astimezone(UTC)


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cron=crons, after=moments)
def test_the_next_run_is_the_first_minute_that_fits(
    db: Connection, cron: str, after: datetime
) -> None:
    expected = reference(cron, after)
    if expected is not None:
        assert next_run(db, cron, after) == expected
        return
    # Not within nine years: it is rarer, or never.
    found = None
    with suppress(psycopg.DatabaseError), db.transaction():
        found = next_run(db, cron, after)
    if found is not None:
        assert found > after + timedelta(days=366 * 8)
        assert is_due(cron, found)


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("* * * * *", "2026-11-25 02:18:28", "2026-11-25 02:19"),
        ("* * * * *", "2026-11-25 02:19:00", "2026-11-25 02:20"),
        ("*/15 * * * *", "2026-11-25 02:45", "2026-11-25 03:00"),
        ("5/20 * * * *", "2026-11-25 02:26", "2026-11-25 02:45"),
        ("30 2 * * *", "2026-11-25 02:30", "2026-11-26 02:30"),
        ("0 9-17/4 * * mon-fri", "2026-11-27 17:00", "2026-11-30 09:00"),
        ("0 0 1 jan *", "2026-01-01 00:00", "2027-01-01 00:00"),
        ("0 0 29 2 *", "2026-03-01 00:00", "2028-02-29 00:00"),
        ("0 0 29 2 *", "2096-03-01 00:00", "2104-02-29 00:00"),
        ("0 0 31 * *", "2026-11-25 00:00", "2026-12-31 00:00"),
        # Both days restricted: either will do. One with a star: both.
        ("0 0 13 * fri", "2026-11-25 00:00", "2026-11-27 00:00"),
        ("0 0 13 * fri", "2026-12-11 00:00", "2026-12-13 00:00"),
        ("0 0 */2 * fri", "2026-11-20 00:00", "2026-11-27 00:00"),
        ("0 0 13 * */5", "2026-11-25 00:00", "2026-12-13 00:00"),
        ("0 0 * * 7", "2026-11-25 00:00", "2026-11-29 00:00"),
        ("0 0 * * FRI-SUN", "2026-11-28 00:00", "2026-11-29 00:00"),
        (" 0\t0  1 * * ", "2026-11-25 00:00", "2026-12-01 00:00"),
        ("@hourly", "2026-11-25 02:18", "2026-11-25 03:00"),
        ("@daily", "2026-11-25 02:18", "2026-11-26 00:00"),
        ("@midnight", "2026-12-31 02:18", "2027-01-01 00:00"),
        ("@weekly", "2026-11-25 02:18", "2026-11-29 00:00"),
        ("@monthly", "2026-11-25 02:18", "2026-12-01 00:00"),
        ("@yearly", "2026-11-25 02:18", "2027-01-01 00:00"),
        ("@annually", "2026-11-25 02:18", "2027-01-01 00:00"),
    ],
)
def test_examples(db: Connection, cron: str, after: str, expected: str) -> None:
    def moment(text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)

    assert next_run(db, cron, moment(after)) == moment(expected)


def test_runs_follow_each_other_whatever_the_time_zone_of_the_session(db: Connection) -> None:
    """On the night the clocks change in Berlin, too: times are in UTC."""
    db.execute("set local timezone = 'Europe/Berlin'")
    runs = [datetime(2026, 10, 24, 23, 0, tzinfo=UTC)]
    for _ in range(8):
        runs.append(next_run(db, "30 * * * *", runs[-1]))
    assert all(later - earlier == timedelta(hours=1) for earlier, later in pairwise(runs[1:]))


@pytest.mark.parametrize(
    "cron",
    [
        "", "*", "* * * *", "* * * * * *", "@reboot", "@often", "60 * * * *", "* 24 * * *", "* * 0 * *",
        "* * 32 * *", "* * * 13 *", "* * * 0 *", "* * * * 8", "5-1 * * * *", "*/0 * * * *", "*/100 * * * *",
        "1,,2 * * * *", "1, * * * *", "- * * * *", "1-2-3 * * * *", "mon * * * *", "* * * mon *", "* * * * jan",
        "* * L * *", "* * * * 5#2", "a b c d e", "1.5 * * * *", "-1 * * * *", "* * ? * *", "0 0 30 2 *",
        "0 0 31 4,6,9,11 *", "٣ * * * *", "* * * * *; drop table flywheel.traces",
    ],
)  # fmt: skip
def test_nonsense_is_refused_and_says_what_to_give(db: Connection, cron: str) -> None:
    with pytest.raises(psycopg.DatabaseError, match="the cron expression") as caught:
        next_run(db, cron, datetime(2026, 11, 25, tzinfo=UTC))
    assert caught.value.sqlstate == "LF002"
    assert caught.value.diag.message_hint
