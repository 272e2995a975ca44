"""What may never be shown in a prompt, and that no way into one shows it."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

Examples = Any

QUERY = "I was charged twice for one order."

# What each way in says, all of it as one text. Only what people said: the most similar trace of the log
# is whatever it is.
WAYS: dict[str, Callable[[Examples], str]] = {
    "few_shot": lambda e: str(e.few_shot(QUERY, "f.*", k=100)),
    "explain_few_shot": lambda e: str(
        e.call("explain_few_shot", validator=e.judge, query=QUERY, k=100)
    ),
    "few_shot_by_vector": lambda e: str(
        e.rows(
            "select * from flywheel.few_shot_by_vector(%s, flywheel.embed(%s), k => 100)",
            e.judge,
            QUERY,
        )
    ),
    "a judge's prompt": lambda e: e.prompt(e.trace(QUERY)),
    "a preview of it": lambda e: str(
        e.trace(QUERY)
        and e.rows("select request from flywheel.preview_prompts(%s, n => 1)", e.judge)
    ),
    "similar_corrections": lambda e: str(
        e.rows(
            "select * from flywheel.similar_corrections(%s, k => 100) where kind = 'fixed'", QUERY
        )
    ),
    "similar_corrections_by_vector": lambda e: str(
        e.rows(
            "select * from flywheel.similar_corrections_by_vector(flywheel.embed(%s), k => 100)"
            " where kind = 'fixed'",
            QUERY,
        )
    ),
    "prompt_examples": lambda e: str(e.call("prompt_examples", pipeline=None, query=QUERY, k=100)),
    "prompt_examples as text": lambda e: str(
        e.call("prompt_examples", pipeline=None, query=QUERY, k=100, format="text")
    ),
}


def _both(e: Examples, mark: str, trace_id: UUID | None = None, **given: object) -> int:
    """An example for judges and for applications, recognized by its mark."""
    trace_id = trace_id or e.trace(QUERY, session_id=mark)
    said = {"reason": f"because {mark}", "corrected_output": f"better {mark}", **given}
    return int(e.label(trace_id, False, **said))


def _withdrawn(e: Examples) -> None:
    e.one("select flywheel.withdraw_label(%s)", _both(e, "barred"))


def _superseded(e: Examples) -> None:
    trace_id = e.trace(QUERY)
    _both(e, "barred", trace_id)
    _both(e, "newer", trace_id)


def _superseded_and_the_newer_forgotten(e: Examples) -> None:
    trace_id = e.trace(QUERY)
    _both(e, "barred", trace_id)
    e.one("select flywheel.forget_example(%s)", _both(e, "barred", trace_id))


def _forgotten(e: Examples) -> None:
    e.one("select flywheel.forget_example(%s, 'poisoned')", _both(e, "barred"))


def _forgotten_after_approval(e: Examples) -> None:
    label = _both(e, "barred")
    e.one("select flywheel.approve_example(%s)", label)
    e.one("select flywheel.forget_example(%s)", label)


def _unapproved(e: Examples) -> None:
    _both(e, "barred")
    e.session.execute("set local flywheel.require_example_approval = on")


def _of_a_forgotten_trace(e: Examples) -> None:
    trace_id = e.trace(QUERY)
    _both(e, "barred", trace_id)
    e.rows("select * from flywheel.forget_trace(%s)", trace_id)


BARRED: dict[str, Callable[[Examples], object]] = {
    "split dev": lambda e: _both(e, "barred", split="dev"),
    "split test": lambda e: _both(e, "barred", split="test"),
    "a model's proposal": lambda e: _both(e, "barred", source="llm_default"),
    "withdrawn": _withdrawn,
    "superseded": _superseded,
    "superseded, and the newer one forgotten": _superseded_and_the_newer_forgotten,
    "forgotten": _forgotten,
    "approved and then forgotten": _forgotten_after_approval,
    "not approved": _unapproved,
    "of a trace that was forgotten": _of_a_forgotten_trace,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", BARRED)
def test_no_way_shows_it(examples: Examples, case: str, way: str) -> None:
    good = _both(examples, "good")
    examples.one("select flywheel.approve_example(%s)", good)
    BARRED[case](examples)
    said = WAYS[way](examples)
    assert "good" in said
    assert "barred" not in said


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("source", ["human", "human_confirmed", "human_edited"])
def test_every_way_shows_what_a_person_said(examples: Examples, source: str, way: str) -> None:
    trace_id = examples.trace(QUERY)
    _both(examples, "good", trace_id, source=source)
    examples.session.execute("delete from flywheel.traces where trace_id = %s", (trace_id,))
    assert "good" in WAYS[way](examples)


@pytest.mark.parametrize("way", WAYS)
def test_what_was_taken_away_can_come_back(examples: Examples, way: str) -> None:
    trace_id = examples.trace(QUERY)
    _both(examples, "first", trace_id)
    second = _both(examples, "second", trace_id)
    examples.one("select flywheel.withdraw_label(%s)", second)
    forgotten = _both(examples, "third")
    examples.one("select flywheel.forget_example(%s)", forgotten)
    examples.one("select flywheel.approve_example(%s)", forgotten)
    said = WAYS[way](examples)
    assert ("first" in said, "second" in said, "third" in said) == (True, False, True)


def test_a_correction_of_a_span_has_the_split_of_its_trace(examples: Examples) -> None:
    for split in ("dev", "train"):
        trace_id = examples.trace(None)
        (span_id,) = examples.rows(
            "insert into flywheel.spans (trace_id, node, input) values (%s, 'reply', %s) returning span_id",
            trace_id,
            QUERY,
        )[0]
        examples.label(
            trace_id, None, validator=None, span_id=span_id, split=split, corrected_output=split
        )
    found = examples.call("similar_corrections", "f.corrected_output", query=QUERY, node="reply")
    assert found[:1] == ["train"]
    assert "dev" not in found


@pytest.mark.parametrize("kept", ["dev", "test"])
@pytest.mark.parametrize("function", ["similar_corrections", "similar_corrections_by_vector"])
def test_the_most_similar_trace_is_never_one_that_tests(
    examples: Examples, kept: str, function: str
) -> None:
    """Not even after its label was withdrawn: it may be labelled again."""
    query = "%s" if function == "similar_corrections" else "flywheel.embed(%s)"
    ask = f"select trace_id from flywheel.{function}({query}) where kind = 'similar'"
    near = examples.trace(QUERY)
    far = examples.trace("I was charged.")
    examples.upkeep()
    assert examples.rows(ask, QUERY) == [(near,)]
    label = examples.label(near, split=kept)
    assert examples.rows(ask, QUERY) == [(far,)]
    examples.one("select flywheel.withdraw_label(%s)", label)
    assert examples.rows(ask, QUERY) == [(far,)]
    examples.label(far, split="train")
    assert examples.rows(ask, QUERY) == [(far,)]


def test_the_most_similar_trace_is_one_that_went_well(examples: Examples) -> None:
    examples.trace(QUERY, status="error")
    examples.trace(QUERY, status="blocked")
    ask = "select trace_id from flywheel.similar_corrections(%s)"
    examples.upkeep()
    assert examples.rows(ask, QUERY) == []
    trace_id = examples.trace(QUERY)
    examples.upkeep()
    assert examples.rows(ask, QUERY) == [(trace_id,)]


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"split": "dev"}, "split_is_train"),
        ({"split": "test"}, "split_is_train"),
        ({"source": "llm_default"}, "a_person_has_confirmed_it"),
        ({"kind": "trace"}, "kind_is_verdict_or_correction"),
        ({"passed": None}, "a_verdict_has_a_validator"),
        ({"trace_id": "00000000-0000-0000-0000-000000000001"}, "_examples_trace_id_split_fkey"),
    ],
)
def test_the_table_refuses_it(
    examples: Examples, change: dict[str, object], constraint: str
) -> None:
    examples.label(examples.trace(QUERY))
    row = examples.one("select to_jsonb(e) from flywheel._examples as e")
    forged = {**row, "example_id": "00000000-0000-0000-0000-00000000000e", "label_id": -1, **change}
    with pytest.raises(psycopg.errors.IntegrityError) as caught:
        examples.rows(
            "insert into flywheel._examples select * from jsonb_populate_record(null::flywheel._examples, %s)"
            " returning 1",
            Jsonb(forged),
        )
    assert caught.value.diag.constraint_name == constraint


def test_an_example_for_train_cannot_be_of_a_trace_that_tests(examples: Examples) -> None:
    tested = examples.trace(QUERY)
    examples.label(tested, split="test")
    examples.label(examples.trace(QUERY))
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        examples.rows("update flywheel._examples set trace_id = %s returning 1", tested)


def test_a_split_cannot_move_from_under_an_example(examples: Examples) -> None:
    trace_id = examples.trace(QUERY)
    examples.label(trace_id)
    with pytest.raises(psycopg.errors.IntegrityError):
        examples.rows(
            "update flywheel._label_splits set split = 'dev' where trace_id = %s returning 1",
            trace_id,
        )


def test_a_session_cannot_turn_approval_off(people: Callable[[], Examples]) -> None:
    """A prompt that the database wants approved is not made by who sends the query."""
    owner = people()
    label = owner.label(owner.trace(QUERY))
    owner.session.execute(
        "do $$ begin execute format('alter database %I set flywheel.require_example_approval = on',"
        " current_database()); end $$"
    )
    other = people()
    other.session.execute("set flywheel.require_example_approval = off")
    assert other.few_shot(QUERY) == []
    owner.one("select flywheel.approve_example(%s)", label)
    assert other.few_shot(QUERY) == [QUERY]


def test_who_decided_and_where_it_comes_from_is_told(examples: Examples) -> None:
    label = examples.label(
        examples.trace(QUERY, session_id="s-1", pipeline="support"),
        False,
        labeler="ann",
        source="human_edited",
        reason="r",
        corrected_output="c",
    )
    examples.one("select flywheel.approve_example(%s)", label)
    rows = examples.rows(
        "select kind, validator, passed, corrected_output, reason, pipeline, session_id, source, labeler,"
        " session_role = session_user, approved_by = session_user from flywheel.examples"
        " where label_id = %s order by kind",
        label,
    )
    shared = ("c", "r", "support", "s-1", "human_edited", "ann", True, True)
    assert rows == [("correction", "kind", None, *shared), ("verdict", "kind", False, *shared)]
    assert examples.one("select flywheel.approve_example(%s)", label) is False
    assert examples.one("select flywheel.forget_example(%s)", label) is True
    assert examples.one("select flywheel.forget_example(%s)", label) is False
    assert examples.rows("select * from flywheel.examples") == []
    # The label itself goes on counting.
    assert examples.one("select label_id from flywheel.current_labels") == label


@pytest.mark.parametrize("decide", ["approve_example", "forget_example"])
@pytest.mark.parametrize(("label", "named"), [(0, "0"), (None, "null")])
def test_a_label_that_is_not_there_is_named(
    examples: Examples, decide: str, label: int | None, named: str
) -> None:
    with pytest.raises(psycopg.Error, match=f"there is no label {named}") as caught:
        examples.one(f"select flywheel.{decide}(%s)", label)
    assert caught.value.sqlstate == "LF004"
    assert "flywheel.examples" in (caught.value.diag.message_hint or "")
