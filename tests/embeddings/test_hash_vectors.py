"""The vectors of the embedder hash in the database, in Python and in SQL."""

import gzip
import json
from pathlib import Path

import pytest
from flywheel_pl.embeddings.hashing import FOLD
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Connection

# What PostgreSQL can store: no NUL, no half of a surrogate pair.
TEXTS = st.lists(
    st.one_of(
        st.none(),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60),
        st.text(st.sampled_from("aBß ÀЖжΣςİ\t\n\x1f\x85\u3000我が한ภ🙂'\\"), max_size=60),
    ),
    max_size=8,
)


def both(db: Connection, texts: list[str | None]) -> tuple[list[str | None], list[str | None]]:
    row = db.execute(
        "select flywheel._hash_weights_in_python(%(texts)s::text[])::text[],"
        " flywheel._hash_weights_in_sql(%(texts)s::text[])::text[]",
        {"texts": texts},
    ).fetchone()
    assert row is not None
    return row[0], row[1]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=TEXTS)
def test_python_and_sql_agree(db: Connection, texts: list[str | None]) -> None:
    in_python, in_sql = both(db, texts)
    assert in_python == in_sql
    assert len(in_sql) == len(texts)


def test_they_agree_on_the_sentences_of_75_languages(db: Connection, shared_data: Path) -> None:
    path = shared_data / "language_id" / "sentences.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    in_python, in_sql = both(db, texts[::15])
    assert in_python == in_sql
    assert None not in in_sql


def test_they_agree_on_every_letter_that_is_folded(db: Connection) -> None:
    capitals = [chr(code) for code in FOLD]
    in_python, in_sql = both(db, capitals)
    assert in_python == in_sql == both(db, [chr(small) for small in FOLD.values()])[1]


@pytest.mark.parametrize(
    "text", ["ab " * 3000, "我" * 9000, "x" * 20000, "- " * 6000, "wörter " * 2000]
)
def test_they_agree_on_long_texts(db: Connection, text: str) -> None:
    in_python, in_sql = both(db, [text])
    assert in_python == in_sql


def test_a_text_without_a_word_has_no_vector(db: Connection) -> None:
    row = db.execute(
        "select array(select v is null from unnest(flywheel._hash_vectors(array[null, '', E' \\t', 'a'])) as v),"
        " flywheel._hash_vector(null) is null, flywheel._hash_vectors('{}') = '{}'"
    ).fetchone()
    assert row == ([True, True, True, False], True, True)


def test_a_vector_has_length_1(db: Connection) -> None:
    row = db.execute(
        "select flywheel.vector_dims(v), abs(flywheel.vector_norm(v) - 1) < 1e-6,"
        " flywheel._hash_vectors(array['Where is my order?', 'WHERE  is my order?']) = array[v, v]"
        " from flywheel._hash_vector('where is my order?') as v"
    ).fetchone()
    assert row == (384, True, True)


def test_without_python_the_vectors_are_the_same(db: Connection) -> None:
    query = "select flywheel._hash_vectors(array['Where is my order?', null, 'Где?'])::text"
    before = db.execute(query).fetchone()
    db.execute("drop function flywheel._hash_weights_in_python(text[])")
    assert db.execute(query).fetchone() == before
