"""A private server for the whole run, a template database cloned where a test must commit."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import Connection, sql

from flywheel_db import install
from flywheel_db.server import Server, down, up

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL of this process alone. Durable settings off: nothing here survives the run."""
    home = Path(tempfile.mkdtemp(prefix="flywheel-test-"))
    shutil.rmtree(home)
    try:
        yield up(
            home, settings={"fsync": "off", "full_page_writes": "off", "max_connections": "150"}
        )
    finally:
        down(home)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def maintenance(server: Server) -> Iterator[Connection]:
    """A connection outside every test database."""
    with psycopg.connect(server.dsn_of("postgres"), autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def new_database(server: Server, maintenance: Connection) -> Iterator[Callable[..., str]]:
    """A function that makes a database (from a template) and returns its dsn."""
    made: list[str] = []

    def make(template: str = "template0") -> str:
        name = f"test_{os.getpid()}_{secrets.token_hex(4)}"
        maintenance.execute(
            sql.SQL("create database {} template {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        made.append(name)
        return server.dsn_of(name)

    yield make
    for name in made:
        maintenance.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def template(server: Server, maintenance: Connection) -> str:
    """Name of a migrated database that is only cloned."""
    maintenance.execute("create database flywheel_template template template0")
    install.migrate(server.dsn_of("flywheel_template"))
    return "flywheel_template"


@pytest.fixture
def dsn(new_database: Callable[..., str], template: str) -> str:
    """A fresh migrated database, for tests that commit or need several sessions."""
    return new_database(template)


@pytest.fixture
def connect(dsn: str) -> Iterator[Callable[..., Connection]]:
    """Open sessions on the database of ``dsn``; closed when the test is over."""
    opened: list[Connection] = []

    def open_session(*, autocommit: bool = True, options: str = "") -> Connection:
        connection = psycopg.connect(dsn, autocommit=autocommit, options=options)
        opened.append(connection)
        return connection

    yield open_session
    for connection in opened:
        connection.close()


@pytest.fixture(scope="session")
def warm(new_database: Callable[..., str], template: str) -> Iterator[Connection]:
    """One connection that many tests use in turn, each rolled back."""
    with psycopg.connect(new_database(template)) as connection:
        yield connection


@pytest.fixture
def db(warm: Connection) -> Iterator[Connection]:
    """The warm connection in a transaction that is rolled back."""
    assert warm.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    yield warm
    warm.rollback()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real data is not here: {SHARED_DATA.name} is missing beside the checkout")
    return SHARED_DATA
