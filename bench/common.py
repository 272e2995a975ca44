"""What the figures share: a server, fresh databases, sessions that are timed, and the validators.

Everything is measured with the shipped security settings: the compiled, SECURITY DEFINER triggers,
driven by a login role that is nothing but a member of flywheel_writer. Workers connect as one that
is nothing but a member of flywheel_worker.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import conninfo, sql

from flywheel_db import server
from flywheel_db.install import migrate

WRITER = "flywheel_bench"
WORKER = "flywheel_bench_worker"
_ROLES = {WRITER: "flywheel_writer", WORKER: "flywheel_worker"}

# The settings a reader needs to place the numbers.
_SETTINGS = (
    "server_version", "shared_buffers", "work_mem", "max_wal_size", "fsync", "synchronous_commit",
    "jit",
)  # fmt: skip


@dataclass(frozen=True)
class Validator:
    """An SQL validator of the trace."""

    name: str
    expression: str


# 15 words that a language model likes too much.
SLOP = (
    "delve", "tapestry", "testament", "crucial", "pivotal", "multifaceted", "realm", "intricate",
    "vibrant", "bustling", "underscore", "landscape", "nuanced", "seamless", "embark",
)  # fmt: skip

VALIDATORS = (
    Validator("short", "length(output) <= 2000"),
    Validator("not_blank", "btrim(output) <> ''"),
    Validator("no_email", r"output !~ '[\w.+-]+@[\w-]+\.[\w.]+'"),
    Validator("no_slop", rf"output !~* '\m({'|'.join(SLOP)})\M'"),
    Validator("no_disclaimer", "output not like '%As an AI language model%'"),
)


@dataclass(frozen=True)
class Options:
    """How much to measure."""

    scale: float = 1.0
    rounds: int = 5
    seconds: float = 8.0

    def rows(self, full: int) -> int:
        """The number of rows to use where the figure speaks of ``full``."""
        return max(1000, int(full * self.scale))


@dataclass(frozen=True)
class Timing:
    """Seconds of one run: on the clock, and of the backend's processor where it can be read."""

    wall: float
    cpu: float | None = None


def note(text: str) -> None:
    """Tell on stderr what is being done."""
    print(f"  {text}", file=sys.stderr, flush=True)


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def medians(timings: Sequence[Timing]) -> Timing:
    """The median of each kind of seconds."""
    cpu = [t.cpu for t in timings if t.cpu is not None]
    return Timing(median([t.wall for t in timings]), median(cpu) if cpu else None)


def ratio(ours: Sequence[Timing], floor: Sequence[Timing]) -> tuple[float, float | None]:
    """Ratio of the medians: of wall seconds, and of processor seconds."""
    a, b = medians(ours), medians(floor)
    return a.wall / b.wall, a.cpu / b.cpu if a.cpu is not None and b.cpu else None


def interleave(
    rounds: int, *sides: Callable[[], Timing], warm_up: bool = True
) -> list[list[Timing]]:
    """Run the sides in turn, so that a slow minute of the machine meets them all alike."""
    if warm_up:
        for side in sides:
            side()
    done: list[list[Timing]] = [[] for _ in sides]
    for n in range(rounds):
        for timings, side in zip(done, sides, strict=True):
            timings.append(side())
        shown = ", ".join(f"{timings[-1].wall:.3f} s" for timings in done)
        note(f"round {n + 1} of {rounds}: {shown}")
    return done


