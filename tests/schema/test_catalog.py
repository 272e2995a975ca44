"""Lints over the installed catalog: what a reviewer would check by hand, for every object."""

import re
from collections.abc import Callable

import psycopg
import pytest
from psycopg import Connection

from flywheel_db.bundle import Bundle

# Run inside every INSERT, or must COMMIT: no SET clause, so every name in them is qualified.
NO_SET_CLAUSE = {
    "_add_dimension": False,
    "_call_python": True,
    "_distinct_add": True,
    "_distinct_bucket": True,
    "_enforce": True,
    "_gate": True,
    "_tg_spans__validate_inserted": True,
    "_tg_spans__validate_updated": True,
    **{
        f"_tg_{fact}__emit_{event}": True
        for fact in ("traces", "spans", "verdicts", "label_heads")
        for event in ("inserted", "updated", "deleted")
    },
    "_tg_targets__keep_key": True,
    "_tg_targets__revise": True,
    "_tg_traces__validate_inserted": True,
    "_tg_traces__validate_updated": True,
    "backfill": True,
    "enforce_retention": True,
    "work": True,
}


def _populate(session: Connection) -> None:
    """Make each kind of compiled object."""
    for subject in ("trace", "span"):
        for name, options in {
            "total": "",
            "partial": ", score => 'length(output)', reason => 'output'",
            "rejecting": ", on_fail => 'reject', sample_rate => 0.5",
            "queued": ", mode => 'queued', sample_rate => 0.5",
        }.items():
            session.execute(
                "select flywheel.create_validator(%s, 'sql', 'length(output) < 5', subject => %s, "  # type: ignore[arg-type]
                f"pipeline => 'support'{options})",
                (f"{subject} {name}", subject),
            )
        for name, options in {
            "python": "",
            "python rejecting": ", pipeline => 'p', on_fail => 'reject', sample_rate => 0.5",
        }.items():
            session.execute(
                f"select flywheel.create_validator(%s, 'python', 'return bool(input)', subject => %s{options})",  # type: ignore[arg-type]
                (f"{subject} {name}", subject),
            )
    rows = (
        "select upper(status) as s, count(*) as n, min(started_at) as lo, "
        "avg((attributes ->> 'x')::float8) as x, avg(ended_at - started_at) as d, "
        "flywheel.quantile(0.5) within group (order by (attributes ->> 'x')::int) as q, "
        "flywheel.distinct_count(status) as u from flywheel.{} "
        "where attributes ->> 'x' <> '' group by upper(status)"
    )
    for fact, query in {
        "traces": rows.format("traces"),
        "spans": rows.format("spans"),
        "verdicts": "select validator, status, count(*) filter (where pipeline = 'a') as n, sum(score) as s, "
        "max(created_at) as hi from flywheel.verdicts where language = 'sql' group by 1, 2",
        "current_labels": "select validator, upper(split) as s, count(*) filter (where passed) as n, avg(score) as a, "
        "flywheel.quantile(0.5) within group (order by (attributes ->> 'x')::int) as q "
        "from flywheel.current_labels where version = 1 and span_id is null group by 1, 2",
    }.items():
        session.execute(
            "select flywheel.create_metric(%s, %s, 'incremental')", (f"{fact}_metric", query)
        )


@pytest.fixture
def everything(db: Connection) -> Connection:
    """A database with each kind of compiled object in it."""
    _populate(db)
    return db


def test_every_object_has_a_comment(db: Connection) -> None:
    bare = db.execute(
        """
        select c.relname from pg_class c
        where c.relnamespace = 'flywheel'::regnamespace and c.relkind in ('r', 'v', 'm', 'p')
          and c.relname <> '_alembic_version'
          and obj_description(c.oid, 'pg_class') is null
        union all
        select c.relname || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relnamespace = 'flywheel'::regnamespace and a.attnum > 0 and not a.attisdropped
          and (c.relkind in ('r', 'p') or c.relkind = 'v' and c.relname !~ '^_')
          and c.relname <> '_alembic_version'
          and col_description(c.oid, a.attnum) is null
        union all
        select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace = 'flywheel'::regnamespace and obj_description(p.oid, 'pg_proc') is null
          and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
        union all
        select t.tgname from pg_trigger t join pg_class c on c.oid = t.tgrelid
        where c.relnamespace = 'flywheel'::regnamespace and not t.tgisinternal
          and obj_description(t.oid, 'pg_trigger') is null
        union all
        select t.typname from pg_type t
        where t.typnamespace = 'flywheel'::regnamespace and t.typtype = 'c' and t.typrelid in
          (select oid from pg_class where relkind = 'c') and obj_description(t.typrelid, 'pg_class') is null
          and obj_description(t.oid, 'pg_type') is null
        """
    ).fetchall()
    assert bare == []


