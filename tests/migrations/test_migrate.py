"""Decision 11: one transaction, nothing twice, nothing of the user's dropped, no writer blocked long."""

import subprocess
import sys
import threading
from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from flywheel_db import install
from flywheel_db.bundle import Bundle
from flywheel_db.errors import FlywheelError, MigrationError
from flywheel_db.server import Server


@pytest.fixture
def empty(new_database: Callable[..., str]) -> str:
    """Dsn of an empty database."""
    return new_database()


def test_a_fresh_database(empty: str) -> None:
    report = install.migrate(empty)
    assert report.from_revision is None
    assert report.changed
    assert report.steps[0] == "revision 0001"
    with psycopg.connect(empty) as session:
        session.execute("insert into flywheel.traces default values")
        outside = session.execute(
            "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace "
            "where n.nspname = 'public'"
        ).fetchall()
        assert outside == []


def test_a_second_time_does_nothing(dsn: str) -> None:
    report = install.migrate(dsn)
    assert not report.changed
    assert report.steps == ()
    assert report.from_revision == report.to_revision


def test_check_and_dry_run_change_nothing(empty: str) -> None:
    assert install.check(empty).changed
    planned = install.migrate(empty, dry_run=True)
    assert planned.changed
    assert install.check(empty).steps == planned.steps
    with psycopg.connect(empty) as session:
        assert session.execute("select to_regnamespace('flywheel')").fetchone() == (None,)


def test_fresh_equals_upgraded(
    empty: str, dsn: str, next_release: Bundle, dump: Callable[[str], str], head: str
) -> None:
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("insert into flywheel.traces (output) values ('kept')")
    assert install.migrate(dsn, bundle=next_release).from_revision == head
    install.migrate(empty, bundle=next_release)
    assert dump(dsn) == dump(empty)
    assert "hello" in dump(dsn)
    with psycopg.connect(dsn) as session:
        assert session.execute("select output, tenant from flywheel.traces").fetchall() == [
            ("kept", None)
        ]


def test_the_script_equals_the_migration(
    empty: str,
    dsn: str,
    new_database: Callable[..., str],
    next_release: Bundle,
    dump: Callable[[str], str],
    psql: Callable[[str, str], None],
) -> None:
    by_script = new_database()
    script = install.script()
    assert script.lower().count("\nbegin;") == script.lower().count("\ncommit;") == 1
    psql(by_script, script)
    assert dump(by_script) == dump(dsn)
    assert not install.check(by_script).changed

    psql(by_script, install.script(by_script, bundle=next_release))
    install.migrate(empty, bundle=next_release)
    assert dump(by_script) == dump(empty)
    assert not install.check(by_script, bundle=next_release).changed


def test_enabled_validators_survive_an_upgrade(dsn: str, next_release: Bundle) -> None:
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 5')")
        session.execute(
            "select flywheel.create_validator('json', 'sql', '(output::jsonb) is not null')"
        )
        install.migrate(dsn, bundle=next_release)
        session.execute("insert into flywheel.traces (output) values ('{}')")
        rows = session.execute(
            "select validator, decided, missing from flywheel.coverage order by 1"
        )
        assert rows.fetchall() == [("json", 1, 0), ("short", 1, 0)]


def test_incremental_metrics_are_made_anew(dsn: str, next_release: Bundle) -> None:
    """Their views, and the functions that feed them, are those of the release."""
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(
            "select flywheel.create_metric('labels_by_source', storage => 'incremental', query => "
            "'select source, count(*) as n from flywheel.current_labels group by source')"
        )
        session.execute(
            "select flywheel.create_metric('gone', storage => 'incremental', query => "
            "'select pipeline, count(*) as n from flywheel.traces group by pipeline')"
        )
        made = session.execute(
            "select pg_get_viewdef('flywheel.labels_by_source'::regclass),"
            " pg_get_functiondef('flywheel._tg_label_heads__emit_inserted'::regproc)"
        ).fetchone()
        # As if an earlier release had made them, and as if a query did not work any more.
        session.execute(
            "select flywheel._make_metric_view(name, bound_query) from flywheel._metrics"
            " where name = 'labels_by_source'"
        )
        session.execute(
            "create or replace function flywheel._tg_label_heads__emit_inserted() returns trigger"
            " language plpgsql as 'begin return null; end'"
        )
        session.execute(
            "update flywheel._metrics set bound_query = 'select gone from flywheel.traces'"
            " where name = 'gone'"
        )
        install.migrate(dsn, bundle=next_release)
        assert (
            made
            == session.execute(
                "select pg_get_viewdef('flywheel.labels_by_source'::regclass),"
                " pg_get_functiondef('flywheel._tg_label_heads__emit_inserted'::regproc)"
            ).fetchone()
        )
        session.execute("insert into flywheel.traces (pipeline, output) values ('still', 'x')")
        session.execute("select flywheel.fold_metrics()")
        assert session.execute("select * from flywheel.gone").fetchall() == [("still", 1)]
        problems = session.execute(
            "select name, problem from flywheel.metrics where problem is not null"
        ).fetchall()
        assert len(problems) == 1
        assert problems[0][0] == "gone"
        assert 'column "gone" does not exist' in problems[0][1]


