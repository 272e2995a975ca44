"""Bad lines: the number and the reason."""

import pytest

from flywheel_db.errors import BadLine
from flywheel_db.transfer.rows.columns import TRACES
from flywheel_db.transfer.rows.encoder import RowEncoder
from flywheel_db.transfer.rows.mapping import parse_mapping
from flywheel_db.transfer.rows.parser import LineParser


def parser(*, replace_nul: bool = False) -> LineParser:
    rows = RowEncoder(parse_mapping(TRACES), started_at="2026-01-01", id_prefix="0" * 21)
    return LineParser(rows, replace_nul=replace_nul)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"input": }', "invalid JSON: expecting value \\(column 11\\)"),
        (b'{"input": "cut', "invalid JSON: the line ends inside a string \\(column 15\\)"),
        (b'{"input": "a\tb"}', "invalid JSON: invalid control character \\(column 13\\)"),
        (b'{"input": NaN}', "NaN is not a JSON number"),
        (b'{"input": [-Infinity]}', "-Infinity is not a JSON number"),
        (b'{"input": ' + b"9" * 5000 + b"}", "digits"),
        (b"[1]", "not a JSON object: \\[1\\]"),
        (b'"text"', "not a JSON object"),
        (b'{"input": "a\xff"}', "invalid UTF-8 at byte 13 of the line \\(0xff\\)"),
        (b'{"input": "a\xed\xa0\x80"}', "invalid UTF-8 at byte 13"),
        (b'{"input": "a\x00"}', "the NUL character at byte 13"),
        (b'{"meta": {"x": ["\\u0000"]}}', "field meta.x.0: holds the NUL"),
        (b'{"input": "\\ud83d"}', "field input: half of a surrogate pair"),
        (b'{"input": ' + b"[" * 100_000 + b"}", "nested too deeply"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(line: bytes, reason: str) -> None:
    with pytest.raises(BadLine, match=reason) as caught:
        parser().row(line + b"\n", 42)
    assert caught.value.line == 42
    assert caught.value.message.startswith("line 42: ")


def test_emoji_written_as_pairs_are_characters() -> None:
    assert "😀".encode() in parser().row(b'{"input": "\\ud83d\\ude00"}', 1)


def test_the_text_of_an_escape_is_not_a_nul() -> None:
    assert b"\\\\\\\\u0000" in parser().row(b'{"x": "\\\\u0000"}', 1)


def test_nul_can_be_replaced() -> None:
    row = parser(replace_nul=True).row(b'{"input": "a\\u0000", "x": ["\\u0000"]}', 1).decode()
    assert row.count("\ufffd") == 2