class Session:
    """A connection whose statements are timed."""

    def __init__(self, dsn: str, *, autocommit: bool = True) -> None:
        self.connection = psycopg.connect(dsn, autocommit=autocommit)
        self.pid = self.connection.info.backend_pid
        # The floor's bare SELECT could use a second processor; an INSERT cannot.
        self.run("set max_parallel_workers_per_gather = 0")

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def run(self, statement: str, parameters: Sequence[Any] | None = None) -> None:
        """Execute a statement, or several if there are no parameters."""
        self.connection.execute(statement.encode(), parameters)

    def one(self, query: str, parameters: Sequence[Any] | None = None) -> Any:
        """The first column of the first row."""
        row = self.connection.execute(query.encode(), parameters).fetchone()
        assert row is not None
        return row[0]

    def timed(self, *statements: str) -> Timing:
        """Execute the statements in one transaction, its commit included."""
        before, start = self._cpu(), time.perf_counter()
        with self.connection.transaction():
            for statement in statements:
                self.run(statement)
        wall = time.perf_counter() - start
        after = self._cpu()
        cpu = None if before is None or after is None else after - before
        return Timing(wall, cpu)

    def _cpu(self) -> float | None:
        """Processor seconds of the backend; None if it does not run on this machine."""
        try:
            return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9
        except (OSError, ValueError):
            return None

    def private_bytes(self) -> int | None:
        """Memory of the backend that it shares with nobody."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return None
        line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
        return int(line.split()[1]) * 1024


@dataclass(frozen=True)
class Database:
    """A database that was migrated and holds nothing yet."""

    admin_dsn: str
    writer_dsn: str
    worker_dsn: str

    def admin(self) -> Session:
        """A session of the superuser."""
        return Session(self.admin_dsn)

    def writer(self) -> Session:
        """A session of the application's role."""
        return Session(self.writer_dsn)

    def worker(self) -> Session:
        """A session of the workers' role."""
        return Session(self.worker_dsn)

    def create_validators(self, validators: Sequence[Validator] = VALIDATORS) -> None:
        """Create and enable validators."""
        with self.admin() as session:
            for validator in validators:
                session.run(
                    "select flywheel.create_validator(%s, 'sql', %s)",
                    (validator.name, validator.expression),
                )

    def create_floor(self) -> None:
        """Make tables of identical definition, without triggers, in the schema floor."""
        with self.admin() as session:
            session.run(
                f"""
                create schema floor;
                create table floor.traces (like flywheel.traces including all);
                create table floor._verdicts (like flywheel._verdicts including all);
                grant usage on schema floor to {WRITER};
                grant select, insert on all tables in schema floor to {WRITER};
                """
            )

    def create_source(self, rows: int, texts: Sequence[tuple[str, str]]) -> None:
        """Make source.rows(n, input, output), which repeats the texts."""
        with self.admin() as session:
            session.run(
                f"""
                create schema source;
                create table source.texts (n integer, input text, output text);
                create table source.rows (n integer, input text, output text);
                grant usage on schema source to {WRITER};
                grant select on all tables in schema source to {WRITER};
                """
            )
            with session.connection.cursor().copy("copy source.texts from stdin") as copy:
                for n, (question, answer) in enumerate(texts):
                    copy.write_row((n, question, answer))
            session.run(
                f"""
                insert into source.rows
                select g.n, t.input, t.output
                from generate_series(1, {rows}) as g (n)
                join source.texts as t on t.n = g.n % {len(texts)}
                order by g.n
                """
            )
            session.run("vacuum analyze source.rows")

    def keep_verdicts(self) -> None:
        """Copy the verdicts that are stored to source.verdicts, for a floor to insert."""
        with self.admin() as session:
            session.run(
                f"""
                create table source.verdicts as table flywheel._verdicts;
                grant select on source.verdicts to {WRITER};
                """
            )
            session.run("vacuum analyze source.verdicts")


