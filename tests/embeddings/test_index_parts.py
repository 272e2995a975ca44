"""Segments close, get their HNSW index and become larger parts; searches go on through all of it."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

Examples = Any

PARTS = "select state, rows, first_segment, last_segment from flywheel._vector_segments where store = 'log' order by first_segment, part"


def segments_of(e: Examples, rows: int) -> None:
    """Have segments close after so many vectors."""
    e.session.execute(
        "create or replace function flywheel._segment_rows(store text) returns integer language sql immutable"
        f" parallel safe begin atomic select {rows}; end"
    )


def fill(e: Examples, count: int, *, label: bool = False) -> None:
    """Insert traces and embed them, in segments of their own."""
    e.session.execute(
        "insert into flywheel.traces (input) select 'parcel ' || md5(random()::text) from generate_series(1, %s)",
        (count,),
    )
    if label:
        e.session.execute(
            "select flywheel.label(trace_id, 'kind', true, split => 'train') from flywheel.traces as t"
            " where not exists (select from flywheel._label_splits as s where s.trace_id = t.trace_id)"
        )
    while e.one("select is_more from flywheel.embed_texts(0)"):
        pass


def merge(e: Examples) -> None:
    """Have parts merged, and wait until the new one has their place."""
    e.rows("select flywheel.index_vectors(60)")
    deadline = time.monotonic() + 60
    waiting = "select exists (select from flywheel._vector_segments where state = 'merged')"
    while e.one(waiting):
        # For other databases of the server too: their transactions hold snapshots back.
        assert time.monotonic() < deadline, "a merged part waits for ever"
        e.rows("select flywheel.index_vectors(0)")


def indexes(e: Examples) -> int:
    """How many HNSW indexes the log has."""
    return int(
        e.one(
            "select count(*) from pg_indexes where indexdef like '%% hnsw %%' and tablename like '\\_vectors\\_1\\_log%%'"
        )
    )


def everything_is_found(e: Examples) -> None:
    """Each trace is the nearest to its own text."""
    for trace_id, text in e.rows(
        "select trace_id, input from flywheel.traces order by random() limit 20"
    ):
        nearest = e.rows(
            "select n.item_id from flywheel._nearest(1, 'log', flywheel.embed(%s), 1) as n", text
        )
        assert nearest == [(trace_id,)]


def test_a_full_segment_closes_is_indexed_and_merged(people: Callable[..., Examples]) -> None:
    examples = people()
    segments_of(examples, 50)
    fill(examples, 30)
    examples.upkeep()
    assert examples.rows(PARTS) == [("open", 0, 1, 1)]
    fill(examples, 30)
    assert examples.rows(PARTS) == [("closed", 60, 1, 1), ("open", 0, 2, 2)]
    assert indexes(examples) == 0
    everything_is_found(examples)
    assert examples.one("select indexed from flywheel.index_vectors(0)") == 60
    assert examples.rows(PARTS)[0] == ("indexed", 60, 1, 1)
    assert indexes(examples) == 1
    for _ in range(3):
        fill(examples, 60)
    examples.rows("select flywheel.index_vectors(60)")
    examples.upkeep()
    merge(examples)  # with time, and nothing else to do
    parts = examples.rows(PARTS)
    assert parts[-1] == ("open", 0, 5, 5)
    assert ("indexed", 240, 1, 4) in parts
    assert [part[0] for part in parts].count("replaced") == 4
    assert examples.one("select count(*) from flywheel._vectors_1_log") == 240
    everything_is_found(examples)


def test_replaced_parts_are_dropped_after_a_minute(people: Callable[..., Examples]) -> None:
    examples = people()
    segments_of(examples, 50)
    for _ in range(4):
        fill(examples, 60)
    examples.upkeep()
    merge(examples)
    replaced = "select count(*) from flywheel._vector_segments where state = 'replaced'"
    tables = "select count(*) from pg_class where relkind = 'r' and relname like '\\_vectors\\_1\\_log\\_p%%'"
    assert (examples.one(replaced), examples.one(tables)) == (4, 6)
    examples.rows("select flywheel.index_vectors(60)")
    assert examples.one(replaced) == 4
    examples.session.execute(
        "update flywheel._vector_segments set replaced_at = replaced_at - interval '61 seconds'"
    )
    examples.rows("select flywheel.index_vectors(60)")
    assert (examples.one(replaced), examples.one(tables)) == (0, 2)


@pytest.mark.parametrize("state", ["merged", "replaced"])
def test_a_store_that_is_dropped_leaves_no_table(
    people: Callable[..., Examples], state: str
) -> None:
    examples = people()
    segments_of(examples, 50)
    for _ in range(4):
        fill(examples, 60)
    examples.upkeep()
    if state == "merged":
        examples.rows("select flywheel.index_vectors(60)")
    else:
        merge(examples)
    assert state in [part[0] for part in examples.rows(PARTS)]
    examples.rows("select flywheel._drop_store(1, 'log')")
    assert (
        examples.rows("select relname from pg_class where relname like '\\_vectors\\_1\\_log%%'")
        == []
    )
    assert examples.rows(PARTS) == []


def test_a_merged_part_waits_for_snapshots_that_do_not_see_it(
    people: Callable[..., Examples],
) -> None:
    upkeep, reader = people(), people()
    segments_of(upkeep, 50)
    for _ in range(4):
        fill(upkeep, 60)
    upkeep.upkeep()
    reader.session.execute("begin isolation level repeatable read")
    everything_is_found(reader)
    upkeep.rows("select flywheel.index_vectors(60)")
    for _ in range(3):
        assert upkeep.one("select is_more from flywheel.index_vectors(60)") is False
    assert [part[0] for part in upkeep.rows(PARTS)].count("merged") == 1
    everything_is_found(reader)
    everything_is_found(upkeep)
    reader.session.execute("commit")
    merge(upkeep)
    assert [part[0] for part in upkeep.rows(PARTS)].count("replaced") == 4
    everything_is_found(upkeep)


def test_what_is_removed_is_removed_from_a_merged_part_that_waits(
    people: Callable[..., Examples],
) -> None:
    upkeep = people()
    segments_of(upkeep, 50)
    for _ in range(4):
        fill(upkeep, 60)
    upkeep.upkeep()
    upkeep.rows("select flywheel.index_vectors(60)")
    (table,) = upkeep.rows(
        "select flywheel._part_table(s) from flywheel._vector_segments as s where s.state = 'merged'"
    )[0]
    forgotten, *deleted = (
        row[0] for row in upkeep.rows("select trace_id from flywheel.traces limit 5")
    )
    left = f"select count(*) from {table} where item_id = any (%s)"
    assert upkeep.one(left, [forgotten, *deleted]) == 5
    upkeep.rows("select flywheel.forget_trace(%s)", forgotten)
    assert upkeep.one(left, [forgotten]) == 0
    upkeep.session.execute("delete from flywheel.traces where trace_id = any (%s)", (deleted,))
    upkeep.rows("select flywheel._remove_stale_vectors(1000)")
    assert upkeep.one(left, deleted) == 0
    merge(upkeep)
    assert upkeep.one("select count(*) from flywheel._vectors_1_log") == 235
    everything_is_found(upkeep)


def test_removed_vectors_go_from_every_part(examples: Examples) -> None:
    segments_of(examples, 50)
    fill(examples, 60)
    examples.upkeep()
    fill(examples, 20)
    examples.session.execute("delete from flywheel.traces where hashtext(input) % 2 = 0")
    examples.upkeep()
    assert examples.one("select count(*) from flywheel._vectors_1_log") == examples.one(
        "select count(*) from flywheel.traces"
    )
    everything_is_found(examples)


@pytest.mark.parametrize("statistics", ["none", "of the full table", "of an empty table"])
def test_a_search_uses_hnsw_whatever_the_statistics_say(
    people: Callable[..., Examples], statistics: str
) -> None:
    e = people()
    segments_of(e, 1500)
    if statistics == "of an empty table":
        e.session.execute("analyze")
    fill(e, 3000)
    while e.one("select is_more from flywheel.index_vectors(0)"):
        pass
    if statistics == "of the full table":
        e.session.execute("analyze")
    fill(e, 10)
    text, scans = (
        "parcel",
        "select coalesce(sum(i.idx_scan), 0) from pg_stat_xact_user_tables as t join pg_stat_user_indexes as i"
        " using (relid) join pg_indexes as x on x.indexname = i.indexrelname where x.indexdef like '%% hnsw %%'",
    )
    assert indexes(e) >= 1
    e.session.execute("select pg_stat_force_next_flush()")
    before = e.one(scans)
    for _ in range(3):
        assert (
            len(e.rows("select * from flywheel._nearest(1, 'log', flywheel.embed(%s), 5)", text))
            == 5
        )
    e.session.execute("select pg_stat_force_next_flush()")
    e.session.execute("select pg_stat_clear_snapshot()")
    assert e.one(scans) >= before + 3 * indexes(e)


def test_index_health_tells_what_there_is(people: Callable[..., Examples]) -> None:
    e = people()
    columns = "parts, vectors, tail, waiting, lag is not null, recall, recall_at, queries"
    ask = f"select {columns} from flywheel.index_health where store = 'log'"
    segments_of(e, 200)
    assert e.one(ask) == (1, 0, 0, 0, False, None, None, None)
    e.trace("waits")
    assert e.one(ask)[3:5] == (1, True)
    fill(e, 300)
    while e.one("select is_more from flywheel.index_vectors(0)"):
        pass
    fill(e, 40)
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
    segments_of(examples, 20)
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


def test_readers_never_fail_while_parts_are_merged(people: Callable[..., Examples]) -> None:
    upkeep = people()
    segments_of(upkeep, 100)
    fill(upkeep, 100, label=True)
    (known,) = upkeep.rows("select input from flywheel.traces limit 1")[0]
    stop = threading.Event()
    failed: list[BaseException] = []
    answers = [0, 0]

    def read(number: int, reader: Examples) -> None:
        try:
            while not stop.is_set():
                rows = reader.rows("select input from flywheel.similar_corrections(%s)", known)
                # What HNSW finds is another test's: here, that there is always an answer.
                assert rows
                assert reader.few_shot(known, k=1)
                answers[number] += 1
        except BaseException as error:
            failed.append(error)

    threads = [
        threading.Thread(target=read, args=(number, people())) for number in range(len(answers))
    ]
    for thread in threads:
        thread.start()
    replaced: list[int] = []
    try:
        for _ in range(9):
            fill(upkeep, 100)
            # Those of the round before: nobody can be reading them any more.
            upkeep.session.execute(
                "update flywheel._vector_segments set replaced_at = replaced_at - interval '61 seconds' where part = any (%s)",
                (replaced,),
            )
            upkeep.rows("select flywheel.index_vectors(60)")
            merge(upkeep)
            replaced = [
                part
                for (part,) in upkeep.rows(
                    "select part from flywheel._vector_segments where state = 'replaced'"
                )
            ]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert min(answers) > 0
    assert any(row[3] > row[2] for row in upkeep.rows(PARTS)), "nothing was merged"
    everything_is_found(upkeep)


def test_two_sessions_at_once_do_no_harm(people: Callable[..., Examples]) -> None:
    e = people()
    segments_of(e, 100)
    e.session.execute(
        "insert into flywheel.traces (input) select 'parcel ' || md5(n::text) from generate_series(1, 2000) as n"
    )
    failed: list[BaseException] = []

    def run(session: Examples) -> None:
        try:
            for _ in range(10):
                session.rows("select flywheel.embed_texts(0.1), flywheel.index_vectors(0.1)")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(people(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    e.upkeep()
    assert e.one(
        "select count(*) = 2000 and count(distinct item_id) = 2000 from flywheel._vectors_1_log"
    )
    assert (
        e.one(
            "select count(*) from flywheel._vector_segments where store = 'log' and state = 'open'"
        )
        == 1
    )
    everything_is_found(e)


def test_the_second_session_returns_at_once(people: Callable[..., Examples]) -> None:
    first, second = people(autocommit=False), people()
    first.session.commit()
    first.rows("select flywheel.embed_texts(0), flywheel.index_vectors(0)")
    second.trace("waits")
    assert second.rows("select * from flywheel.embed_texts()") == [(0, False)]
    assert second.rows("select * from flywheel.index_vectors()") == [(0, False)]
    first.session.commit()
    assert second.rows("select embedded from flywheel.embed_texts()") == [(1,)]


@pytest.mark.parametrize("moment", ["indexing", "merging"])
def test_a_killed_upkeep_loses_nothing(people: Callable[..., Examples], moment: str) -> None:
    """The server process goes with the session that does it; whoever comes next does it again."""
    e = people()
    segments_of(e, 100)
    for _ in range(4):
        fill(e, 100)
        if moment == "merging":
            while e.one("select indexed from flywheel.index_vectors(0)"):
                pass
    dying = people(autocommit=False)
    assert dying.one("select indexed from flywheel.index_vectors(60)") > 0
    before = e.rows(PARTS)
    dying_pid = dying.session.info.backend_pid
    # Terminated, not killed: -9 would take the server of all tests down. What it wrote is undone alike.
    e.one("select pg_terminate_backend(%s)", dying_pid)
    with pytest.raises(psycopg.OperationalError):
        dying.rows("select 1")
    assert e.rows(PARTS) == before
    everything_is_found(e)
    e.rows("select flywheel.index_vectors(60)")
    e.upkeep()
    e.rows("select flywheel.index_vectors(60)")
    assert e.one("select count(*) from flywheel._vectors_1_log") == 400
    assert indexes(e) >= 1
    everything_is_found(e)
