# ruff: noqa: N818 - the names say what happened
"""Every error a user can meet, and the one place where SQLSTATEs become exceptions.

The docstring of a class is its default message. `hint` says what to do about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg


class FlywheelError(Exception):
    """The operation failed."""

    exit_code = 3

    def __init__(
        self,
        message: str | None = None,
        *,
        hint: str | None = None,
        detail: str | None = None,
        sqlstate: str | None = None,
    ) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.hint = hint
        self.detail = detail
        self.sqlstate = sqlstate
        super().__init__(self.message)


class ConnectionFailed(FlywheelError):
    """Cannot connect to PostgreSQL."""

    exit_code = 4


class ConnectionLost(ConnectionFailed):
    """The connection to PostgreSQL was lost."""


class ServerError(FlywheelError):
    """The private server cannot be used."""


class MissingExtra(FlywheelError):
    """An optional part of flywheel-db is not installed."""


class BadInput(FlywheelError):
    """What was given cannot be used."""


class ValidatorRefused(BadInput):
    """The definition of the validator was refused."""


class UnknownValidator(BadInput):
    """There is no validator of that name."""


class UnknownModel(BadInput):
    """There is no model of that name."""


class MetricRefused(BadInput):
    """The definition of the metric was refused."""


class UnknownMetric(BadInput):
    """There is no metric of that name."""


class UnknownEmbedder(BadInput):
    """There is no embedder of that name."""


class UnknownSchedule(BadInput):
    """There is no schedule of that name."""


class UnknownTarget(BadInput):
    """There is no such trace, span or label."""


class ImmutableColumn(BadInput):
    """A column that never changes was changed."""


class Rejected(BadInput):
    """A validator rejected the row."""


class BadLine(BadInput):
    """A line of the file cannot be imported."""

    def __init__(
        self,
        line: int,
        reason: str,
        *,
        hint: str | None = None,
        detail: str | None = None,
        sqlstate: str | None = None,
    ) -> None:
        self.line = line
        self.reason = reason
        super().__init__(f"line {line}: {reason}", hint=hint, detail=detail, sqlstate=sqlstate)


class WrongState(FlywheelError):
    """The database is not in a state that allows this."""


class NotMigrated(WrongState):
    """The schema flywheel is missing, or older than this program."""


class WorkerTooOld(WrongState):
    """The database needs a newer worker."""


class MigrationError(WrongState):
    """The database cannot be brought to this release."""


class Conflict(FlywheelError):
    """Something else is in the way."""


class NameInUse(Conflict):
    """The name is already in use."""


class InUse(Conflict):
    """Something else uses it."""


class ChangedMeanwhile(Conflict):
    """Somebody else changed it meanwhile."""


class Busy(Conflict):
    """A lock was not available in time."""


class AlreadyExists(Conflict):
    """The row already exists."""


class PermissionDenied(FlywheelError):
    """The user lacks a right."""


class DatabaseError(FlywheelError):
    """PostgreSQL reported an error."""


_MIGRATE = "run: flywheel-db migrate"
_GRANT = (
    "grant the user the role that may: flywheel_writer, flywheel_reader, flywheel_labeler,"
    " flywheel_worker or flywheel_admin (docs/reference/privileges.md tells which)"
)
_AGAIN = "try again"

# An exact SQLSTATE first, then the longest prefix. The hint is used when the server gave none.
_BY_SQLSTATE: dict[str, tuple[type[FlywheelError], str | None]] = {
    "LF001": (ValidatorRefused, None),
    "LF002": (BadInput, None),
    "LF003": (UnknownValidator, "list them: flywheel-db validators list"),
    "LF005": (UnknownModel, "list them: select name from flywheel.models"),
    "LF004": (UnknownTarget, None),
    "LF006": (MetricRefused, None),
    "LF007": (UnknownMetric, "list them: select name from flywheel.metrics"),
    "LF008": (UnknownEmbedder, "list them: select name from flywheel.embedders"),
    "LF009": (UnknownSchedule, "list them: select name from flywheel.schedules"),
    "LF010": (Rejected, None),
    "LF011": (ImmutableColumn, None),
    "LF0": (BadInput, None),
    "LF102": (WorkerTooOld, "pip install --upgrade 'flywheel-db[worker]'"),
    "LF1": (WrongState, None),
    "2D000": (WrongState, "call it outside a transaction: with autocommit on"),
    "LF201": (NameInUse, None),
    "LF202": (ChangedMeanwhile, _AGAIN),
    "LF203": (InUse, None),
    "LF2": (Conflict, None),
    "08": (ConnectionLost, None),
    "22": (BadInput, None),
    "23505": (AlreadyExists, None),
    "23": (BadInput, None),
    "28": (ConnectionFailed, None),
    "3D000": (ConnectionFailed, None),
    "3F000": (NotMigrated, _MIGRATE),
    "40": (ChangedMeanwhile, _AGAIN),
    "42501": (PermissionDenied, _GRANT),
    "42883": (NotMigrated, _MIGRATE),
    "42P01": (NotMigrated, _MIGRATE),
    "55P03": (Busy, _AGAIN),
    "57P01": (ConnectionLost, None),
    "57P02": (ConnectionLost, None),
    "57P03": (ConnectionFailed, "the server is starting or stopping: try again"),
}


def _class_of(sqlstate: str) -> tuple[type[FlywheelError], str | None]:
    for length in (5, 3, 2):
        found = _BY_SQLSTATE.get(sqlstate[:length])
        if found is not None:
            return found
    return DatabaseError, None


def from_psycopg(exc: psycopg.Error) -> FlywheelError:
    """The FlywheelError that says the same as `exc`: its message, hint and detail are kept."""
    diag = exc.diag
    message = diag.message_primary or str(exc).strip() or type(exc).__name__
    sqlstate = exc.sqlstate or diag.sqlstate
    if sqlstate is None:
        # libpq itself reports a broken connection with an OperationalError without SQLSTATE.
        from psycopg import OperationalError

        lost = isinstance(exc, OperationalError)
        return (ConnectionLost if lost else DatabaseError)(message)
    kind, hint = _class_of(sqlstate)
    return kind(
        message,
        hint=diag.message_hint or hint,
        detail=diag.message_detail,
        sqlstate=sqlstate,
    )
