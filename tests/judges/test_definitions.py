"""Creating and altering judges: what is accepted, what is refused and with which advice."""

import uuid
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

Judges = Any

CRITERION = "The reply answers the question."
MANY = "{{input}} {{output}} {{params.tone}}"


def test_a_judge_needs_no_mode_and_is_queued(judges: Judges) -> None:
    judges.call("create_validator", "x", "llm", CRITERION, model="judge")
    judges.insert(input="a", output="b")
    row = judges.session.execute(
        "select language, mode, reads, is_total, model from flywheel.validators where name = 'x'"
    ).fetchone()
    assert row == ("llm", "queued", ["input", "output"], False, "judge")
    assert judges.session.execute("select count(*) from flywheel.verdicts").fetchone() == (0,)
    assert judges.session.execute(
        "select validator, language, state from flywheel.jobs"
    ).fetchall() == [("x", "llm", "pending")]
    assert "0 in SQL, 0 in Python, 1 queued" in judges.call("explain_validators")


def test_asking_for_inline_does_not_call_anybody_inside_the_insert(judges: Judges) -> None:
    name = judges.create(CRITERION, mode="inline")
    judges.call("alter_validator", name, mode="inline")
    rows = judges.session.execute("select mode, version from flywheel.validators").fetchall()
    assert rows == [("queued", 2)]


def test_the_gate_never_asks_a_judge(judges: Judges) -> None:
    judges.create("The question {{input}} is polite.")
    assert judges.session.execute("select * from flywheel.check_input('you fool')").fetchall() == []
    assert judges.call("input_ok", "you fool") is True
    assert judges.claim() == []


