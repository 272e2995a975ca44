"""Replies of real judges are read as their data sets read them."""

import gzip
import json
from pathlib import Path

from flywheel_pl.judges.reader import read
from flywheel_pl.judges.reply import CallFailed, parse

from bench import judge_replies


def test_real_replies_are_read_and_never_misread(shared_data: Path) -> None:
    for name, found in judge_replies.measure(shared_data).items():
        assert found["misread"] == 0, name
        assert found["read"] >= 0.995, name
        # Those whose last words say the opposite of what the data set makes of them.
        assert found["plainly wrong"] <= found["replies"] * 0.01, name


def test_what_no_parser_could_read_stays_unread(shared_data: Path) -> None:
    choices = {"Output (a)": True, "Output (b)": False}
    with gzip.open(shared_data / "llmbar" / "judgments.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    replies = [row["completion"] for row in rows if row["winner"] not in ("1", "2")]
    assert len(replies) > 20
    assert sum(read(reply or "", choices) is not None for reply in replies) <= len(replies) // 50


def test_every_real_response_gives_its_text_and_tokens(shared_data: Path) -> None:
    path = shared_data / "provider_payloads" / "calls.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    read_bodies = counted = 0
    for row in rows:
        body = row["response"]
        text = body if isinstance(body, str) else json.dumps(body)
        if row["status"] != 200 or "embeddings" in row["endpoint"] or "threads" in row["endpoint"]:
            continue
        reply = parse(row["status"], {}, text.encode())
        assert reply.text.strip(), row["id"]
        read_bodies += 1
        if '"usage":{' in text.replace(" ", "") and '"usage":null' not in text.replace(" ", ""):
            assert reply.output_tokens > 0, row["id"]
            assert reply.input_tokens > 0, row["id"]
            counted += 1
        assert 0 <= reply.cached_tokens <= reply.input_tokens, row["id"]
    assert read_bodies > 200
    assert counted > 150


def test_every_real_failure_is_classified(shared_data: Path) -> None:
    path = shared_data / "provider_payloads" / "calls.jsonl.gz"
    kinds = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["status"] != 200:
                try:
                    parse(row["status"], {}, json.dumps(row["response"]).encode())
                except CallFailed as failed:
                    kinds.append(failed.kind)
    assert kinds == ["configuration"] * 3
