"""flywheel.work(): the queue drained from inside the database."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import Connection, errors, sql

import replay

Connect = Callable[..., Connection]


@pytest.fixture
def allow(maintenance: Connection) -> Iterator[Callable[[str], None]]:
    """Write flywheel.allowed_hosts where only a superuser can."""

    def write(hosts: str) -> None:
        maintenance.execute("set flywheel.allowed_hosts = ''")  # or ALTER SYSTEM does not know it
        maintenance.execute(
            sql.SQL("alter system set flywheel.allowed_hosts = {}").format(sql.Literal(hosts))
        )

    yield write
    maintenance.execute("alter system reset flywheel.allowed_hosts")


def _set_up(session: Connection, base_url: str, rows: int, **model: object) -> None:
    session.execute(
        "select flywheel.create_model('judge', %s, 'm', timeout_seconds => %s, api_key_env => %s)",
        (base_url, model.get("timeout", 10), model.get("api_key_env")),
    )
    session.execute(
        "select flywheel.create_validator('kind', 'llm', 'It is kind.', model => 'judge')"
    )
    session.execute(
        "insert into flywheel.traces (input, output) select 'in ' || i, 'out ' || i from generate_series(1, %s) as i",
        (rows,),
    )


def _statuses(session: Connection) -> dict[str, int]:
    return dict(
        session.execute("select status, count(*) from flywheel.verdicts group by status").fetchall()
    )


def _notices(session: Connection) -> list[str]:
    told: list[str] = []
    session.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
    return told


def test_it_judges_what_is_queued_and_logs_the_runs(
    connect: Connect, allow: Callable[[str], None]
) -> None:
    session = connect()
    with replay.Endpoint(replay.by_keyword("out 3")) as endpoint:
        allow(endpoint.authority)
        _set_up(session, endpoint.base_url, 10)
        session.execute(
            "select flywheel.create_validator('short', 'sql', 'length(output) < 6', mode => 'queued')"
        )
        session.execute("insert into flywheel.traces (output) values ('a long one')")
        session.execute("call flywheel.work(20, 4)")
    verdicts = session.execute(
        "select validator, status, count(*) from flywheel.verdicts group by 1, 2 order by 1, 2"
    ).fetchall()
    assert verdicts == [("kind", "failed", 1), ("kind", "passed", 10), ("short", "failed", 1)]
    assert session.execute("select count(*) from flywheel.jobs").fetchone() == (0,)
    runs = session.execute(
        "select count(*), count(distinct trace_id), sum(requests), bool_and(replies[1] like '%verdict%'),"
        " bool_and(messages -> 0 ->> 'content' like '%It is kind.%') from flywheel.runs"
    ).fetchone()
    assert runs == (11, 11, 11, True, True)
    assert endpoint.peak <= 4


def test_an_unprivileged_worker_may_call_it(connect: Connect, allow: Callable[[str], None]) -> None:
    session, worker = connect(), connect()
    worker.execute("set session authorization flywheel_worker")
    with replay.Endpoint(replay.verdict()) as endpoint:
        allow(endpoint.authority)
        _set_up(session, endpoint.base_url, 5)
        worker.execute("call flywheel.work(20, 2)")
    assert _statuses(session) == {"passed": 5}


def test_a_session_cannot_allow_a_host(connect: Connect, allow: Callable[[str], None]) -> None:
    session = connect(options="-c flywheel.allowed_hosts=127.0.0.1")
    told = _notices(session)
    with replay.Endpoint(replay.verdict()) as endpoint:
        allow("api.openai.com")
        _set_up(session, endpoint.base_url, 2)
        session.execute("set flywheel.allowed_hosts = '127.0.0.1'")
        session.execute("call flywheel.work(5, 2)")
    assert endpoint.count == 0
    assert any("the model judge is not called" in line and "not allowed" in line for line in told)
    assert session.execute("select pending, in_flight from flywheel.queue_health").fetchone() == (
        2,
        0,
    )


def test_a_model_is_called_no_more_than_so_often_at_once(
    connect: Connect, allow: Callable[[str], None]
) -> None:
    session = connect()
    with replay.Endpoint(replay.verdict(), latency=0.05) as endpoint:
        allow(endpoint.authority)
        _set_up(session, endpoint.base_url, 12)
        session.execute("select flywheel.alter_model('judge', max_concurrency => 2)")
        session.execute("call flywheel.work(20, 8)")
    assert _statuses(session) == {"passed": 12}
    assert endpoint.peak <= 2


def test_a_key_that_the_server_does_not_have(
    connect: Connect, allow: Callable[[str], None]
) -> None:
    session = connect()
    told = _notices(session)
    with replay.Endpoint(replay.verdict()) as endpoint:
        allow(endpoint.authority)
        _set_up(session, endpoint.base_url, 2, api_key_env="FLYWHEEL_KEY_NOBODY_HAS")
        session.execute("call flywheel.work(5, 2)")
    assert endpoint.count == 0
    assert any("FLYWHEEL_KEY_NOBODY_HAS is not set" in line for line in told)


def test_inside_a_transaction_it_says_what_to_do(connect: Connect) -> None:
    session = connect(autocommit=False)
    told = _notices(session)
    with pytest.raises(errors.InvalidTransactionTermination):
        session.execute("call flywheel.work(1)")
    assert any("outside BEGIN" in line for line in told)


@pytest.mark.parametrize(
    ("call", "message"), [("work(-1)", "max_seconds"), ("work(null)", "max_seconds"), ("work(1, 0)", "concurrency")]
)  # fmt: skip
def test_arguments_that_make_no_sense(connect: Connect, call: str, message: str) -> None:
    with pytest.raises(psycopg.DatabaseError, match=message) as caught:
        connect().execute(f"call flywheel.{call}")  # type: ignore[arg-type]
    assert caught.value.sqlstate == "LF002"


def test_no_transaction_is_held_during_a_call(
    connect: Connect, allow: Callable[[str], None]
) -> None:
    session, other = connect(), connect()
    # A scheduled task has a transaction, however short.
    session.execute("update flywheel._schedules set next_run_at = now() + interval '1 hour'")
    with replay.Endpoint(replay.verdict(), latency=1.5) as endpoint:
        allow(endpoint.authority)
        _set_up(session, endpoint.base_url, 3)
        thread = threading.Thread(target=session.execute, args=("call flywheel.work(20, 4)",))
        thread.start()
        try:
            while endpoint.in_flight < 3:
                time.sleep(0.01)
            seen = [
                other.execute(
                    "select a.backend_xid, a.backend_xmin, (select count(*) from pg_locks as l"
                    " where l.pid = a.pid and l.locktype = 'relation') from pg_stat_activity as a where a.pid = %s",
                    (session.info.backend_pid,),
                ).fetchone()
                for _ in range(40)
            ]
            # The look for a cancellation is a statement, but a short one.
            assert seen.count((None, None, 0)) >= 30
        finally:
            thread.join()
    assert _statuses(session) == {"passed": 3}


def test_it_can_be_cancelled_and_gives_its_jobs_back(
    connect: Connect, allow: Callable[[str], None]
) -> None:
    session, other = connect(), connect()
    with replay.Endpoint(replay.verdict(), latency=30) as endpoint:
        allow(endpoint.authority)
        _set_up(session, endpoint.base_url, 5, timeout=60)
        ended: list[BaseException] = []

        def work() -> None:
            try:
                session.execute("call flywheel.work(60, 4)")
            except psycopg.Error as error:
                ended.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        while endpoint.in_flight < 4:
            time.sleep(0.01)
        other.execute("select pg_cancel_backend(%s)", (session.info.backend_pid,))
        thread.join(20)
        assert not thread.is_alive()
    assert [type(error) for error in ended] == [errors.QueryCanceled]
    jobs = other.execute(
        "select count(*), max(attempts), bool_and(leased_until is null) from flywheel.jobs"
    ).fetchone()
    assert jobs == (5, 0, True)
    assert session.execute("select 1").fetchone() == (1,)


def test_a_killed_backend_loses_nothing(connect: Connect, allow: Callable[[str], None]) -> None:
    session, other = connect(), connect()
    with replay.Endpoint(replay.verdict(), latency=0.3) as endpoint:
        allow(endpoint.authority)
        _set_up(session, endpoint.base_url, 20)
        thread = threading.Thread(target=_call_until_killed, args=(session,))
        thread.start()
        while endpoint.count < 6:
            time.sleep(0.01)
        other.execute("select pg_terminate_backend(%s)", (session.info.backend_pid,))
        thread.join()
        other.execute(
            "update flywheel._jobs set leased_until = now() - interval '1 second' where leased_until is not null"
        )
        other.execute("call flywheel.work(30, 8)")
    assert _statuses(other) == {"passed": 20}
    assert other.execute("select missing, pending, dead from flywheel.coverage").fetchone() == (
        0,
        0,
        0,
    )


def _call_until_killed(session: Connection) -> None:
    with contextlib.suppress(psycopg.Error):
        session.execute("call flywheel.work(30, 4)")


@pytest.mark.parametrize(
    "fault",
    ["server_error", "html", "cut", "dropped", "huge", "huge_without_length", "rate_limited"],
)
def test_a_fault_of_the_endpoint_is_tried_again(
    connect: Connect, allow: Callable[[str], None], fault: str
) -> None:
    session = connect()
    session.execute(
        "create or replace function flywheel._backoff(attempts integer) returns interval language sql as 'select interval ''0'''"
    )
    with replay.Endpoint(replay.in_turn([replay.FAULTS[fault]], replay.verdict())) as endpoint:
        allow(endpoint.authority)
        _set_up(session, endpoint.base_url, 1)
        session.execute("call flywheel.work(30, 2)")
    assert _statuses(session) == {"passed": 1}
    assert endpoint.count == 2


@pytest.mark.parametrize("fault", ["hang", "hang_in_body", "drip"])
def test_a_call_that_hangs_ends_in_time(
    connect: Connect, allow: Callable[[str], None], fault: str
) -> None:
    session = connect()
    with replay.Endpoint(replay.in_turn([replay.FAULTS[fault]], replay.verdict())) as endpoint:
        allow(endpoint.authority)
        _set_up(session, endpoint.base_url, 1, timeout=1)
        session.execute("call flywheel.work(20, 2)")
    assert _statuses(session) == {"passed": 1}
    errors_logged = session.execute(
        "select error from flywheel.runs where outcome = 'retry'"
    ).fetchall()
    assert errors_logged == [("no whole answer within 1 seconds",)]


def test_schedules_are_run_when_nothing_is_queued(connect: Connect) -> None:
    session, worker = connect(), connect()
    session.execute("select flywheel.create_schedule('mine', 'sweep', every => '1 day')")
    session.execute("update flywheel._schedules set next_run_at = now()")
    worker.execute("set session authorization flywheel_worker")
    worker.execute("call flywheel.work(20)")
    due = "select count(*) from flywheel.schedules where next_run_at <= now() or runs <> 1"
    assert session.execute(due).fetchone() == (0,)


def test_schedules_are_run_while_calls_are_under_way(
    connect: Connect, allow: Callable[[str], None]
) -> None:
    session, other = connect(), connect()
    session.execute("update flywheel._schedules set next_run_at = now() + interval '1 hour'")
    with replay.Endpoint(replay.verdict(), latency=4) as endpoint:
        allow(endpoint.authority)
        _set_up(session, endpoint.base_url, 1)
        thread = threading.Thread(target=session.execute, args=("call flywheel.work(20, 4)",))
        thread.start()
        while endpoint.in_flight == 0:
            time.sleep(0.01)
        other.execute("update flywheel._schedules set next_run_at = now() where name = 'sweep'")
        runs = "select runs from flywheel.schedules where name = 'sweep'"
        while other.execute(runs).fetchone() == (0,):
            assert endpoint.in_flight == 1
            time.sleep(0.01)
        thread.join()
    assert _statuses(session) == {"passed": 1}


def test_a_cancellation_during_a_scheduled_task_ends_it(connect: Connect) -> None:
    session, other = connect(), connect()
    session.execute(
        "create or replace function flywheel._remove_orphans() returns bigint language sql volatile"
        " as 'select 1::bigint from pg_sleep(60)'"
    )
    session.execute("update flywheel._schedules set next_run_at = now() where name = 'sweep'")
    caught: list[psycopg.Error] = []

    def call() -> None:
        try:
            session.execute("call flywheel.work(50)")
        except psycopg.Error as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    asleep = "select 1 from pg_stat_activity where pid = %s and wait_event = 'PgSleep'"
    while not other.execute(asleep, (session.info.backend_pid,)).fetchone():
        time.sleep(0.01)
    other.execute("select pg_cancel_backend(%s)", (session.info.backend_pid,))
    thread.join(20)
    assert [error.sqlstate for error in caught] == ["57014"]
    row = other.execute(
        "select state, failures from flywheel.schedules where name = 'sweep'"
    ).fetchone()
    assert row == ("failing", 1)


def test_without_python_it_runs_the_schedules_and_says_who_does_the_rest(connect: Connect) -> None:
    session = connect()
    told = _notices(session)
    session.execute(
        "select flywheel.create_validator('short', 'sql', 'length(output) < 6', mode => 'queued')"
    )
    session.execute("insert into flywheel.traces (output) values ('x')")
    session.execute("drop function flywheel._run_python")
    session.execute("update flywheel._schedules set next_run_at = now()")
    session.execute("call flywheel.work(20)")
    due = "select count(*) from flywheel.schedules where next_run_at <= now() or runs <> 1"
    assert session.execute(due).fetchone() == (0,)
    assert any("no Python inside" in line for line in told)


def test_it_embeds_texts_too(connect: Connect, allow: Callable[[str], None]) -> None:
    session, worker = connect(), connect()
    worker.execute("set session authorization flywheel_worker")
    with replay.Endpoint(embedder=replay.vectors(8, poison="in 7")) as endpoint:
        allow(endpoint.authority)
        _set_up(session, endpoint.base_url, 150)
        session.execute("select flywheel.create_embedder('small', 'openai', 8, 'judge')")
        session.execute("select flywheel.use_embedder('small')")
        session.execute("select flywheel.embed_texts(2)")
        # As a scheduler does it: what a busy machine leaves undone is done the next time.
        for _ in range(10):
            worker.execute("call flywheel.work(20, 4)")
            found = session.execute(
                "select pending, dead from flywheel.embedders where name = 'small'"
            ).fetchone()
            if found is not None and found[0] == 0:
                break
    # in 7 and in 70 to in 79
    assert found == (0, 11)
    assert _statuses(session) == {"passed": 150}
