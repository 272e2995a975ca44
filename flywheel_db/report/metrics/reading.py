"""The rows of a metric, narrowed down by the columns it has."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flywheel_db.catalog import near_matches, require
from flywheel_db.errors import BadInput, UnknownMetric, WrongState

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql
    from psycopg.rows import DictRow

#: How a metric may be narrowed: by which columns, the first that it has. The second tells a pair.
_PIPELINE = ("pipeline", "pipelines")
_VALIDATOR = ("validator", "validators")
_TIMES = ("date", "timestamp with time zone", "timestamp without time zone")


@dataclass(frozen=True)
class Narrowing:
    """Which rows are wanted. `since` is what PostgreSQL reads as a time, or as an interval ago."""

    pipeline: str | None = None
    validator: str | None = None
    since: str | None = None


@dataclass(frozen=True)
class Metric:
    """A metric as it was read: its row of flywheel.metrics, the types of its columns, its rows.

    `examples` has the inputs of the traces that rows of low_performers name first.
    """

    entry: dict[str, Any]
    types: dict[str, str]
    rows: list[dict[str, Any]]
    examples: dict[UUID, str | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name."""
        name: str = self.entry["name"]
        return name

    @property
    def day_column(self) -> str | None:
        """The first column that is a time."""
        return next((name for name, type_ in self.types.items() if type_ in _TIMES), None)


def metrics(connection: psycopg.Connection) -> list[DictRow]:
    """The metrics of a database."""
    return _rows(connection, _text("select * from flywheel.metrics order by name"))


def advice(connection: psycopg.Connection) -> list[DictRow]:
    """How each metric should be kept, and why; those that should be kept otherwise first."""
    return _rows(
        connection,
        _text("select * from flywheel.metric_advice order by storage = recommended, name"),
    )


def read(
    connection: psycopg.Connection, name: str, narrowing: Narrowing, limit: int | None = None
) -> Metric:
    """The rows of a metric; of many, the first `limit` in the order of its columns.

    Raises UnknownMetric, WrongState if its view is gone, BadInput if it has no column to be
    narrowed by, and UnknownValidator.
    """
    from psycopg import sql

    entry = _entry(connection, name)
    if entry["state"] == "broken":
        raise WrongState(
            f"the metric {name} cannot be read: {entry['problem']}",
            hint="give it a query that works: select flywheel.alter_metric(..., query => ...)",
        )
    types = {
        row["name"]: row["type"]
        for row in _rows(
            connection,
            _text(
                "select a.attname as name, format_type(a.atttypid, null) as type"
                " from pg_attribute as a"
                " where a.attrelid = to_regclass('flywheel.' || quote_ident(%s)) and a.attnum > 0"
                " order by a.attnum"
            ),
            name,
        )
    }
    metric = Metric(entry, types, [])
    conditions, values = _conditions(connection, metric, narrowing)
    query = sql.SQL("select * from flywheel.{} where {} limit {}").format(
        sql.Identifier(name),
        sql.SQL(" and ").join(conditions) if conditions else sql.SQL("true"),
        sql.Literal(limit),
    )
    rows = _rows(connection, query, *values)
    if not rows and narrowing.validator is not None:
        require(connection, narrowing.validator)
    if name != "low_performers" or not entry["is_builtin"]:
        return Metric(entry, types, rows)
    texts = _rows(
        connection,
        _text("select trace_id, input from flywheel.traces where trace_id = any(%s::uuid[])"),
        [row["exemplars"][0] for row in rows],
    )
    return Metric(entry, types, rows, {row["trace_id"]: row["input"] for row in texts})


