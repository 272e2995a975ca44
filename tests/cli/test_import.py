"""`flywheel-db import` on files that are fine."""

import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from psycopg import Connection

Connect = Callable[..., Connection]
Lines = Callable[..., str]
Run = Callable[..., Any]


def test_fields_become_columns_and_the_rest_attributes(
    flywheel: Run, lines: Lines, connect: Connect
) -> None:
    path = lines(
        {"prompt": "a\tb\\n\n\r", "response": "é😀", "meta": {"user": "u1", "n": 1.10}, "tag": [1]},
        {"prompt": {"x": 1}, "response": None, "meta": {}},
    )
    ran = flywheel(
        "import", path, "--map", "input=prompt", "--map", "output=response",
        "--map", "user_id=meta.user", "--set", "pipeline=support",
    )  # fmt: skip
    assert ran.code == 0
    assert ran.row["rows"] == 2
    rows = connect().execute(
        "select pipeline, user_id, input, output, status, attributes::text from flywheel.traces"
        " order by trace_id"
    )
    assert rows.fetchall() == [
        ("support", "u1", "a\tb\\n\n\r", "é😀", "ok", '{"tag": [1], "meta": {"n": 1.1}}'),
        ("support", None, '{"x":1}', None, "ok", '{"meta": {}}'),
    ]


def test_validators_run_and_their_failures_are_counted(
    flywheel: Run, lines: Lines, connect: Connect
) -> None:
    db = connect()
    db.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 3')")
    # Failures of other sessions are not this import's.
    db.execute("insert into flywheel.traces (output) values ('other')")
    ran = flywheel("import", lines(*({"output": "x" * n} for n in range(6))))
    assert ran.row["failed"] == {"short": 3}
    assert db.execute("select missing from flywheel.coverage").fetchone() == (0,)
    words = flywheel("import", lines({"output": "xxxx"}), "--no-json")
    assert "1 rows into traces" in words.out
    assert "1 verdicts failed\n  short: 1\n" in words.out


def test_who_may_not_see_verdicts_may_import(
    flywheel: Run, lines: Lines, connect: Connect, dsn: str
) -> None:
    connect().execute("select flywheel.create_validator('never', 'sql', 'false')")
    ran = flywheel(
        "import", lines({"output": "x"}), "--dsn", f"{dsn} options='-c role=flywheel_writer'"
    )
    assert ran.row["rows"] == 1
    assert ran.row["failed"] is None


