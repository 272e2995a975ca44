"""`flywheel-db import` on files that are not fine: which line, why, and nothing stored."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg import Connection

Connect = Callable[..., Connection]
Lines = Callable[..., str]
Run = Callable[..., Any]

_GOOD = {"input": "good"}
_ID = "0189d7c2-7a5b-7c3d-8e4f-0123456789ab"


def count(connect: Connect) -> int:
    row = connect().execute("select count(*) from flywheel.traces").fetchone()
    assert row is not None
    found: int = row[0]
    return found


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"input": oops}', "line 3: invalid JSON: expecting value (column 11)"),
        (b'{"input": "a\xff"}', "line 3: invalid UTF-8 at byte 13 of the line (0xff)"),
        (b'{"input": "a\\u0000"}', "line 3: field input: holds the NUL character"),
        (b'{"input": "\\ud800"}', "line 3: field input: half of a surrogate pair"),
        (b"[]", "line 3: not a JSON object: []"),
        (b'{"x": NaN}', "line 3: invalid JSON: NaN is not a JSON number"),
        (b'{"status": "fine"}', 'line 3: field status: "fine" is not one of ok, error, blocked'),
        (b'{"started_at": "soon"}', 'line 3: field started_at: "soon" is not a time'),
        (b'{"trace_id": 7}', "line 3: field trace_id: 7 is not a uuid"),
        (b'{"attributes": 7}', "line 3: field attributes: 7 is not an object"),
        # These the server finds.
        (b'{"pipeline": ""}', "line 3: new row for relation"),
        (
            b'{"started_at": "2026-01-02T00:00Z", "ended_at": "2026-01-01T00:00Z"}',
            "ended_not_before_started",
        ),
        (b'{"x": 1e200000}', "line 3: column attributes: "),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_stored(
    flywheel: Run, lines: Lines, connect: Connect, bad: bytes, reason: str
) -> None:
    ran = flywheel("import", lines(_GOOD, b"", bad, _GOOD))
    assert ran.code == 3
    assert reason in ran.err
    assert ran.err.startswith("error: line 3: ")
    assert "Traceback" not in ran.err
    assert ran.out == ""
    assert count(connect) == 0


def test_numbers_too_large_for_the_column(flywheel: Run, lines: Lines) -> None:
    span = {"trace_id": _ID, "input_tokens": 2**31}
    ran = flywheel("import", lines(span), "--table", "spans")
    assert "line 1: field input_tokens: 2147483648 is too large" in ran.err
    span = {"trace_id": _ID, "output_tokens": -1}
    ran = flywheel("import", lines({"trace_id": _ID}, span), "--table", "spans")
    assert "line 2: " in ran.err
    assert "tokens_are_not_negative" in ran.err


def test_an_id_twice_in_the_file(flywheel: Run, lines: Lines, connect: Connect) -> None:
    ran = flywheel("import", lines({"trace_id": _ID}, b"", _GOOD, {"trace_id": _ID}))
    assert ran.code == 3
    assert ran.err.startswith("error: line 4: duplicate key")
    assert _ID in ran.err
    assert "twice in the file, or was imported before" in ran.err
    assert count(connect) == 0


def test_the_line_is_right_far_into_the_file(flywheel: Run, lines: Lines) -> None:
    rows: list[Any] = [{"input": "x" * 50} for _ in range(5000)]
    rows[1000:1000] = [b"", b""]
    rows[4000] = {"pipeline": ""}
    ran = flywheel("import", lines(*rows))
    assert ran.err.startswith("error: line 4001: ")


def test_a_gzip_file_cut_off(flywheel: Run, tmp_path: Path, connect: Connect) -> None:
    path = tmp_path / "cut.jsonl.gz"
    text = "".join(json.dumps({"input": str(n)}) + "\n" for n in range(10_000))
    path.write_bytes(gzip.compress(text.encode())[:-100])
    ran = flywheel("import", str(path))
    assert ran.code == 3
    assert "the gzip file ends too early" in ran.err
    assert count(connect) == 0


@pytest.mark.parametrize("given_id", [False, True])
def test_a_rejecting_validator_stops_the_import(
    flywheel: Run, lines: Lines, connect: Connect, given_id: bool
) -> None:
    connect().execute(
        "select flywheel.create_validator('polite', 'sql', 'output <> ''rude''',"
        " on_fail => 'reject')"
    )
    bad = {"output": "rude", **({"trace_id": _ID.upper()} if given_id else {})}
    ran = flywheel("import", lines({"output": "kind"}, b"", bad))
    assert ran.code == 3
    assert ran.err.startswith('error: line 3: the validator "polite" rejects trace ')
    assert count(connect) == 0


def test_bad_lines_can_be_skipped_and_kept(
    flywheel: Run, lines: Lines, connect: Connect, tmp_path: Path
) -> None:
    kept = tmp_path / "bad.jsonl"
    path = lines(_GOOD, b"{", b'{"input": "\xff"}', {"status": "odd"}, _GOOD)
    ran = flywheel("import", path, "--skip-bad", str(kept))
    assert (ran.code, ran.row["rows"], ran.row["skipped"]) == (0, 2, 3)
    records = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [record["line"] for record in records] == [2, 3, 4]
    assert records[1]["text"] == '{"input": "\\xff"}'
    assert "odd" in records[2]["reason"]
    assert count(connect) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--map", "inptu=a"], 3, "did you mean input?"),
        (["--table", "verdicts"], 2, "verdicts"),
        (["--batch-size", "0"], 2, "batch-size"),
        (["--resume"], 2, "--resume and --name need --batch-size"),
    ],
)
def test_wrong_options(
    flywheel: Run, lines: Lines, arguments: list[str], code: int, message: str
) -> None:
    ran = flywheel("import", lines(_GOOD), *arguments)
    assert ran.code == code
    assert message in ran.err


def test_standard_input_has_no_batches(flywheel: Run) -> None:
    assert flywheel("import", "-", "--batch-size", "5", stdin=b"{}").code == 2


def test_a_file_that_is_not_there(flywheel: Run) -> None:
    ran = flywheel("import", "no-such-file.jsonl")
    assert ran.code == 3
    assert "cannot read no-such-file.jsonl: No such file or directory" in ran.err


def test_a_database_that_is_not_migrated(
    command: Run, lines: Lines, new_database: Callable[..., str]
) -> None:
    ran = command("import", lines(_GOOD), "--dsn", new_database())
    assert ran.code == 3
    assert "hint: run: flywheel-db migrate" in ran.err
