"""preview_prompts(): what a judge would be asked, and what it would cost."""

import collections
import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import Connection

Judges = Any

CRITERION = "The reply is kind."


def _rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _estimate(session: Connection, text: str) -> int:
    row = session.execute("select flywheel._token_estimate(%s)", (text,)).fetchone()
    assert row is not None
    return int(row[0])


def _at(judges: Judges, moment: str) -> None:
    judges.session.execute(
        "create or replace function flywheel.now() returns timestamptz language sql stable parallel safe "
        f"begin atomic select timestamptz '{moment}'; end"
    )


@pytest.mark.parametrize("enabled", [True, False])
def test_it_shows_the_latest_rows_the_judge_applies_to(judges: Judges, enabled: bool) -> None:
    name = judges.create(CRITERION, pipeline="support", enabled=enabled)
    for n in range(8):
        _at(judges, f"2025-01-01 00:00:{n:02}+00")
        judges.insert(pipeline=["support", "sales"][n % 2], input="i", output=f"o{n}")
    rows = judges.preview(name, 3)
    for row, n in zip(rows, (6, 4, 2), strict=True):
        assert f"\no{n}\n" in judges.message(row)
    assert all(row["span_id"] is None for row in rows)
    assert len(judges.preview(name, 100)) == 4
    pending = judges.session.execute("select count(*) from flywheel.jobs").fetchone()
    assert pending == (4 if enabled else 0,)


@pytest.mark.parametrize(
    ("body", "options"),
    [
        (CRITERION, {}),
        (CRITERION, {"params": {"votes": 3}, "few_shot_k": 3}),
        ("{{started_at}} {{output}} {{attributes.a}}", {"params": {"threshold": 7, "max_chars": 100}}),
        ("{{node}} {{cost_usd}} {{output}} {{user_id}}", {"subject": "span", "node": "n"}),
    ],
)  # fmt: skip
def test_the_request_is_the_one_that_is_claimed_later(
    judges: Judges, body: str, options: dict[str, Any]
) -> None:
    name = judges.create(body, **options)
    for n in range(4):
        attributes = {"a": {"z": n, "b": "é"}} if n else {}
        trace_id = judges.insert(user_id="u", output=f"{n}" * 200, attributes=attributes)
        judges.insert("spans", trace_id=trace_id, node="n", cost_usd="0.10", output=f"{n}")
        if options.get("few_shot_k"):
            judges.call("label", trace_id, name, n % 2 == 0, split="train")
    judges.session.execute("set local timezone = 'Asia/Tokyo'")
    previews = {
        (row["trace_id"], row["span_id"]): (row["request"], row["skipped_reason"])
        for row in judges.preview(name, 10)
    }
    judges.session.execute("set local timezone = 'America/Lima'")
    jobs = {
        (job["trace_id"], job["span_id"]): (job["request"], job["skipped_reason"])
        for job in judges.claim()
    }
    assert previews == jobs
    assert len(jobs) == 4


def test_without_a_price_the_cost_is_not_known(judges: Judges) -> None:
    name = judges.create(CRITERION)
    judges.insert(input="i", output="o")
    judges.insert(input="no output")
    judged, skipped = sorted(judges.preview(name), key=lambda row: bool(row["skipped_reason"]))
    assert judged["input_tokens"] > 100
    assert (judged["cost_usd"], judged["cost_usd_per_day"]) == (None, None)
    assert skipped["skipped_reason"] == "nothing to judge: output is null"
    assert (skipped["request"], skipped["input_tokens"], skipped["cost_usd"]) == (None, 0, 0)
    assert skipped["cost_usd_per_day"] is None


