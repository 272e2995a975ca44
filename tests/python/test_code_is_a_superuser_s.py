"""Nobody but a superuser makes Python code, by no function, table or upgrade."""

from collections.abc import Callable

import pytest
from psycopg import Connection, errors, sql
from psycopg.types.json import Jsonb

ROLES = ("flywheel_admin", "flywheel_writer", "flywheel_labeler", "flywheel_reader")


@pytest.fixture
def become(db: Connection) -> Callable[[str], None]:
    """Go on as a login role that is a member of a group."""
    db.execute("create role engineer login")

    def switch(group: str) -> None:
        db.execute(sql.SQL("grant {} to engineer").format(sql.Identifier(group)))
        db.execute("set local role engineer")

    return switch


@pytest.mark.parametrize("role", ROLES)
def test_creating_one(db: Connection, become: Callable[[str], None], role: str) -> None:
    become(role)
    with pytest.raises(errors.InsufficientPrivilege) as caught:
        db.execute("select flywheel.create_validator('v', 'python', 'return True')")
    if role == "flywheel_admin":
        assert "only a superuser may create or change Python code, and engineer is none" in str(
            caught.value
        )
        assert "server's operating-system user" in str(caught.value.diag.message_hint)


FORGED = "select flywheel._create_validator('mine', jsonb_populate_record(null::flywheel._validator_versions, %s), true)"


def _forged(**columns: object) -> Jsonb:
    return Jsonb(
        {
            "language": "python", "subject": "trace", "mode": "inline", "params": {}, "budget": {},
            "sample_rate": 1, "on_fail": "record", "on_error": "allow", **columns,
        }
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["inline", "queued"])
def test_the_private_functions_take_no_code_either(
    db: Connection, create: Callable[..., int], become: Callable[[str], None], mode: str
) -> None:
    create("theirs", "return True")
    row = db.execute("select max(code_id) from flywheel._validator_versions").fetchone()
    assert row is not None
    become("flywheel_admin")
    for columns in (
        {"body": "return False"},
        {"body": "return False", "code_id": row[0]},
        {"body": "return True", "code_id": row[0] + 1},
        {"body": "return True", "code_id": None},
    ):
        with (
            pytest.raises(errors.InsufficientPrivilege, match="not made by a superuser"),
            db.transaction(),
        ):
            db.execute(FORGED, (_forged(mode=mode, **columns),))
    with (
        pytest.raises(errors.InsufficientPrivilege, match="not made by a superuser"),
        db.transaction(),
    ):
        db.execute(
            "select flywheel._alter_validator('theirs', jsonb_populate_record(null::flywheel._validator_versions, %s), '{}')",
            (Jsonb({"body": "return False"}),),
        )
    # The very code that a superuser made may be used again: that is no new code.
    db.execute(FORGED, (_forged(mode=mode, body="return True", code_id=row[0]),))


def test_an_admin_changes_everything_but_the_body(
    db: Connection, create: Callable[..., int], become: Callable[[str], None]
) -> None:
    create("v", "return len(output) <= params['max']", params=Jsonb({"max": 1}))
    become("flywheel_admin")
    db.execute("select flywheel.alter_validator('v', params => '{\"max\": 9}', pipeline => 'p')")
    with pytest.raises(errors.InsufficientPrivilege, match="only a superuser"), db.transaction():
        db.execute("select flywheel.alter_validator('v', body => 'return True')")
    db.execute("select flywheel.disable_validator('v'); select flywheel.enable_validator('v')")
    db.execute("insert into flywheel.traces (pipeline, output) values ('p', 'hello')")
    assert db.execute("select passed, version from flywheel.verdicts").fetchall() == [(True, 2)]


