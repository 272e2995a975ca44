"""Tables for people, JSON lines for programs."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from flywheel_db.cli.output import Output, as_text, print_error, shorten
from flywheel_db.errors import BadInput

_ROWS = [{"name": "a", "n": 1, "hidden": None}, {"name": "[bold]b", "n": 2, "hidden": None}]


def test_a_pipe_gets_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    Output(None).rows(_ROWS, columns=("name",))
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == _ROWS


def test_a_person_gets_a_table_of_the_named_columns(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).rows(_ROWS, columns=("name", "n"), caption="2 rows")
    out = capsys.readouterr().out
    assert "[bold]b" in out
    assert "hidden" not in out
    assert "2 rows" in out


def test_nothing_is_said_in_words_or_not_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).rows([], empty="none yet")
    Output(as_json=True).rows([], empty="none yet")
    assert capsys.readouterr().out == "none yet\n"


def test_values_that_json_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).record(
        {"at": datetime(2026, 1, 1, tzinfo=UTC), "cost": Decimal("0.5"), "id": UUID(int=1)}
    )
    assert json.loads(capsys.readouterr().out) == {
        "at": "2026-01-01T00:00:00+00:00",
        "cost": 0.5,
        "id": "00000000-0000-0000-0000-000000000001",
    }


def test_values_for_people() -> None:
    assert [as_text(value) for value in (None, True, 0.25, {"a": 1})] == [
        "",
        "yes",
        "0.25",
        '{"a": 1}',
    ]
    assert shorten("x" * 300) == "x" * 197 + "..."


def test_an_error_is_told_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(BadInput("wrong", hint="do this", detail="because"))
    captured = capsys.readouterr()
    assert captured.err == "error: wrong\ndetail: because\nhint: do this\n"
    assert captured.out == ""