def test_current_labels_are_found_in_a_database_that_has_labels(dsn: str) -> None:
    """Revision 0009 keeps the label of each target that the triggers would have kept."""
    with psycopg.connect(dsn) as session:
        session.execute(
            "select flywheel.create_validator('ok', 'sql', 'output is not null'),"
            " flywheel.create_validator('good', 'sql', 'output is not null')"
        )
        session.execute(
            "insert into flywheel.traces (trace_id, output)"
            " select gen_random_uuid(), 'x' from generate_series(1, 4)"
        )
        session.execute(
            "select flywheel.label(t.trace_id, v, n % 2 = 0, source => s)"
            " from flywheel.traces t, unnest(array['ok', 'good']) v,"
            " unnest(array['human', 'llm_default']) s, generate_series(1, 3) n"
        )
        session.execute(
            "select flywheel.withdraw_label(label_id) from flywheel._labels where label_id % 4 = 0"
        )
        heads = "select * from flywheel._label_heads order by trace_id, validator_id"
        kept = session.execute(heads).fetchall()
        assert len(kept) == 8
        # What the revision makes is not there yet.
        session.execute("set local client_min_messages = warning")
        session.execute("drop table flywheel._label_heads cascade")
        session.execute("alter table flywheel._metrics drop column bound_query cascade")
        revision = next((Bundle.shipped().migrations / "versions").glob("0009*.sql"))
        session.execute(revision.read_bytes())
        assert session.execute(heads).fetchall() == kept
        session.rollback()


def test_a_users_view_on_ours_is_kept(dsn: str, next_release: Bundle) -> None:
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("create view public.mine as select * from flywheel.jobs")
        install.migrate(dsn, bundle=next_release)
        assert session.execute("select count(*) from public.mine").fetchone() == (0,)


def test_a_users_view_in_the_way_is_named(dsn: str, copied: Bundle) -> None:
    (copied.sql / "views" / "jobs.sql").write_text(
        "drop view if exists flywheel.jobs;\n" + (copied.sql / "views" / "jobs.sql").read_text()
    )
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("create view public.mine as select * from flywheel.jobs")
        with pytest.raises(
            MigrationError, match=r"view public\.mine depends on view flywheel\.jobs"
        ) as caught:
            install.migrate(dsn, bundle=copied)
        assert "Nothing was changed" in (caught.value.hint or "")
        assert session.execute("select count(*) from public.mine").fetchone() == (0,)


def test_a_live_session_goes_on(dsn: str, next_release: Bundle) -> None:
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 5')")
        session.execute("prepare put as insert into flywheel.traces (output) values ('x')")
        session.execute("execute put")
        install.migrate(dsn, bundle=next_release)
        session.execute("execute put")
        assert session.execute("select decided, missing from flywheel.coverage").fetchone() == (
            2,
            0,
        )


def test_a_long_transaction_is_waited_for(dsn: str, next_release: Bundle) -> None:
    """The lock is asked for two seconds at a time, and writers get in between."""
    messages: list[str] = []
    waiting = threading.Event()

    def report(message: str) -> None:
        messages.append(message)
        if "waiting for a lock" in message:
            waiting.set()

    with psycopg.connect(dsn) as holder, psycopg.connect(dsn, autocommit=True) as writer:
        holder.execute("insert into flywheel.traces (output) values ('open')")
        migration = threading.Thread(
            target=install.migrate, args=(dsn,), kwargs={"bundle": next_release, "report": report}
        )
        migration.start()
        assert waiting.wait(30)
        writer.execute("insert into flywheel.traces (output) values ('meanwhile')")
        holder.commit()
        migration.join()
        assert not install.check(dsn, bundle=next_release).changed
        assert writer.execute("select count(*) from flywheel.traces").fetchone() == (2,)


def test_nothing_to_do_needs_no_lock(dsn: str) -> None:
    with psycopg.connect(dsn) as holder:
        holder.execute("lock table flywheel.traces, flywheel.spans in access exclusive mode")
        assert not install.migrate(dsn).changed
        assert not install.check(dsn).changed