def test_every_function_pins_its_search_path_or_needs_none(everything: Connection) -> None:
    unpinned = everything.execute(
        """
        select p.proname from pg_proc p join pg_language l on l.oid = p.prolang
        where p.pronamespace = 'flywheel'::regnamespace
          and p.prosqlbody is null  -- names in BEGIN ATOMIC are bound when it is made
          and p.proname !~ '^(_try_\\d+|_stream_\\d+_e\\d+)$'
          and l.lanname in ('sql', 'plpgsql')
          and not coalesce(
            p.proconfig @> array['search_path=pg_catalog, pg_temp', 'standard_conforming_strings=on'], false
          )
        """
    ).fetchall()
    assert {name for (name,) in unpinned} == {name for name, bare in NO_SET_CLAUSE.items() if bare}


def test_functions_without_a_set_clause_qualify_every_name(everything: Connection) -> None:
    """Operators too: = and its kin resolve through the search_path like functions do."""
    bodies = everything.execute(
        "select p.proname, p.prosrc from pg_proc p where p.pronamespace = 'flywheel'::regnamespace "
        "and (p.proname = any(%s) or p.proname ~ '^_try_\\d+$')",
        ([name for name, bare in NO_SET_CLAUSE.items() if bare],),
    ).fetchall()
    assert len(bodies) > len(NO_SET_CLAUSE)
    syntax = {
        "select",
        "and",
        "or",
        "in",
        "on",
        "from",
        "where",
        "values",
        "using",
        "array",
        "row",
        "any",
        "all",
        "when",
        "if",
        "filter",
        "coalesce",
        "least",
        "exists",
        "as",
        "case",
        "then",
        "traces",
        "_verdicts",
        "_jobs",
        "k",
        "b",
        "into",
        "set",
        "lateral",
        "over",
        "conflict",
    }
    for name, body in bodies:
        # The statements a large call executes are string literals of the same text.
        # A rejecting validator's text is one, too.
        code = re.sub(r"'+not: [^']*'+", "''", body)
        code = re.sub(r"--[^\n]*", "", code)
        code = re.sub(
            r"execute '((?:[^']|'')*)'", lambda m: "execute " + m[1].replace("''", "'"), code
        )
        code = re.sub(r"operator\(pg_catalog\.[^)]*\)", " ", code)
        code = re.sub(r"'(?:[^']|'')*'", "''", code)
        code = code.replace(":=", " ").replace("=>", " ").replace("#variable_conflict", "")
        operators = re.findall(r"[^\w\s().,;:'\"\[\]{}$]+", code)
        assert set(operators) - {"*", "=", "%"} == set(), (name, operators)
        # "=" is left only in SET lists and USING options of RAISE.
        for line in code.splitlines():
            if "=" in line:
                assert re.match(
                    r"\s*(set |using |detail|hint|schema|table|constraint|errcode"
                    r"|status = excluded|skipped_reason = excluded|confidence = excluded|run_at = excluded|worker = null)",
                    line,
                ), (name, line)
        calls = {call.lower() for call in re.findall(r"(?<![\w.])(\w+)\s*\(", code)}
        assert calls - syntax == set(), name


