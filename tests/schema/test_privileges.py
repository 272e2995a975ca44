"""Who may do what: every role against every object, compared with what each is for."""

import re
from collections.abc import Callable, Iterator

import pytest
from psycopg import Connection, errors, sql

PUBLIC_VIEWS = {
    "verdicts",
    "failures",
    "coverage",
    "pass_rates",
    "score_distributions",
    "usage",
    "validator_correlations",
    "low_performers",
    "validators",
    "jobs",
    "builtin_validators",
    "models",
    "queue_health",
    "runs",
    "workers",
    "current_labels",
    "corrections",
    "metrics",
    "metric_advice",
    "examples",
    "embedders",
    "index_health",
    "reference_texts",
    "schedules",
    "retention",
}
TABLES = {"traces", "spans"}

# Rights on the two tables; on views it is SELECT or nothing.
TABLE_RIGHTS = {
    "flywheel_admin": {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"},
    "flywheel_writer": {"SELECT", "INSERT", "UPDATE"},
    "flywheel_labeler": {"SELECT"},
    "flywheel_reader": {"SELECT"},
    "flywheel_worker": set(),
    "flywheel_validator": {"SELECT", "UPDATE"},
    "nobody_at_all": set(),
}
READS_VIEWS = {"flywheel_admin", "flywheel_labeler", "flywheel_reader"}

WRITER_FUNCTIONS = {"check_input", "input_ok", "import_progress", "record_import"}
LABELER_FUNCTIONS = {"label", "withdraw_label", "forget_example"}
# What an application puts into its own prompts, and what people look at.
CORRECTION_FUNCTIONS = {
    "embed",
    "similar_corrections",
    "similar_corrections_by_vector",
    "prompt_examples",
}
STATISTICS_FUNCTIONS = {"validator_associations", "cluster_failures"}
FEW_SHOT_FUNCTIONS = {"few_shot", "few_shot_by_vector", "explain_few_shot"}
ADMIN_FUNCTIONS = {
    "create_validator",
    "alter_validator",
    "enable_builtin",
    "enable_validator",
    "disable_validator",
    "drop_validator",
    "test_validator",
    "evaluate",
    "add_references",
    "remove_references",
    "calibrate_knn",
    "explain_validators",
    "sweep",
    "backfill",
    "create_model",
    "alter_model",
    "drop_model",
    "set_price",
    "preview_prompts",
    "approve_prompt",
    "approve_example",
    "create_embedder",
    "use_embedder",
    "drop_embedder",
    "retry_embeddings",
    "set_index_policy",
    "retry_dead",
    "prioritize_validator",
    "resume_validator",
    "create_metric",
    "alter_metric",
    "drop_metric",
    "refresh_metric",
    "request_metric",
    "explain_metric",
    "create_schedule",
    "alter_schedule",
    "drop_schedule",
    "enable_schedule",
    "disable_schedule",
    "run_schedule",
    "set_retention",
    "drop_retention",
    "apply_retention",
    "enforce_retention",
    "forget_trace",
    "forget_user",
}
WORKER_FUNCTIONS = {
    "claim_jobs",
    "complete_jobs",
    "fail_job",
    "extend_lease",
    "release_jobs",
    "run_sql_jobs",
    "purge",
    "has_jobs",
    "start_worker",
    "worker_alive",
    "stop_worker",
    "python_validator",
    "claim_embeddings",
    "complete_embeddings",
    "fail_embeddings",
    "extend_embeddings",
    "release_embeddings",
    "embed_texts",
    "index_vectors",
    "measure_index",
    "work",
    "fold_metrics",
    "refresh_metrics",
    "run_metric_tasks",
    "run_schedules",
}
# Where there is Python: flywheel.work() runs as its caller.
WORK_FUNCTIONS = {
    "_work",
    "_allowed_hosts",
    "_boot_python",
    "_load_python_library",
    "_load_python_bytecode",
    "_has_python",
}
WORKER_VIEWS = {
    "models",
    "queue_health",
    "jobs",
    "workers",
    "embedders",
    "index_health",
    "schedules",
}
EVERYONES_FUNCTIONS = {"now", "uuidv7"}
# Of metrics: what aggregates, what reads what was aggregated, what the built-in ones compute with.
METRIC_FUNCTIONS = {
    "_metric_N_plain",
    "_stream_tables",
    "rate_interval",
    "_reads_table",
    "_metric_table",
    "_facts",
    "quantile",
    "distinct_count",
    "_add",
    "_variance_of_sums",
    "_special_or",
    "_quantile_of_buckets",
    "_quantile_value",
    "_quantile_bucket",
    "_milliseconds",
    "_quantile_final",
    "_distinct_count_of_buckets",
    "_distinct_estimate",
    "_distinct_bucket",
    "_distinct_add",
    "_distinct_final",
    "_wilson_interval",
    "_cached_tokens",
    "_phi",
    "_correlation_interval",
}
READER_FUNCTIONS = {
    "_generation",
    "_no_span",
    "_is_sampled",
    "_builtins",
    "_requires_approval",
    "_is_approved",
    "_is_switched_on",
    "_is_searched",
    "_part_counts",
    "_job_kind",
    "_tasks",
    "_expiry",
} | METRIC_FUNCTIONS
# Private, and needed to evaluate a column default, a view or a batch of backfill().
PRIVATE_FUNCTIONS = {
    "flywheel_admin": {
        "_generation",
        "_no_span",
        "_job_kind",
        "_is_sampled",
        "_backfill_batch",
        "_builtins",
        # create_validator() runs as its caller, who makes the code of a Python validator.
        "_create_validator",
        "_alter_validator",
        "_create_python_code",
        "_has_python",
        "_requires_approval",
        "_is_approved",
        "_is_switched_on",
        "_is_searched",
        "_part_counts",
        "_tasks",
        "_expiry",
    }
    | METRIC_FUNCTIONS
    | WORK_FUNCTIONS,
    "flywheel_writer": {"_generation"},
    "flywheel_labeler": READER_FUNCTIONS,
    "flywheel_reader": READER_FUNCTIONS,
    "flywheel_worker": {
        "_no_span",
        "_job_kind",
        "_requires_approval",
        "_is_approved",
        "_is_switched_on",
        "_is_searched",
        "_part_counts",
        "_tasks",
    }
    | WORK_FUNCTIONS,
    "nobody_at_all": set(),
}


@pytest.fixture
def populated(db: Connection) -> Connection:
    """With validators of each kind, whose functions must not be anyone's."""
    db.execute("create role nobody_at_all")
    db.execute("select flywheel.create_validator('total', 'sql', 'length(output) < 5')")
    db.execute("select flywheel.create_validator('partial', 'sql', 'output::int < 5')")
    db.execute("insert into flywheel.traces (output) values ('1')")
    return db


@pytest.mark.parametrize("role", TABLE_RIGHTS)
def test_tables_and_views(populated: Connection, role: str) -> None:
    rows = populated.execute(
        """
        select c.relname, p.privilege
        from pg_class c, unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p (privilege)
        where c.relnamespace = 'flywheel'::regnamespace and c.relkind in ('r', 'v', 'p', 'm')
          and case when p.privilege in ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
            then has_any_column_privilege(%(role)s, c.oid, p.privilege)
            else has_table_privilege(%(role)s, c.oid, p.privilege) end
        """,
        {"role": role},
    ).fetchall()
    held = {(name, right) for name, right in rows}
    expected = {(table, right) for table in TABLES for right in TABLE_RIGHTS[role]}
    if role in READS_VIEWS:
        expected |= {(view, "SELECT") for view in PUBLIC_VIEWS}
    if role == "flywheel_worker":
        expected |= {(view, "SELECT") for view in WORKER_VIEWS}
    if role == "flywheel_validator":
        expected |= {
            (name, right)
            for name in ("_verdicts", "_jobs")
            for right in ("SELECT", "INSERT", "UPDATE", "DELETE")
        }
        expected |= {
            (name, "SELECT")
            for name in ("_dimensions", "_validators", "_validator_versions", "_breaches")
        }
        expected.add(("_arrivals", "INSERT"))
    assert held == expected


@pytest.mark.parametrize("role", PRIVATE_FUNCTIONS)
def test_functions(populated: Connection, role: str) -> None:
    rows = populated.execute(
        "select distinct p.proname from pg_proc p where p.pronamespace = 'flywheel'::regnamespace "
        "and has_function_privilege(%s, p.oid, 'execute') "
        "and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')",
        (role,),
    ).fetchall()
    expected = set(PRIVATE_FUNCTIONS[role])
    if role == "flywheel_worker":
        expected |= {"now"}
    elif role != "nobody_at_all":
        expected |= EVERYONES_FUNCTIONS
    if role in ("flywheel_writer", "flywheel_admin"):
        expected |= WRITER_FUNCTIONS
    if role in ("flywheel_writer", "flywheel_labeler", "flywheel_reader", "flywheel_admin"):
        expected |= CORRECTION_FUNCTIONS
    if role in ("flywheel_labeler", "flywheel_reader", "flywheel_admin"):
        expected |= FEW_SHOT_FUNCTIONS | STATISTICS_FUNCTIONS
    if role in ("flywheel_labeler", "flywheel_admin"):
        expected |= LABELER_FUNCTIONS
    if role in ("flywheel_worker", "flywheel_admin"):
        expected |= WORKER_FUNCTIONS
    if role == "flywheel_admin":
        expected |= ADMIN_FUNCTIONS
    found = {re.sub(r"^_metric_\d+_plain$", "_metric_N_plain", name) for (name,) in rows}
    assert found == expected


def test_every_public_object_is_in_the_matrix(populated: Connection) -> None:
    """A new object must be decided about here."""
    relations = populated.execute(
        "select relname from pg_class where relnamespace = 'flywheel'::regnamespace "
        "and relkind in ('r', 'v', 'p', 'm') and relname !~ '^_'"
    ).fetchall()
    assert {name for (name,) in relations} == TABLES | PUBLIC_VIEWS
    functions = populated.execute(
        "select distinct p.proname from pg_proc p where p.pronamespace = 'flywheel'::regnamespace "
        "and p.proname !~ '^_' and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')"
    ).fetchall()
    assert {name for (name,) in functions} == (
        WRITER_FUNCTIONS
        | LABELER_FUNCTIONS
        | CORRECTION_FUNCTIONS
        | FEW_SHOT_FUNCTIONS
        | STATISTICS_FUNCTIONS
        | ADMIN_FUNCTIONS
        | WORKER_FUNCTIONS
        | EVERYONES_FUNCTIONS
        | {name for name in METRIC_FUNCTIONS if not name.startswith("_")}
    )


@pytest.fixture
def as_role(populated: Connection) -> Iterator[Callable[[str], None]]:
    def become(role: str) -> None:
        populated.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))

    yield become
    populated.execute("reset role")


