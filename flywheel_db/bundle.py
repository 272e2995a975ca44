"""The SQL that is installed: where it lies, in which order it loads, how a migration runs it."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from alembic import op

_PACKAGE = Path(__file__).parent

#: Replaceable files in load order. A folder stands for its files by name.
_BEFORE_TABLES = ("base",)
_AFTER_TABLES = (
    "internal",
    "views",
    "functions",
    "triggers/functions.sql",
    "privileges.sql",
    "triggers/triggers.sql",
)


@dataclass(frozen=True)
class SqlFile:
    """One replaceable file: its path under sql/ and its text."""

    name: str
    text: str

    @cached_property
    def sha256(self) -> str:
        """Digest by which a database knows whether it has this very file."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A release: replaceable SQL and frozen migrations, each a folder."""

    sql: Path
    migrations: Path

    @classmethod
    def shipped(cls) -> "Bundle":
        """Return the release of this package: inside the wheel, or the checkout around it."""
        packaged = _PACKAGE / "_bundle"
        root = packaged if packaged.is_dir() else _PACKAGE.parent
        return cls(root / "sql", root / "migrations")

    @cached_property
    def before_tables(self) -> tuple[SqlFile, ...]:
        """Files the tables need: roles, and the functions their defaults call."""
        return self._load(_BEFORE_TABLES)

    @cached_property
    def after_tables(self) -> tuple[SqlFile, ...]:
        """Files that need the tables: functions, views, privileges, and triggers last."""
        return self._load(_AFTER_TABLES)

    @property
    def files(self) -> tuple[SqlFile, ...]:
        """All replaceable files in load order."""
        return self.before_tables + self.after_tables

    def _load(self, entries: tuple[str, ...]) -> tuple[SqlFile, ...]:
        paths: list[Path] = []
        for entry in entries:
            path = self.sql / entry
            paths += sorted(path.glob("*.sql")) if path.is_dir() else [path]
        return tuple(
            SqlFile(path.relative_to(self.sql).as_posix(), path.read_text(encoding="utf-8"))
            for path in paths
        )


def run_sql_beside(migration: str) -> None:
    """Run the .sql file that stands beside a migration and has its name.

    The text goes to the driver as it is: SQLAlchemy would read ``:name`` and ``%`` in it.
    """
    text = Path(migration).with_suffix(".sql").read_text(encoding="utf-8")
    context = op.get_context()
    if context.as_sql:
        context.impl.static_output(text)
        return
    bind = op.get_bind()
    driver: Any = bind.connection.driver_connection
    driver.execute(text)
