"""What is found and when: after a write, an undone write, a change, a deletion."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest

Examples = Any

LOG = "select item_id, revision from flywheel._vectors_1_log order by 1, 2"


def found(e: Examples, query: str) -> UUID | None:
    """The trace of the log that is most like a query."""
    rows = e.rows(
        "select trace_id from flywheel.similar_corrections(%s) where kind = 'similar'", query
    )
    return rows[0][0] if rows else None


def waiting(e: Examples) -> int:
    """Traces whose vectors are to be looked at."""
    return int(e.one("select coalesce(sum(cardinality(trace_ids)), 0) from flywheel._arrivals"))


def test_a_trace_is_found_once_it_is_embedded(examples: Examples) -> None:
    trace_id = examples.trace("Where is my parcel?")
    assert found(examples, "my parcel") is None
    assert examples.one("select embedded from flywheel.embed_texts()") == 1
    assert found(examples, "my parcel") == trace_id
    assert waiting(examples) == 0
    assert examples.rows("select * from flywheel.embed_texts()") == [(0, False)]


def test_a_label_and_a_correction_are_found_at_once(examples: Examples) -> None:
    trace_id = examples.trace("Where is my parcel?")
    examples.label(trace_id, corrected_output="It is on its way.")
    assert examples.few_shot("my parcel", "f.trace_id") == [trace_id]
    assert examples.call("similar_corrections", "f.kind, f.trace_id", query="my parcel") == [
        ("fixed", trace_id)
    ]


def test_copy_and_large_statements_arrive(examples: Examples) -> None:
    with examples.session.cursor().copy("copy flywheel.traces (input) from stdin") as copy:
        for n in range(2500):
            copy.write_row([f"parcel number {n}"])
    examples.session.execute(
        "insert into flywheel.traces (input) select 'invoice ' || n from generate_series(1, 1001) as n"
    )
    assert waiting(examples) == 3501
    examples.upkeep()
    assert examples.one("select count(*) from flywheel._vectors_1_log") == 3501
    assert examples.one(
        "select input from flywheel.traces where trace_id = %s", found(examples, "parcel number 2499")
    ) == "parcel number 2499"  # fmt: skip


def test_what_was_undone_never_arrives(examples: Examples) -> None:
    examples.session.execute("savepoint s")
    examples.trace("undone")
    examples.label(examples.trace("undone, too"))
    examples.session.execute("rollback to s")
    kept = examples.trace("kept")
    assert waiting(examples) == 1
    examples.upkeep()
    assert examples.rows(LOG) == [(kept, 1)]
    assert examples.few_shot("undone") == []


def test_a_transaction_that_is_undone_leaves_nothing(people: Callable[..., Examples]) -> None:
    other = people()
    writer = people(autocommit=False)
    writer.trace("undone")
    other.upkeep()
    assert other.rows(LOG) == []
    writer.session.rollback()
    trace_id = writer.trace("kept")
    writer.session.commit()
    other.upkeep()
    assert other.rows(LOG) == [(trace_id, 1)]


def test_a_changed_trace_is_found_by_its_new_text(examples: Examples) -> None:
    trace_id = examples.trace("Where is my parcel?")
    other = examples.trace("Please cancel the subscription.")
    examples.upkeep()
    examples.session.execute(
        "update flywheel.traces set input = 'Send a new password.' where trace_id = %s", (trace_id,)
    )
    # From that statement on, not by its old one.
    assert found(examples, "Where is my parcel?") == other
    examples.one("select embedded from flywheel.embed_texts()")
    assert found(examples, "a new password") == trace_id
    assert examples.rows(LOG + " desc")  # the old vector is there, and found by nobody
    assert found(examples, "Where is my parcel?") in {trace_id, other}
    examples.upkeep()
    assert sorted(examples.rows(LOG)) == sorted([(trace_id, 2), (other, 1)])


def test_an_update_that_changes_no_content_needs_no_vector(examples: Examples) -> None:
    examples.trace("Where is my parcel?")
    examples.upkeep()
    examples.session.execute("update flywheel.traces set input = input")
    assert waiting(examples) == 0


def test_a_deleted_trace_is_not_found_from_then_on(examples: Examples) -> None:
    trace_id = examples.trace("Where is my parcel?")
    examples.upkeep()
    examples.session.execute("delete from flywheel.traces")
    assert found(examples, "Where is my parcel?") is None
    assert examples.rows(LOG) == [(trace_id, 1)]
    examples.upkeep()
    assert examples.rows(LOG) == []


def test_a_trace_that_is_gone_before_it_is_embedded_gets_no_vector(examples: Examples) -> None:
    examples.trace("Where is my parcel?")
    examples.session.execute("delete from flywheel.traces")
    examples.upkeep()
    assert examples.rows(LOG) == []
    assert waiting(examples) == 0
    assert examples.one("select count(*) from flywheel._stale_vectors") == 0


def test_truncate_empties_the_log_and_keeps_the_examples(examples: Examples) -> None:
    examples.label(examples.trace("Where is my parcel?"))
    examples.upkeep()
    examples.trace("not embedded yet")
    examples.session.execute("truncate flywheel.traces")
    assert (examples.rows(LOG), waiting(examples)) == ([], 0)
    assert found(examples, "Where is my parcel?") is None
    assert examples.few_shot("my parcel") == ["Where is my parcel?"]
    trace_id = examples.trace("Where is it?")
    examples.upkeep()
    assert found(examples, "Where is it?") == trace_id


@pytest.mark.parametrize("take_away", ["withdraw_label", "forget_example"])
def test_an_example_that_is_taken_away_leaves_no_vector(examples: Examples, take_away: str) -> None:
    label = examples.label(examples.trace("Where is my parcel?"), corrected_output="Here.")
    count = (
        "select (select count(*) from flywheel._vectors_1_examples)"
        " + (select count(*) from flywheel._vectors_1_corrections)"
    )
    assert examples.one(count) == 2
    examples.one(f"select flywheel.{take_away}(%s)", label)
    examples.upkeep()
    assert examples.one(count) == 0


def test_blank_texts_get_no_vector(examples: Examples) -> None:
    examples.trace(None, None)
    examples.trace(" ", "\t")
    only_output = examples.trace(None, "An answer about parcels.")
    examples.upkeep()
    assert examples.rows(LOG) == [(only_output, 1)]


def test_a_sample_is_indexed_and_what_is_labelled(examples: Examples) -> None:
    examples.one("select flywheel.set_index_policy('sample', 0.25)")
    examples.session.execute(
        "insert into flywheel.traces (input) select 'parcel ' || n from generate_series(1, 400) as n"
    )
    examples.upkeep()
    assert 60 < examples.one("select count(*) from flywheel._vectors_1_log") < 140
    (left_out,) = examples.rows(
        "select trace_id from flywheel.traces as t where not exists"
        " (select from flywheel._vectors_1_log as v where v.item_id = t.trace_id) limit 1"
    )[0]
    examples.label(left_out)
    examples.upkeep()
    assert examples.rows("select 1 from flywheel._vectors_1_log where item_id = %s", left_out)


def test_with_the_policy_labelled_only_those_are_indexed(examples: Examples) -> None:
    examples.one("select flywheel.set_index_policy('labelled')")
    trace_id = examples.trace("Where is my parcel?")
    other = examples.trace("Where is my order?")
    assert waiting(examples) == 0
    examples.label(trace_id)
    examples.upkeep()
    assert examples.rows(LOG) == [(trace_id, 1)]
    # It stays in the log when it changes, and goes when it goes.
    examples.session.execute("update flywheel.traces set input = 'Send a new password.'")
    examples.upkeep()
    assert examples.rows(LOG) == [(trace_id, 2)]
    assert found(examples, "a new password") == trace_id
    examples.session.execute("delete from flywheel.traces where trace_id = %s", (trace_id,))
    examples.upkeep()
    assert examples.rows(LOG) == []
    examples.one("select flywheel.set_index_policy('all')")
    examples.session.execute("update flywheel.traces set input = 'Lost.'")
    examples.upkeep()
    assert examples.rows(LOG) == [(other, 3)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("'none'", "policy 'none' is unknown"),
        ("null", "policy null is unknown"),
        ("'sample', 0", "sample_rate is 0"),
        ("'sample', 1.5", "sample_rate is 1.5"),
        ("'sample', 'NaN'", "sample_rate is NaN"),
        ("'sample', null", "sample_rate is null"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(
    examples: Examples, options: str, says: str
) -> None:
    with pytest.raises(psycopg.Error, match=says) as caught:
        examples.one(f"select flywheel.set_index_policy({options})")
    assert caught.value.sqlstate == "LF002"
    assert caught.value.diag.message_hint


def test_a_trace_that_is_deleted_while_it_is_embedded_leaves_no_vector(
    connect: Callable[..., psycopg.Connection],
) -> None:
    """Its note must not be used up before the vector that it is about is there."""
    embedding, other = connect(autocommit=False), connect()
    other.execute("insert into flywheel.traces (input) values ('Where is my order?')")
    embedding.execute("select flywheel.embed_texts()")
    other.execute("delete from flywheel.traces")
    other.execute("select flywheel.index_vectors()")
    embedding.commit()
    query = "select count(*) from flywheel._vectors_1_log"
    assert other.execute(query).fetchone() == (1,)
    other.execute("select flywheel.index_vectors()")
    assert other.execute(query).fetchone() == (0,)
