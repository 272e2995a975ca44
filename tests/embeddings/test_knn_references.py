"""What knn validators compare with: given texts, and labelled examples of the split train."""

import pytest
from psycopg import Connection, errors

TEXTS = ["How can I reset my password?", "Where is my order?"]


@pytest.fixture
def topic(db: Connection) -> Connection:
    db.execute(
        "select flywheel.create_validator('v', 'knn', 'topic', params => '{\"threshold\": 0.5}')"
    )
    return db


def references(db: Connection, name: str = "v") -> list[tuple[str, str]]:
    return db.execute(
        "select text, source from flywheel.reference_texts where validator = %s order by 1", (name,)
    ).fetchall()


def label(
    db: Connection,
    text: str,
    passed: bool,
    split: str = "train",
    source: str = "human",
    name: str = "v",
) -> int:
    row = db.execute(
        "with t as (insert into flywheel.traces (input, output) values (%s, 'o') returning trace_id)"
        " select t.trace_id from t",
        (text,),
    ).fetchone()
    assert row is not None
    made = db.execute(
        "select flywheel.label(%s, %s, %s, split => %s, source => %s)",
        (row[0], name, passed, split, source),
    ).fetchone()
    assert made is not None
    return int(made[0])


def test_texts_are_added_once_and_removed(topic: Connection) -> None:
    add = "select flywheel.add_references('v', %s)"
    assert topic.execute(add, (TEXTS + TEXTS[:1],)).fetchone() == (2,)
    assert topic.execute(add, (TEXTS,)).fetchone() == (0,)
    remove = "select flywheel.remove_references('v', %s)"
    assert topic.execute(remove, ([TEXTS[0], "unknown"],)).fetchone() == (1,)
    assert references(topic) == [(TEXTS[1], "given")]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("select flywheel.add_references('v', array['a', ' ', 'b'])", "text 2 of 3 is blank"),
        ("select flywheel.add_references('v', array['a', null])", "text 2 of 2 is blank"),
        ("select flywheel.add_references('sql', array['a'])", "is in the language sql"),
        ("select flywheel.add_references('odd', array['a'])", "recent inputs of its pipeline"),
        ("select flywheel.add_references('no', array['a'])", "there is no validator"),
        ("select flywheel.remove_references('sql', array['a'])", "is in the language sql"),
    ],
)
def test_what_makes_no_sense_is_refused(topic: Connection, statement: str, message: str) -> None:
    topic.execute("select flywheel.create_validator('sql', 'sql', 'input is not null')")
    topic.execute("select flywheel.create_validator('odd', 'knn', 'anomaly')")
    with pytest.raises(errors.DatabaseError, match=message) as caught:
        topic.execute(statement)  # type: ignore[arg-type]
    assert caught.value.diag.message_hint


def test_only_confirmed_labels_of_train_are_compared_with(topic: Connection) -> None:
    topic.execute(
        "select flywheel.create_validator('a', 'knn', 'nearest_attack', params => '{\"threshold\": 0.5}')"
    )
    for name in ("v", "a"):
        for passed in (True, False):
            label(topic, f"{name} train {passed}", passed, name=name)
            label(topic, f"{name} confirmed {passed}", passed, source="human_confirmed", name=name)
            label(topic, f"{name} dev {passed}", passed, split="dev", name=name)
            label(topic, f"{name} test {passed}", passed, split="test", name=name)
            label(topic, f"{name} model {passed}", passed, source="llm_default", name=name)
    assert references(topic) == [("v confirmed True", "label"), ("v train True", "label")]
    assert references(topic, "a") == [("a confirmed False", "label"), ("a train False", "label")]


def test_a_labelled_text_is_named_by_its_trace(topic: Connection) -> None:
    label(topic, "My name is Eve and my order is late", True)
    topic.execute("insert into flywheel.traces (input) values ('my order is late')")
    row = topic.execute(
        "select v.reason from flywheel.verdicts as v join flywheel.traces as t using (trace_id)"
        " where t.input = 'my order is late'"
    ).fetchone()
    assert row is not None
    assert "nearest: trace " in row[0]
    assert "Eve" not in row[0]


def test_labels_that_change_change_the_references(topic: Connection) -> None:
    label_id = label(topic, "refund please", True)
    assert references(topic) == [("refund please", "label")]
    topic.execute("select flywheel.withdraw_label(%s)", (label_id,))
    assert references(topic) == []
    label(topic, "no refund", True)
    topic.execute(
        "select flywheel.label(trace_id, 'v', false) from flywheel.traces where input = 'no refund'"
    )
    assert references(topic) == []


def test_a_forgotten_trace_or_example_is_compared_with_no_more(topic: Connection) -> None:
    forgotten = label(topic, "forget the trace", True)
    label_id = label(topic, "forget the example", True)
    topic.execute("select flywheel.forget_example(%s)", (label_id,))
    assert references(topic) == [("forget the trace", "label")]
    topic.execute(
        "select flywheel.forget_trace(l.trace_id) from flywheel._labels as l where l.label_id = %s",
        (forgotten,),
    )
    assert references(topic) == []


def test_another_text_takes_the_other_side_of_the_labels(topic: Connection) -> None:
    label(topic, "question", True)
    topic.execute("select flywheel.add_references('v', array['given'])")
    topic.execute("select flywheel.alter_validator('v', params => '{\"text\": \"output\"}')")
    assert references(topic) == [("given", "given"), ("o", "label")]


def test_many_texts_get_an_index_that_finds_the_same(topic: Connection) -> None:
    topic.execute("select flywheel.create_validator('few', 'knn', 'topic')")
    topic.execute(
        "select flywheel.add_references('v', array(select 'text ' || md5(n::text) from generate_series(1, 2500) as n))"
    )
    topic.execute("select flywheel.add_references('few', array['text of another validator'])")
    row = topic.execute(
        "select count(*) from pg_indexes where indexname ~ '^_references_[0-9]+_embedding_idx$'"
    ).fetchone()
    assert row == (1,)
    rows = topic.execute(
        "select r.text, round(n.similarity::numeric, 4)"
        " from flywheel._nearest_references(flywheel._find_validator('v'), 1,"
        " array(select 'text ' || md5(n::text) from generate_series(1, 2500, 50) as n)) as n"
        " join flywheel._references as r using (reference_id) order by n.place"
    ).fetchall()
    expected = topic.execute(
        "select 'text ' || md5(n::text), 1.0000 from generate_series(1, 2500, 50) as n"
    ).fetchall()
    assert rows == expected
    topic.execute("select flywheel.drop_validator('v', delete_verdicts => true)")
    assert topic.execute(
        "select count(*) from pg_indexes where indexname ~ '^_references_[0-9]+_embedding_idx$'"
    ).fetchone() == (0,)
    assert [text for text, _ in references(topic, "few")] == ["text of another validator"]


def test_an_indexed_search_uses_the_index(topic: Connection) -> None:
    topic.execute(
        "select flywheel.add_references('v', array(select 'text ' || md5(n::text) from generate_series(1, 2500) as n))"
    )
    topic.execute("analyze flywheel._references")
    before = _scans(topic)
    topic.execute(
        "select * from flywheel._nearest_references(flywheel._find_validator('v'), 1, array['text'])"
    )
    assert _scans(topic) > before


def _scans(db: Connection) -> int:
    row = db.execute(
        "select pg_stat_get_xact_numscans(indexrelid) from pg_stat_user_indexes where indexrelname ~ '^_references_[0-9]+_emb'"
    ).fetchone()
    assert row is not None
    return int(row[0])
