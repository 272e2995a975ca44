"""What becomes of texts when their embedder does not answer, or answers nonsense."""

from typing import Any

import pytest
from psycopg.types.json import Jsonb


@pytest.fixture
def used(embedding: Any) -> Any:
    embedding.use()
    return embedding


def state(embedding: Any) -> Any:
    return embedding.one(
        "select paused_until > flywheel.now(), last_error from flywheel.embedders where name = 'small'"
    )


def test_an_endpoint_that_is_down_for_an_hour_kills_nothing(used: Any) -> None:
    used.insert(*(f"text {n}" for n in range(200)))
    tried = 0
    for minute in range(0, 61):
        used.later(f"{minute} minutes")
        while (batch := used.claim()) is not None:
            assert used.fail(batch, "transient", "cannot connect") == "retry"
            tried += 1
    assert tried < 40
    assert used.one("select state from flywheel.models") == "open"
    assert used.jobs("distinct state, attempts < 3", order="1") == [("pending", True)]
    used.later("75 minutes")
    count = used.drain()
    used.later("80 minutes")
    assert count + used.drain() == 200
    assert used.jobs() == []
    assert state(used) == (None, None)


def test_a_retry_after_lets_the_model_rest_and_costs_no_attempt(used: Any) -> None:
    used.insert("a", "b")
    batch = used.claimed()
    assert used.fail(batch, "transient", "429", retry_after="90 seconds") == "retry"
    assert used.jobs("attempts") == [(0,), (0,)]
    used.later("89 seconds")
    assert used.claim() is None
    used.later("91 seconds")
    assert used.drain() == 2


def test_one_text_that_is_refused_is_split_off_and_given_up(used: Any) -> None:
    used.insert(*(f"text {n}" for n in range(63)), "poison")
    requests = 0
    while (batch := used.claim()) is not None:
        requests += 1
        if "poison" in batch.texts:
            used.fail(batch, "permanent", "400: no poison")
        else:
            used.complete(batch)
    assert len(used.vectors()) == 63
    assert used.jobs() == [("dead", 3, "400: no poison")]
    assert requests == 17


def test_one_text_the_endpoint_cannot_bear_is_given_up_while_others_pass(used: Any) -> None:
    used.insert("poison", *(f"text {n}" for n in range(10)))
    for minute in range(60):
        used.later(f"{minute} minutes")
        used.insert(f"at {minute}")
        while (batch := used.claim()) is not None:
            if "poison" in batch.texts:
                used.fail(batch, "transient", "500: crashed")
            else:
                used.complete(batch)
    assert len(used.vectors()) == 70
    assert used.jobs() == [("dead", 8, "500: crashed")]


def test_ten_refusals_in_a_row_are_no_matter_of_the_texts(used: Any) -> None:
    used.insert(*(f"text {n}" for n in range(100)))
    while (batch := used.claim()) is not None:
        used.fail(batch, "permanent", "400: dimensions must be 1")
    dead = used.one("select dead from flywheel.embedders where name = 'small'")
    assert dead <= 10
    assert state(used) == (True, "400: dimensions must be 1")


def test_vectors_of_another_length_pause_the_embedder_and_lose_nothing(used: Any) -> None:
    used.insert("a", "b")
    used.session.execute("update flywheel._embedders set dimensions = 1536 where name = 'small'")
    problem = "small returned vectors of 3 dimensions, the embedder has 1536"
    batch = used.claimed()
    assert used.complete(batch, "[1,2,3]", "[1,2,3]") == (0, 2, problem)
    assert state(used) == (True, problem)
    assert used.jobs() == [("pending", 0, problem)] * 2
    used.later("59 seconds")
    assert used.claim() is None
    used.later("61 seconds")
    probe = used.claimed()
    assert used.claim() is None
    assert used.complete(probe, "[1,2,3]", "[1,2,3]")[2] == problem
    used.later("3 minutes")
    assert used.claim() is None
    used.session.execute("update flywheel._embedders set dimensions = 3 where name = 'small'")
    assert used.one("select flywheel.retry_embeddings('small')") == 0
    assert used.drain() == 2
    assert state(used) == (None, None)


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        (None, "there is none"),
        ("[0,0,0]", "it is zero"),
        ("[1,NaN,0]", "NaN not allowed in vector"),
        ("[1,Infinity,0]", "infinite value not allowed in vector"),
        ("[1e999,0,0]", '"1e999" is out of range for type vector'),
        ("nonsense", 'invalid input syntax for type vector: "nonsense"'),
    ],
)
def test_a_vector_that_cannot_be_used_has_its_text_given_up(
    used: Any, vector: str | None, said: str
) -> None:
    used.insert("good", "bad")
    batch = used.claimed()
    given = ["[1,2,3]" if text == "good" else vector for text in batch.texts]
    assert used.complete(batch, *given) == (1, 1, None)
    assert used.jobs() == [("dead", 1, f"its vector cannot be used: {said}")]
    assert used.one("select dead from flywheel.embedders where name = 'small'") == 1
    assert used.one("select flywheel.retry_embeddings('small')") == 1
    assert used.drain() == 1


