"""Segments close, get their HNSW index and become larger parts; searches go on through all of it."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

Examples = Any


def test_a_full_segment_closes_is_indexed_and_merged(people: Callable[..., Examples]) -> None:
    examples = people()
    examples.segments_of(50)
    examples.fill(30)
    examples.upkeep()
    assert examples.parts() == [("open", 0, 1, 1)]
    examples.fill(30)
    assert examples.parts() == [("closed", 60, 1, 1), ("open", 0, 2, 2)]
    assert examples.indexes() == 0
    examples.everything_is_found()
    assert examples.one("select indexed from flywheel.index_vectors(0)") == 60
    assert examples.parts()[0] == ("indexed", 60, 1, 1)
    assert examples.indexes() == 1
    for _ in range(3):
        examples.fill(60)
    examples.rows("select flywheel.index_vectors(60)")
    examples.upkeep()
    examples.merge()  # with time, and nothing else to do
    parts = examples.parts()
    assert parts[-1] == ("open", 0, 5, 5)
    assert ("indexed", 240, 1, 4) in parts
    assert [part[0] for part in parts].count("replaced") == 4
    assert examples.one("select count(*) from flywheel._vectors_1_log") == 240
    examples.everything_is_found()


def test_removed_vectors_go_from_every_part(examples: Examples) -> None:
    examples.segments_of(50)
    examples.fill(60)
    examples.upkeep()
    examples.fill(20)
    examples.session.execute("delete from flywheel.traces where hashtext(input) % 2 = 0")
    examples.upkeep()
    assert examples.one("select count(*) from flywheel._vectors_1_log") == examples.one(
        "select count(*) from flywheel.traces"
    )
    examples.everything_is_found()


@pytest.mark.parametrize("statistics", ["none", "of the full table", "of an empty table"])
def test_a_search_uses_hnsw_whatever_the_statistics_say(
    people: Callable[..., Examples], statistics: str
) -> None:
    e = people()
    e.segments_of(1500)
    if statistics == "of an empty table":
        e.session.execute("analyze")
    e.fill(3000)
    while e.one("select is_more from flywheel.index_vectors(0)"):
        pass
    if statistics == "of the full table":
        e.session.execute("analyze")
    e.fill(10)
    text, scans = (
        "parcel",
        "select coalesce(sum(i.idx_scan), 0) from pg_stat_xact_user_tables as t join pg_stat_user_indexes as i"
        " using (relid) join pg_indexes as x on x.indexname = i.indexrelname where x.indexdef like '%% hnsw %%'",
    )
    assert e.indexes() >= 1
    e.session.execute("select pg_stat_force_next_flush()")
    before = e.one(scans)
    for _ in range(3):
        assert (
            len(e.rows("select * from flywheel._nearest(1, 'log', flywheel.embed(%s), 5)", text))
            == 5
        )
    e.session.execute("select pg_stat_force_next_flush()")
    e.session.execute("select pg_stat_clear_snapshot()")
    assert e.one(scans) >= before + 3 * e.indexes()


def test_index_health_tells_what_there_is(people: Callable[..., Examples]) -> None:
    e = people()
    columns = "parts, vectors, tail, waiting, lag is not null, recall, recall_at, queries"
    ask = f"select {columns} from flywheel.index_health where store = 'log'"
    e.segments_of(200)
    assert e.one(ask) == (1, 0, 0, 0, False, None, None, None)
    e.trace("waits")
    assert e.one(ask)[3:5] == (1, True)
    e.fill(300)
    while e.one("select is_more from flywheel.index_vectors(0)"):
        pass
    e.fill(40)
    e.session.execute("select pg_stat_force_next_flush()")
    e.one("select flywheel.measure_index(queries => 10, k => 5)")
    e.session.execute("select pg_stat_clear_snapshot()")
    parts, vectors, tail, waiting, is_late, recall, recall_at, queries = e.one(ask)
    assert (parts, vectors, tail, waiting, is_late) == (2, 341, 40, 0, False)
    assert recall > 0.9
    assert (recall_at, queries) == (5, 10)
    # A store without vectors has no recall.
    rows = e.rows(
        "select store, recall, queries from flywheel.index_health where store <> 'log' order by 1"
    )
    assert rows == [("corrections", None, 0), ("examples", None, 0)]


@pytest.mark.parametrize("arguments", ["0", "1001", "null", "10, 0", "10, 101", "10, null"])
def test_measuring_nonsense_is_refused(examples: Examples, arguments: str) -> None:
    with pytest.raises(psycopg.Error, match="queries is") as caught:
        examples.one(f"select flywheel.measure_index({arguments})")
    assert caught.value.sqlstate == "LF002"


@pytest.mark.parametrize("half", [True, False])
def test_both_precisions_are_indexed_and_searched(
    embedding: Any, examples: Examples, half: bool
) -> None:
    examples.segments_of(20)
    embedding.one("select flywheel.create_model('small', 'http://127.0.0.1:1/v1', 'e-1')")
    embedding.one(
        "select flywheel.create_embedder('small', 'openai', 3, 'small', half => %s)", half
    )
    embedding.one("select flywheel.use_embedder('small')")
    embedding.upkeep()
    ids = embedding.insert(*(f"{chr(97 + n)}{chr(122 - n)}" for n in range(25)))
    embedding.drain()
    embedding.upkeep()
    while embedding.one("select is_more from flywheel.index_vectors(0)"):
        pass
    table = embedding.store()
    kind = "halfvec" if half else "vector"
    assert embedding.one(
        "select count(*) from pg_indexes where indexdef like %s and schemaname = 'flywheel'", f"% hnsw (embedding %{kind}_ip_ops)%"
    ) == 1  # fmt: skip
    vector = embedding.one(f"select embedding::text from {table} where item_id = %s", ids[7])
    assert sum(x * x for x in json.loads(vector)) == pytest.approx(1, abs=2e-3)
    rows = embedding.rows(
        "select trace_id, similarity from flywheel.similar_corrections_by_vector(%s::text::flywheel.vector)",
        vector,
    )
    assert [row[1] for row in rows] == [pytest.approx(1, abs=2e-3)]
    assert rows[0][0] in ids
