"""Decision 3: an expression that raises costs one verdict, and no subtransaction that writes."""

from collections.abc import Callable

from psycopg import Connection

INSERTS = 300


def _run(session: Connection, body: str) -> int:
    """Insert row by row in one transaction; return how many transaction ids it took."""
    session.execute("select flywheel.create_validator('json', 'sql', %s)", (body,))
    before = session.execute("select pg_current_xact_id()::text::bigint").fetchone()
    with session.transaction():
        for number in range(INSERTS):
            output = '{"a": 1}' if number % 3 else "not json"
            session.execute("insert into flywheel.traces (output) values (%s)", (output,))
    after = session.execute("select pg_current_xact_id()::text::bigint").fetchone()
    assert before is not None
    assert after is not None
    return int(after[0]) - int(before[0]) - 1


def test_a_raising_expression_takes_no_subtransaction_id(
    connect: Callable[..., Connection],
) -> None:
    """One id for the transaction itself, none for the hundred errors caught in it."""
    session = connect()
    taken = _run(session, "(output::jsonb) ? 'a'")
    assert taken == 1
    counts = session.execute(
        "select status, count(*) from flywheel.verdicts group by status"
    ).fetchall()
    assert dict(counts) == {"error": 100, "passed": 200}


def test_a_block_around_the_write_would_take_one_per_statement(
    connect: Callable[..., Connection],
) -> None:
    """The control: the way not taken shows up in the same measurement."""
    session = connect()
    session.execute(
        """
        create function public.wrapped() returns trigger language plpgsql as $$
        begin
          begin
            insert into public.log select trace_id from new_rows;
          exception when others then null;
          end;
          return null;
        end $$;
        create table public.log (trace_id uuid);
        create trigger wrapped after insert on flywheel.traces
          referencing new table as new_rows for each statement execute function public.wrapped();
        """
    )
    assert _run(session, "(output::jsonb) ? 'a'") == 1 + INSERTS


def test_other_sessions_read_no_subtransaction_log(connect: Callable[..., Connection]) -> None:
    """A reader that meets the open transaction's rows never has to look up a parent."""
    writer, reader = connect(), connect()
    writer.execute("select flywheel.create_validator('json', 'sql', $$(output::jsonb) ? 'a'$$)")
    slru = "Subtrans" if reader.info.server_version < 170000 else "subtransaction"
    reader.execute("select pg_stat_reset_slru(%s)", (slru,))
    with writer.transaction():
        for number in range(INSERTS):
            writer.execute(
                "insert into flywheel.traces (output) values (%s)", ("{}" if number % 2 else "x",)
            )
        reader.execute("select count(*) from flywheel._verdicts")
        reader.execute("select count(*) from flywheel.traces")
    reads = reader.execute(
        "select blks_read, blks_hit from pg_stat_slru where name = %s", (slru,)
    ).fetchone()
    assert reads == (0, 0)
