"""Splits: 40/30/30 unless set otherwise, one for a trace and its spans, and never a second one."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from psycopg import Connection, errors
from psycopg.rows import scalar_row
from scipy.stats import chi2_contingency, chisquare

TRACE = "00000000-0000-0000-0000-000000000001"
SPAN = "00000000-0000-0000-0000-000000000002"
LABEL = f"select flywheel.label('{TRACE}', 'v', true)"
FORCE = f"select flywheel.label('{TRACE}', 'v', true, split => %s)"
# Ids as applications make them: random, and counted up.
RANDOM = "md5(i::text)::uuid"
COUNTED = "lpad(to_hex(i), 32, '0')::uuid"
# If the splits are what they should be, a test below fails once in a million choices of ids.
# The ids are always the same, so it fails always or never.
UNLIKELY = 1e-6


def _prepare(session: Connection) -> None:
    session.execute("select flywheel.create_validator('v', 'sql', 'true')")
    session.execute("select flywheel.create_validator('s', 'sql', 'true', subject => 'span')")
    session.execute("insert into flywheel.traces (trace_id, output) values (%s, 'x')", (TRACE,))
    session.execute(
        "insert into flywheel.spans (trace_id, span_id, output) values (%s, %s, 'x')", (TRACE, SPAN)
    )


@pytest.fixture
def world(db: Connection) -> Connection:
    """A trace with a span."""
    _prepare(db)
    return db


def _splits(session: Connection) -> list[str]:
    with session.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute("select split from flywheel.current_labels order by 1").fetchall()


def _counts(session: Connection, ids: str, n: int = 20_000) -> dict[str, int]:
    return dict(
        session.execute(
            f"select flywheel._draw_split({ids}), count(*)::int from generate_series(1, %s) i group by 1",  # type: ignore[arg-type]
            (n,),
        ).fetchall()
    )


@pytest.mark.parametrize("ids", [RANDOM, COUNTED])
@pytest.mark.parametrize("shares", [None, (40, 30, 30), (10, 45, 45), (1, 1, 98), (98, 1, 1)])
def test_the_shares_are_those_of_the_setting(
    db: Connection, ids: str, shares: tuple[int, int, int] | None
) -> None:
    if shares is not None:
        setting = "/".join(map(str, shares))
        db.execute("select set_config('flywheel.label_splits', %s, true)", (setting,))
    counts = _counts(db, ids)
    observed = [counts[split] for split in ("train", "dev", "test")]
    expected = [200 * share for share in shares or (40, 30, 30)]
    assert chisquare(observed, expected).pvalue > UNLIKELY


@pytest.mark.parametrize(
    ("setting", "splits"),
    [
        ("100/0/0", {"train"}),
        ("0/100/0", {"dev"}),
        ("0/0/100", {"test"}),
        (" 0 / 50 / 50 ", {"dev", "test"}),
        ("", {"train", "dev", "test"}),
    ],
)
def test_a_share_of_nothing_is_never_drawn(db: Connection, setting: str, splits: set[str]) -> None:
    db.execute("select set_config('flywheel.label_splits', %s, true)", (setting,))
    assert set(_counts(db, RANDOM, 500)) == splits


@pytest.mark.parametrize("ids", [RANDOM, COUNTED])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_what_was_sampled_is_split_like_the_rest(db: Connection, ids: str, rate: float) -> None:
    rows = db.execute(
        "select flywheel._is_sampled(id, %s), "
        "count(*) filter (where split = 'train'), count(*) filter (where split = 'dev'), "
        "count(*) filter (where split = 'test') from (select id, flywheel._draw_split(id) as split "
        f"from generate_series(1, 20000) i, lateral (select {ids} as id) as k) as d group by 1",  # type: ignore[arg-type]
        (rate,),
    ).fetchall()
    assert len(rows) == 2
    table = [list(counts) for _, *counts in rows]
    assert chi2_contingency(table).pvalue > UNLIKELY


@pytest.mark.parametrize(
    "setting", ["40/30", "40/30/20", "40/30/30/0", "a/b/c", "0.4/0.3/0.3", "-10/60/50", "999/1/1"]
)
def test_a_setting_that_makes_no_sense_is_named(world: Connection, setting: str) -> None:
    world.execute("select set_config('flywheel.label_splits', %s, true)", (setting,))
    with pytest.raises(errors.DatabaseError, match=r"flywheel\.label_splits is") as caught:
        world.execute(LABEL)
    assert caught.value.sqlstate == "LF002"
    assert setting in str(caught.value)
    assert "alter database" in (caught.value.diag.message_hint or "")


def test_the_hint_can_be_followed(dsn: str, connect: Callable[..., Connection]) -> None:
    admin = connect()
    _prepare(admin)
    with pytest.raises(errors.DatabaseError, match="whole percentages") as caught:
        connect(options="-c flywheel.label_splits=nonsense").execute(LABEL)
    hint = caught.value.diag.message_hint or ""
    command = hint[hint.index("alter database") :].replace("40/30/30", "0/0/100")
    admin.execute(command.encode())
    session = connect()
    session.execute(LABEL)
    assert _splits(session) == ["test"]


def test_all_validators_and_spans_of_a_trace_share_its_split(world: Connection) -> None:
    """A span and its trace quote each other, so the one must not be taught where the other is tested."""
    world.execute("set local flywheel.label_splits = '0/100/0'")
    world.execute("select flywheel.label(%s, 's', true, span_id => %s)", (TRACE, SPAN))
    # Drawn once: neither a later setting nor a withdrawal draws again.
    world.execute("set local flywheel.label_splits = '100/0/0'")
    world.execute("select flywheel.withdraw_label(label_id) from flywheel.current_labels")
    world.execute("select flywheel.create_validator('w', 'sql', 'true')")
    world.execute(LABEL)
    world.execute(LABEL.replace("'v'", "'w'"))
    assert _splits(world) == ["dev", "dev"]


def test_a_split_can_be_forced_once(world: Connection) -> None:
    for split in ("test", "test"):
        world.execute(FORCE, (split,))
    forced = pytest.raises(errors.DatabaseError, match="is in the split test, not train")
    with forced as caught, world.transaction():
        world.execute(FORCE, ("train",))
    assert caught.value.sqlstate == "LF002"
    assert caught.value.diag.message_hint
    world.execute(LABEL)
    assert _splits(world) == ["test"]
    assert world.execute("select count(*) from flywheel._labels").fetchone() == (3,)


def test_a_split_stays_when_its_trace_comes_back(world: Connection) -> None:
    world.execute(FORCE, ("test",))
    world.execute("delete from flywheel.traces")
    world.execute("insert into flywheel.traces (trace_id, output) values (%s, 'again')", (TRACE,))
    world.execute("set local flywheel.label_splits = '100/0/0'")
    world.execute(LABEL)
    assert _splits(world) == ["test"]


def test_the_table_itself_refuses_a_label_in_another_split(world: Connection) -> None:
    world.execute(FORCE, ("test",))
    with pytest.raises(errors.ForeignKeyViolation):
        world.execute("update flywheel._labels set split = 'train'")


def _in_another_session(
    pool: ThreadPoolExecutor, session: Connection, observer: Connection, split: str
) -> Future[object]:
    """Start labelling, and return once the session waits."""
    waiting: Future[object] = pool.submit(session.execute, FORCE, (split,))
    give_up = time.monotonic() + 30
    while observer.execute(
        "select pg_blocking_pids(%s)", (session.info.backend_pid,)
    ).fetchone() == ([],):
        assert time.monotonic() < give_up, "nothing waits"
        assert not waiting.done(), waiting.exception()
    return waiting


def test_two_sessions_cannot_give_one_trace_two_splits(connect: Callable[..., Connection]) -> None:
    first, second, observer = connect(autocommit=False), connect(), connect()
    _prepare(observer)
    first.execute(FORCE, ("train",))
    with ThreadPoolExecutor() as pool:
        waiting = _in_another_session(pool, second, observer, "test")
        first.commit()
        with pytest.raises(errors.DatabaseError, match="is in the split train, not test"):
            waiting.result()
    assert _splits(observer) == ["train"]


def test_a_split_of_a_transaction_that_is_rolled_back_was_never_drawn(
    connect: Callable[..., Connection],
) -> None:
    first, second, observer = connect(autocommit=False), connect(), connect()
    _prepare(observer)
    first.execute(FORCE, ("train",))
    with ThreadPoolExecutor() as pool:
        waiting = _in_another_session(pool, second, observer, "test")
        first.rollback()
        waiting.result()
    assert _splits(observer) == ["test"]


def test_an_older_snapshot_cannot_draw_again(connect: Callable[..., Connection]) -> None:
    """It does not see the other's split, and fails instead of drawing its own."""
    first, second = connect(), connect(autocommit=False)
    _prepare(first)
    second.execute("set transaction isolation level repeatable read")
    second.execute("select from flywheel.traces")
    first.execute(FORCE, ("train",))
    with pytest.raises(errors.SerializationFailure):
        second.execute(FORCE, ("test",))
    second.rollback()
    second.execute(LABEL)
    second.commit()
    assert _splits(first) == ["train"]


def test_many_sessions_agree_on_every_trace(connect: Callable[..., Connection]) -> None:
    admin = connect()
    _prepare(admin)
    admin.execute("insert into flywheel.traces (output) select 'x' from generate_series(1, 200)")
    sessions = [
        connect(options=f"-c flywheel.label_splits={setting}")
        for setting in ("100/0/0", "0/100/0", "0/0/100", "40/30/30")
    ]
    with admin.cursor(row_factory=scalar_row) as cursor:
        traces = cursor.execute("select trace_id from flywheel.traces order by 1").fetchall()

    def work(session: Connection) -> None:
        for trace in traces:
            session.execute("select flywheel.label(%s, 'v', true)", (trace,))

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, sessions))
    assert admin.execute(
        "select count(*), count(distinct trace_id), count(distinct (trace_id, split)) from flywheel._labels"
    ).fetchone() == (4 * 201, 201, 201)