def test_with_prices_it_is_estimated_for_each_row_and_for_a_day(judges: Judges) -> None:
    judges.call(
        "create_model", "priced", "http://localhost/v1", "m", input_price=2, output_price=10
    )
    _at(judges, "2025-01-10 12:00+00")
    names = {
        votes: judges.create(CRITERION, model="priced", params={"votes": votes}) for votes in (1, 3)
    }
    for _ in range(3):
        judges.insert(input="i", output="o")
    judges.insert(input="no output")
    rows = {votes: judges.preview(name, 10) for votes, name in names.items()}
    for votes in names:
        judged = [row for row in rows[votes] if row["request"]]
        assert len(judged) == 3
        for row in judged:
            expected = (2 * row["input_tokens"] + 10 * 120 * votes) / 1e6
            assert float(row["cost_usd"]) == pytest.approx(expected)
        total = sum(float(row["cost_usd"]) for row in judged)
        for row in rows[votes]:
            assert float(row["matching_per_day"]) == 4
            assert float(row["cost_usd_per_day"]) == pytest.approx(total, abs=1e-6)
    by_trace = {row["trace_id"]: row["input_tokens"] for row in rows[1]}
    for row in rows[3]:
        assert row["input_tokens"] == 3 * by_trace[row["trace_id"]]


def test_replies_are_expected_to_be_as_long_as_they_have_been(judges: Judges) -> None:
    judges.call(
        "create_model", "priced", "http://localhost/v1", "m", input_price=0, output_price=1_000_000
    )
    name = judges.create(CRITERION, model="priced")
    judges.insert(output="o")
    assert float(judges.preview(name)[0]["cost_usd"]) == 120
    judges.session.execute(
        "insert into flywheel._runs (trace_id, span_id, version_id, revision, attempt, created_at, outcome, model_id, requests, output_tokens) "
        "select gen_random_uuid(), gen_random_uuid(), 1, 1, 1, now(), 'passed', m.model_id, n, n * 40 "
        "from flywheel._models as m, (values (1), (3)) as r (n) where m.name = 'priced'"
    )
    assert float(judges.preview(name)[0]["cost_usd"]) == 40


@pytest.mark.parametrize(
    ("days", "per_day"),
    [
        ([0, 0, 0], 3),  # it has just begun
        ([1.5, 0, 0], 1.5),
        ([6.5, 5, 4, 3, 2, 1, 0], 1),
        ([30, 20, 10, 6.5, 1], 0.3),
        ([30, 1], 0.1),
        ([30], 0),
    ],
)
def test_a_day_is_like_the_last_seven_or_those_there_were(
    judges: Judges, days: list[float], per_day: float
) -> None:
    name = judges.create(CRITERION)
    judges.create(CRITERION, "sampled", sample_rate=0)
    now = datetime(2025, 6, 30, 12, tzinfo=UTC)
    for ago in days:
        _at(judges, str(now - timedelta(days=ago)))
        judges.insert(output="o")
    _at(judges, str(now))
    assert float(judges.preview(name)[0]["matching_per_day"]) == per_day
    assert judges.preview("sampled") == []


def test_no_row_to_show_is_said(judges: Judges) -> None:
    name = judges.create(CRITERION, "kind", pipeline="nowhere")
    judges.insert(output="x")
    assert judges.preview(name) == []
    assert judges.notices == ["no row that is stored is one for kind"]


@pytest.mark.parametrize(
    ("arguments", "sqlstate", "said"),
    [
        (("nobody", 5), "LF003", "there is no validator nobody"),
        (("brief", 5), "LF002", "brief is no judge"),
        (("kind", 0), "LF002", "n is 0"),
        (("kind", None), "LF002", "n is null"),
    ],
)
def test_what_cannot_be_previewed_is_said(
    judges: Judges, arguments: tuple[Any, ...], sqlstate: str, said: str
) -> None:
    judges.create(CRITERION, "kind")
    judges.call("create_validator", "brief", "sql", "length(output) < 9")
    with pytest.raises(psycopg.Error, match=said) as refused:
        judges.preview(*arguments)
    assert refused.value.sqlstate == sqlstate
    assert refused.value.diag.message_hint


# How good the estimate is.


