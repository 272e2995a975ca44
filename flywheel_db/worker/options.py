"""What a worker was told on its command line."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flywheel_pl.judges.hosts import AllowedHosts

from flywheel_db.errors import BadInput

KINDS = ("llm", "python", "sql", "embeddings")


def default_name() -> str:
    """host:pid, which tells an operator where to look."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True, slots=True)
class Options:
    """How one worker works. Times are in seconds."""

    dsn: str
    name: str = field(default_factory=default_name)
    concurrency: int = 16
    kinds: tuple[str, ...] = KINDS
    hosts: AllowedHosts = field(default_factory=AllowedHosts)
    # A job whose worker is silent for so long is given to another one.
    lease: float = 120
    # How often an idle worker looks; a notification wakes it earlier.
    poll: float = 1
    # How long calls in flight may take to finish after SIGTERM.
    grace: float = 20
    # Run the database's schedules, too.
    schedules: bool = True
    # Stop when nothing is left to claim.
    drain: bool = False
    max_seconds: float | None = None


def kinds_of(text: str) -> tuple[str, ...]:
    """The kinds of jobs in a comma separated list.

    Raises:
        BadInput: one is unknown, or there is none.
    """
    kinds = tuple(dict.fromkeys(kind.strip() for kind in text.split(",") if kind.strip()))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise BadInput(
            f"--kinds {text}: there is no kind {', '.join(unknown) or 'in it'}",
            hint=f"give some of {','.join(KINDS)}",
        )
    return kinds


def hosts_allowed(given: Sequence[str], environ: Mapping[str, str]) -> AllowedHosts:
    """The hosts of --allow-host, or without any, those of FLYWHEEL_ALLOWED_HOSTS.

    Raises:
        BadInput: one is no host.
    """
    try:
        return AllowedHosts.parse(given or environ.get("FLYWHEEL_ALLOWED_HOSTS", "").split(","))
    except ValueError as error:
        where = "--allow-host" if given else "FLYWHEEL_ALLOWED_HOSTS"
        raise BadInput(f"{where}: {error}") from error