def test_security_definer_functions_are_the_known_ones(everything: Connection) -> None:
    rows = everything.execute(
        "select p.proname, p.proowner::regrole::text from pg_proc p "
        "where p.pronamespace = 'flywheel'::regnamespace and p.prosecdef"
    ).fetchall()
    as_validator = {name for name, owner in rows if owner == "flywheel_validator"}
    as_metric = {name for name, owner in rows if owner == "flywheel_metric"}
    as_owner = {name for name, _ in rows} - as_validator - as_metric
    # Each incremental metric has one that computes it from the rows.
    as_metric = {name for name in as_metric if not re.fullmatch(r"_metric_\d+_plain", name)}
    assert as_metric == {
        "_make_metric_view", "_drop_metric_relation", "_plan_metric", "_make_metric_table", "_index_metric_table",
        "_refresh_metric_table", "_comment_metric", "_time_query", "_make_plain_function",
        *(f"_tg_{fact}__emit_{event}" for fact in ("traces", "spans", "verdicts", "label_heads") for event in ("inserted", "updated", "deleted")),
    }  # fmt: skip
    assert as_validator == {
        "_tg_traces__validate_inserted", "_tg_traces__validate_updated", "_tg_spans__validate_inserted",
        "_tg_spans__validate_updated", "_gate", "_plan_expression", "_validate_targets", "_enqueue_targets", "_revalidate_spans", "_try_version", "_try_rows",
    }  # fmt: skip
    assert as_owner == {
        "_add_dimension", "_tg_traces__revalidate_spans", "_tg_traces__delete_dependents",
        "_tg_spans__delete_dependents", "_tg_traces__truncate_dependents", "_tg_spans__truncate_dependents",
        "_create_validator", "_alter_validator", "enable_builtin", "_record_breach", "enable_validator", "disable_validator", "drop_validator",
        "test_validator", "evaluate", "explain_validators", "check_input", "sweep", "_backfill_batch", "import_progress",
        "record_import", "label", "withdraw_label",
        "create_model", "alter_model", "drop_model", "set_price", "preview_prompts", "approve_prompt", "_is_approved",
        "claim_jobs", "complete_jobs", "fail_job", "extend_lease", "release_jobs", "run_sql_jobs", "retry_dead",
        "prioritize_validator", "resume_validator", "purge", "has_jobs", "start_worker", "worker_alive", "stop_worker",
        "python_validator", "_allowed_hosts", "add_references", "remove_references", "calibrate_knn", "_call_knn",
        "create_metric", "alter_metric", "drop_metric", "refresh_metric", "fold_metrics", "refresh_metrics", "request_metric",
        "explain_metric",
        "_tg_facts__emit_truncated", "_tg_labels__raise_heads", "_tg_label_withdrawals__lower_heads",
        "embed", "create_embedder", "use_embedder", "drop_embedder", "set_index_policy", "embed_texts", "index_vectors",
        "claim_embeddings", "complete_embeddings", "fail_embeddings", "extend_embeddings", "release_embeddings", "retry_embeddings",
        "measure_index", "_part_counts", "approve_example", "forget_example", "few_shot", "explain_few_shot",
        "few_shot_by_vector", "similar_corrections", "similar_corrections_by_vector", "prompt_examples",
        "create_schedule", "alter_schedule", "drop_schedule", "enable_schedule", "disable_schedule", "run_schedule",
        "run_schedules", "set_retention", "drop_retention", "apply_retention", "forget_trace", "forget_user",
        "validator_associations", "cluster_failures",
    }  # fmt: skip


def test_volatility_is_what_the_body_does(everything: Connection) -> None:
    """What writes is volatile; what is called volatile for no reason would block inlining."""
    rows = everything.execute(
        "select p.proname, p.provolatile, p.prosrc from pg_proc p join pg_language l on l.oid = p.prolang "
        "where p.pronamespace = 'flywheel'::regnamespace and l.lanname = 'plpgsql' and p.prokind = 'f' "
        "and p.prorettype <> 'trigger'::regtype"
    ).fetchall()
    writes = re.compile(
        r"^\s*(insert|update|delete|truncate|create)\b|\bexecute (format|flywheel|'drop|'create)|_begin_change|_decide_targets",
        re.MULTILINE,
    )
    # Reads only, but opens a cursor over, or executes, what it was given.
    dynamic = {
        "_plan_expression",
        "_try_version",
        "_try_rows",
        "evaluate",
        "test_validator",
        "_gate",
        "check_input",
        "_create_expression",
    }
    # Reads only, by a query that it writes itself.
    composed = {
        "_job_requests",
        "_lacking_paths",
        "_matching_per_day",
        "preview_prompts",
        "_nearest",
        "_recent",
        "_nearest_recent",
        "_nearest_references",
        "_vectors_of",
        "_exact_neighbours",
    }
    for name, volatility, source in rows:
        if name in composed:
            assert volatility == "s", name
            continue
        body = re.sub(r"--[^\n]*|\$(\w+)\$.*?\$\1\$", "", source, flags=re.DOTALL)
        if (
            name in dynamic
            or name.startswith("_drop")
            or name in ("sweep", "_add_version", "_begin_change")
        ) or writes.search(body):
            assert volatility == "v", name
        elif volatility == "v":
            locks = r"\bfor (update|share|key share)\b"
            calls = r"\bperform (flywheel\.|pg_stat_clear_snapshot)|\bflywheel\.(_create_|_lock_|_run_|_try_refresh|_add_vectors|_retention_batch|apply_retention|_forget|sweep|purge)"
            assert re.search(rf"{calls}|nextval|{locks}", body), name