def refresh(connection: psycopg.Connection, name: str) -> dict[str, Any]:
    """Compute anew what is kept of a metric. Returns its name, storage, rows and the seconds."""
    from psycopg import sql

    entry = _entry(connection, name)
    start = monotonic()
    connection.execute("select flywheel.refresh_metric(%s)", [name])
    seconds = monotonic() - start
    counted = _rows(
        connection,
        sql.SQL("select count(*) as n from flywheel.{}").format(sql.Identifier(name)),
    )
    return {
        "name": name,
        "storage": entry["storage"],
        "rows": counted[0]["n"],
        "seconds": round(seconds, 3),
    }


def _entry(connection: psycopg.Connection, name: str) -> dict[str, Any]:
    known = {row["name"]: row for row in metrics(connection)}
    if name in known:
        return known[name]
    near = near_matches(name, known)
    meant = f"did you mean {', '.join(near)}? " if near else ""
    raise UnknownMetric(
        f"there is no metric {name}", hint=f"{meant}list them: flywheel-db metrics list"
    )


def _conditions(
    connection: psycopg.Connection, metric: Metric, narrowing: Narrowing
) -> tuple[list[sql.Composed], list[Any]]:
    from psycopg import sql

    conditions: list[sql.Composed] = []
    values: list[Any] = []
    for option, wanted, columns in (
        ("--pipeline", narrowing.pipeline, _PIPELINE),
        ("--validator", narrowing.validator, _VALIDATOR),
    ):
        if wanted is None:
            continue
        column = next((name for name in columns if name in metric.types), None)
        if column is None:
            raise _no_column(metric, option, columns[0])
        # Counts by name: those that have the name among them.
        form = "{} ? %s" if metric.types[column] == "jsonb" else "{} = %s"
        conditions.append(sql.SQL(form).format(sql.Identifier(column)))
        values.append(wanted)
    if narrowing.since is not None:
        if metric.day_column is None:
            raise _no_column(metric, "--since", "day")
        since = _time(connection, narrowing.since)
        form = "{} >= %s" if metric.types[metric.day_column] != "date" else "{} >= %s::date"
        conditions.append(sql.SQL(form).format(sql.Identifier(metric.day_column)))
        values.append(since)
    return conditions, values


def _no_column(metric: Metric, option: str, column: str) -> BadInput:
    return BadInput(
        f"the metric {metric.name} has no column {column}, so {option} cannot narrow it",
        hint=f"it has {', '.join(metric.types)}",
    )


def _time(connection: psycopg.Connection, text: str) -> str:
    import psycopg

    for query in (
        "select (%s::timestamptz)::text as at",
        "select (flywheel.now() - %s::interval)::text as at",
    ):
        try:
            with connection.transaction():
                at: str = _rows(connection, _text(query), text)[0]["at"]
                return at
        except psycopg.DataError:
            continue
    raise BadInput(
        f"{text} is neither a time nor an interval",
        hint="for example --since 2026-03-01, --since yesterday, --since '7 days'",
    )


def _text(query: Any) -> sql.Composed:
    from psycopg import sql

    return sql.Composed([sql.SQL(query)])


def _rows(connection: psycopg.Connection, query: sql.Composed, *values: Any) -> list[DictRow]:
    from psycopg.rows import dict_row

    with connection.cursor(row_factory=dict_row) as cursor:
        _load_late_times(cursor)
        return cursor.execute(query, values).fetchall()


def _load_late_times(cursor: psycopg.Cursor[Any]) -> None:
    """Times that Python does not know, as infinity, stay texts."""
    from psycopg import DataError
    from psycopg.types.datetime import DateLoader, TimestampLoader, TimestamptzLoader

    def loader(known: type[DateLoader | TimestampLoader | TimestamptzLoader]) -> Any:
        class Late(known):  # type: ignore[misc, valid-type]
            def load(self, data: Any) -> Any:
                try:
                    return super().load(data)
                except DataError:
                    return bytes(data).decode()

        return Late

    for name, known in (
        ("date", DateLoader), ("timestamp", TimestampLoader), ("timestamptz", TimestamptzLoader),
    ):  # fmt: skip
        cursor.adapters.register_loader(name, loader(known))
