"""Relative links lead somewhere, headings included."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), ROOT / "sql" / "README.md", *(ROOT / "docs").rglob("*.md")], key=str
)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def _prose(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """The anchors that a renderer makes of the headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


def _links(page: Path) -> list[str]:
    # A link's text may be code, which _prose removes, leaving the link itself.
    return [link for link in _LINK.findall(_prose(page)) if "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    for link in _links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in _anchors(target), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        todo += [
            (page.parent / path).resolve()
            for path in (link.partition("#")[0] for link in _links(page))
            if path
        ]
    assert set(PAGES) <= seen


def test_the_readme_of_the_sql_names_every_file_of_the_compiler() -> None:
    text = (ROOT / "sql" / "README.md").read_text()
    files = {f"internal/{path.name}" for path in (ROOT / "sql" / "internal").glob("*.sql")}
    assert set(re.findall(r"`(internal/\w+\.sql)`", text)) == files
