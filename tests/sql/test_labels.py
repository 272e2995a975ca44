"""Labels: what they record, what is refused, which one counts."""

import uuid

import pytest
from psycopg import Connection, errors, sql
from psycopg.errors import Diagnostic
from psycopg.rows import dict_row

from flywheel_db.errors import UnknownTarget, from_psycopg

TRACE = uuid.UUID(int=1)
SPAN = uuid.UUID(int=2)
OTHER = uuid.UUID(int=3)


@pytest.fixture
def world(db: Connection) -> Connection:
    """A trace with a span, and a validator of each subject."""
    db.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 5')")
    db.execute(
        "select flywheel.create_validator('tool ok', 'sql', 'length(output) < 5', subject => 'span')"
    )
    db.execute(
        "insert into flywheel.traces (trace_id, pipeline, input, output, attributes) "
        "values (%s, 'support', 'why?', 'because', '{\"lang\": \"en\"}'), (%s, 'support', 'how?', 'so', '{}')",
        (TRACE, OTHER),
    )
    db.execute(
        "insert into flywheel.spans (trace_id, span_id, node, input, output) values (%s, %s, 'search', 'q', 'hit')",
        (TRACE, SPAN),
    )
    return db


def label(session: Connection, validator: str | None = "short", **given: object) -> int:
    """Call flywheel.label about the trace, unless trace_id or span_id is given."""
    given = {"trace_id": TRACE, "validator": validator, **given}
    arguments = sql.SQL(", ").join(
        sql.SQL("{} => {}").format(sql.Identifier(key), sql.Placeholder(key)) for key in given
    )
    row = session.execute(sql.SQL("select flywheel.label({})").format(arguments), given).fetchone()
    assert row is not None
    return int(row[0])


def _refusal(session: Connection, **given: object) -> Diagnostic:
    with pytest.raises(errors.DatabaseError) as caught, session.transaction():
        label(session, **given)  # type: ignore[arg-type]
    assert caught.value.diag.message_hint, caught.value
    return caught.value.diag


def _current(session: Connection, columns: str = "passed, reason") -> list[tuple[object, ...]]:
    return session.execute(
        f"select {columns} from flywheel.current_labels order by validator, trace_id, span_id"  # type: ignore[arg-type]
    ).fetchall()


def test_a_label_holds_its_own_copy_of_the_trace(world: Connection) -> None:
    label_id = label(
        world, passed=False, reason="too long", corrected_output="so", labeler="ann", score=0.25,
        gold_label="long", sampling_probability=0.1, source="human_edited",
    )  # fmt: skip
    with world.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute("select * from flywheel.current_labels").fetchone()
    assert row is not None
    assert row.pop("split") in {"train", "dev", "test"}
    assert row.pop("validator_id") > 0
    assert row.pop("created_at") == world.execute("select now()").fetchone()[0]  # type: ignore[index]
    assert row == {
        "trace_id": TRACE, "span_id": None, "revision": 1, "validator": "short", "version": 1,
        "passed": False, "gold_label": "long", "score": 0.25, "reason": "too long",
        "corrected_output": "so", "labeler": "ann", "source": "human_edited",
        "sampling_probability": 0.1, "label_id": label_id, "input": "why?", "output": "because",
        "pipeline": "support", "node": None, "is_current": True, "attributes": {"lang": "en"},
        "session_role": "postgres",
    }  # fmt: skip


def test_a_label_of_a_span_holds_the_span(world: Connection) -> None:
    label(world, "tool ok", span_id=SPAN, passed=True)
    assert _current(world, "span_id, input, output, node, pipeline, is_current") == [
        (SPAN, "q", "hit", "search", "support", True)
    ]


def test_a_span_can_be_labelled_before_its_trace_has_arrived(world: Connection) -> None:
    orphan = uuid.UUID(int=9)
    world.execute(
        "insert into flywheel.spans (trace_id, span_id, output) values (%s, %s, 'x')",
        (orphan, SPAN),
    )
    label(world, "tool ok", trace_id=orphan, span_id=SPAN, passed=True)
    assert _current(world, "trace_id, pipeline, is_current") == [(orphan, None, True)]


