"""The SQL that is installed: where it lies, in which order it loads, how a migration runs it."""

import hashlib
import importlib.util
from collections.abc import Iterator
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
    "embeddings",
    "knn",
    "statistics",
    "metrics/streams",
    "metrics",
    "maintenance",
    "plpython",
    "triggers/functions.sql",
    "privileges.sql",
    "triggers/triggers.sql",
    "metrics/builtins",
)


#: Applied only where the server has plpython3u and a superuser migrates.
PYTHON_FILES = ("plpython/runtime.sql", "plpython/vectors.sql", "plpython/work.sql")

# What handles vectors names pgvector's types and operators barely, wherever the extension is: they
# are bound when a function is made. Elsewhere the path stays bare, for messages to name our schema.
_SEE_VECTOR = """\
select set_config('search_path', format('pg_catalog, %I, pg_temp', n.nspname), true)
from pg_extension as e join pg_namespace as n on n.oid = e.extnamespace where e.extname = 'vector';

"""
_SEE_NO_VECTOR = """
set local search_path = pg_catalog, pg_temp;
"""

#: Python that travels inside that file: ours, and what our checks import.
_TRAVELLING = ("flywheel_pl", "fastjsonschema")


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
        files = []
        for path in paths:
            name, text = path.relative_to(self.sql).as_posix(), path.read_text(encoding="utf-8")
            if name in PYTHON_FILES:
                text = _with_python(text)
            if name.startswith(("embeddings/", "knn/")) or name in (
                "plpython/vectors.sql",
                "privileges.sql",
            ):
                text = _SEE_VECTOR + text + _SEE_NO_VECTOR
            files.append(SqlFile(name, text))
        return tuple(files)


def _with_python(template: str) -> str:
    """Write the travelling sources, or their release, into the text of a Python file."""
    sources = dict(sorted(_sources()))
    core = {name: source for name, source in sources.items() if _is_core(name)}
    library = {name: source for name, source in sources.items() if not _is_core(name)}
    # ASCII, so that the text means the same in whatever encoding it travels.
    written = ascii(sources)
    if "$flywheel$" in written:
        raise ValueError("a source holds the quote of the function it is written into")
    release = hashlib.sha256(written.encode()).hexdigest()[:16]
    for key, value in (
        ("release", release), ("packages", _TRAVELLING), ("core", core), ("library", library),
    ):  # fmt: skip
        template = template.replace("{{" + key + "}}", ascii(value))
    return template


def _is_core(module: str) -> bool:
    parts = module.split(".")
    library = (["checks"], ["embeddings"], ["judges"], ["work"])
    return parts[0] == "flywheel_pl" and parts[1:2] not in library


def _sources() -> Iterator[tuple[str, tuple[bool, str]]]:
    """Yield (module, (is it a package, source)) of every module that travels."""
    for package in _TRAVELLING:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(f"{package} is not installed: reinstall flywheel-db")
        root = Path(next(iter(spec.submodule_search_locations)))
        for path in root.rglob("*.py"):
            parts = (package, *path.relative_to(root).with_suffix("").parts)
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            yield name, (is_package, path.read_text(encoding="utf-8"))


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
