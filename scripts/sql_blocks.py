"""Run the SQL of the documentation, and show what PostgreSQL answers.

A page is a script: its ```sql blocks run in order, in one database. A ```text block right after one
holds what psql prints for it, errors included. A block without one must succeed.

    python scripts/sql_blocks.py --write [PAGE ...]    write the answers into the pages
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from flywheel_db.server import find_binaries

ROOT = Path(__file__).parents[1]

_BLOCK = re.compile(
    r"^```sql\n(?P<sql>.*?)^```\n(?:\n*```text\n(?P<text>.*?)^```\n)?", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A ```sql block of a page, and the ```text block that follows it, if any."""

    line: int
    statements: str
    expected: str | None


def pages() -> list[Path]:
    """Return the pages that people write; docs/reference is generated."""
    written = [path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "reference"]
    return [ROOT / "README.md", *sorted(written)]


def blocks(page: str) -> list[Block]:
    """Return the SQL blocks of a page."""
    return [
        Block(page.count("\n", 0, found.start()) + 1, found["sql"], found["text"])
        for found in _BLOCK.finditer(page)
    ]


def answer(dsn: str, statements: str) -> str:
    """Return what psql prints for these statements."""
    environment = {
        **os.environ, "PGTZ": "UTC", "PGDATESTYLE": "ISO", "PGCLIENTENCODING": "UTF8",
        "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    done = subprocess.run(
        [
            find_binaries() / "psql", "--no-psqlrc", "--quiet", "--pset=pager=off",
            "--set=SHOW_CONTEXT=never", f"--dbname={dsn}",
        ],
        input=statements, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env=environment,
    )  # fmt: skip
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


def with_answers(page: str, ask: Callable[[str], str]) -> str:
    """Return a page with the answers of today in its ```text blocks."""

    def replaced(found: re.Match[str]) -> str:
        said = ask(found["sql"])
        if found["text"] is None:
            if "ERROR:" in said:
                raise RuntimeError(f"{found['sql']}\n{said}")
            return found[0]
        start, end = found.start("text") - found.start(), found.end("text") - found.start()
        return found[0][:start] + said + found[0][end:]

    return _BLOCK.sub(replaced, page)


@contextmanager
def page_database(maintenance: psycopg.Connection, template: str, name: str) -> Iterator[None]:
    """Make a database from a template; drop it afterwards, with the roles that were made since."""
    roles = "select rolname from pg_roles"
    before = set(maintenance.execute(roles).fetchall())
    maintenance.execute(
        sql.SQL("create database {} template {}").format(
            sql.Identifier(name), sql.Identifier(template)
        )
    )
    try:
        yield
    finally:
        maintenance.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
        for (role,) in set(maintenance.execute(roles).fetchall()) - before:
            maintenance.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


def main() -> int:
    """Write the answers into the pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", required=True)
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE")
    arguments = parser.parse_args()

    from generate_docs import migrated_server

    with migrated_server() as server, psycopg.connect(server.dsn, autocommit=True) as maintenance:
        for page in arguments.pages or pages():
            with page_database(maintenance, "docs_template", "docs_page"):
                dsn = server.dsn_of("docs_page")
                before = page.read_text(encoding="utf-8")
                after = with_answers(before, lambda statements, dsn=dsn: answer(dsn, statements))
            if after != before:
                page.write_text(after, encoding="utf-8")
                print(f"wrote {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