def test_the_newest_label_counts(world: Connection) -> None:
    label(world, passed=True)
    label(world, passed=False, reason="on second thoughts")
    label(world, trace_id=OTHER, passed=True)
    assert _current(world) == [(False, "on second thoughts"), (True, None)]


def test_a_person_comes_before_a_model(world: Connection) -> None:
    label(world, passed=True, reason="model", source="llm_default")
    assert _current(world) == [(True, "model")]
    label(world, passed=False, reason="person")
    label(world, passed=True, reason="model again", source="llm_default")
    assert _current(world) == [(False, "person")]


def test_a_later_correction_alone_does_not_hide_the_decision(world: Connection) -> None:
    label(world, passed=False, reason="too long")
    label(world, corrected_output="so")
    assert _current(world) == [(False, "too long")]
    assert world.execute("select corrected_output from flywheel.corrections").fetchall() == [
        ("so",)
    ]


def test_corrections_show_the_newest_of_each_target(world: Connection) -> None:
    label(world, passed=False, corrected_output="first", reason="r1")
    label(world, None, corrected_output="second", labeler="bob")
    label(world, corrected_output="of a model", source="llm_default")
    label(world, None, span_id=SPAN, corrected_output="of a span", source="human_confirmed")
    rows = world.execute(
        "select span_id, input, output, corrected_output, reason, validator, labeler, source, pipeline, node "
        "from flywheel.corrections order by label_id"
    ).fetchall()
    assert rows == [
        (None, "why?", "because", "second", None, None, "bob", "human", "support", None),
        (SPAN, "q", "hit", "of a span", None, None, "postgres", "human_confirmed", "support", "search"),
    ]  # fmt: skip
    # A correction about no validator answers none.
    assert _current(world, "validator, passed") == [("short", False)]


def test_a_withdrawn_label_uncovers_the_one_before(world: Connection) -> None:
    label(world, passed=True, source="llm_default", reason="model")
    label(world, passed=True, reason="first")
    second = label(world, passed=False, reason="second", corrected_output="so")
    withdraw = "select flywheel.withdraw_label(%s, 'clicked the wrong row')"
    assert world.execute(withdraw, (second,)).fetchone() == (True,)
    assert _current(world) == [(True, "first")]
    assert world.execute("select from flywheel.corrections").fetchall() == []
    # Once is enough, and nothing was deleted.
    assert world.execute(withdraw, (second,)).fetchone() == (False,)
    assert world.execute(
        "select w.reason, w.withdrawn_by, l.passed from flywheel._label_withdrawals w "
        "join flywheel._labels l using (label_id)"
    ).fetchall() == [("clicked the wrong row", "postgres", False)]
    world.execute(
        "select flywheel.withdraw_label(label_id) from flywheel.current_labels where reason = 'first'"
    )
    assert _current(world) == [(True, "model")]


