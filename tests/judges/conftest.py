"""A database with one model, and the few steps that every test of a judge takes."""

import itertools
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from psycopg import Connection, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

Row = dict[str, Any]

_WORD = re.compile(r"</?[^<>\n]*-([0-9a-f]{8})>")


@dataclass
class Judges:
    """One session. Judges are called v1, v2, ... unless a test names them."""

    session: Connection
    notices: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def call(self, function: str, /, *values: object, **options: object) -> Any:
        """Call a function of the schema; dicts become jsonb. Returns the first column."""
        given = [*values, *options.values()]
        call = sql.SQL("select flywheel.{}({})").format(
            sql.Identifier(function),
            sql.SQL(", ").join(
                [sql.Placeholder()] * len(values)
                + [sql.SQL("{} => %s").format(sql.Identifier(name)) for name in options]
            ),
        )
        row = self.session.execute(
            call, [Jsonb(value) if isinstance(value, dict) else value for value in given]
        ).fetchone()
        assert row is not None
        return row[0]

    def create(self, body: str, name: str | None = None, **options: object) -> str:
        """Create a judge and return its name."""
        name = name or f"v{next(self._numbers)}"
        self.call("create_validator", name, "llm", body, **{"model": "judge", **options})
        return name

    def insert(self, table: str = "traces", **columns: object) -> uuid.UUID:
        """Insert a trace (or a span) and return its id."""
        key = "trace_id" if table == "traces" else "span_id"
        row = self.session.execute(
            sql.SQL("insert into flywheel.{} ({}) values ({}) returning {}").format(
                sql.Identifier(table),
                sql.SQL(", ").join(map(sql.Identifier, columns)),
                sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
                sql.Identifier(key),
            ),
            [Jsonb(value) if isinstance(value, dict) else value for value in columns.values()],
        ).fetchone()
        assert row is not None
        found: uuid.UUID = row[0]
        return found

    def claim(self, most: int = 10_000) -> list[Row]:
        """Claim what there is."""
        with self.session.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(
                "select * from flywheel.claim_jobs('test', max_jobs => %s)", (most,)
            ).fetchall()

    def ask(self, body: str, row: Row, **options: object) -> Row:
        """Create a judge, insert one trace for it alone, and return its job."""
        name = self.create(body, **{"pipeline": "asked", **options})
        self.insert(**{"pipeline": "asked", **row})
        (job,) = [job for job in self.claim() if job["validator"] == name]
        self.call("drop_validator", name)
        return job

    def user(self, body: str, row: Row, **options: object) -> str:
        """The user's message for one trace, W in the place of its word."""
        return self.without_word(self.message(self.ask(body, row, **options)))

    def message(self, job: Row, role: str = "user") -> str:
        """The content of a job's only message of this role."""
        assert job["request"] is not None, job["skipped_reason"]
        messages = job["request"]["body"]["messages"]
        (content,) = [m["content"] for m in messages if m["role"] == role]
        return str(content)

    def word_of(self, text: str) -> str:
        """The word of the first tag in a message."""
        found = _WORD.search(text)
        assert found is not None, text
        return found[1]

    def without_word(self, text: str) -> str:
        """A message with W in the place of the word of its tags, if it has tags."""
        return text.replace(self.word_of(text), "W") if _WORD.search(text) else text

    def preview(self, name: str, n: int = 5) -> list[Row]:
        """Call preview_prompts()."""
        with self.session.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(
                "select * from flywheel.preview_prompts(%s, %s)", (name, n)
            ).fetchall()


@pytest.fixture
def judges(db: Connection) -> Iterator[Judges]:
    """A transaction, rolled back, in which there is the model "judge"."""
    made = Judges(db)
    handler: Callable[[Any], None] = lambda said: made.notices.append(said.message_primary or "")  # noqa: E731
    db.add_notice_handler(handler)
    made.call("create_model", "judge", "http://localhost:1/v1", "m-1")
    yield made
    db.remove_notice_handler(handler)


@pytest.fixture
def committed(connect: Callable[..., Connection]) -> Judges:
    """The same in a database of its own, where each statement commits."""
    made = Judges(connect())
    made.call("create_model", "judge", "http://localhost:1/v1", "m-1")
    return made
