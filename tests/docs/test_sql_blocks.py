"""Every SQL block of the README and of docs/ runs, and prints what the page says."""

import os
from pathlib import Path
from types import ModuleType

import pytest
from psycopg import Connection

from flywheel_db.server import Server

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", [page for page in PAGES if "```sql" in (ROOT / page).read_text()])
def test_a_page_is_a_script(
    page: str, sql_blocks: ModuleType, server: Server, maintenance: Connection, template: str
) -> None:
    name = f"docs_{os.getpid()}"
    with sql_blocks.page_database(maintenance, template, name):
        for block in sql_blocks.blocks((ROOT / page).read_text(encoding="utf-8")):
            said = sql_blocks.answer(server.dsn_of(name), block.statements)
            if block.expected is None:
                assert "ERROR:" not in said, f"{page}, line {block.line}"
            else:
                assert said == block.expected, f"{page}, line {block.line}"


def test_most_pages_are_scripts(sql_blocks: ModuleType) -> None:
    """Blocks that the pattern no longer finds would pass unseen."""
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert len(sql_blocks.blocks(text)) == text.count("```sql"), page
    assert "README.md" in PAGES
    assert sum((ROOT / page).read_text().count("```sql") for page in PAGES) > 50


def test_no_answer_depends_on_the_day_or_on_an_id(sql_blocks: ModuleType) -> None:
    import re

    for page in PAGES:
        for block in sql_blocks.blocks((ROOT / page).read_text(encoding="utf-8")):
            said = block.expected or ""
            assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-|\d\d:\d\d:\d\d|20\d\d-\d\d", said), (
                f"{page}, line {block.line}"
            )
            assert "create_validator" not in said, f"{page}, line {block.line}: split the block"


def test_an_error_that_no_page_expects_is_found(
    sql_blocks: ModuleType, server: Server, maintenance: Connection, template: str
) -> None:
    name = f"docs_{os.getpid()}"
    with sql_blocks.page_database(maintenance, template, name):
        said = sql_blocks.answer(server.dsn_of(name), "select 1 as one;\nselect nothing;\n")
    assert said.startswith(" one\n-----\n   1\n(1 row)\n\nERROR:")
    assert server.dsn_of(name) not in said
