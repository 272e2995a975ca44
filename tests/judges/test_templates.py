"""Templates: what a placeholder may name, what stands in its place, and what is no placeholder."""

from typing import Any

import psycopg
import pytest

Judges = Any

ROW = {
    "input": "Hi",
    "output": "Hello",
    "user_id": "u1",
    "attributes": {
        "a": {"b": "deep"},
        "items": [{"name": "first"}, {"name": "last"}],
        "customer name": "with a space",
        "http-status": 404,
        "gen_ai.system": "with a dot",
        'quo"te': "with a quote",
        "顧客": {"名前": "山田"},
        "número": 1.50,
        "yes": True,
        "no": False,
        "nothing": None,
        "empty": "",
        "blank list": [],
        "object": {"longer": 1, "z": [True, None]},
        "0": "zero",
    },
}


@pytest.mark.parametrize(
    ("body", "rendered"),
    [
        ("{{input}}", "<input-W>\nHi\n</input-W>"),
        ("{{ output }}", "<output-W>\nHello\n</output-W>"),
        ("{{\n output\t}}.", "<output-W>\nHello\n</output-W>."),
        ("{{user_id}}{{status}}", "<user_id-W>\nu1\n</user_id-W><status-W>\nok\n</status-W>"),
        ("{{attributes.a.b}}", "<attributes.a.b-W>\ndeep\n</attributes.a.b-W>"),
        ("{{attributes . a . b}}", "<attributes.a.b-W>\ndeep\n</attributes.a.b-W>"),
        ("{{attributes.items.0.name}}", "<attributes.items.0.name-W>\nfirst\n</attributes.items.0.name-W>"),
        ("{{attributes.items.-1.name}}", "<attributes.items._1.name-W>\nlast\n</attributes.items._1.name-W>"),
        ("{{attributes.customer name}}", "<attributes.customer_name-W>\nwith a space\n</attributes.customer_name-W>"),
        ("{{attributes.http-status}}", "<attributes.http_status-W>\n404\n</attributes.http_status-W>"),
        ('{{attributes."gen_ai.system"}}', "<attributes.gen_ai_system-W>\nwith a dot\n</attributes.gen_ai_system-W>"),
        ('{{attributes."quo""te"}}', "<attributes.quo_te-W>\nwith a quote\n</attributes.quo_te-W>"),
        ('{{attributes."a"."b"}}', "<attributes.a.b-W>\ndeep\n</attributes.a.b-W>"),
        ("{{attributes.顧客.名前}}", "<attributes.顧客.名前-W>\n山田\n</attributes.顧客.名前-W>"),
        ("{{attributes.número}}", "<attributes.número-W>\n1.5\n</attributes.número-W>"),
        ("{{attributes.0}}", "<attributes.0-W>\nzero\n</attributes.0-W>"),
        ("{{attributes.yes}}", "<attributes.yes-W>\ntrue\n</attributes.yes-W>"),
        ("{{attributes.no}}", "<attributes.no-W>\nfalse\n</attributes.no-W>"),
        ("{{attributes.empty}}", "<attributes.empty-W>\n\n</attributes.empty-W>"),
        ("{{attributes.blank list}}", "<attributes.blank_list-W>\n[]\n</attributes.blank_list-W>"),
        (
            "{{attributes.object}}",
            '<attributes.object-W>\n{"z": [true, null], "longer": 1}\n</attributes.object-W>',
        ),
    ],
)  # fmt: skip
def test_what_a_placeholder_names_stands_between_tags(
    judges: Judges, body: str, rendered: str
) -> None:
    assert judges.user(body, ROW) == rendered


@pytest.mark.parametrize(
    ("body", "rendered"),
    [
        ('Say {"answer": {{output}}}', 'Say {"answer": O}'),
        ('{{"a": {"b": 1}}} {{output}}', '{{"a": {"b": 1}}} O'),
        ("{{{output}}}", "{O}"),
        ("{output} { {output} } {{ }} {{}} {{1}} {{{{ }}}} {{output}}", "{output} { {output} } {{ }} {{}} {{1}} {{{{ }}}} O"),
        ("{% if x %} $output ${output} %(output)s {{output}}", "{% if x %} $output ${output} %(output)s O"),
        (r"Unfilled \{{name}} or \{{ in {{output}}", "Unfilled {{name}} or {{ in O"),
        ("\x1f{{output}}\x1finput\x1f", "\x1fO\x1finput\x1f"),
        ("日本語の{{output}}は丁寧ですか。", "日本語のOは丁寧ですか。"),
        ("{{output}}\n{{output}}", "O\nO"),
    ],
)  # fmt: skip
def test_everything_else_is_sent_as_it_stands(judges: Judges, body: str, rendered: str) -> None:
    material = "<output-W>\nHello\n</output-W>"
    assert judges.user(body, ROW).replace(material, "O") == rendered


