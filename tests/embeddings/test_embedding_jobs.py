"""Texts on their way to an embedder that is not in the database."""

from typing import Any

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb


def test_a_batch_goes_out_and_its_vectors_are_found(embedding: Any) -> None:
    embedding.use(parameters=Jsonb({"dimensions": 3}))
    ids = embedding.insert("refund please", "where is my parcel", " ")
    batch = embedding.claimed()
    assert batch[:4] == ("small", "openai", "small", 3)
    assert sorted(batch.texts) == ["refund please", "where is my parcel"]
    assert batch.request == {"model": "e-1", "dimensions": 3}
    assert embedding.claim() is None
    assert embedding.complete(batch, run={"requests": 1, "input_tokens": 7}) == (2, 0, None)
    assert embedding.vectors() == {ids[0]: [1], ids[1]: [1]}
    assert embedding.jobs() == []
    used = embedding.one("select requests_today, input_tokens_today from flywheel.models")
    assert used == (1, 7)


def test_a_vector_may_be_a_json_array_or_as_pgvector_writes_it(embedding: Any) -> None:
    embedding.use()
    embedding.insert("a", "b")
    batch = embedding.claimed()
    assert embedding.complete(batch, "[3,0,4]", " [1, 0.5e-3, 0]") == (2, 0, None)


def test_a_long_text_is_embedded_by_its_beginning_and_its_end(embedding: Any) -> None:
    embedding.use()
    embedding.insert("начало " + "ж" * 5_000_000 + " 終わり")
    (text,) = embedding.claimed().texts
    assert len(text) == 8001
    assert text.startswith("начало ж")
    assert text.endswith("ж 終わり")


def test_a_batch_has_a_limited_number_of_characters(embedding: Any) -> None:
    embedding.use()
    embedding.insert(*("語" * 8000 for _ in range(40)))
    batch = embedding.claimed()
    assert len(batch.texts) == 37
    rest = embedding.claimed()
    assert len(rest.texts) == 3
    assert embedding.complete(batch)[0] + embedding.complete(rest)[0] == 40


def test_live_texts_come_before_those_of_a_backfill(embedding: Any) -> None:
    embedding.insert("old")
    embedding.use()
    embedding.insert("new")
    assert embedding.claimed(max_texts=9).texts == ["new"]
    assert embedding.claimed(max_texts=9).texts == ["old"]


def test_what_is_gone_or_has_its_vector_is_not_sent(embedding: Any) -> None:
    embedding.use()
    kept, gone, known = embedding.insert("kept", "gone", "known")
    embedding.drain()
    embedding.session.execute(f"delete from {embedding.store()} where item_id <> %s", (known,))
    embedding.session.execute(
        """
        select flywheel._enqueue_embeddings(e.embedder_id, 'log', array(select trace_id from flywheel.traces), 0)
        from flywheel._embedders as e where e.name = 'small'
        """
    )
    embedding.session.execute("delete from flywheel.traces where trace_id = %s", (gone,))
    assert embedding.claimed().texts == ["kept"]
    assert embedding.jobs("item_id") == [(kept,)]


def test_a_vector_of_an_older_revision_is_not_stored(embedding: Any) -> None:
    embedding.use()
    embedding.insert("before")
    batch = embedding.claimed()
    embedding.session.execute("update flywheel.traces set input = 'after'")
    assert embedding.complete(batch) == (0, 1, None)
    assert embedding.vectors() == {}
    embedding.upkeep()
    assert embedding.claimed().texts == ["after"]


def test_a_result_is_dropped_once_the_text_is_enqueued_again(embedding: Any) -> None:
    embedding.use()
    (trace,) = embedding.insert("before")
    batch = embedding.claimed()
    embedding.session.execute("update flywheel.traces set input = 'after'")
    embedding.upkeep()
    assert embedding.complete(batch) == (0, 1, None)
    assert embedding.drain() == 1
    assert embedding.vectors() == {trace: [2]}


def test_a_newer_vector_takes_the_place_of_the_older(embedding: Any) -> None:
    embedding.use()
    (trace,) = embedding.insert("before")
    embedding.drain()
    embedding.session.execute("update flywheel.traces set input = 'after'")
    embedding.upkeep()
    embedding.drain()
    embedding.one("select flywheel.index_vectors(0)")
    assert embedding.vectors() == {trace: [2]}


def test_a_trace_deleted_meanwhile_leaves_no_vector(embedding: Any) -> None:
    embedding.use()
    embedding.insert("secret")
    batch = embedding.claimed()
    embedding.session.execute("delete from flywheel.traces")
    assert embedding.complete(batch) == (0, 1, None)
    assert embedding.vectors() == {}
    embedding.later("2 seconds")
    assert embedding.claim() is None
    assert embedding.jobs() == []


