"""Whether the installed objects are as they were shipped: triggers, functions, roles, indexes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import LiteralString

from psycopg import Connection

from flywheel_db.bundle import Bundle
from flywheel_db.doctor.finding import REAPPLY, SWEEP, Finding, error, ok, warning

ROLES = (
    "flywheel_admin",
    "flywheel_writer",
    "flywheel_labeler",
    "flywheel_reader",
    "flywheel_worker",
    "flywheel_validator",
    "flywheel_metric",
)

# What runs users' expressions, or writes what they found, runs as flywheel_validator
# (sql/privileges.sql).
RUN_AS_VALIDATOR = (
    "_tg_traces__validate_inserted",
    "_tg_traces__validate_updated",
    "_tg_spans__validate_inserted",
    "_tg_spans__validate_updated",
    "_gate",
    "_plan_expression",
    "_revalidate_spans",
    "_validate_targets",
    "_enqueue_targets",
    "_try_version",
    "_try_rows",
)

# What makes and fills the relations of metrics runs as flywheel_metric.
RUN_AS_METRIC = (
    "_make_metric_view",
    "_drop_metric_relation",
    "_plan_metric",
    "_make_metric_table",
    "_index_metric_table",
    "_refresh_metric_table",
    "_comment_metric",
    "_time_query",
    "_make_plain_function",
    "_tg_traces__emit_inserted",
    "_tg_traces__emit_updated",
    "_tg_traces__emit_deleted",
    "_tg_spans__emit_inserted",
    "_tg_spans__emit_updated",
    "_tg_spans__emit_deleted",
    "_tg_verdicts__emit_inserted",
    "_tg_verdicts__emit_updated",
    "_tg_verdicts__emit_deleted",
    "_tg_label_heads__emit_inserted",
    "_tg_label_heads__emit_updated",
    "_tg_label_heads__emit_deleted",
)

GRANT = "grant flywheel_writer (or _reader, _labeler, _admin) to the user"

_RUN_AS = dict.fromkeys(RUN_AS_VALIDATOR, "flywheel_validator") | dict.fromkeys(
    RUN_AS_METRIC, "flywheel_metric"
)
_COMPILED = RUN_AS_VALIDATOR[:4]
# What an incremental metric is computed from the rows with; made by flywheel_metric.
_PLAIN = re.compile(r"_metric_\d+_plain")
_TRIGGER = re.compile(
    r"\('(\w+)', '(\w+)',\s*'(?:before|after) (?:[^']|'')*? flywheel\.(\w+)\(\)'\)"
)


def check_roles(connection: Connection) -> Iterator[Finding]:
    """Our roles; the one that runs validators must be nobody."""
    rows = connection.execute(
        "select rolname, rolsuper, rolcanlogin, rolbypassrls, rolcreaterole"
        " from pg_catalog.pg_roles where rolname = any (%s)",
        [list(ROLES)],
    ).fetchall()
    found = {row[0]: row[1:] for row in rows}
    missing = [role for role in ROLES if role not in found]
    if missing:
        yield error("roles", f"missing: {', '.join(missing)}", REAPPLY)
    powers = found.get("flywheel_validator", ())
    if any(powers):
        yield error(
            "roles",
            "flywheel_validator, as which validators run, has powers of its own",
            "alter role flywheel_validator nosuperuser nologin nobypassrls nocreaterole",
        )
    may_create = "flywheel_validator" in found and _truth(
        connection,
        "select pg_catalog.has_schema_privilege('flywheel_validator', 'flywheel', 'create')",
    )
    if may_create:
        yield error(
            "roles",
            "flywheel_validator may create objects in the schema flywheel",
            "revoke create on schema flywheel from flywheel_validator",
        )
    if not missing and not any(powers) and not may_create:
        yield ok("roles", f"all {len(ROLES)} are there")


def _truth(connection: Connection, query: LiteralString) -> bool:
    row = connection.execute(query).fetchone()
    return row is not None and bool(row[0])


def check_rights(connection: Connection) -> Iterator[Finding]:
    """Whether this user can do anything with the schema."""
    row = connection.execute(
        """
        select current_user::text,
          pg_catalog.has_schema_privilege('flywheel', 'usage')
            and pg_catalog.has_table_privilege('flywheel.traces', 'select'),
          pg_catalog.has_any_column_privilege('flywheel.traces', 'insert')
        where pg_catalog.has_schema_privilege('flywheel', 'usage')
        """
    ).fetchone()
    if row is None or not (row[1] or row[2]):
        yield error("rights", "this user has no right to the schema flywheel", GRANT)
    elif not row[2]:
        yield ok("rights", f"{row[0]} reads, and does not write")
    else:
        yield ok("rights", f"{row[0]} reads and writes")


def shipped_triggers() -> dict[tuple[str, str], str]:
    """Function by (table, trigger), as triggers.sql makes them."""
    files = {file.name: file.text for file in Bundle.shipped().files}
    found = _TRIGGER.findall(files["triggers/triggers.sql"])
    return {(table, trigger): function for table, trigger, function in found}


def check_triggers(connection: Connection) -> Iterator[Finding]:
    """Every shipped trigger is there, calls its function, and fires."""
    rows = connection.execute(
        """
        select c.relname, t.tgname, p.proname, t.tgenabled::text
        from pg_catalog.pg_trigger as t
        join pg_catalog.pg_class as c on c.oid = t.tgrelid
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        join pg_catalog.pg_proc as p on p.oid = t.tgfoid
        where n.nspname = 'flywheel' and not t.tgisinternal
        """
    ).fetchall()
    found = {(table, trigger): (function, state) for table, trigger, function, state in rows}
    well = True
    shipped = shipped_triggers()
    for (table, trigger), function in shipped.items():
        name = f"{trigger} on {table}"
        if (table, trigger) not in found:
            well = False
            yield error("triggers", f"{name} is missing", REAPPLY)
            continue
        calls, state = found[table, trigger]
        if calls != function:
            well = False
            remedy = f"drop trigger {trigger} on flywheel.{table}; {REAPPLY}"
            yield error("triggers", f"{name} calls {calls}, not {function}", remedy)
        enable = f"alter table flywheel.{table} enable trigger {trigger}"
        if state in "DR":
            well = False
            what = "is disabled" if state == "D" else "fires on replicas only"
            yield error("triggers", f"{name} {what}", f"{enable}; {SWEEP}")
        elif state == "A":
            well = False
            message = f"{name} fires on replicas too: replicated verdicts would come twice"
            yield warning("triggers", message, enable)
    if well:
        yield ok("triggers", f"all {len(shipped)} are there and enabled")


def check_functions(connection: Connection) -> Iterator[Finding]:
    """Who functions run as. SECURITY DEFINER with a foreign owner or an open path is a way in."""
    rows = connection.execute(
        """
        select p.proname,
          p.prosecdef,
          p.proowner::pg_catalog.regrole::text,
          n.nspowner::pg_catalog.regrole::text,
          coalesce(p.proconfig::text like '%%search_path=%%', false),
          pg_catalog.has_function_privilege('public', p.oid, 'execute')
        from pg_catalog.pg_proc as p
        join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
        where n.nspname = 'flywheel'
          and (p.prosecdef or p.proname = any (%s) or p.proname like '\\_tg\\_%%')
          and not exists (
            select from pg_catalog.pg_depend as d where d.objid = p.oid and d.deptype = 'e'
          )
        """,
        [list(_RUN_AS)],
    ).fetchall()
    well = True
    seen = set()
    for function, definer, owner, schema_owner, has_path, is_public in rows:
        seen.add(function)
        wanted = _RUN_AS.get(function, schema_owner)
        if _PLAIN.fullmatch(function):
            wanted = "flywheel_metric"
        if owner != wanted:
            well = False
            yield error("functions", f"{function} belongs to {owner}, not to {wanted}", REAPPLY)
        if not definer and not function.startswith("_tg_targets__"):
            well = False
            yield error("functions", f"{function} is not SECURITY DEFINER", REAPPLY)
        # Compiled functions qualify every name instead: a SET clause would cost too much.
        if definer and not has_path and function not in _RUN_AS:
            well = False
            yield error("functions", f"{function} has no search_path of its own", REAPPLY)
        if definer and is_public:
            well = False
            yield error("functions", f"everybody may execute {function}", REAPPLY)
    for function in _RUN_AS:
        if function not in seen:
            well = False
            yield error("functions", f"{function} is missing", REAPPLY)
    if well:
        yield ok("functions", f"{len(rows)} run as they should")


def check_generation(connection: Connection) -> Iterator[Finding]:
    """The compiled functions are of the generation that the catalog says."""
    row = connection.execute(
        "select (select generation from flywheel._validator_set), flywheel._generation()"
    ).fetchone()
    assert row is not None  # noqa: S101 - a select without from has a row
    wanted, stamped = row
    stale = []
    if stamped != wanted:
        stale.append(f"_generation ({stamped})")
    rows = connection.execute(
        r"""
        select p.proname, pg_catalog.substring(p.prosrc, '^\s*-- Generation (\d+) ')
        from pg_catalog.pg_proc as p
        join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
        where n.nspname = 'flywheel' and p.proname = any (%s)
        """,
        [list(_COMPILED)],
    ).fetchall()
    stale += [f"{name} ({text or 'none'})" for name, text in rows if text != str(wanted)]
    if stale:
        message = f"the set is at generation {wanted}; not so: {', '.join(stale)}"
        yield error("compiled validators", message, "select flywheel._compile()")
    else:
        yield ok("compiled validators", f"generation {wanted}")


def check_indexes(connection: Connection) -> Iterator[Finding]:
    """No index is left behind half built."""
    rows = connection.execute(
        """
        select c.relname
        from pg_catalog.pg_index as i
        join pg_catalog.pg_class as c on c.oid = i.indexrelid
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'flywheel' and not (i.indisvalid and i.indisready)
        order by c.relname
        """
    ).fetchall()
    for (index,) in rows:
        remedy = f'reindex index concurrently flywheel."{index}"'
        yield error("indexes", f"{index} is invalid: its building was interrupted", remedy)
    if not rows:
        yield ok("indexes", "all are valid")
