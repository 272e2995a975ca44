"""The generated pages are those of today, and leave nothing public out."""

import re
import shlex
from pathlib import Path
from types import ModuleType

import click
import pytest
from psycopg import Connection

from flywheel_db.cli import main


@pytest.fixture
def pages(db: Connection, generate_docs: ModuleType) -> dict[str, str]:
    written: dict[Path, str] = generate_docs.pages(db)
    return {path.name: text for path, text in written.items()}


def test_the_pages_are_current(pages: dict[str, str], generate_docs: ModuleType) -> None:
    folder: Path = generate_docs.REFERENCE
    assert {path.name for path in folder.iterdir()} == set(pages)
    for name, text in pages.items():
        assert (folder / name).read_text(encoding="utf-8") == text, f"{name} is stale: make docs"


def test_the_pages_are_the_same_each_time(
    pages: dict[str, str], db: Connection, generate_docs: ModuleType
) -> None:
    again = generate_docs.pages(db)
    assert {path.name: text for path, text in again.items()} == pages


def test_every_public_object_is_there(pages: dict[str, str], db: Connection) -> None:
    rows = db.execute(
        """
        select c.relname from pg_class as c
        where c.relnamespace = 'flywheel'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
          and c.relname !~ '^_'
        union
        select p.proname from pg_proc as p
        where p.pronamespace = 'flywheel'::regnamespace and p.proname !~ '^_'
          and not exists (select from pg_depend as d where d.objid = p.oid and d.deptype = 'e')
        """
    ).fetchall()
    public = {name for (name,) in rows}
    assert {"traces", "coverage", "create_validator", "backfill", "sweep"} <= public
    for name in public:
        assert f"\n### {name}\n" in pages["sql.md"], name
        assert re.search(rf"\| `{name}(\(\))?` \|", pages["privileges.md"]), name
    assert "\n## Other\n" not in pages["sql.md"], "a function belongs to no family"


def test_nothing_public_is_without_words(pages: dict[str, str]) -> None:
    assert "None" not in pages["sql.md"]
    for row in re.findall(r"^\| `.*\|$", pages["sql.md"], re.MULTILINE):
        assert not row.endswith("|  |"), row


def test_a_signature_shows_types_and_defaults(pages: dict[str, str]) -> None:
    assert "sample_rate double precision default 1" in pages["sql.md"]
    assert "function flywheel.enable_validator(name text)\nreturns void" in pages["sql.md"]
    assert "procedure flywheel.backfill(" in pages["sql.md"]


def test_the_matrix_says_what_roles_may_do(pages: dict[str, str]) -> None:
    rows = {
        row[0].strip("`"): row[1:]
        for row in (
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in pages["privileges.md"].splitlines()
            if line.startswith("| `")
        )
    }
    admin, writer, labeler, reader, worker, _, _, public = range(8)
    assert rows["create_validator()"][admin] == "execute"
    assert rows["create_validator()"][writer] == ""
    assert rows["verdicts"][reader] == rows["verdicts"][labeler] == "select"
    assert rows["verdicts"][writer] == rows["verdicts"][worker] == ""
    assert rows["claim_jobs()"][worker] == "execute"
    assert rows["traces"][writer].startswith("select, insert (")
    assert rows["traces"][reader] == "select"
    assert {row[public] for row in rows.values()} == {""}


def test_every_code_that_is_raised_is_explained(pages: dict[str, str], root: Path) -> None:
    raised: set[str] = set()
    for path in (root / "sql").rglob("*.sql"):
        raised |= set(re.findall(r"errcode = '(LF\d+)'", path.read_text(encoding="utf-8")))
    assert {"LF001", "LF002", "LF003", "LF010", "LF011", "LF201", "LF202"} <= raised
    for code in raised:
        # Once with its meaning, and once with each message.
        assert pages["errors.md"].count(f"| `{code}` |") >= 2, code


def test_every_command_is_there(pages: dict[str, str]) -> None:
    context = click.Context(main, info_name="flywheel-db")
    names = main.list_commands(context)
    assert "import" in names
    for name in names:
        assert f"\n## flywheel-db {name}\n" in pages["cli.md"]
    assert "\n## flywheel-db validators backfill\n" in pages["cli.md"]


def _commands(text: str) -> list[list[str]]:
    lines = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    found = []
    for line in lines.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0].endswith("flywheel-db"):
            found.append(words[1:])
    return found


def _parse(arguments: list[str], command: click.Command, parent: click.Context | None) -> None:
    context = click.Context(command, parent=parent, info_name=command.name)
    if isinstance(command, click.Group):
        found = command.get_command(context, arguments[0])
        assert found is not None, arguments
        _parse(arguments[1:], found, context)
        return
    arguments = arguments[: arguments.index(">")] if ">" in arguments else arguments
    command.make_context(command.name, arguments, parent=context)


def test_the_commands_on_the_pages_can_be_typed(root: Path) -> None:
    """Parsed and not run: commands, options and their values exist."""
    pages = [root / "README.md", *(root / "docs").rglob("*.md")]
    commands = [command for page in pages for command in _commands(page.read_text())]
    assert len(commands) >= 15
    for command in commands:
        _parse(command, main, None)


def test_the_targets_of_make_on_the_pages_exist(root: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text(), re.MULTILINE))
    for page in (root / "README.md", root / "CONTRIBUTING.md", *(root / "docs").rglob("*.md")):
        named = set(re.findall(r"^make ([a-z]+)|`make ([a-z]+)", page.read_text(), re.MULTILINE))
        assert {a or b for a, b in named} <= targets, page.name
