"""Real replies from the data sets beside the checkout, read where they are."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from replay.reply import Reply

DATA = Path(__file__).parents[2] / "shared" / "data"


def rows(data: Path, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a gzip-compressed file of JSON lines, for example "llmbar/judgments"."""
    with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


# The raw text of a judge in a row, or None where none was kept.
_TEXT: dict[str, tuple[str, Callable[[dict[str, Any]], str | None]]] = {
    "ja_mt_bench": ("ja_mt_bench/judgments", lambda row: row["judgment"]),
    "judgebench": ("judgebench/judgments", lambda row: row["trials"][0]["text"]),
    "llmbar": ("llmbar/judgments", lambda row: row["completion"]),
    "xstest": ("xstest/completions", lambda row: row["judge_gpt4"]),
}

TEXT_SETS = tuple(_TEXT)


def texts(name: str, data: Path = DATA) -> dict[str, str]:
    """Raw texts of real judges by marker: "llmbar:123" is row 123 (from 0) of the data set."""
    file, text_of = _TEXT[name]
    found = ((number, text_of(row)) for number, row in enumerate(rows(data, file)))
    return {f"{name}:{number}": text for number, text in found if text}


def bodies(data: Path = DATA, *, endpoint: str = "/chat/completions") -> list[Reply]:
    """Bodies of real providers byte for byte: JSON and streams of server-sent events."""
    replies = []
    for row in rows(data, "provider_payloads/calls"):
        if not row["endpoint"].partition("#")[0].endswith(endpoint):
            continue
        body = json.dumps(row["response"]) if row["response_is_json"] else str(row["response"])
        kind = "application/json" if row["response_is_json"] else "text/event-stream"
        replies.append(Reply(body.encode(), row["status"], {"content-type": kind}))
    return replies
