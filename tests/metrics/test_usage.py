"""usage against what the rows say."""

import gzip
import json
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from psycopg import Connection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

ERROR = 0.01 + 1e-9


def _usage(db: Connection, where: str = "true") -> list[dict[str, Any]]:
    with db.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            f"select * from flywheel.usage where {where} order by subject, pipeline, node, model"  # type: ignore[arg-type]
        ).fetchall()


def test_cost_and_latency_of_real_judge_calls(db: Connection, shared_data: Path) -> None:
    with gzip.open(shared_data / "alpacaeval" / "judgments.jsonl.gz", "rt") as lines:
        calls = [json.loads(line) for line in lines]
    times: dict[str, list[float]] = defaultdict(list)
    costs: dict[str, Decimal] = defaultdict(Decimal)
    counts: dict[str, int] = defaultdict(int)
    db.execute("insert into flywheel.traces (pipeline, release) values ('judging', '1')")
    for call in calls:
        counts[call["judge"]] += 1
        if call["time_s"] is not None:
            times[call["judge"]].append(round(call["time_s"] * 1e6) / 1e3)
        costs[call["judge"]] += Decimal(str(call["price_usd"] or 0))
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into flywheel.spans (trace_id, node, model, started_at, ended_at, cost_usd) "
            "select trace_id, 'judge', %s, timestamptz '2026-01-01', "
            "timestamptz '2026-01-01' + %s * interval '1 s', %s from flywheel.traces",
            [(call["judge"], call["time_s"], call["price_usd"]) for call in calls],
        )
    rows = _usage(db, "subject = 'span'")
    assert {row["model"] for row in rows} == set(counts)
    for row in rows:
        assert (row["pipeline"], row["release"], row["node"]) == ("judging", "1", "judge")
        assert (row["traces"], row["spans"]) == (0, counts[row["model"]])
        assert (row["cost_usd"] or 0) == costs[row["model"]]
        exact = db.execute(
            "select percentile_disc(array[0.5, 0.9, 0.95, 0.99]) within group (order by x) "
            "from unnest(%s::float8[]) as x",
            (times[row["model"]],),
        ).fetchone()
        assert exact is not None
        found = [row[f"latency_{name}"] for name in ("p50", "p90", "p95", "p99")]
        assert found == ([None] * 4 if exact[0] is None else pytest.approx(exact[0], rel=ERROR))


def _tokens(usage: dict[str, Any]) -> tuple[int, int, int]:
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    cached = details.get("cached_tokens") or usage.get("cache_read_input_tokens") or 0
    sent = usage.get("prompt_tokens") or usage.get("input_tokens") or 0
    return sent, cached, usage.get("completion_tokens") or usage.get("output_tokens") or 0


def test_tokens_of_real_calls_by_class(db: Connection, shared_data: Path) -> None:
    with gzip.open(shared_data / "provider_payloads" / "calls.jsonl.gz", "rt") as lines:
        answers = [json.loads(line)["response"] for line in lines]
    usages = [
        answer["usage"]
        for answer in answers
        if isinstance(answer, dict) and isinstance(answer.get("usage"), dict)
    ]
    assert len(usages) > 50
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into flywheel.spans (trace_id, started_at, input_tokens, output_tokens, attributes) "
            "values (flywheel.uuidv7(), timestamptz '2026-01-01', %s, %s, %s)",
            [(_tokens(usage)[0], _tokens(usage)[2], Jsonb({"usage": usage})) for usage in usages],
        )
    (row,) = _usage(db)
    assert row["input_tokens"] == sum(_tokens(usage)[0] for usage in usages)
    assert row["cached_input_tokens"] == sum(_tokens(usage)[1] for usage in usages)
    assert row["output_tokens"] == sum(_tokens(usage)[2] for usage in usages)
    # Their traces have not arrived.
    assert row["pipeline"] is None


@pytest.mark.parametrize(
    ("attributes", "tokens"),
    [
        ({}, None),
        ({"gen_ai.usage.cache_read.input_tokens": 7}, 7),
        ({"llm.token_count.prompt_details.cache_read": 8}, 8),
        ({"llm": {"token_count": {"prompt_details": {"cache_read": 9}}}}, 9),
        ({"usage": {"prompt_tokens_details": {"cached_tokens": 10}}}, 10),
        ({"usage": {"input_tokens_details": {"cached_tokens": 11}}}, 11),
        ({"usage": {"cache_read_input_tokens": 12}}, 12),
        ({"usageMetadata": {"cachedContentTokenCount": 13}}, 13),
        ({"usage": {"cache_read_input_tokens": "many"}}, None),
        ({"usage": {"cache_read_input_tokens": -1}}, None),
        ({"usage": {"cache_read_input_tokens": 1e300}}, None),
        ({"usage": [1]}, None),
    ],
)
def test_the_names_of_cached_tokens(
    db: Connection, attributes: dict[str, Any], tokens: int | None
) -> None:
    row = db.execute("select flywheel._cached_tokens(%s)", (Jsonb(attributes),)).fetchone()
    assert row == (tokens,)


def test_times_without_end_have_no_latency(db: Connection) -> None:
    db.execute(
        "insert into flywheel.traces (pipeline, started_at, ended_at) values"
        " ('a', '2026-01-01Z', 'infinity'), ('a', '-infinity', '2026-01-01Z'),"
        " ('a', '2026-01-01Z', '2026-01-01 00:00:02Z')"
    )
    db.execute(
        "insert into flywheel.spans (trace_id, started_at, ended_at)"
        " values (gen_random_uuid(), 'infinity', 'infinity')"
    )
    query = "select day::text, traces, spans, latency_p50 is null from flywheel.usage order by 1, 2"
    assert db.execute(query).fetchall() == [
        ("-infinity", 1, 0, True),
        ("2026-01-01", 2, 0, False),
        ("infinity", 0, 1, True),
    ]


def test_traces_and_spans_are_counted_apart(db: Connection) -> None:
    db.execute(
        "insert into flywheel.traces (trace_id, pipeline, status, started_at, ended_at) values "
        "('00000000-0000-0000-0000-000000000001', 'a', 'ok', '2026-01-01 23:30+00', '2026-01-01 23:30:01+00'), "
        "('00000000-0000-0000-0000-000000000002', 'a', 'error', '2026-01-01 22:30-01', null), "
        "('00000000-0000-0000-0000-000000000003', 'a', 'blocked', '2026-01-02 00:30+01', '2026-01-02 00:30+01')"
    )
    db.execute(
        "insert into flywheel.spans (trace_id, node, status, started_at) values "
        "('00000000-0000-0000-0000-000000000001', 'w', 'error', '2026-01-02 00:00+00'), "
        "('00000000-0000-0000-0000-000000000001', null, 'ok', '2026-01-02 00:00+00')"
    )
    counts = [
        (row["subject"], row["node"], row["day"].day, row["traces"], row["spans"], row["errors"], row["blocked"])
        for row in _usage(db)
    ]  # fmt: skip
    assert counts == [
        ("span", "w", 2, 0, 1, 1, 0),
        ("span", None, 2, 0, 1, 0, 0),
        ("trace", None, 1, 3, 0, 1, 1),
    ]
    (row,) = _usage(db, "subject = 'trace'")
    assert (row["latency_p50"], row["latency_p99"]) == (0, pytest.approx(1000, rel=ERROR))
    assert row["input_tokens"] is None
