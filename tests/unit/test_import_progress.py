"""Rows back to lines, and the file of skipped lines."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flywheel_db.errors import BadLine
from flywheel_db.transfer.badlines import BadLines
from flywheel_db.transfer.progress import LineNumbers


@given(st.sets(st.integers(min_value=1, max_value=200)))
def test_every_row_finds_its_line(lines: set[int]) -> None:
    numbers = LineNumbers()
    for line in sorted(lines):
        numbers.add(line)
    assert [numbers.line_of(row) for row in range(1, len(lines) + 1)] == sorted(lines)


def test_after_a_resume_no_skipped_line_is_kept_twice(tmp_path: Path) -> None:
    path = tmp_path / "bad"
    first = BadLines(path)
    for line in (2, 5, 9):
        first.add(BadLine(line, "why"), b"text\xff\r\n")
    first.close()
    with path.open("a") as file:
        file.write('{"line": 11, "rea')  # cut off by a crash

    second = BadLines(path, resumed_after=5)
    second.add(BadLine(9, "why"), b"text\n")
    second.close()

    records = [json.loads(text) for text in path.read_text().splitlines()]
    assert [record["line"] for record in records] == [2, 5, 9]
    assert records[0] == {"line": 2, "reason": "why", "text": "text\\xff"}
    assert second.count == 1
