"""Python validators on a real server."""

from collections.abc import Callable
from typing import Any

import pytest
from psycopg import Connection


@pytest.fixture
def create(db: Connection) -> Callable[..., int]:
    """Create a Python validator on the warm connection."""

    def make(name: str, body: str, **options: Any) -> int:
        given = "".join(f", {option} => %({option})s" for option in options)
        row = db.execute(
            f"select flywheel.create_validator(%(name)s, 'python', %(body)s{given})",  # type: ignore[arg-type]
            {"name": name, "body": body, **options},
        ).fetchone()
        assert row is not None
        return int(row[0])

    return make


@pytest.fixture
def verdict(db: Connection) -> Callable[..., dict[str, Any]]:
    """Insert a trace and return its verdict by one validator."""

    def judge(name: str, output: str | None = "hello", **columns: Any) -> dict[str, Any]:
        columns["output"] = output
        names = ", ".join(columns)
        values = ", ".join(f"%({column})s" for column in columns)
        row = db.execute(
            f"insert into flywheel.traces ({names}) values ({values}) returning trace_id",  # type: ignore[arg-type]
            columns,
        ).fetchone()
        assert row is not None
        cursor = db.execute(
            "select * from flywheel.verdicts where trace_id = %s and validator = %s", (row[0], name)
        )
        assert cursor.description is not None
        found = cursor.fetchone()
        assert found is not None
        return {column.name: value for column, value in zip(cursor.description, found, strict=True)}

    return judge
