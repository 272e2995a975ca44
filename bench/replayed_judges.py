"""Real replies of judges through HTTP, worker and database, compared row by row with their data.

* LLMBar: six judges that chose an output, 13,441 replies in prose; the data says which they chose.
* Japanese MT-Bench: GPT-4's scores, asked with the recorded prompt.
* Provider payloads: whole bodies of chat completions as they came, JSON and streams, byte for byte.
  None is the answer of a judge: unless it is a bare yes or no, it must come to an error and to no
  verdict, with the text of the body in the run log.

An unreadable reply is asked for once more, and the endpoint says the same again. What the data say
is taken as in judge_replies: where the last words of a reply name the other output than LLMBar's
own reading, that is wrong, and the row is counted apart.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import replay
from bench.common import Database, Options, Server, note
from bench.judge_replies import is_plainly_wrong
from bench.report import Figure
from bench.workers import program
from replay import recorded
from replay.reply import user_text

require = program.require

CONCURRENCY = 64
LABELS = {"1": "Output (a)", "2": "Output (b)"}
THRESHOLD = 6

_MARKER = re.compile(r"\[\[replay:(\w+:\d+)\]\]")

_FOUND = """
    select t.attributes ->> 'reply', v.status, v.predicted_label, v.score, r.replies, r.messages
    from flywheel.traces as t
    left join flywheel.verdicts as v on v.trace_id = t.trace_id
    left join lateral (
      select r.replies, r.messages from flywheel.runs as r
      where r.trace_id = t.trace_id order by r.run_id desc limit 1
    ) as r on true
    where t.pipeline = %s
