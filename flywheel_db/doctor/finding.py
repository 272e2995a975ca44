"""What an examination finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]

# Every replaceable file is applied again when its digest is unknown.
REAPPLY = "delete from flywheel._release; then run: flywheel-db migrate"
SWEEP = "select * from flywheel.sweep()"
MIGRATE = "run: flywheel-db migrate"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `remedy` is empty when it is well."""

    level: Level
    name: str
    message: str
    remedy: str = ""


def ok(name: str, message: str) -> Finding:
    """All is well."""
    return Finding("ok", name, message)


def warning(name: str, message: str, remedy: str) -> Finding:
    """Works, but should be looked at."""
    return Finding("warning", name, message, remedy)


def error(name: str, message: str, remedy: str) -> Finding:
    """Missing or unsafe."""
    return Finding("error", name, message, remedy)
