"""Who may ask for examples and look after the index; and pgvector in another schema."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from flywheel_db import install

Examples = Any

CALLS = {
    "similar_corrections": "select * from flywheel.similar_corrections('x')",
    "similar_corrections_by_vector": (
        "select * from flywheel.similar_corrections_by_vector(flywheel.embed('parcel'))"
    ),
    "prompt_examples": "select flywheel.prompt_examples(null, 'x')",
    "embed": "select flywheel.embed('x')",
    "few_shot": "select * from flywheel.few_shot('kind', 'x')",
    "few_shot_by_vector": "select * from flywheel.few_shot_by_vector('kind', flywheel.embed('parcel'))",
    "explain_few_shot": "select * from flywheel.explain_few_shot('kind', 'x')",
    "examples": "select * from flywheel.examples",
    "index_health": "select * from flywheel.index_health",
    "embedders": "select * from flywheel.embedders",
    "forget_example": "select flywheel.forget_example((select max(label_id) from flywheel.current_labels))",
    "approve_example": "select flywheel.approve_example((select max(label_id) from flywheel.current_labels))",
    "embed_texts": "select * from flywheel.embed_texts()",
    "index_vectors": "select * from flywheel.index_vectors()",
    "measure_index": "select flywheel.measure_index()",
    "set_index_policy": "select flywheel.set_index_policy('all')",
}
_PROMPTS = {"similar_corrections", "similar_corrections_by_vector", "prompt_examples", "embed"}
_JUDGES = {"few_shot", "few_shot_by_vector", "explain_few_shot"}
_VIEWS = {"examples", "index_health", "embedders"}
_UPKEEP = {"embed_texts", "index_vectors", "measure_index"}
MAY = {
    "flywheel_writer": _PROMPTS,
    "flywheel_reader": _PROMPTS | _JUDGES | _VIEWS,
    "flywheel_labeler": _PROMPTS | _JUDGES | _VIEWS | {"forget_example"},
    "flywheel_worker": _UPKEEP | {"index_health", "embedders"},
    "flywheel_validator": set(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("role", MAY)
def test_each_role_may_do_what_it_is_for(examples: Examples, role: str, call: str) -> None:
    examples.label(examples.trace("Where is my parcel?"), corrected_output="Here.")
    examples.upkeep()
    examples.session.execute(f"set local role {role}")
    if call in MAY[role]:
        assert examples.rows(CALLS[call]) or call == "prompt_examples"
    else:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            examples.rows(CALLS[call])


def test_no_role_reads_the_tables_below(examples: Examples) -> None:
    for role in MAY:
        for table in ("_examples", "_vectors_1_log", "_vectors_1_examples", "_vector_segments"):
            assert not examples.one(
                "select has_table_privilege(%s, %s, 'select, insert, update, delete')",
                role, f"flywheel.{table}",
            )  # fmt: skip


def test_pgvector_may_be_in_another_schema(
    new_database: Callable[..., str], examples_on: Callable[[Any], Examples]
) -> None:
    dsn = new_database()
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("create extension vector schema public")
    install.migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as session:
        made = examples_on(session)
        made.create_judge()
        session.execute(
            "create or replace function flywheel._segment_rows(store text) returns integer language sql"
            " immutable parallel safe begin atomic select 20; end"
        )
        for batch in range(4):
            session.execute(
                "insert into flywheel.traces (input) select 'parcel ' || md5((n + %s)::text) from generate_series(1, 25) as n",
                (batch * 100,),
            )
            made.one("select embedded from flywheel.embed_texts()")
        trace_id = made.trace("Where is my order?")
        made.label(trace_id, False, corrected_output="On its way.")
        made.upkeep()
        made.rows("select flywheel.index_vectors(60)")
        assert made.few_shot("my order", "f.trace_id") == [trace_id]
        assert made.call("similar_corrections", "f.kind, f.trace_id", query="my order") == [
            ("fixed", trace_id),
            ("similar", trace_id),
        ]
        assert made.rows(
            "select input from flywheel.few_shot_by_vector('kind', flywheel.embed('my order'))"
        ) == [("Where is my order?",)]
        assert len(made.call("prompt_examples", pipeline=None, query="my order")[0]) == 2
        made.one("select flywheel.measure_index()")
        assert made.one("select recall from flywheel.index_health where store = 'log'") > 0.9
        assert made.one(
            "select count(*) > 0 from pg_indexes where indexdef like '%% hnsw %%' and schemaname = 'flywheel'"
        )
        assert "Where is my order?" in made.prompt(made.trace("my order"))
    assert not install.check(dsn).changed