def test_ids_of_opentelemetry(flywheel: Run, lines: Lines, connect: Connect) -> None:
    path = lines({"tid": "4bf92f3577b34da6a3ce929d0e0e4736", "input": "a"})
    assert flywheel("import", path, "--id", "tid").code == 0
    path = lines(
        {
            "t": "4bf92f3577b34da6a3ce929d0e0e4736",
            "s": "00f067aa0ba902b7",
            "p": "00f067aa0ba902b8",
            "start": "1767323045123456789",
            "tokens": 12,
            "usd": 0.00001230,
        }
    )
    ran = flywheel(
        "import", path, "--table", "spans", "--id", "s", "--map", "trace_id=t",
        "--map", "parent_span_id=p", "--map", "started_at=start", "--map", "input_tokens=tokens",
        "--map", "cost_usd=usd", "--set", "kind=tool",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    db = connect()
    found = db.execute(
        "select trace_id, span_id, parent_span_id, started_at::text, input_tokens, cost_usd, kind"
        " from flywheel.spans"
    ).fetchone()
    assert found is not None
    assert found[0] == UUID("4bf92f3577b34da6a3ce929d0e0e4736")
    assert found[1] == UUID("0000000000000000" + "00f067aa0ba902b7")
    assert found[2] == UUID("0000000000000000" + "00f067aa0ba902b8")
    assert found[4:] == (12, Decimal("0.0000123"), "tool")
    assert db.execute(
        "select count(*) from flywheel.traces where trace_id = %s", [found[0]]
    ).fetchone() == (1,)


@pytest.mark.parametrize(
    "content",
    [
        b'{"input": "a"}\r\n{"input": "b"}\r\n',
        b'\xef\xbb\xbf{"input": "a"}\n{"input": "b"}',
        b'\n  \n{"input": "a"}\n\n{"input": "b"}\n\n',
        gzip.compress(b'{"input": "a"}\n{"input": "b"}\n'),
    ],
    ids=["crlf", "byte order mark, no last newline", "blank lines", "gzip"],
)
def test_files_of_every_make(flywheel: Run, content: bytes, connect: Connect) -> None:
    assert flywheel("import", "-", stdin=content).row["rows"] == 2
    rows = connect().execute("select input from flywheel.traces order by trace_id").fetchall()
    assert rows == [("a",), ("b",)]


def test_an_empty_file_is_said_to_be_empty(flywheel: Run) -> None:
    ran = flywheel("import", "-", stdin=b"\n")
    assert (ran.code, ran.row["rows"]) == (0, 0)
    assert "the file holds no row" in ran.err


def test_a_line_of_ten_megabytes(flywheel: Run, lines: Lines, connect: Connect) -> None:
    assert flywheel("import", lines({"output": "long \\ line\n" * 1_000_000})).row["rows"] == 1
    found = connect().execute("select length(output) from flywheel.traces").fetchone()
    assert found == (12_000_000,)


def test_nul_is_replaced_when_asked(flywheel: Run, lines: Lines, connect: Connect) -> None:
    path = lines({"input": "a\x00b", "x": {"y\x00": "\x00"}})
    assert flywheel("import", path, "--replace-nul").code == 0
    found = connect().execute("select input, attributes from flywheel.traces").fetchone()
    assert found == ("a\ufffdb", {"x": {"y\ufffd": "\ufffd"}})


def test_numbers_keep_their_digits(flywheel: Run, connect: Connect) -> None:
    number = "0.123456789012345678901234567890"
    assert flywheel("import", "-", stdin=f'{{"n": {number}, "m": 1e400}}'.encode()).code == 0
    found = connect().execute(
        "select attributes ->> 'n', length(attributes ->> 'm') from flywheel.traces"
    )
    assert found.fetchone() == (number, 401)


def test_a_typo_in_a_field_is_reported(flywheel: Run, lines: Lines) -> None:
    ran = flywheel("import", lines({"prompt": "a"}), "--map", "input=promt")
    assert ran.code == 0
    assert "no line has the field promt; close names: prompt" in ran.err


def test_real_completions_and_a_refusal_pattern(
    flywheel: Run, connect: Connect, shared_data: Path
) -> None:
    """The pattern fails the very rows on which Python finds it, model by model."""
    import re

    path = shared_data / "xstest" / "completions.jsonl.gz"
    pattern = "(I cannot|I can't|I'm sorry|As an AI)"
    db = connect()
    db.execute(
        "select flywheel.create_validator('no_refusal', 'sql', 'output !~ (params ->> ''re'')',"
        " params => jsonb_build_object('re', %s::text))",
        [pattern],
    )
    ran = flywheel(
        "import", str(path), "--map", "input=input", "--map", "output=response",
        "--map", "variant=model",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    with gzip.open(path) as file:
        rows = [json.loads(line) for line in file]
    expected = {row["id"]: not re.search(pattern, row["response"]) for row in rows}
    found = dict(
        db.execute(
            "select t.attributes ->> 'id', v.passed"
            " from flywheel.verdicts as v join flywheel.traces as t using (trace_id)"
        ).fetchall()
    )
    assert found == expected
    assert ran.row["failed"] == {"no_refusal": sum(not passed for passed in expected.values())}
    rates = dict(
        db.execute(
            "select variant, sum(passed)::int from flywheel.pass_rates group by 1"
        ).fetchall()
    )
    for model in {row["model"] for row in rows}:
        assert rates[model] == sum(expected[row["id"]] for row in rows if row["model"] == model)
