"""Several parts become one; searches, removals and whoever dies go on through all of it."""

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

Examples = Any


def test_replaced_parts_are_dropped_after_a_minute(people: Callable[..., Examples]) -> None:
    examples = people()
    examples.segments_of(50)
    for _ in range(4):
        examples.fill(60)
    examples.upkeep()
    examples.merge()
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
    examples.segments_of(50)
    for _ in range(4):
        examples.fill(60)
    examples.upkeep()
    if state == "merged":
        examples.rows("select flywheel.index_vectors(60)")
    else:
        examples.merge()
    assert state in [part[0] for part in examples.parts()]
    examples.rows("select flywheel._drop_store(1, 'log')")
    assert (
        examples.rows("select relname from pg_class where relname like '\\_vectors\\_1\\_log%%'")
        == []
    )
    assert examples.parts() == []


def test_a_merged_part_waits_for_snapshots_that_do_not_see_it(
    people: Callable[..., Examples],
) -> None:
    upkeep, reader = people(), people()
    upkeep.segments_of(50)
    for _ in range(4):
        upkeep.fill(60)
    upkeep.upkeep()
    reader.session.execute("begin isolation level repeatable read")
    reader.everything_is_found()
    upkeep.rows("select flywheel.index_vectors(60)")
    for _ in range(3):
        assert upkeep.one("select is_more from flywheel.index_vectors(60)") is False
    assert [part[0] for part in upkeep.parts()].count("merged") == 1
    reader.everything_is_found()
    upkeep.everything_is_found()
    reader.session.execute("commit")
    upkeep.merge()
    assert [part[0] for part in upkeep.parts()].count("replaced") == 4
    upkeep.everything_is_found()


def test_what_is_removed_is_removed_from_a_merged_part_that_waits(
    people: Callable[..., Examples],
) -> None:
    upkeep = people()
    upkeep.segments_of(50)
    for _ in range(4):
        upkeep.fill(60)
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
    upkeep.merge()
    assert upkeep.one("select count(*) from flywheel._vectors_1_log") == 235
    upkeep.everything_is_found()


def test_readers_never_fail_while_parts_are_merged(people: Callable[..., Examples]) -> None:
    upkeep = people()
    upkeep.segments_of(100)
    upkeep.fill(100, label=True)
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
            upkeep.fill(100)
            # Those of the round before: nobody can be reading them any more.
            upkeep.session.execute(
                "update flywheel._vector_segments set replaced_at = replaced_at - interval '61 seconds' where part = any (%s)",
                (replaced,),
            )
            upkeep.rows("select flywheel.index_vectors(60)")
            upkeep.merge()
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
    assert any(row[3] > row[2] for row in upkeep.parts()), "nothing was merged"
    upkeep.everything_is_found()


def test_two_sessions_at_once_do_no_harm(people: Callable[..., Examples]) -> None:
    e = people()
    e.segments_of(100)
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
    e.everything_is_found()


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
    e.segments_of(100)
    for _ in range(4):
        e.fill(100)
        if moment == "merging":
            while e.one("select indexed from flywheel.index_vectors(0)"):
                pass
    dying = people(autocommit=False)
    assert dying.one("select indexed from flywheel.index_vectors(60)") > 0
    before = e.parts()
    dying_pid = dying.session.info.backend_pid
    # Terminated, not killed: -9 would take the server of all tests down. What it wrote is undone alike.
    e.one("select pg_terminate_backend(%s)", dying_pid)
    with pytest.raises(psycopg.OperationalError):
        dying.rows("select 1")
    assert e.parts() == before
    e.everything_is_found()
    e.rows("select flywheel.index_vectors(60)")
    e.upkeep()
    e.rows("select flywheel.index_vectors(60)")
    assert e.one("select count(*) from flywheel._vectors_1_log") == 400
    assert e.indexes() >= 1
    e.everything_is_found()