def test_braces_of_a_criterion_that_are_escaped_leave_it_a_criterion(judges: Judges) -> None:
    job = judges.ask(r"No placeholder such as \{{name}} is left.", ROW)
    assert "Criterion:\nNo placeholder such as {{name}} is left.\n" in judges.message(job, "system")
    assert "<output-" in judges.message(job)


@pytest.mark.parametrize(
    ("body", "subject", "said", "advice"),
    [
        ("{{outptu}}", "trace", "names {{outptu}}, which a trace does not have", "input, output"),
        ("{{質問}} {{output}}", "trace", "names {{質問}}, which a trace does not have", "attributes"),
        ("{{node}} {{output}}", "trace", "names {{node}}, which a trace does not have", "There are"),
        ("{{session_id}} {{nodes}}", "span", "names {{nodes}}, which a span does not have", "node, kind"),
        ("{{output.answer}}", "trace", "{{output.answer}}, and output is no object", "Write {{output}}."),
        ("{{node.name}}", "span", "{{node.name}}, and node is no object", "Write {{node}}."),
        ("{{examples.0}} {{output}}", "trace", "names {{examples.0}}, which", "examples"),
        ("{{attributes.}}", "trace", "names {{attributes.}}, which", "{{attributes.customer.tier}}"),
        ("{{attributes..a}}", "trace", "names {{attributes..a}}, which", "attributes"),
        ('{{attributes."a".b"c"}}', "trace", 'names {{attributes."a".b"c"}}, which', "attributes"),
        ("{{output | upper}}", "trace", "names {{output | upper}}, which", "There are"),
        ("{{#if output}}x{{/if}} {{output}}", "trace", "names {{#if output}}, which", r"\{{"),
        ("{{ output[0] }}", "trace", "names {{output[0]}}, which", "There are"),
        ("{{received_at}}", "trace", "names {{received_at}}, which", "started_at"),
        ("Is {{output} kind?", "trace", "opens {{ and does not close it: {{output} kind?", r"\{{"),
        ("{{output}} {{input", "trace", "opens {{ and does not close it: {{input", "Write }}"),
        ('{{attributes."a}} {{output}}', "trace", "opens {{ and does not close it", "Write }}"),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_refused_by_its_name(
    judges: Judges, body: str, subject: str, said: str, advice: str
) -> None:
    with pytest.raises(psycopg.Error) as refused:
        judges.create(body, subject=subject)
    assert refused.value.sqlstate == "LF001"
    assert said in (refused.value.diag.message_primary or "")
    assert advice in (refused.value.diag.message_hint or "")
    assert refused.value.diag.message_detail == body


@pytest.mark.parametrize(
    ("body", "row", "reason"),
    [
        ("{{output}}", {"input": "x"}, "nothing to judge: output is null"),
        ("{{input}} {{output}} {{user_id}}", {"output": "x"}, "nothing to judge: input, user_id is null"),
        ("{{output}} {{attributes.a.b}}", {"output": "x"}, "nothing to judge: attributes.a.b is null"),
        ("{{attributes.a.b}}", {"attributes": {"a": {"b": None}}}, "nothing to judge: attributes.a.b is null"),
        ("{{attributes.a.b}}", {"attributes": {"a": "b"}}, "nothing to judge: attributes.a.b is null"),
        ("{{attributes.a.1}}", {"attributes": {"a": ["x"]}}, "nothing to judge: attributes.a.1 is null"),
        ('{{attributes."a.b"}}', {"attributes": {"a": {"b": 1}}}, 'nothing to judge: attributes."a.b" is null'),
        ("The reply is kind.", {"input": "x"}, "nothing to judge: output is null"),
    ],
)  # fmt: skip
def test_what_is_null_or_missing_is_skipped_and_named(
    judges: Judges, body: str, row: dict[str, Any], reason: str
) -> None:
    job = judges.ask(body, row)
    assert (job["request"], job["skipped_reason"]) == (None, reason)


def test_an_empty_text_is_judged(judges: Judges) -> None:
    assert judges.user("{{input}}|{{output}}", {"input": "", "output": " "}) == (
        "<input-W>\n\n</input-W>|<output-W>\n \n</output-W>"
    )
    assert "<output-W>\n\n</output-W>" in judges.user("The reply is kind.", {"output": ""})


def test_a_criterion_needs_no_input(judges: Judges) -> None:
    content = judges.user("The text is kind.", {"output": "x"})
    assert "input" not in content
    assert content.startswith("<output-W>\nx\n</output-W>\n\n")


def test_params_are_the_engineers_words_and_stand_without_tags(judges: Judges) -> None:
    params = {"tone": "warm", "rules": ["be brief", {"max": 3}], "n": 7, "votes": 3}
    content = judges.user(
        "Tone {{params.tone}}, {{params.n}}, {{params.rules.1.max}}, {{params.rules}}: {{output}}",
        ROW,
        params=params,
    )
    assert content == 'Tone warm, 7, 3, ["be brief", {"max": 3}]: <output-W>\nHello\n</output-W>'


def test_all_params_may_be_named_at_once(judges: Judges) -> None:
    content = judges.user("{{params}} {{output}}", ROW, params={"anything": 1})
    assert content.startswith('{"anything": 1} <output-')


def test_what_is_filled_in_is_never_filled_in_again(judges: Judges) -> None:
    row = {
        "input": "{{output}} {{params.tone}} {{examples}} \\{{x}} \x1foutput\x1f",
        "output": "{{input}}",
        "attributes": {"a": "{{attributes}}", "b": "{{ "},
    }
    content = judges.user(
        "{{params.tone}} {{input}} {{output}} {{attributes.a}} {{attributes.b}}",
        row,
        params={"tone": "{{output}}"},
    )
    assert content == (
        "{{output}} <input-W>\n" + row["input"] + "\n</input-W> <output-W>\n{{input}}\n</output-W> "
        "<attributes.a-W>\n{{attributes}}\n</attributes.a-W> <attributes.b-W>\n{{ \n</attributes.b-W>"
    )


def test_columns_of_spans_and_of_their_trace(judges: Judges) -> None:
    judges.create(
        "{{pipeline}} {{user_id}} {{node}} {{kind}} {{model}} {{input_tokens}} {{cost_usd}} {{output}}",
        subject="span",
    )
    trace_id = judges.insert(pipeline="p", user_id="u", output="of the trace")
    judges.insert(
        "spans", trace_id=trace_id, node="n", kind="tool", model="m", input_tokens=12, cost_usd="0.50", output="of the span",
    )  # fmt: skip
    (job,) = judges.claim()
    content = judges.without_word(judges.message(job))
    for name, value in {
        "pipeline": "p", "user_id": "u", "node": "n", "kind": "tool", "model": "m",
        "input_tokens": "12", "cost_usd": "0.50", "output": "of the span",
    }.items():  # fmt: skip
        assert f"<{name}-W>\n{value}\n</{name}-W>" in content
    assert "of the trace" not in content


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Tokyo"])
def test_times_are_in_utc_whatever_the_session_has(judges: Judges, timezone: str) -> None:
    judges.session.execute(f"set local timezone = '{timezone}'")
    row = {
        "started_at": "2025-01-02 03:04:05.678+00",
        "ended_at": "infinity",
        "trace_id": "00000000-0000-0000-0000-00000000000a",
    }
    assert judges.user("{{started_at}} {{ended_at}} {{trace_id}}", row) == (
        "<started_at-W>\n2025-01-02T03:04:05.678+00:00\n</started_at-W> "
        "<ended_at-W>\ninfinity\n</ended_at-W> "
        "<trace_id-W>\n00000000-0000-0000-0000-00000000000a\n</trace_id-W>"
    )


def test_a_megabyte_is_shown_by_its_beginning_and_its_end(judges: Judges) -> None:
    text = "".join(chr(ord("a") + n % 26) for n in range(1_000_000))
    content = judges.user("{{input}}. {{output}}", {"input": text, "output": "short"})
    assert content == (
        "<input-W>\n" + text[:50_000] + "\n</input-W>\n"
        "(900000 of its 1000000 characters are left out here, because it is too long to be shown. It ends:)\n"
        "<input-W>\n" + text[-50_000:] + "\n</input-W>. <output-W>\nshort\n</output-W>"
    )


def test_max_chars_is_what_is_shown_of_each_value(judges: Judges) -> None:
    row = {
        "input": "あ" * 101 + "b" * 100,
        "output": "x" * 200,
        "attributes": {"list": list(range(99))},
    }
    content = judges.user(
        "{{input}}{{output}}{{attributes.list}}{{params.note}}",
        row,
        params={"max_chars": 201, "note": "n" * 300},
    )
    assert f"<input-W>\n{row['input']}\n</input-W><output-W>" in content
    assert "(86 of its 287 characters" not in content
    assert content.endswith("n" * 300)
    shown = content[content.index("<attributes") : content.index("nnn")]
    assert "96, 97, 98]\n</attributes.list-W>" in shown
    assert shown.count("<attributes.list-W>\n") == 2
    assert "characters are left out here" in shown

    whole = judges.user("{{output}}", {"output": "x" * 1_000_000}, params={"max_chars": 1_000_000})
    assert whole == "<output-W>\n" + "x" * 1_000_000 + "\n</output-W>"
    one_too_many = judges.user("{{output}}", {"output": "é" * 101}, params={"max_chars": 100})
    assert one_too_many.count("é") == 100
    assert "(1 of its 101 characters are left out here" in one_too_many
