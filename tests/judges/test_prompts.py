"""The call of a judge as the worker sends it: what is said in which order, and with which parameters."""

import asyncio
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from flywheel_pl.judges import reader

import replay
from flywheel_db.worker.catalog import Model
from flywheel_db.worker.client import Callers

Judges = Any
Body = dict[str, Any]

CRITERION = "The reply is kind."
ROW = {"input": "Where is it?", "output": "Look yourself."}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "verdict",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "reason": {"type": "string"},
                "verdict": {"type": "string", "enum": ["pass", "fail"]},
            },
            "required": ["reason", "verdict"],
            "additionalProperties": False,
        },
    },
}


def _body(judges: Judges, body: str = CRITERION, **options: Any) -> Body:
    found: Body = judges.ask(body, ROW, **options)["request"]["body"]
    return found


def _sent(body: Body) -> Body:
    """What a server receives when the worker sends this."""

    async def main(model: Model) -> None:
        callers = Callers()
        try:
            await callers.get(model).call(body)
        finally:
            await callers.close()

    with replay.Endpoint(replay.verdict()) as endpoint:
        asyncio.run(main(Model("judge", endpoint.base_url, "openai", None, None, 5.0, None)))
        return dict(endpoint.requests[0].body)


def test_the_whole_call_of_a_criterion(judges: Judges) -> None:
    job = judges.ask(CRITERION, ROW)
    request = job["request"]
    assert set(request) == {"body", "reading", "votes"}
    assert request["reading"] == {"choices": None, "threshold": None}
    assert request["votes"] == 1
    body = request["body"]
    assert set(body) == {"model", "messages", "temperature", "response_format"}
    assert (body["model"], body["temperature"]) == ("m-1", 0)
    assert body["response_format"] == SCHEMA
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert judges.without_word(judges.message(job)) == (
        "<input-W>\nWhere is it?\n</input-W>\n\n<output-W>\nLook yourself.\n</output-W>\n\n"
        "That was the material, between tags that end in W. "
        "Judge it by the criterion and answer with the JSON object."
    )


def test_what_is_the_same_for_all_rows_comes_first(judges: Judges) -> None:
    """Endpoints cache by the beginning: the system message, and a template's words up to its first value."""
    judges.create(CRITERION, "criterion")
    judges.create("Be strict. {{params.rule}}: {{output}}", "template", params={"rule": "no lies"})
    for n in range(3):
        judges.insert(input=f"in {n}", output=f"out {n}")
    jobs = judges.claim()
    for name in ("criterion", "template"):
        systems = {judges.message(job, "system") for job in jobs if job["validator"] == name}
        assert len(systems) == 1
    users = [judges.message(job) for job in jobs if job["validator"] == "template"]
    assert all(user.startswith("Be strict. no lies: <output-") for user in users)
    assert len({judges.word_of(user) for user in users}) == 3