def test_an_admin_switches_on_built_in_checks(
    db: Connection, become: Callable[[str], None]
) -> None:
    become("flywheel_admin")
    db.execute("select flywheel.enable_builtin('no_repetition')")
    with pytest.raises(errors.DatabaseError, match="whose text is fixed"), db.transaction():
        db.execute("select flywheel.alter_validator('no_repetition', body => 'return True')")
    with pytest.raises(errors.DatabaseError, match="there is no built-in check"), db.transaction():
        db.execute(FORGED, (_forged(builtin="os", body="x"),))
    db.execute(FORGED, (_forged(builtin="readability", body="import os", code_id=1, reason="x"),))
    rows = db.execute(
        "select name, language, body from flywheel.validators order by name"
    ).fetchall()
    assert rows == [
        ("mine", "python", "flywheel_pl.checks.readability"),
        ("no_repetition", "python", "flywheel_pl.checks.repetition"),
    ]


def test_the_table_is_only_what_is_shown(db: Connection, create: Callable[..., int]) -> None:
    """Whoever gets to UPDATE the catalog changes what a person reads, not what runs."""
    create("v", "return len(output) == 5, 'original'")
    db.execute("update flywheel._validator_versions set body = 'return False, \"forged\"'")
    db.execute("select flywheel._recompile()")
    db.execute("insert into flywheel.traces (output) values ('hello')")
    assert db.execute("select passed, reason from flywheel.verdicts").fetchall() == [
        (True, "original")
    ]
    with pytest.raises(errors.InsufficientPrivilege, match="not made by a superuser"):
        db.execute("select flywheel.alter_validator('v', pipeline => 'p')")


@pytest.mark.parametrize("role", [*ROLES, "flywheel_validator"])
def test_nobody_may_call_or_replace_the_runtime(
    db: Connection, create: Callable[..., int], role: str
) -> None:
    create("v", "return True")
    rows = db.execute(
        "select p.proname, has_function_privilege(%s, p.oid, 'execute'), r.rolsuper"
        " from pg_proc p join pg_language l on l.oid = p.prolang join pg_roles r on r.oid = p.proowner"
        " where p.pronamespace = 'flywheel'::regnamespace and l.lanname = 'plpython3u'",
        (role,),
    ).fetchall()
    assert len(rows) >= 6
    assert all(is_superuser for _, _, is_superuser in rows)
    may_call = {name for name, may, _ in rows if may}
    if role == "flywheel_validator":
        assert may_call == {
            name
            for name, _, _ in rows
            # Nor does it make vectors: what needs some is given them.
            if "describe" not in name
            and "compile" not in name
            and name not in ("_work", "_hash_weights_in_python")
        }
    elif role == "flywheel_admin":
        # Who may call flywheel.work() loads its modules, which run none of a user's code.
        assert may_call == {
            "_boot_python",
            "_load_python_library",
            "_load_python_bytecode",
            "_work",
        }
    else:
        assert may_call == set()
    db.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
    with pytest.raises(errors.InsufficientPrivilege):
        db.execute(
            "create or replace function flywheel._python_1() returns void language plpython3u as 'pass'"
        )


def test_a_security_definer_function_of_somebody_is_no_way_in(db: Connection) -> None:
    """The rights asked for are those of whoever runs, not of whoever logged in."""
    db.execute(
        "create role engineer login; grant flywheel_admin to engineer; create schema app authorization engineer"
    )
    db.execute("set local role engineer")
    db.execute(
        "create function app.trap() returns integer language sql security definer as "
        "$$ select flywheel.create_validator('v', 'python', 'return True') $$"
    )
    db.execute("reset role")
    with pytest.raises(errors.InsufficientPrivilege, match="engineer is none"):
        db.execute("select app.trap()")


def test_code_and_its_table_are_dropped_together(
    db: Connection, create: Callable[..., int]
) -> None:
    create("v", "return True")
    db.execute("select flywheel.alter_validator('v', pipeline => 'p')")
    db.execute("select flywheel.drop_validator('v', delete_verdicts => true)")
    rows = db.execute("select proname from pg_proc where proname ~ '^_python_\\d+$'").fetchall()
    assert rows == []