def test_tokens_of_long_english_texts_are_within_a_third_of_what_was_billed(
    judges: Judges, shared_data: Path
) -> None:
    """Two answers to one instruction, judged with the same prompt: the prices tell what they differ by."""
    responses = {row["id"]: row for row in _rows(shared_data / "alpacaeval/outputs.jsonl.gz")}
    prompts: dict[str, list[tuple[float, str]]] = collections.defaultdict(list)
    for row in _rows(shared_data / "alpacaeval/judgments.jsonl.gz"):
        if row["judge"] == "weighted_alpaca_eval_gpt4_turbo" and row["price_usd"]:
            response = responses[row["output_id"]]
            prompts[response["instruction_id"]].append((row["price_usd"], response["response"]))
    ratios = []
    for priced in prompts.values():
        (low, short), (high, long) = min(priced), max(priced)
        billed = (high - low) / 10e-6  # 10 dollars a million
        if billed > 150:
            estimated = _estimate(judges.session, long) - _estimate(judges.session, short)
            ratios.append(estimated / billed)
    assert len(ratios) > 200
    ratios.sort()
    assert 0.95 < ratios[len(ratios) // 2] < 1.1
    assert sum(2 / 3 < ratio < 4 / 3 for ratio in ratios) / len(ratios) > 0.97


def _counted(shared_data: Path) -> Iterator[tuple[str, list[str], int]]:
    """Recorded prompts and replies with the tokens that the provider counted."""
    for call in _rows(shared_data / "provider_payloads/calls.jsonl.gz"):
        request, response = call["request"], call["response"]
        if not isinstance(request, dict) or not isinstance(response, dict):
            continue
        usage = response.get("usage") or {}
        messages = [m.get("content") for m in request.get("messages") or []]
        has_more = request.get("tools") or request.get("response_format")
        counted = usage.get("prompt_tokens") or 0
        if (
            counted > 100
            and messages
            and not has_more
            and all(isinstance(text, str) for text in messages)
        ):
            yield call["id"], messages, counted
        choices = response.get("choices") or []
        counted = usage.get("completion_tokens") or 0
        details = usage.get("completion_tokens_details") or {}
        if len(choices) == 1 and counted > 30 and not details.get("reasoning_tokens"):
            text = (choices[0].get("message") or {}).get("content")
            if isinstance(text, str) and not choices[0]["message"].get("tool_calls"):
                yield call["id"], [text], counted


def test_tokens_of_recorded_calls_are_within_a_third_of_what_was_counted(
    judges: Judges, shared_data: Path
) -> None:
    ratios = {
        (name, len(texts)): sum(_estimate(judges.session, text) + 4 for text in texts) / counted
        for name, texts, counted in _counted(shared_data)
    }
    assert len(ratios) > 30
    assert {key: ratio for key, ratio in ratios.items() if not 2 / 3 < ratio < 4 / 3} == {}


def test_a_character_of_japanese_is_nearly_a_token(judges: Judges, shared_data: Path) -> None:
    """Tokenizers need from 0.7 (the newer ones) to 1.2 for it; no recorded call has Japanese in it."""
    texts = [row["judge_prompt"] for row in _rows(shared_data / "ja_mt_bench/judgments.jsonl.gz")]
    for text in texts:
        japanese = "".join(c for c in text if c >= "\u3000")
        assert 0.85 < _estimate(judges.session, japanese) / len(japanese) < 0.95
        assert _estimate(judges.session, text) < len(text)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0), ("a", 1), ("The cat sat.", 4), ("1234567", 3), ("internationalization", 3),
        ("{}}", 2), ("  \n\n ", 0), ("naïve", 3), ("日本語", 3), ("😀", 1), ("Привет", 3), ("“x”—y…", 6),
    ],
)  # fmt: skip
def test_tokens_of_small_texts(judges: Judges, text: str, tokens: int) -> None:
    assert _estimate(judges.session, text) == tokens
