"""Which OS user the server runs as, and running programs as that user."""

import contextlib
import os
import pwd
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flywheel_db.errors import ServerError


@dataclass(frozen=True, slots=True)
class Owner:
    """The OS user who owns the home and runs the server."""

    name: str
    uid: int
    gid: int


def owner_of(home: Path) -> Owner:
    """The user who owns, or shall own, a home: the caller, unless the caller is root.

    Raises:
        ServerError: root calls for a new home and there is no OS user `postgres`.
    """
    uid = os.geteuid()
    if uid == 0 and home.exists():
        uid = home.stat().st_uid
    try:
        user = pwd.getpwuid(uid) if uid else pwd.getpwnam("postgres")
    except KeyError:
        if uid:
            raise ServerError(f"The OS user {uid}, who runs the server, has no name.") from None
        raise ServerError(
            "PostgreSQL refuses to run as root, and there is no OS user 'postgres' to run it as.",
            hint="call this as an ordinary user, or make one: useradd --system postgres",
        ) from None
    return Owner(user.pw_name, user.pw_uid, user.pw_gid)


@contextlib.contextmanager
def acting_as(owner: Owner) -> Iterator[None]:
    """Give up root's rights inside the block, for the whole process.

    Everything in the home belongs to the owner, and whoever may run PL/Python code in
    the server is the owner. Root must not follow a link that was put there, so it does
    not touch these files as root.
    """
    if os.geteuid() != 0:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    try:
        os.setgroups(os.getgrouplist(owner.name, owner.gid))
        os.setegid(owner.gid)
        os.seteuid(owner.uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def run(
    command: Sequence[str | Path], variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a PostgreSQL program as the user we act as.

    The environment is a short list: what PL/Python code can read from the server's
    environment should hold no API keys, a virtual environment's variables would
    mislead the server's Python, and PG* variables would lead the programs elsewhere.
    """
    environment = {name: os.environ[name] for name in ("PATH", "TZ") if name in os.environ}
    # UTF-8 for PL/Python's files, and messages that we can read.
    environment |= {"LANG": "C.UTF-8", "LC_MESSAGES": "C", **(variables or {})}
    # PostgreSQL wants the real user to be the effective one, with no way back to root.
    acting = os.geteuid() != os.getuid()
    return subprocess.run(  # noqa: S603
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        cwd="/",  # the owner may not be able to enter ours
        user=os.geteuid() if acting else None,
        group=os.getegid() if acting else None,
        check=False,
    )


def output(command: Sequence[str | Path]) -> str:
    """What a program prints, stripped; empty if it fails before it prints."""
    return run(command).stdout.strip()
