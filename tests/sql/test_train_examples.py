"""What a judge is shown: current labels by people, in the split train, failing and passing in turn."""

import uuid

import pytest
from psycopg import Connection

NOBODY = uuid.UUID(int=0)


@pytest.fixture
def labels(db: Connection) -> Connection:
    """A validator; traces are labelled by the tests."""
    db.execute("select flywheel.create_validator('v', 'sql', 'true')")
    db.execute("select flywheel.create_validator('w', 'sql', 'true')")
    return db


def _label(
    session: Connection, text: str, passed: bool | None, split: str = "train", **given: object
) -> uuid.UUID:
    """Insert a trace and label it."""
    row = session.execute(
        "insert into flywheel.traces (input, output) values (%s, %s) returning trace_id",
        (text, text.upper()),
    ).fetchone()
    assert row is not None
    trace_id: uuid.UUID = row[0]
    _again(session, trace_id, passed, split=split, **given)
    return trace_id


def _again(session: Connection, trace_id: uuid.UUID, passed: bool | None, **given: object) -> None:
    given = {"validator": "v", **given}
    extra = "".join(f", {key} => %({key})s" for key in given)
    session.execute(
        f"select flywheel.label(trace_id => %(trace_id)s, passed => %(passed)s{extra})",  # type: ignore[arg-type]
        {"trace_id": trace_id, "passed": passed, **given},
    )


def _examples(
    session: Connection, k: int | None = 10, not_trace: uuid.UUID | None = NOBODY
) -> list[str]:
    rows = session.execute(
        "select e.input, e.passed from flywheel.validators as v, "
        "lateral flywheel._train_examples(v.validator_id, %s, %s) as e where v.name = 'v'",
        (k, not_trace),
    ).fetchall()
    return [f"{text}{'+' if passed else '-'}" for text, passed in rows]


def test_failing_and_passing_take_turns_newest_first(labels: Connection) -> None:
    for number in range(1, 4):
        _label(labels, f"p{number}", True)
        _label(labels, f"f{number}", False)
    assert _examples(labels) == ["f3-", "p3+", "f2-", "p2+", "f1-", "p1+"]
    assert _examples(labels, 4) == ["f3-", "p3+", "f2-", "p2+"]
    assert _examples(labels, 3) == ["f3-", "p3+", "f2-"]
    assert _examples(labels, 1) == ["f3-"]


def test_too_few_of_one_side_are_made_up_for_by_the_other(labels: Connection) -> None:
    for number in range(1, 6):
        _label(labels, f"p{number}", True)
    _label(labels, "f1", False)
    assert _examples(labels, 4) == ["f1-", "p5+", "p4+", "p3+"]


@pytest.mark.parametrize("k", [0, -1, None])
def test_none_are_asked_for(labels: Connection, k: int | None) -> None:
    _label(labels, "p", True)
    assert _examples(labels, k) == []


def test_only_what_people_say_of_training_traces_for_this_validator(labels: Connection) -> None:
    _label(labels, "human", True)
    _label(labels, "confirmed", True, source="human_confirmed")
    _label(labels, "edited", True, source="human_edited")
    _label(labels, "proposed", True, source="llm_default")
    _label(labels, "dev", True, split="dev")
    _label(labels, "test", True, split="test")
    _label(labels, "undecided", None, score=0.5)
    _label(labels, "other", True, validator="w")
    assert _examples(labels) == ["edited+", "confirmed+", "human+"]


def test_a_trace_is_no_example_for_itself(labels: Connection) -> None:
    judged = _label(labels, "judged", True)
    _label(labels, "other", True)
    assert _examples(labels, not_trace=judged) == ["other+"]
    assert _examples(labels, not_trace=None) == ["other+", "judged+"]


def test_only_the_current_label_of_a_target_is_shown(labels: Connection) -> None:
    changed = _label(labels, "changed", True)
    _label(labels, "undecided now", True)
    _again(labels, changed, False, reason="after all")
    _again(labels, changed, True, source="llm_default")
    _again(labels, changed, None, corrected_output="better")
    labels.execute(
        "select flywheel.label(trace_id, 'v', gold_label => 'c') from flywheel.traces where input = 'undecided now'"
    )
    withdrawn = _label(labels, "withdrawn", True)
    labels.execute(
        "select flywheel.withdraw_label(label_id) from flywheel.current_labels where trace_id = %s",
        (withdrawn,),
    )
    assert _examples(labels) == ["changed-"]


def test_an_example_is_the_text_that_was_labelled(labels: Connection) -> None:
    trace = _label(labels, "old", False, reason="because")
    labels.execute("update flywheel.traces set input = 'new', output = 'new'")
    row = labels.execute(
        "select e.* from flywheel.validators v, flywheel._train_examples(v.validator_id, 5, %s) e where v.name = 'v'",
        (NOBODY,),
    ).fetchall()
    assert row == [("old", "OLD", False, "because")]
    labels.execute("delete from flywheel.traces where trace_id = %s", (trace,))
    assert _examples(labels) == ["old-"]


@pytest.mark.parametrize("analyzed", [False, True])
def test_few_rows_are_read_however_many_labels_there_are(
    labels: Connection, analyzed: bool
) -> None:
    labels.execute("insert into flywheel.traces (output) select 'x' from generate_series(1, 5000)")
    labels.execute(
        "select flywheel.label(trace_id, 'v', hashtext(trace_id::text) % 10 <> 0) from flywheel.traces"
    )
    labels.execute(
        "select flywheel.label(trace_id, 'v', true, source => 'llm_default') from flywheel.traces"
    )
    if analyzed:
        labels.execute("analyze flywheel._labels, flywheel._label_withdrawals")
    counted = "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relname = '_labels'"
    before = labels.execute(counted).fetchone()
    assert len(_examples(labels, 8)) == 8
    after = labels.execute(counted).fetchone()
    assert before is not None
    assert after is not None
    assert after[0] - before[0] < 100