def test_plpgsql_check_has_nothing_to_say(connect: Callable[..., Connection]) -> None:
    """In a session of its own: functions that it has looked at do not run well afterwards."""
    everything = connect()
    _populate(everything)
    available = everything.execute(
        "select from pg_available_extensions where name = 'plpgsql_check'"
    ).fetchone()
    assert available is not None, "plpgsql_check is missing: run scripts/bootstrap.sh test"
    everything.execute("create extension plpgsql_check schema public")
    problems = everything.execute(
        """
        select p.oid::regprocedure::text, c.lineno, c.level, c.message
        from pg_proc p join pg_language l on l.oid = p.prolang,
          lateral public.plpgsql_check_function_tb(p.oid, extra_warnings => false) c
        where p.pronamespace = 'flywheel'::regnamespace and l.lanname = 'plpgsql'
          and p.prorettype <> 'trigger'::regtype
        union all
        select t.tgname || ' ' || p.oid::regprocedure::text, c.lineno, c.level, c.message
        from pg_trigger t join pg_proc p on p.oid = t.tgfoid,
          lateral public.plpgsql_check_function_tb(p.oid, t.tgrelid, newtable => t.tgnewtable, oldtable => t.tgoldtable, extra_warnings => false) c
        where p.pronamespace = 'flywheel'::regnamespace and not t.tgisinternal
        """
    ).fetchall()
    assert problems == []


def test_sql_functions_parse_with_their_bodies_checked(dsn: str) -> None:
    """Loading turns body checks off for the sake of order; with everything there they must hold."""
    bundle = Bundle.shipped()
    with psycopg.connect(dsn) as session:
        session.execute("set check_function_bodies = on; set search_path = pg_catalog, pg_temp")
        for file in bundle.files:
            session.execute(file.text.encode())
        session.rollback()


def test_constraints_and_indexes_follow_the_naming(db: Connection) -> None:
    names = db.execute(
        "select c.conname, c.contype::text, t.relname from pg_constraint c join pg_class t on t.oid = c.conrelid "
        "where t.relnamespace = 'flywheel'::regnamespace and t.relname <> '_alembic_version' "
        "and c.contype in ('p', 'u', 'f', 'c')"
    ).fetchall()
    suffix = {"p": "_pkey", "u": "_key", "f": "_fkey"}
    for name, kind, table in names:
        if kind == "c":
            assert "_" in name, name
            assert not name.endswith("_check"), name
        else:
            assert name.startswith(table), name
            assert name.endswith(suffix[kind]), name
    hot = db.execute(
        "select count(*) from pg_constraint where contype = 'f' and conrelid in "
        "('flywheel.traces'::regclass, 'flywheel.spans'::regclass, 'flywheel._verdicts'::regclass, 'flywheel._jobs'::regclass)"
    ).fetchone()
    assert hot == (0,)


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (
            "select * from flywheel._verdicts where trace_id = '00000000-0000-0000-0000-000000000001'",
            "_verdicts_pkey",
        ),
        (
            "select * from flywheel.traces order by received_at desc limit 5",
            "traces_received_at_idx",
        ),
        (
            "delete from flywheel._verdicts where trace_id = any (array(select trace_id from flywheel.traces limit 3))",
            "_verdicts_pkey",
        ),
        (
            "delete from flywheel._verdicts v using rows from (unnest(array[flywheel._no_span()]), "
            "unnest(array[flywheel._no_span()])) k (t, s) where v.trace_id = k.t and v.span_id = k.s",
            "_verdicts_pkey",
        ),
    ],
)
def test_hot_queries_use_their_index(db: Connection, query: str, index: str) -> None:
    db.execute("select flywheel.create_validator('x', 'sql', 'true')")
    db.execute("insert into flywheel.traces (output) select 'x' from generate_series(1, 5000)")
    db.execute("analyze flywheel.traces, flywheel._verdicts")
    plan = "\n".join(line for (line,) in db.execute(f"explain {query}").fetchall())  # type: ignore[arg-type]
    assert index in plan, plan


def test_no_plan_of_a_small_insert_is_compiled_just_in_time(
    connect: Callable[..., Connection],
) -> None:
    """A huge first statement must not leave a plan behind that costs every later row dearly."""
    session = connect()
    session.execute("select flywheel.create_validator('x', 'sql', 'length(output) < 5')")
    session.execute("load 'auto_explain'")
    session.execute(
        "set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on"
    )
    session.execute(
        "set auto_explain.log_level = 'notice'; set client_min_messages = 'notice'; set jit_above_cost = 5000"
    )
    session.execute(
        "set jit = on; set auto_explain.log_analyze = on; set auto_explain.log_timing = off"
    )
    session.execute(
        "insert into flywheel.traces (output) select 'x' from generate_series(1, 20000)"
    )
    plans: list[str] = []
    session.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
    session.execute("insert into flywheel.traces (output) values ('x')")
    assert any("_verdicts" in plan for plan in plans)
    assert not any("JIT:" in plan for plan in plans)