@pytest.mark.parametrize("role", ["flywheel_reader", "flywheel_labeler", "flywheel_admin"])
@pytest.mark.parametrize("view", sorted(PUBLIC_VIEWS | TABLES))
def test_readers_can_really_read(
    populated: Connection, as_role: Callable[[str], None], role: str, view: str
) -> None:
    as_role(role)
    populated.execute(sql.SQL("select * from flywheel.{}").format(sql.Identifier(view)))


@pytest.mark.parametrize("view", sorted(PUBLIC_VIEWS))
def test_a_writer_cannot_read_what_was_found(
    populated: Connection, as_role: Callable[[str], None], view: str
) -> None:
    as_role("flywheel_writer")
    with pytest.raises(errors.InsufficientPrivilege), populated.transaction():
        populated.execute(sql.SQL("select * from flywheel.{}").format(sql.Identifier(view)))


def test_schema_usage_only(populated: Connection) -> None:
    rows = populated.execute(
        "select r.rolname, has_schema_privilege(r.rolname, 'flywheel', 'usage'), "
        "has_schema_privilege(r.rolname, 'flywheel', 'create') "
        "from pg_roles r where r.rolname ~ '^flywheel_' or r.rolname = 'nobody_at_all'"
    ).fetchall()
    assert {usage for name, usage, _ in rows if name != "nobody_at_all"} == {True}
    # What it creates are the metrics' views.
    assert {name for name, _, create in rows if create} == {"flywheel_metric"}
    assert ("nobody_at_all", False, False) in rows


def test_pgvector_stays_usable_where_it_shares_the_schema(populated: Connection) -> None:
    populated.execute("set local role flywheel_reader")
    row = populated.execute(
        "select '[1,2]'::flywheel.vector operator(flywheel.<->) '[1,3]'::flywheel.vector"
    ).fetchone()
    assert row == (1.0,)
    populated.execute("reset role")
