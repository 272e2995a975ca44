"""`flywheel-db export`, and back."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Connection
from psycopg.types.json import Jsonb

Connect = Callable[..., Connection]
Run = Callable[..., Any]

_ROWS = """
  insert into flywheel.traces (
    trace_id, pipeline, variant, environment, release, session_id, user_id, input, output, status,
    started_at, ended_at, attributes
  ) values
    ('0189d7c2-7a5b-7c3d-8e4f-0123456789ab', 'p', 'v', 'e', 'r', 's', 'u',
     E'a\\tb\\\\n\\n', '😀 "q"', 'blocked',
     '2026-01-02 03:04:05.123456+00', '2026-01-02 03:04:06.000001+00',
     '{"a": {"b": [1, null, "\\\\"]}, "n": 0.1234567890123456789012345, "trace_id": "x"}'),
    ('0189d7c2-7a5b-7c3d-8e4f-0123456789ac', 'q', null, null, null, null, null, null, '', 'ok',
     '1970-01-01 00:00+00', 'infinity', '{}');
  insert into flywheel.spans (
    trace_id, span_id, parent_span_id, node, kind, input, output, status, started_at, model,
    input_tokens, output_tokens, cost_usd, attributes
  ) values (
    '0189d7c2-7a5b-7c3d-8e4f-0123456789ab', '00000000-0000-0000-00f0-67aa0ba902b7', null, 'n',
    'tool', 'i', 'o', 'error', '2026-01-02 03:04:05.5+00', 'm', 1, 2, 0.000001230, '{"k": true}'
  )
"""


def content(db: Connection, table: str) -> list[Any]:
    """All rows as text, without what the database sets."""
    return db.execute(
        "select (to_jsonb(t) - 'received_at' - 'revision' - 'generation' - 'revised_at')::text"
        f" from flywheel.{table} as t order by trace_id"
    ).fetchall()


@pytest.mark.parametrize("table", ["traces", "spans"])
@pytest.mark.parametrize("zipped", [False, True])
def test_an_import_gives_the_export_back(
    flywheel: Run, connect: Connect, tmp_path: Path, table: str, zipped: bool
) -> None:
    db = connect()
    db.execute(_ROWS)
    before = content(db, table)
    path = tmp_path / ("out.jsonl.gz" if zipped else "out.jsonl")
    ran = flywheel("export", "--table", table, "--output", str(path))
    assert (ran.code, ran.out) == (0, "")
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == zipped
    db.execute("truncate flywheel.traces")
    ran = flywheel("import", str(path), "--table", table)
    assert (ran.code, ran.err) == (0, "")
    assert content(db, table) == before


def test_any_text_and_any_json_come_back(flywheel: Run, connect: Connect) -> None:
    db = connect()
    texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))
    numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    values = st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    )  # fmt: skip

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(texts, texts, st.dictionaries(texts, values, max_size=4))
    def comes_back(text: str, user: str, attributes: dict[str, Any]) -> None:
        db.execute("truncate flywheel.traces")
        db.execute(
            "insert into flywheel.traces (input, user_id, attributes) values (%s, %s, %s)",
            [text, user, Jsonb(attributes)],
        )
        before = content(db, "traces")
        exported = flywheel("export").out
        db.execute("truncate flywheel.traces")
        assert flywheel("import", "-", stdin=exported.encode()).code == 0
        assert content(db, "traces") == before

    comes_back()


def test_rows_are_chosen_by_pipeline_and_time(flywheel: Run, connect: Connect) -> None:
    db = connect()
    db.execute("select flywheel.create_validator('v', 'sql', 'output is not null')")
    db.execute(_ROWS)

    def statuses(*arguments: str) -> list[str]:
        return [row["status"] for row in flywheel("export", *arguments).rows]

    assert statuses() == ["blocked", "ok"]
    assert statuses("--pipeline", "q") == ["ok"]
    assert statuses("--since", "2026-01-01") == ["blocked"]
    assert statuses("--until", "2026-01-01") == ["ok"]
    assert statuses("--pipeline", "it's") == []
    assert statuses("--table", "spans", "--pipeline", "p") == ["error"]
    assert statuses("--table", "spans", "--pipeline", "q") == []
    assert statuses("--table", "verdicts") == ["passed", "passed"]
    assert statuses("--table", "verdicts", "--pipeline", "p") == ["passed"]
    assert statuses("--table", "verdicts", "--since", "tomorrow") == []


def test_a_verdict_has_the_columns_of_its_view(flywheel: Run, connect: Connect) -> None:
    db = connect()
    db.execute("select flywheel.create_validator('v', 'sql', 'false')")
    db.execute(_ROWS.split(";")[0])
    row = flywheel("export", "--table", "verdicts").rows[0]
    assert row["validator"] == "v"
    assert row["passed"] is False
    assert row["trace_id"] == "0189d7c2-7a5b-7c3d-8e4f-0123456789ab"


def test_a_time_that_is_none_is_refused(flywheel: Run) -> None:
    ran = flywheel("export", "--since", "soonish")
    assert ran.code == 3
    assert 'invalid input syntax for type timestamp with time zone: "soonish"' in ran.err


def test_a_file_is_written_whole_or_not_at_all(
    flywheel: Run, connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "out.jsonl.gz"
    path.write_bytes(gzip.compress(b"old"))
    assert flywheel("export", "--since", "soonish", "--output", str(path)).code == 3
    assert gzip.decompress(path.read_bytes()) == b"old"
    assert list(tmp_path.iterdir()) == [path]
    connect().execute("insert into flywheel.traces (input) values ('new')")
    assert flywheel("export", "--output", str(path)).code == 0
    assert json.loads(gzip.decompress(path.read_bytes()))["input"] == "new"
    assert flywheel("export", "--output", str(tmp_path / "no" / "dir")).code == 3
