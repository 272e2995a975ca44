"""An example is never the case at hand, nor another trace of its session."""

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

Examples = Any

QUERY = "I was charged twice for one order."

WAYS: dict[str, Callable[..., Any]] = {
    "few_shot": lambda e, **given: e.few_shot(QUERY, "f.trace_id", k=100, **given),
    "explain_few_shot": lambda e, **given: e.call(
        "explain_few_shot", "f.trace_id", validator=e.judge, query=QUERY, k=100, **given
    ),
    "few_shot_by_vector": lambda e, **given: e.call(
        "few_shot_by_vector", "f.trace_id", validator=e.judge, query=_vector(e), k=100, **given
    ),
    "similar_corrections": lambda e, **given: e.call(
        "similar_corrections", "f.trace_id", query=QUERY, k=100, **given
    ),
    "similar_corrections_by_vector": lambda e, **given: e.call(
        "similar_corrections_by_vector", "f.trace_id", query=_vector(e), k=100, **given
    ),
}


def _vector(e: Examples) -> Any:
    return e.one("select flywheel.embed(%s)::text", QUERY)


def _labelled(e: Examples, session: str | None) -> UUID:
    trace_id: UUID = e.trace(QUERY, f"out {session}", session_id=session)
    e.label(trace_id, corrected_output=f"better {session}")
    return trace_id


@pytest.mark.parametrize("way", WAYS)
def test_what_is_excluded_is_not_there(examples: Examples, way: str) -> None:
    target, sibling = _labelled(examples, "a"), _labelled(examples, "a")
    other, alone, alone_too = (_labelled(examples, s) for s in ("b", None, None))
    examples.upkeep()
    ask = WAYS[way]
    assert set(ask(examples)) == {target, sibling, other, alone, alone_too}
    assert set(ask(examples, exclude_trace=target)) == {other, alone, alone_too}
    assert set(ask(examples, exclude_session="a")) == {other, alone, alone_too}
    # Traces without a session have none in common.
    assert set(ask(examples, exclude_trace=alone)) == {target, sibling, other, alone_too}
    assert set(ask(examples, exclude_trace=target, exclude_session="b")) == {alone, alone_too}
    assert set(ask(examples, exclude_trace=UUID(int=0), exclude_session="c")) == {
        target,
        sibling,
        other,
        alone,
        alone_too,
    }


@pytest.mark.parametrize("form", ["messages", "text"])
def test_nor_does_the_prompt_of_the_application_show_it(examples: Examples, form: str) -> None:
    target = _labelled(examples, "a")
    _labelled(examples, "a")
    _labelled(examples, "b")

    def shown(**given: object) -> set[str]:
        said = examples.call("prompt_examples", pipeline=None, query=QUERY, format=form, **given)
        return set(re.findall(r"better (\w)", str(said)))

    assert shown() == {"a", "b"}
    assert shown(exclude_trace=target) == {"b"}
    assert shown(exclude_session="b") == {"a"}


def test_a_judge_is_never_shown_its_session(examples: Examples) -> None:
    target = _labelled(examples, "a")
    for session in ("a", "b", "c"):
        _labelled(examples, session)
    assert set(re.findall(r"out (\w)\n", examples.prompt(target).split("Verdict:", 1)[0])) <= {
        "b",
        "c",
    }
    fresh = examples.trace(QUERY, "new", session_id="b")
    shown = re.findall(r"\nout (\w)\n</output-\w+>\nVerdict: ", examples.prompt(fresh))
    assert set(shown) == {"a", "c"}


def test_a_judge_of_spans_is_never_shown_their_session(examples: Examples) -> None:
    examples.one("select flywheel.drop_validator('kind')")
    examples.judge = "kind span"
    examples.session.execute(
        "select flywheel.create_validator('kind span', 'llm', 'The reply is kind.', model => 'm',"
        " subject => 'span', few_shot_k => 20)"
    )
    spans = {}
    for name, session in (("one", "a"), ("two", "a"), ("three", "b"), ("four", None)):
        trace_id = examples.trace(QUERY, session_id=session)
        for part in ("left", "right"):
            spans[name, part] = (
                trace_id,
                examples.one(
                    "insert into flywheel.spans (trace_id, node, input, output) values (%s, 'n', %s, %s)"
                    " returning span_id",
                    trace_id,
                    QUERY,
                    f"{name} {part}",
                ),
            )
            examples.label(trace_id, span_id=spans[name, part][1])
    prompt = examples.prompt(*spans["one", "left"])
    shown = re.findall(r"\n(\w+ \w+)\n</output-\w+>\nVerdict: ", prompt)
    assert sorted(shown) == ["four left", "four right", "three left", "three right"]