def test_a_model_that_makes_no_vector_of_anything_pauses(used: Any) -> None:
    used.insert("a", "b")
    batch = used.claimed()
    problem = "small returned no vector that can be used: it is zero"
    assert used.complete(batch, "[0,0,0]", "[0,0,0]") == (0, 2, problem)
    assert used.jobs() == [("pending", 0, problem)] * 2


def test_a_model_in_the_worker_has_a_breaker_too(embedding: Any) -> None:
    embedding.one("select flywheel.create_embedder('small', 'local', 3, 'some/model')")
    embedding.one("select flywheel.use_embedder('small')")
    embedding.upkeep()
    embedding.insert(*(f"text {n}" for n in range(300)))
    for _ in range(4):
        batch = embedding.claimed()
        assert (batch.provider, batch.model, batch.request) == ("local", "some/model", None)
        embedding.fail(batch, "transient", "the process was killed")
    assert embedding.claim() is None
    assert state(embedding) == (True, "the process was killed")
    embedding.later("11 seconds")
    assert embedding.drain() >= 64
    assert state(embedding) == (None, None)


def test_budget_and_limits_of_the_model_are_kept(embedding: Any) -> None:
    embedding.use(requests_per_minute=10, daily_budget_usd=1, input_price=1, output_price=0)
    embedding.insert(*(f"text {n}" for n in range(5)))
    batch = embedding.claimed(max_texts=1)
    assert embedding.claim(max_texts=1) is None
    embedding.later("6 seconds")
    assert embedding.claim(max_texts=1) is not None
    embedding.complete(batch, run={"requests": 1, "input_tokens": 2_000_000})
    embedding.later("20 seconds")
    assert embedding.claim() is None
    assert embedding.one("select state, spent_today_usd from flywheel.models") == (
        "budget_exhausted", 2,
    )  # fmt: skip


def test_tokens_are_settled_when_a_batch_ends(embedding: Any) -> None:
    embedding.use(tokens_per_minute=100_000)
    embedding.insert("a", "b", "c")

    def room() -> float:
        return float(embedding.one("select token_room from flywheel._model_states"))

    batch = embedding.claimed(max_texts=1)
    assert room() == 9_000
    embedding.complete(batch, run={"requests": 1, "input_tokens": 40})
    assert room() == 9_960
    batch = embedding.claimed(max_texts=1)
    assert room() == 9_920
    embedding.fail(batch, "transient", "503")
    assert room() == 9_960


def test_workers_ask_only_for_what_they_serve(used: Any) -> None:
    used.insert("a")
    assert used.claim(models=[]) is None
    assert used.claim(models=["another"]) is None
    assert used.claim(providers=["local"]) is None
    assert used.claim(models=["another", "small"]) is not None


def test_a_stale_failure_changes_nothing(used: Any) -> None:
    used.insert("a")
    lost = used.claimed(lease="30 seconds")
    used.later("31 seconds")
    batch = used.claimed()
    assert used.fail(lost) == "stale"
    assert used.complete(batch) == (1, 0, None)


def test_the_failure_of_a_dropped_embedder_is_nobodys(embedding: Any) -> None:
    embedding.use()
    embedding.insert("a")
    batch = embedding.claimed()
    embedding.one("select flywheel.use_embedder('hash')")
    embedding.upkeep()
    embedding.one("select flywheel.drop_embedder('small')")
    assert embedding.fail(batch) == "stale"
    assert embedding.complete(batch) == (0, 1, None)
    assert embedding.one("select flywheel.release_embeddings('w', %s)", Jsonb(batch.batch)) == 0