@pytest.mark.parametrize(
    ("params", "verdicts"),
    [
        ({}, '"pass" or "fail".'),
        ({"threshold": 7}, "a number, the score."),
        ({"choices": {"good": True, 'a "b"': False}}, 'one of "a \\"b\\"", "good".'),
    ],
)
def test_the_reason_is_asked_for_before_the_verdict(
    judges: Judges, params: Body, verdicts: str
) -> None:
    """A model that has written its verdict finds reasons for it."""
    job = judges.ask(CRITERION, ROW, params=params)
    system = judges.message(job, "system")
    assert 0 < system.index('first key is "reason"') < system.index('last key is "verdict"')
    assert system.endswith(verdicts)
    # jsonb orders keys by their length, dict and JSON keep the order they find.
    schema = _sent(job["request"]["body"])["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["reason", "verdict"] == schema["required"]
    text = json.dumps(job["request"]["body"])
    assert 0 < text.index('"reason": {"type"') < text.index('"verdict": {')


def test_the_row_and_the_answer_survive_the_way_to_the_endpoint(judges: Judges) -> None:
    row = {"input": 'quote " \\ é 山 \U0001f600', "output": "\u202e\u0007 \ufeff \u2028 \ud7ff"}
    job = judges.ask(CRITERION, row)
    sent = _sent(job["request"]["body"])
    assert sent == job["request"]["body"]
    assert row["input"] in sent["messages"][1]["content"]
    assert row["output"] in sent["messages"][1]["content"]


@pytest.mark.parametrize(
    ("structured_output", "expected"),
    [
        ("auto", SCHEMA),
        ("json_schema", SCHEMA),
        ("json_object", {"type": "json_object"}),
        ("none", None),
    ],
)
def test_the_model_says_how_json_is_asked_for(
    judges: Judges, structured_output: str, expected: Body | None
) -> None:
    judges.call("alter_model", "judge", structured_output=structured_output)
    job = judges.ask(CRITERION, ROW)
    assert job["request"]["body"].get("response_format") == expected
    # Endpoints refuse json_object unless the word stands in the messages.
    assert "JSON" in judges.message(job, "system")


def test_choices_are_an_enum_and_come_back_with_the_request(judges: Judges) -> None:
    choices = {"rude": False, "kind": True, "日本": True}
    request = judges.ask(CRITERION, ROW, params={"choices": choices})["request"]
    schema = request["body"]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["verdict"] == {"type": "string", "enum": ["kind", "rude", "日本"]}
    assert request["reading"] == {"choices": choices, "threshold": None}
    found = reader.read('{"reason": "r", "verdict": "kind"}', request["reading"]["choices"], None)
    assert found is not None
    assert (found.label, found.passed) == ("kind", True)


def test_a_threshold_asks_for_a_number_and_is_not_told(judges: Judges) -> None:
    job = judges.ask("Rate from 1 to 10 how kind it is.", ROW, params={"threshold": 6.5})
    request = job["request"]
    schema = request["body"]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["verdict"] == {"type": "number"}
    assert request["reading"] == {"choices": None, "threshold": 6.5}
    assert "6.5" not in json.dumps(request["body"])
    assert '"pass"' not in judges.message(job, "system")


def test_votes_are_warm_and_one_voice_is_cold(judges: Judges) -> None:
    assert _body(judges)["temperature"] == 0
    request = judges.ask(CRITERION, ROW, params={"votes": 5})["request"]
    assert request["votes"] == 5
    assert request["body"]["temperature"] == 0.7
    assert "n" not in request["body"]


def test_a_validator_overrides_the_model_and_the_model_overrides_us(judges: Judges) -> None:
    judges.call(
        "alter_model",
        "judge",
        parameters={"temperature": 0.3, "max_tokens": 500, "seed": 7, "logit_bias": {"5": None}},
    )
    body = _body(judges)
    assert (body["temperature"], body["max_tokens"], body["seed"]) == (0.3, 500, 7)
    assert body["logit_bias"] == {"5": None}
    body = _body(judges, params={"temperature": 1.0, "max_tokens": 100, "votes": 3})
    assert (body["temperature"], body["max_tokens"], body["seed"]) == (1.0, 100, 7)


def test_a_null_takes_a_parameter_away(judges: Judges) -> None:
    """Some models refuse any temperature."""
    judges.call("alter_model", "judge", parameters={"temperature": None})
    assert "temperature" not in _body(judges)
    assert "temperature" not in _body(judges, params={"votes": 3})
    assert _body(judges, params={"temperature": 0.1})["temperature"] == 0.1


def test_the_two_names_of_one_limit_are_never_sent_together(judges: Judges) -> None:
    judges.call("alter_model", "judge", parameters={"max_completion_tokens": 2000})
    assert _body(judges)["max_completion_tokens"] == 2000
    body = _body(judges, params={"max_tokens": 50})
    assert body["max_completion_tokens"] == 50
    assert "max_tokens" not in body


def test_a_template_is_the_whole_message_of_the_user(judges: Judges) -> None:
    job = judges.ask("Is {{output}} kind?", ROW)
    assert (
        judges.without_word(judges.message(job))
        == "Is <output-W>\nLook yourself.\n</output-W> kind?"
    )
    system = judges.message(job, "system")
    assert system.startswith("You check the work of another language model.")
    assert "Criterion" not in system
    assert system.endswith('"pass" or "fail".')


def test_a_system_message_of_ones_own_replaces_ours(judges: Judges) -> None:
    job = judges.ask("Kind? {{output}} Yes or no.", ROW, params={"system": "Du bist streng."})
    assert judges.message(job, "system") == "Du bist streng."
    # Nobody has told the judge of a JSON object.
    assert "response_format" not in job["request"]["body"]
    judges.call("alter_model", "judge", structured_output="json_schema")
    assert _body(judges, "Kind? {{output}}", params={"system": "x"})["response_format"] == SCHEMA


def test_an_empty_system_message_is_none(judges: Judges) -> None:
    body = _body(judges, "Kind? {{output}} Yes or no.", params={"system": ""})
    assert [m["role"] for m in body["messages"]] == ["user"]


@pytest.mark.parametrize("system", ["", "You are a strict editor."])
def test_a_criterion_is_asked_whatever_the_system_message(judges: Judges, system: str) -> None:
    job = judges.ask(CRITERION, ROW, params={"system": system})
    ours = judges.message(judges.ask(CRITERION, ROW), "system")
    content = judges.message(job)
    assert content.startswith(ours + "\n\n<input-")
    assert "Criterion:\nThe reply is kind." in content
    roles = [m["role"] for m in job["request"]["body"]["messages"]]
    assert roles == (["system", "user"] if system else ["user"])
    assert job["request"]["body"]["response_format"] == SCHEMA


# Japanese MT-Bench: recorded calls of a judge, in the words of its authors.


def _recorded(shared_data: Path) -> list[tuple[Body, Body]]:
    """Each call with its parts: (recording, attributes)."""
    form = re.compile(
        r"(?P<instruction>\[指示\]\n.*?)\n\n\[質問\]\n(?P<question>.*?)\n\n"
        r"(?:\[参考回答の開始\]\n(?P<reference>.*?)\n\[参考回答の終了\]\n\n)?"
        r"\[アシスタントの回答の開始\]\n(?P<answer>.*)\n\[アシスタントの回答の終了\]",
        re.DOTALL,
    )
    with gzip.open(shared_data / "ja_mt_bench/judgments.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    found = []
    for row in rows:
        match = form.fullmatch(row["judge_prompt"])
        assert match is not None, row["id"]
        found.append((row, {k: v for k, v in match.groupdict().items() if v is not None}))
    return found


def test_recorded_japanese_prompts_are_reproduced(judges: Judges, shared_data: Path) -> None:
    recorded = _recorded(shared_data)
    assert len(recorded) > 250
    end = "[アシスタントの回答の開始]\n{{attributes.answer}}\n[アシスタントの回答の終了]"
    reference = "[参考回答の開始]\n{{attributes.reference}}\n[参考回答の終了]\n\n"
    by_instruction: dict[tuple[str, bool], str] = {}
    calls: dict[Any, tuple[Body, Body]] = {}
    for row, parts in recorded:
        key = (parts["instruction"], "reference" in parts)
        if key not in by_instruction:
            by_instruction[key] = f"mt{len(by_instruction)}"
            judges.create(
                f"{key[0]}\n\n[質問]\n{{{{attributes.question}}}}\n\n{reference if key[1] else ''}{end}",
                by_instruction[key],
                params={"system": "", "threshold": 6},
                pipeline=by_instruction[key],
            )
        calls[judges.insert(pipeline=by_instruction[key], attributes=parts)] = (row, parts)
    assert len(by_instruction) == 4

    jobs = judges.claim()
    assert len(jobs) == len(calls)
    for job in jobs:
        row, parts = calls[job["trace_id"]]
        body = job["request"]["body"]
        assert [m["role"] for m in body["messages"]] == ["user"]
        assert "response_format" not in body
        content = judges.message(job)
        word = judges.word_of(content)
        # The prompt of the data is what is left without our tags, and each text is inside them.
        plain = re.sub(rf"<attributes\.\w+-{word}>\n|\n</attributes\.\w+-{word}>", "", content)
        assert plain == row["judge_prompt"]
        for name, text in parts.items():
            if name != "instruction":
                tag = f"attributes.{name}-{word}>"
                assert content.split(f"<{tag}\n")[1].split(f"\n</{tag}")[0] == text
        found = reader.read(row["judgment"], None, job["request"]["reading"]["threshold"])
        if found is not None:
            assert found.score == row["score"]