@pytest.mark.parametrize("label_id", [0, None])
def test_withdrawing_a_label_that_is_not_there_says_so(
    world: Connection, label_id: int | None
) -> None:
    with pytest.raises(errors.DatabaseError, match="there is no label") as caught:
        world.execute("select flywheel.withdraw_label(%s)", (label_id,))
    assert isinstance(from_psycopg(caught.value), UnknownTarget)
    assert caught.value.diag.message_hint


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ({}, "LF002", "the label says nothing"),
        ({"reason": "because"}, "LF002", "the label says nothing"),
        ({"gold_label": "  "}, "LF002", "gold_label is blank"),
        ({"corrected_output": ""}, "LF002", "corrected_output is blank"),
        ({"score": float("nan")}, "LF002", "score is NaN"),
        ({"score": float("-inf")}, "LF002", "score is -Infinity"),
        ({"passed": True, "source": "oracle"}, "LF002", "source is 'oracle'"),
        ({"passed": True, "source": None}, "LF002", "source is null"),
        ({"passed": True, "sampling_probability": 0.0}, "LF002", "sampling_probability is 0"),
        ({"passed": True, "sampling_probability": 1.5}, "LF002", "sampling_probability is 1.5"),
        (
            {"passed": True, "sampling_probability": float("nan")},
            "LF002",
            "sampling_probability is NaN",
        ),
        ({"passed": True, "split": "validation"}, "LF002", "split is 'validation'"),
        ({"passed": True, "labeler": " "}, "LF002", "labeler is blank"),
        ({"validator": None, "passed": True}, "LF002", "names no validator"),
        (
            {"validator": None, "corrected_output": "x", "version": 1},
            "LF002",
            "a version is given, and no validator",
        ),
        ({"passed": True, "version": 7}, "LF002", "the validator short has no version 7"),
        ({"validator": "nope", "passed": True}, "LF003", "there is no validator nope"),
        ({"trace_id": SPAN, "passed": True}, "LF004", f"there is no trace {SPAN}"),
        ({"trace_id": None, "passed": True}, "LF004", "there is no trace null"),
        (
            {"validator": "tool ok", "span_id": OTHER, "passed": True},
            "LF004",
            f"there is no span {OTHER} in the trace {TRACE}",
        ),
        (
            {"validator": "tool ok", "trace_id": OTHER, "span_id": SPAN, "passed": True},
            "LF004",
            f"there is no span {SPAN} in the trace {OTHER}",
        ),
        ({"validator": "tool ok", "passed": True}, "LF002", "judges spans"),
        ({"span_id": SPAN, "passed": True}, "LF002", "judges traces"),
        ({"passed": True, "revision": 2}, "LF202", "the trace is at revision 1"),
    ],
)
def test_what_makes_no_sense_is_refused(
    world: Connection, given: dict[str, object], code: str, message: str
) -> None:
    found = _refusal(world, **given)
    assert found.sqlstate == code
    assert message in (found.message_primary or "")
    assert world.execute("select count(*) from flywheel._labels").fetchone() == (0,)
    assert world.execute("select count(*) from flywheel._label_splits").fetchone() == (0,)


def test_a_label_is_about_the_version_that_judged_the_target(world: Connection) -> None:
    world.execute("select flywheel.alter_validator('short', body => 'length(output) < 50')")
    label(world, passed=True)
    assert _current(world, "version") == [(1,)]
    assert label(world, passed=True, version=2) > 0
    assert _current(world, "version") == [(2,)]
    # A new revision is judged by the new version; a target without a verdict gets the newest.
    world.execute("update flywheel.traces set output = 'since' where trace_id = %s", (TRACE,))
    world.execute("select flywheel.alter_validator('short', body => 'length(output) < 500')")
    label(world, passed=True)
    world.execute("delete from flywheel._verdicts where trace_id = %s", (OTHER,))
    label(world, trace_id=OTHER, passed=True)
    assert _current(world, "version") == [(2,), (3,)]


def test_a_label_stays_about_the_text_it_was_made_for(world: Connection) -> None:
    label(world, passed=False, revision=1)
    world.execute("update flywheel.traces set output = 'so' where trace_id = %s", (TRACE,))
    found = _refusal(world, passed=True, revision=1)
    assert (found.sqlstate, found.message_primary) == (
        "LF202", "the trace is at revision 2, and the label is about revision 1",
    )  # fmt: skip
    columns = "revision, passed, output, is_current"
    assert _current(world, columns) == [(1, False, "because", False)]
    label(world, passed=True, revision=2)
    assert _current(world, columns) == [(2, True, "so", True)]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (f"select * from flywheel.current_labels where trace_id = '{TRACE}'", "_label_heads_pkey"),
        (
            "select * from flywheel.current_labels where validator_id = 2 and source = 'human'",
            "_labels_validator_id_idx",
        ),
        (
            "select * from flywheel.corrections where pipeline = 'rare' order by label_id desc limit 20",
            "_labels_correction_idx",
        ),
        (
            "select from flywheel._labels as l where l.label_id = 1",  # of withdraw_label
            "_labels_label_id_idx",
        ),
    ],
)
def test_each_question_has_its_index(world: Connection, query: str, index: str) -> None:
    world.execute(
        "insert into flywheel.traces (pipeline, output) "
        "select case when i % 100 = 0 then 'rare' else 'p' end, 'x' from generate_series(1, 3000) i"
    )
    world.execute(
        "select flywheel.label(trace_id, 'short', true, corrected_output => 'y') from flywheel.traces"
    )
    world.execute("analyze flywheel._labels, flywheel._label_withdrawals, flywheel._label_heads")
    plan = "\n".join(line for (line,) in world.execute(f"explain {query}").fetchall())  # type: ignore[arg-type]
    assert index in plan, plan