class Server:
    """A PostgreSQL and the databases the figures make on it."""

    def __init__(self, dsn: str, bin_dir: Path | None = None) -> None:
        self._dsn = dsn
        self._password = secrets.token_hex(16)
        self._made: list[str] = []
        self.bin_dir = bin_dir
        self._template = self._create("template")
        migrate(self._dsn_of(self._template))
        with Session(dsn) as session:
            for role, group in _ROLES.items():
                session.run(f"drop role if exists {role}")
                session.connection.execute(
                    sql.SQL("create role {} login password {}").format(
                        sql.Identifier(role), sql.Literal(self._password)
                    )
                )
                session.run(f"grant {group} to {role}")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        with Session(self._dsn) as session:
            for name in self._made:
                self._drop(session, name)
            for role in _ROLES:
                session.run(f"drop role {role}")

    def database(self, name: str) -> Database:
        """A fresh, migrated database."""
        made = self._create(name, template=self._template)
        dsn = self._dsn_of(made)
        return Database(dsn, *(self._dsn_as(role, dsn) for role in _ROLES))

    def empty_database(self, name: str) -> str:
        """The connection string of a database that was never migrated."""
        return self._dsn_of(self._create(name))

    def program(self, name: str) -> str:
        """Path of a PostgreSQL program."""
        if self.bin_dir is not None and (self.bin_dir / name).exists():
            return str(self.bin_dir / name)
        found = shutil.which(name)
        if found is None:
            raise FileNotFoundError(f"{name} is not installed")
        return found

    def checkpoint(self) -> None:
        """Write out what earlier runs left, so that the next one does not pay for it."""
        with Session(self._dsn) as session:
            session.run("checkpoint")

    def processor_seconds(self) -> float | None:
        """Processor time of all sessions, once the writers' have ended; None if the server is elsewhere."""
        try:
            with Session(self._dsn) as session:
                while session.one(
                    "select count(*) from pg_stat_activity where usename = %s", (WRITER,)
                ):
                    time.sleep(0.02)
                pid = int(session.one("select pg_read_file('postmaster.pid')").split()[0])
            time.sleep(0.05)
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (OSError, psycopg.Error):
            return None
        # cutime and cstime: children that were waited for, as the postmaster waits for sessions.
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def settings(self) -> dict[str, str]:
        """The settings that matter to the numbers."""
        with Session(self._dsn) as session:
            return {name: session.one("select current_setting(%s)", (name,)) for name in _SETTINGS}

    def _create(self, name: str, template: str = "template0") -> str:
        made = f"flywheel_bench_{name}"
        with Session(self._dsn) as session:
            self._drop(session, made)
            session.connection.execute(
                sql.SQL("create database {} template {}").format(
                    sql.Identifier(made), sql.Identifier(template)
                )
            )
        if made not in self._made:
            self._made.append(made)
        return made

    def drop(self, name: str) -> None:
        """Drop a figure's database, for the sake of the disk."""
        with Session(self._dsn) as session:
            self._drop(session, f"flywheel_bench_{name}")

    def _drop(self, session: Session, name: str) -> None:
        session.connection.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        )

    def _dsn_as(self, role: str, dsn: str) -> str:
        return conninfo.make_conninfo(dsn, user=role, password=self._password)

    def _dsn_of(self, database: str) -> str:
        return conninfo.make_conninfo(self._dsn, dbname=database)


@contextlib.contextmanager
def open_server(dsn: str | None, home: Path | None) -> Iterator[Server]:
    """The server to measure on: a given one, a given home's, or a private one made for this run."""
    if dsn is not None:
        with Server(dsn) as found:
            yield found
        return
    own = home is None
    where = Path(tempfile.mkdtemp(prefix="flywheel-bench-")) if home is None else home
    was_running = server.status(where) is not None
    try:
        note(f"a private server in {where}")
        private = server.up(where)
        with Server(private.dsn_of("postgres"), server.find_binaries()) as found:
            yield found
    finally:
        if not was_running:
            server.down(where)
        if own:
            shutil.rmtree(where, ignore_errors=True)


def command(*arguments: str) -> list[str]:
    """The command line of flywheel-db in this interpreter."""
    return [sys.executable, "-c", "from flywheel_db.cli import main; main()", *arguments]


def child_environment() -> dict[str, str]:
    """The environment of a child: ours, without what would lead it to another database."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PG") and name != "FLYWHEEL_DSN"
    }


INSERT_ALL: LiteralString = """
    insert into flywheel.traces (pipeline, input, output)
    select 'support', s.input, s.output from source.rows as s
"""

FLOOR_INSERT_ALL: LiteralString = """
    insert into floor.traces (pipeline, input, output)
    select 'support', s.input, s.output from source.rows as s
"""

FLOOR_VERDICTS: LiteralString = "insert into floor._verdicts select v.* from source.verdicts as v"

EMPTY: LiteralString = "truncate flywheel.traces"
EMPTY_FLOOR: LiteralString = "truncate floor.traces, floor._verdicts"