def test_an_interrupted_online_step_is_taken_up_again(dsn: str, next_release: Bundle) -> None:
    """An index left invalid by a cut connection is dropped and built anew."""
    failed: list[BaseException] = []

    def migrate() -> None:
        try:
            install.migrate(dsn, bundle=next_release)
        except (FlywheelError, psycopg.Error) as error:
            failed.append(error)

    install.migrate(dsn, bundle=Bundle(next_release.sql, Bundle.shipped().migrations))
    with psycopg.connect(dsn) as holder, psycopg.connect(dsn, autocommit=True) as killer:
        # Applied by hand, so that only the online step is left.
        killer.execute("alter table flywheel.traces add column tenant text")
        killer.execute("update flywheel._alembic_version set version_num = 'next'")
        holder.execute("insert into flywheel.traces (output) values ('holds up the index')")
        migration = threading.Thread(target=migrate)
        migration.start()
        pid = None
        while pid is None:
            pid = killer.execute(
                "select pid from pg_stat_activity where query like 'create index concurrently%' "
                "and wait_event_type = 'Lock' and datname = current_database()"
            ).fetchone()
        killer.execute("select pg_terminate_backend(%s)", pid)
        migration.join()
        assert len(failed) == 1
        holder.commit()
        assert install.check(dsn, bundle=next_release).steps == ("online next index on session_id",)
        invalid = killer.execute(
            "select indisvalid from pg_index where indexrelid = 'flywheel.traces_session_id_idx'::regclass"
        )
        assert invalid.fetchone() == (False,)
        install.migrate(dsn, bundle=next_release)
        valid = killer.execute(
            "select indisvalid from pg_index where indexrelid = 'flywheel.traces_session_id_idx'::regclass"
        )
        assert valid.fetchone() == (True,)
        assert not install.check(dsn, bundle=next_release).changed


def test_twenty_at_once(empty: str) -> None:
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys; from flywheel_db import install; install.migrate(sys.argv[1])",
                empty,
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(20)
    ]
    outcomes = [(process.communicate()[1], process.returncode) for process in processes]
    assert outcomes == [("", 0)] * 20
    assert not install.check(empty).changed


def test_a_newer_database_is_refused(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("update flywheel._alembic_version set version_num = '9999'")
    with pytest.raises(MigrationError, match="revision 9999") as caught:
        install.migrate(dsn)
    assert "pip install --upgrade" in (caught.value.hint or "")


def test_a_schema_of_someone_else_is_left_alone(empty: str) -> None:
    with psycopg.connect(empty, autocommit=True) as session:
        session.execute("create schema flywheel; create table flywheel.traces (id int)")
    with pytest.raises(MigrationError, match="not made by flywheel-db"):
        install.migrate(empty)


def test_a_user_without_rights_is_told(empty: str, server: Server) -> None:
    with psycopg.connect(empty, autocommit=True) as session:
        session.execute(
            "drop role if exists nobody_special; create role nobody_special login password 'x'"
        )
    dsn = psycopg.conninfo.make_conninfo(
        empty, user="nobody_special", password="x", host="127.0.0.1", port=server.port
    )
    with pytest.raises(MigrationError, match="permission denied") as caught:
        install.migrate(dsn)
    assert "superuser" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("attribute", "granted"),
    [
        # What a managed service does: the roles exist cluster-wide and the owner may grant them.
        ("createrole", "grant {all} to {owner} with admin option"),
        # What the page on migrating asks for at least.
        ("nocreaterole", "grant flywheel_validator, flywheel_metric to {owner}"),
    ],
)
@pytest.mark.usefixtures("dsn")  # another database of the server has the roles
def test_an_owner_without_superuser_can_migrate(
    empty: str, server: Server, attribute: str, granted: str
) -> None:
    owner = f"{attribute}_owner"
    with psycopg.connect(empty, autocommit=True) as session:
        session.execute(
            f"drop role if exists {owner}; create role {owner} login {attribute} password 'x'"
        )
        session.execute(
            sql.SQL("alter database {} owner to {}").format(
                sql.Identifier(session.info.dbname), sql.Identifier(owner)
            )
        )
        session.execute(
            granted.format(
                owner=owner,
                all="flywheel_admin, flywheel_writer, flywheel_labeler, flywheel_reader,"
                " flywheel_worker, flywheel_validator, flywheel_metric",
            )
        )
        session.execute("create extension vector")
    dsn = psycopg.conninfo.make_conninfo(
        empty, user=owner, password="x", host="127.0.0.1", port=server.port
    )
    install.migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 5')")
        session.execute("select flywheel.create_validator('int', 'sql', 'output::int > 0')")
        session.execute("insert into flywheel.traces (output) values ('7')")
        session.execute("update flywheel.traces set output = '8'")
        session.execute("select * from flywheel.test_validator('int')")
        session.execute("call flywheel.backfill('int')")
        rows = session.execute(
            "select validator, decided, missing from flywheel.coverage order by 1"
        )
        assert rows.fetchall() == [("int", 1, 0), ("short", 1, 0)]
        session.execute("delete from flywheel.traces")
    with psycopg.connect(empty, autocommit=True) as session:
        session.execute(f"drop schema flywheel cascade; drop owned by {owner}")


def test_released_revisions_are_frozen() -> None:
    """A revision that shipped never changes: a database that ran it would not know."""
    import hashlib

    migrations = Bundle.shipped().migrations
    frozen = dict(
        line.split()[::-1] for line in (migrations / "frozen.txt").read_text().splitlines() if line
    )
    actual = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((migrations / "versions").glob("*.*"))
        if path.suffix in (".py", ".sql")
    }
    assert frozen == actual


def test_errors_name_the_connection_and_not_the_password() -> None:
    with pytest.raises(FlywheelError) as caught:
        install.migrate("postgresql://someone:s3cret@127.0.0.1:1/nowhere")
    assert "s3cret" not in str(caught.value)