"""


@dataclass(frozen=True)
class Row:
    """A trace, the reply that its judge gives, and what the data says of it."""

    pipeline: str
    marker: str
    input: str
    output: str
    reply: replay.Reply | str
    # The text of the reply, and the label or the score it means; None where it means none.
    text: str
    meaning: str | float | None
    prompt: str = ""


@dataclass
class Tally:
    """What one data set came to."""

    rows: int = 0
    hold: int = 0
    read: int = 0
    misread: int = 0
    # The data's own reading is plainly wrong; it has none where we have.
    wrong_data: int = 0
    read_though_none: int = 0
    # The run log has another text than was recorded.
    other_text: int = 0
    other_prompt: int = 0
    errored: int = 0
    decided: int = 0


def run(server: Server, options: Options) -> list[Figure]:
    """Measure; nothing where the data are not."""
    if not recorded.DATA.is_dir():
        note(f"left out: there is no folder {recorded.DATA.name} beside the checkout")
        return []
    rows = [*_thinned(_llmbar(), options.scale), *_japanese(), *_providers()]
    replies = {row.marker: row.reply for row in rows}

    def answer(request: dict[str, Any]) -> replay.Reply:
        found = _MARKER.search(user_text(request))
        reply = replies[found[1]] if found is not None else ""
        return reply if isinstance(reply, replay.Reply) else replay.completion(request, reply)

    database = server.database("replayed")
    with replay.Endpoint(answer, keep=False) as endpoint:
        _create_judges(database, endpoint.base_url)
        _store(database, rows)
        arguments = ("--concurrency", str(CONCURRENCY), "--drain")
        with program.Worker(database.worker_dsn, endpoint.authority, *arguments) as worker:
            worker.finish()
        calls = endpoint.count
    tallies = {
        name: _tally(database, [row for row in rows if row.pipeline == name])
        for name in ("llmbar", "ja_mt_bench", "providers")
    }
    refused = _refused(database)
    server.drop("replayed")
    return [*_figures(tallies, refused, calls, len(rows))]


def _figures(
    tallies: dict[str, Tally], refused: dict[str, str | None], calls: int, rows: int
) -> Iterator[Figure]:
    judged = {name: tallies[name] for name in ("llmbar", "ja_mt_bench")}
    providers = tallies["providers"]
    hold = sum(one.hold for one in judged.values())
    yield Figure(
        "replayed_judges_read",
        f"share of {hold:,} recorded verdicts of judges that come to a verdict of ours",
        sum(one.read for one in judged.values()) / hold * 100,
        unit="%",
        at_least=99.5,
        parts={
            **{f"{name}: {x}": v for name, one in judged.items() for x, v in vars(one).items()},
            "calls over rows": calls / rows,
        },
    )
    yield Figure(
        "replayed_judges_misread",
        "recorded verdicts that come to another one of ours, and replies of no judge that come to any",
        sum(one.misread for one in tallies.values()),
        unit="rows",
        at_most=0,
        parts={f"providers: {name}": value for name, value in vars(providers).items()} | refused,
    )
    yield Figure(
        "replayed_judges_texts",
        "replies that the run log has otherwise than they were recorded, and prompts that were sent"
        " otherwise",
        sum(one.other_text + one.other_prompt for one in tallies.values()),
        unit="rows",
        at_most=0,
    )


def _create_judges(database: Database, base_url: str) -> None:
    program.create_judge(
        database, base_url, "Which output is better?\n\n{{output}}\n\n{{attributes.reply}}",
        name="llmbar", params={"choices": {"Output (a)": True, "Output (b)": False}},
        pipeline="llmbar",
    )  # fmt: skip
    program.create_judge(
        database, base_url, "{{attributes.prompt}}\n\n{{attributes.reply}}",
        name="ja_mt_bench", params={"threshold": THRESHOLD, "system": ""}, pipeline="ja_mt_bench",
    )  # fmt: skip
    for name in ("providers", "refused"):
        program.create_judge(database, base_url, "It is polite.", name=name, pipeline=name)


def _store(database: Database, rows: list[Row]) -> None:
    statement = "copy flywheel.traces (pipeline, input, output, attributes) from stdin"
    with database.writer() as session, session.connection.cursor().copy(statement) as copy:
        for row in rows:
            marker = f"[[replay:{row.marker}]]"
            attributes = {"reply": marker, "prompt": row.prompt}
            # A criterion shows its judge no attributes.
            output = row.output or marker
            copy.write_row((row.pipeline, row.input, output, json.dumps(attributes)))


def _tally(database: Database, rows: list[Row]) -> Tally:
    tally = Tally()
    with database.admin() as session:
        found = session.connection.execute(_FOUND.encode(), (rows[0].pipeline,)).fetchall()
    by_marker = {f"[[replay:{row.marker}]]": row for row in rows}
    assert len(found) == len(by_marker), "a row has several verdicts, or is not there"
    for marker, status, label, score, replies, messages in found:
        row = by_marker[marker]
        decided = status in ("passed", "failed")
        tally.rows += 1
        tally.decided += decided
        tally.errored += status == "error"
        tally.other_text += not replies or any(text != row.text for text in replies)
        tally.other_prompt += bool(row.prompt) and row.prompt not in messages[-1]["content"]
        tally.hold += row.meaning is not None
        tally.read += row.meaning is not None and decided
        if not decided:
            continue
        meaning: str | float | None
        if row.pipeline == "llmbar":
            meaning = label
            is_right = (status == "passed") == (label == LABELS["1"])
        elif row.pipeline == "providers":
            meaning, is_right = status, True
        else:
            meaning = score
            is_right = score is not None and (status == "passed") == (score >= THRESHOLD)
        if is_right and meaning == row.meaning:
            continue
        if row.pipeline == "llmbar" and row.meaning is None:
            tally.read_though_none += 1
        elif row.pipeline == "llmbar" and is_plainly_wrong(row.text, str(row.meaning)):
            tally.wrong_data += 1
        else:
            tally.misread += 1
    return tally


def _refused(database: Database) -> dict[str, str | None]:
    """What became of recorded refusals: they are no verdicts, and their jobs wait or died."""
    with database.admin() as session:
        row = session.connection.execute(
            b"select state, last_error from flywheel.queue_health where validator = 'refused'"
        ).fetchone()
    state, error = row or (None, None)
    return {"refused: state": state, "refused: error": error}


def _thinned(rows: Iterator[Row], scale: float) -> Iterator[Row]:
    every = max(1, round(1 / scale))
    return (row for n, row in enumerate(rows) if n % every == 0)


def _llmbar() -> Iterator[Row]:
    examples = {row["id"]: row for row in recorded.rows(recorded.DATA, "llmbar/examples")}
    for n, row in enumerate(recorded.rows(recorded.DATA, "llmbar/judgments")):
        if row["completion"]:
            example = examples[row["example_id"]]
            both = f"Output (a): {example['output_1']}\n\nOutput (b): {example['output_2']}"
            text = row["completion"]
            yield Row(
                "llmbar", f"llmbar:{n}", example["input"], both, text, text,
                LABELS.get(row["winner"]),
            )  # fmt: skip


def _japanese() -> Iterator[Row]:
    for n, row in enumerate(recorded.rows(recorded.DATA, "ja_mt_bench/judgments")):
        text = row["judgment"]
        score = float(row["score"]) if row["score"] is not None and row["score"] >= 0 else None
        yield Row(
            "ja_mt_bench", f"ja_mt_bench:{n}", "", "as the prompt says", text, text, score,
            row["judge_prompt"],
        )  # fmt: skip


def _providers() -> Iterator[Row]:
    """Bodies of chat completions; what a provider refused goes to a validator of its own."""
    calls = (
        row
        for row in recorded.rows(recorded.DATA, "provider_payloads/calls")
        if row["endpoint"].partition("#")[0].endswith("/chat/completions")
    )
    for n, (row, reply) in enumerate(zip(calls, recorded.bodies(), strict=True)):
        pipeline = "providers" if row["status"] == 200 else "refused"
        text = _text_of(row)
        word = text.strip(" .\n").lower()
        meaning = {"yes": "passed", "no": "failed"}.get(word)
        yield Row(pipeline, f"providers:{n}", "a question", "", reply, text, meaning)


def _text_of(row: dict[str, Any]) -> str:
    """What a recorded body says: its text, or why it refused, or what it would call a tool with."""
    said: dict[str, str] = defaultdict(str)
    for message in _messages(row):
        for name in ("content", "refusal"):
            said[name] += message.get(name) or ""
        if "function_call" in message:
            said["tool"] += (message["function_call"] or {}).get("arguments") or ""
        for n, tool in enumerate(message.get("tool_calls") or []):
            said[f"tool {tool.get('index', n)}"] += tool["function"].get("arguments") or ""
    tools = (text for name, text in sorted(said.items()) if name.startswith("tool"))
    return said["content"] or said["refusal"] or "\n".join(tools)


def _messages(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The message of a recorded body, or the pieces of its stream."""
    if row["response_is_json"]:
        bodies = [row["response"]]
    else:
        lines = (line.partition("data:")[2].strip() for line in row["response"].splitlines())
        bodies = [json.loads(line) for line in lines if line.startswith("{")]
    for body in bodies:
        for choice in body.get("choices") or []:
            if not choice.get("index"):
                yield choice.get("message") or choice.get("delta") or {}