def test_examples_are_embedded_too(embedding: Any) -> None:
    embedding.session.execute(
        "select flywheel.create_validator('polite', 'sql', 'output is not null')"
    )
    embedding.use()
    (trace,) = embedding.insert("I am angry")
    embedding.session.execute(
        "select flywheel.label(%s, 'polite', false, split => 'train')", (trace,)
    )
    assert embedding.drain() == 2
    assert len(embedding.vectors(store="examples")) == 1
    (scope,) = embedding.session.execute(
        f"select scope from {embedding.store('small', 'examples')}"
    ).fetchone()
    assert scope == embedding.one(
        "select validator_id::text from flywheel.validators where name = 'polite'"
    )


def test_a_lease_that_ends_gives_the_batch_to_another_worker(embedding: Any) -> None:
    embedding.use()
    ids = embedding.insert("a", "b")
    lost = embedding.claimed(lease="30 seconds")
    embedding.later("31 seconds")
    found = embedding.claimed(worker="w2")
    assert sorted(found.texts) == ["a", "b"]
    assert embedding.complete(lost) == (0, 2, None)
    assert embedding.complete(found) == (2, 0, None)
    assert embedding.vectors() == {ids[0]: [1], ids[1]: [1]}


def test_a_sign_of_life_keeps_a_batch(embedding: Any) -> None:
    embedding.use()
    embedding.insert("a")
    batch = embedding.claimed(lease="30 seconds")
    query = "select flywheel.extend_embeddings('w1', %s, '60 seconds')"
    assert embedding.one(query, Jsonb(batch.batch))
    embedding.later("31 seconds")
    assert embedding.claim() is None
    embedding.later("61 seconds")
    again = embedding.claimed()
    assert not embedding.one(query, Jsonb(batch.batch))
    assert embedding.one(query, Jsonb(again.batch))


def test_a_batch_given_back_costs_no_attempt(embedding: Any) -> None:
    embedding.use()
    embedding.insert("a", "b")
    batch = embedding.claimed()
    released = embedding.one("select flywheel.release_embeddings('w1', %s)", Jsonb(batch.batch))
    assert released == 2
    assert embedding.jobs("state, attempts, token") == [("pending", 0, None)] * 2
    assert len(embedding.claimed().texts) == 2


def test_a_worker_that_never_comes_back_does_not_take_everything_with_it(embedding: Any) -> None:
    embedding.use()
    embedding.insert(*(f"text {n}" for n in range(64)))
    sizes = []
    for _ in range(2):
        sizes.append(len(embedding.claimed().texts))
        embedding.session.execute("update flywheel._embedding_jobs set leased_until = '-infinity'")
    embedding.session.execute("update flywheel._embedding_jobs set attempts = 2")
    sizes.append(len(embedding.claimed().texts))
    assert sizes == [64, 8, 1]
    embedding.session.execute(
        "update flywheel._embedding_jobs set attempts = 8, leased_until = null"
    )
    for _ in range(7):
        assert embedding.claim() is None
    assert embedding.jobs("distinct state, last_error", order="1") == [
        ("dead", "the worker w1 did not come back, the last of 8 attempts")
    ]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("flywheel.claim_embeddings(' ')", "the worker has no name"),
        ("flywheel.claim_embeddings('w', null)", "providers is null"),
        ("flywheel.claim_embeddings('w', max_texts => 0)", "max_texts is 0"),
        ("flywheel.claim_embeddings('w', lease => '0')", "the lease is 00:00:00"),
        ("flywheel.complete_embeddings('w', '{}', '{}')", "the batch cannot be read"),
        ("flywheel.complete_embeddings('w', '{\"token\": \"x\"}', '{}')", "the batch cannot be read"),
        ("flywheel.complete_embeddings('w', '[1]', '{}')", "the batch cannot be read"),
        (
            "flywheel.complete_embeddings('w', '{\"embedder\": 1, \"token\": 1, \"items\": [[\"log\", \"00000000-0000-0000-0000-000000000000\", 1]]}', '{}')",
            "there are 0 vectors for the 1 texts of the batch",
        ),
        (
            "flywheel.fail_embeddings('w', '{\"embedder\": 1, \"token\": 1, \"items\": [[\"log\", \"00000000-0000-0000-0000-000000000000\", 1]]}', 'odd', 'x')",
            "the error class 'odd' is unknown",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(embedding: Any, query: str, message: str) -> None:
    with pytest.raises(errors.Error) as caught:
        embedding.session.execute(f"select * from {query}")
    assert caught.value.sqlstate == "LF002"
    assert caught.value.diag.message_primary == message
    assert caught.value.diag.message_hint


def test_a_worker_may_claim_and_complete_and_nobody_else(embedding: Any) -> None:
    embedding.use()
    embedding.insert("a")
    embedding.session.execute("set local role flywheel_worker")
    batch = embedding.claimed()
    assert embedding.complete(batch)[0] == 1
    for role in ("flywheel_writer", "flywheel_reader", "flywheel_labeler"):
        embedding.session.execute(f"set local role {role}")
        with pytest.raises(errors.InsufficientPrivilege), embedding.session.transaction():
            embedding.claim()
        with pytest.raises(errors.InsufficientPrivilege), embedding.session.transaction():
            embedding.complete(batch)
