"""SQLSTATEs to exceptions."""

import inspect

import psycopg
import pytest

from flywheel_db import errors


class _Diag:
    def __init__(self, **fields: str) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> str | None:
        return self._fields.get(name)


def raised(sqlstate: str | None, **fields: str) -> errors.FlywheelError:
    class Raised(psycopg.OperationalError):
        diag = property(lambda self: _Diag(**fields))  # type: ignore[assignment]

    exc = Raised("the server said")
    exc.sqlstate = sqlstate
    return errors.from_psycopg(exc)


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("LF001", errors.ValidatorRefused),
        ("LF002", errors.BadInput),
        ("LF003", errors.UnknownValidator),
        ("LF004", errors.UnknownTarget),
        ("LF010", errors.Rejected),
        ("LF011", errors.ImmutableColumn),
        ("LF099", errors.BadInput),
        ("LF102", errors.WorkerTooOld),
        ("LF199", errors.WrongState),
        ("LF201", errors.NameInUse),
        ("LF202", errors.ChangedMeanwhile),
        ("LF299", errors.Conflict),
        ("23505", errors.AlreadyExists),
        ("22P02", errors.BadInput),
        ("40001", errors.ChangedMeanwhile),
        ("42501", errors.PermissionDenied),
        ("3F000", errors.NotMigrated),
        ("42P01", errors.NotMigrated),
        ("55P03", errors.Busy),
        ("57P01", errors.ConnectionLost),
        ("XX000", errors.DatabaseError),
        (None, errors.ConnectionLost),
    ],
)
def test_each_sqlstate_has_its_exception(
    sqlstate: str | None, kind: type[errors.FlywheelError]
) -> None:
    assert type(raised(sqlstate)) is kind


def test_message_hint_and_detail_are_kept() -> None:
    error = raised("LF201", message_primary="taken", message_hint="rename", message_detail="x")
    assert (error.message, error.hint, error.detail) == ("taken", "rename", "x")
    assert error.sqlstate == "LF201"


def test_a_hint_of_ours_stands_in_for_a_missing_one() -> None:
    assert raised("42P01", message_primary="no table").hint == "run: flywheel-db migrate"


def test_every_error_says_something_by_default() -> None:
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.FlywheelError) and kind is not errors.BadLine:
            assert kind().message.endswith(".")
            assert kind().exit_code in (3, 4)
