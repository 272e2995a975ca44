"""The columns that can be imported, and what a value needs to fit each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["attributes", "id", "integer", "numeric", "status", "text", "timestamp"]


@dataclass(frozen=True)
class Column:
    """One column of an importable table."""

    name: str
    kind: Kind
    required: bool = False  # NOT NULL without a default the importer could use


@dataclass(frozen=True)
class Table:
    """An importable table: its columns in the order in which COPY sends them."""

    name: str
    id_column: str
    columns: tuple[Column, ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the importable columns."""
        return tuple(column.name for column in self.columns)


# Set by the database: an export holds them, an import leaves them out.
SET_BY_DATABASE = frozenset({"received_at", "revision"})

TRACES = Table(
    "traces",
    "trace_id",
    (
        Column("trace_id", "id"),
        Column("pipeline", "text"),
        Column("variant", "text"),
        Column("environment", "text"),
        Column("release", "text"),
        Column("session_id", "text"),
        Column("user_id", "text"),
        Column("input", "text"),
        Column("output", "text"),
        Column("status", "status"),
        Column("started_at", "timestamp"),
        Column("ended_at", "timestamp"),
        Column("attributes", "attributes"),
    ),
)

SPANS = Table(
    "spans",
    "span_id",
    (
        Column("trace_id", "id", required=True),
        Column("span_id", "id"),
        Column("parent_span_id", "id"),
        Column("node", "text"),
        Column("kind", "text"),
        Column("input", "text"),
        Column("output", "text"),
        Column("status", "status"),
        Column("started_at", "timestamp"),
        Column("ended_at", "timestamp"),
        Column("model", "text"),
        Column("input_tokens", "integer"),
        Column("output_tokens", "integer"),
        Column("cost_usd", "numeric"),
        Column("attributes", "attributes"),
    ),
)

TABLES = {table.name: table for table in (TRACES, SPANS)}