@pytest.mark.parametrize(
    ("body", "options", "said", "advice"),
    [
        ("  \n ", {}, "the body is empty", "Give a criterion in words"),
        (CRITERION, {"model": None}, "a judge needs a model", "flywheel.create_model()"),
        (CRITERION, {"params": {"votes": 2}}, "the judge's votes is 2", "odd number from 1 to 15"),
        (CRITERION, {"params": {"votes": 17}}, "the judge's votes is 17", "odd number"),
        (CRITERION, {"params": {"votes": "3"}}, 'the judge\'s votes is "3"', "odd number"),
        # Both would fail where they are cast to integer, in every claim.
        (CRITERION, {"params": {"votes": 3.5}}, "the judge's votes is 3.5", "odd number"),
        (CRITERION, {"params": {"max_attempts": 2.5}}, "max_attempts is 2.5", "whole number"),
        (CRITERION, {"params": {"max_attempts": 0}}, "max_attempts is 0", "from 1 to 1000"),
        (CRITERION, {"params": {"max_tokens": 0.5}}, "max_tokens is 0.5", "from 1 to 1000000"),
        (CRITERION, {"params": {"max_tokens": 10**9}}, "max_tokens is", "from 1 to 1000000"),
        (CRITERION, {"params": {"max_chars": 99}}, "max_chars is 99", "from 100 to 10000000"),
        (CRITERION, {"params": {"max_chars": None}}, "max_chars is null", "from 100"),
        (CRITERION, {"params": {"temperature": 3}}, "temperature is 3", "from 0 to 2"),
        (CRITERION, {"params": {"temperature": "0"}}, "temperature is", "from 0 to 2"),
        (CRITERION, {"params": {"threshold": "7"}}, "threshold is", "lowest score that passes"),
        (CRITERION, {"params": {"threshold": 10**400}}, "threshold is", "lowest score"),
        (CRITERION, {"params": {"system": None}}, "system is null", "as text"),
        (CRITERION, {"params": {"choices": {}}}, "choices is {}", "two labels or more"),
        (CRITERION, {"params": {"choices": {"A": True}}}, "choices is", "two labels or more"),
        (CRITERION, {"params": {"choices": ["A", "B"]}}, "choices is", '{"A": true, "B": false}'),
        (CRITERION, {"params": {"choices": {"A": 1, "B": 0}}}, "choices is", "whether each passes"),
        (CRITERION, {"params": {"choices": {"A": True, " ": False}}}, "choices is", "two labels"),
        # The reader of replies could not tell them apart.
        (CRITERION, {"params": {"choices": {"Good": True, " good.": False}}}, "choices is", "case"),
        (
            CRITERION,
            {"params": {"threshold": 7, "choices": {"A": True, "B": False}}},
            "a score or chooses a label, not both",
            "Leave threshold or choices out",
        ),
        (CRITERION, {"params": {"tone": "warm"}}, "the judge has the param 'tone'", "{{params.tone}}"),
        # A slip of the pen in a template is no param of the template.
        (MANY, {"params": {"tone": "warm", "vote": 3}}, "the judge has the param 'vote'", "votes"),
        (MANY, {"params": {}}, "{{params.tone}}, which params does not have", "params =>"),
        (MANY, {"params": {"tone": None}}, "{{params.tone}}, which params does not have", "params"),
        ("Tone: {{params.tone}}", {"params": {"tone": "x"}}, "names nothing of the trace", "{{output}}"),
        ("{{examples}} Well?", {"few_shot_k": 3}, "names nothing of the trace", "{{output}}"),
        (CRITERION, {"on_fail": "reject"}, "a judge cannot reject", "Leave on_fail and on_error out"),
        (CRITERION, {"on_error": "reject"}, "a judge cannot reject", "Leave on_fail and on_error out"),
        (CRITERION, {"score": "length(output)"}, "score and reason are SQL", '{"threshold": 7}'),
        (CRITERION, {"reason": "output"}, "score and reason are SQL", "A judge gives its reason"),
        (CRITERION, {"budget": {"time_ms": 100}}, "a budget is for Python", "daily_budget_usd"),
        (CRITERION, {"few_shot_k": 21}, "few_shot_k is 21", "at most 20"),
        (CRITERION, {"few_shot_k": -1}, "few_shot_k is negative", "0 for none"),
        (CRITERION, {"node": "plan"}, "node and kind filter spans", "subject => 'span'"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_advice(
    judges: Judges, body: str, options: dict[str, Any], said: str, advice: str
) -> None:
    with pytest.raises(psycopg.Error) as refused, judges.session.transaction():
        judges.create(body, **options)
    assert refused.value.sqlstate == "LF001"
    assert said in (refused.value.diag.message_primary or "")
    assert advice in (refused.value.diag.message_hint or "")
    assert judges.session.execute("select count(*) from flywheel.validators").fetchone() == (0,)


def test_an_unknown_model_is_named_with_those_there_are(judges: Judges) -> None:
    with pytest.raises(psycopg.Error, match="there is no model jugde") as refused:
        judges.create(CRITERION, model="jugde")
    assert refused.value.sqlstate == "LF005"
    assert refused.value.diag.message_hint == "There are: judge"


def test_numbers_that_mean_the_same_are_accepted(judges: Judges) -> None:
    """JSON has many spellings of one number; what is stored must be one that integers are read from."""
    for params in (
        '{"votes": 3}',
        '{"max_attempts": 1e1}',
        '{"threshold": 7.50, "temperature": 0.0}',
    ):
        judges.session.execute(
            "select flywheel.create_validator(%s, 'llm', 'Good.', model => 'judge', params => %s)",
            (params, params),
        )
    judges.insert(output="x")
    assert len(judges.claim()) == 3
    with pytest.raises(psycopg.Error, match=r"votes is 3\.0"):
        judges.session.execute(
            """select flywheel.create_validator('x', 'llm', 'Good.', model => 'judge', params => '{"votes": 3.0}')"""
        )


def test_labels_of_one_letter_may_differ_in_case(judges: Judges) -> None:
    judges.create(CRITERION, params={"choices": {"m": True, "M": False}})


@pytest.mark.parametrize("model_temperature", [True, False])
def test_votes_that_would_be_alike_are_remarked_on(judges: Judges, model_temperature: bool) -> None:
    temperature = {"temperature": 0}
    if model_temperature:
        judges.call("alter_model", "judge", parameters=temperature)
    judges.create(CRITERION, params={"votes": 3} | ({} if model_temperature else temperature))
    assert judges.notices == [
        "the judge votes 3 times, and its temperature is 0: the votes will be alike"
    ]
    judges.create(CRITERION, params={"votes": 3, "temperature": 0.5})
    judges.create(CRITERION, params={"votes": 1} | ({} if model_temperature else temperature))
    assert len(judges.notices) == 1


def test_rows_that_lack_what_the_template_names_are_counted(judges: Judges) -> None:
    judges.insert(output="a", attributes={"customer": {"tier": "gold"}})
    judges.insert(output="b", attributes={"customer": {"tier": None}})
    judges.insert(output="c")
    judges.insert(pipeline="other", output="c", attributes={"customer": {}})
    judges.create(
        "{{output}} {{attributes.customer.tier}} {{attributes.customer}}", pipeline="default"
    )
    assert judges.notices == [
        "1 of the latest 3 rows have no attributes.customer",
        "2 of the latest 3 rows have no attributes.customer.tier",
    ]
    judges.notices.clear()
    judges.create("{{input}} {{output}} {{params.tone}}", params={"tone": "x"}, pipeline="other")
    assert judges.notices == ["1 of the latest 1 rows have no input"]
    judges.notices.clear()
    judges.create("{{output}} {{attributes.a}}", pipeline="none so far")
    judges.create(CRITERION)
    assert judges.notices == []


def test_spans_are_compared_with_a_template_too(judges: Judges) -> None:
    trace_id = judges.insert(pipeline="p")
    judges.insert("spans", trace_id=trace_id, node="n", output="x", attributes={"a": 1})
    judges.insert("spans", trace_id=trace_id, node="n", output="x")
    judges.insert("spans", trace_id=trace_id, node="m", output="x")
    judges.create("{{output}} {{attributes.a}}", subject="span", pipeline="p", node="n")
    assert judges.notices == ["1 of the latest 2 rows have no attributes.a"]


def test_examples_that_are_named_and_not_asked_for_are_remarked_on(judges: Judges) -> None:
    judges.create("{{examples}} {{output}}")
    assert judges.notices == ["the template names {{examples}}, and few_shot_k is not set"]
    judges.create("{{examples}} {{output}}", few_shot_k=2)
    assert len(judges.notices) == 1


@pytest.mark.parametrize(
    ("body", "options", "reads"),
    [
        (CRITERION, {}, ["input", "output"]),
        ("{{output}}? {{output}}!", {}, ["output"]),
        (MANY, {"params": {"tone": "warm"}}, ["input", "output", "params"]),
        ("{{attributes.a.b}} {{user_id}} {{attributes.c}}", {}, ["user_id", "attributes"]),
        ("{{examples}}{{node}}{{cost_usd}}", {"subject": "span", "few_shot_k": 1}, ["node", "cost_usd"]),
    ],
)  # fmt: skip
def test_the_view_says_which_columns_are_read(
    judges: Judges, body: str, options: dict[str, Any], reads: list[str]
) -> None:
    judges.create(body, **options)
    assert judges.session.execute("select reads from flywheel.validators").fetchone() == (reads,)


def test_a_judge_that_is_not_enabled_is_asked_nothing(judges: Judges) -> None:
    name = judges.create(CRITERION, enabled=False)
    judges.insert(output="before")
    assert judges.claim() == []
    judges.call("enable_validator", name)
    judges.insert(output="after")
    assert len(judges.claim()) == 1


def test_filters_and_the_sample_decide_who_gets_a_job(judges: Judges) -> None:
    judges.create(CRITERION, "support", pipeline="support")
    judges.create(CRITERION, "half", sample_rate=0.5)
    judges.create(CRITERION, "writers", subject="span", kind="writer", pipeline="support")
    judges.create(CRITERION, "plans", subject="span", node="plan")
    traces = [
        judges.insert(pipeline=["support", "sales"][n % 2], input="in", output="out")
        for n in range(60)
    ]
    for trace_id in traces:
        for node, kind in (("plan", "chain"), ("write", "writer")):
            judges.insert("spans", trace_id=trace_id, node=node, kind=kind, input="i", output=node)
    jobs: dict[str, set[Any]] = {"support": set(), "half": set(), "writers": set(), "plans": set()}
    for job in judges.claim():
        jobs[job["validator"]].add(job["trace_id"])
        content = judges.message(job)
        if job["validator"] in ("writers", "plans"):
            assert job["span_id"] is not None
            assert {"writers": "\nwrite\n", "plans": "\nplan\n"}[job["validator"]] in content
        else:
            assert job["span_id"] is None
    assert jobs["support"] == jobs["writers"] == set(traces[::2])
    assert jobs["plans"] == set(traces)
    sampled = judges.session.execute(
        "select trace_id from flywheel.traces where flywheel._is_sampled(trace_id, 0.5)"
    ).fetchall()
    assert jobs["half"] == {trace_id for (trace_id,) in sampled}
    assert 0 < len(sampled) < 60


def _complete(judges: Judges, status: str) -> list[tuple[uuid.UUID, int]]:
    jobs = judges.claim()
    results = [
        {
            "trace_id": str(job["trace_id"]), "span_id": None, "version_id": job["version_id"],
            "token": job["token"], "status": status,
        }
        for job in jobs
    ]  # fmt: skip
    judges.session.execute("select flywheel.complete_jobs('test', %s)", (Jsonb(results),))
    return [(job["trace_id"], job["version"]) for job in jobs]


def test_a_new_version_leaves_old_verdicts_and_is_backfilled_beside_them(committed: Judges) -> None:
    committed.create("The reply is kind.", "kind")
    first = committed.insert(output="a")
    assert _complete(committed, "passed") == [(first, 1)]

    assert committed.call("alter_validator", "kind", body="The reply is very kind.") == 2
    second = committed.insert(output="b")
    assert _complete(committed, "failed") == [(second, 2)]

    committed.session.execute("call flywheel.backfill('kind')")
    assert _complete(committed, "failed") == [(first, 2)]
    committed.session.execute("call flywheel.backfill('kind')")
    assert committed.claim() == []
    verdicts = committed.session.execute(
        "select trace_id, version, status from flywheel.verdicts order by trace_id, version"
    ).fetchall()
    assert verdicts == [(first, 1, "passed"), (first, 2, "failed"), (second, 2, "failed")]
    coverage = committed.session.execute(
        "select expected, decided, pending, missing from flywheel.coverage"
    ).fetchone()
    assert coverage == (3, 3, 0, 0)


def test_altering_checks_what_comes_out_of_it(judges: Judges) -> None:
    name = judges.create(MANY, params={"tone": "warm"})
    with (
        pytest.raises(psycopg.Error, match=r"\{\{params.tone\}\}") as refused,
        judges.session.transaction(),
    ):
        judges.call("alter_validator", name, params={"votes": 3})
    assert refused.value.sqlstate == "LF001"
    with pytest.raises(errors.Error, match="needs a model"), judges.session.transaction():
        judges.session.execute("select flywheel.alter_validator(%s, clear => '{model}')", (name,))
    judges.call("alter_validator", name, body="Just {{output}}", params={})
    judges.insert(input="i", output="o")
    (job,) = judges.claim()
    assert judges.without_word(judges.message(job)) == "Just <output-W>\no\n</output-W>"


def test_jobs_keep_the_version_they_were_enqueued_for(judges: Judges) -> None:
    name = judges.create("The reply is kind.")
    judges.insert(output="a")
    judges.call("alter_validator", name, body="The reply is brief.")
    (job,) = judges.claim()
    assert job["version"] == 1
    assert "The reply is kind." in judges.message(job, "system")
