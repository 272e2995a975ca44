"""Finding the PostgreSQL programs on this machine."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from flywheel_db.errors import ServerError
from flywheel_db.server.os_user import output

MINIMUM_MAJOR = 15
INSTALL_HINT = "run docker/install-postgres.sh, or set FLYWHEEL_PG_BIN to a directory with initdb"


@dataclass(frozen=True, slots=True)
class _Installation:
    bin_dir: Path
    major: int
    complete: bool  # plpython3u and pgvector are there


def find_binaries() -> Path:
    """The directory with the `initdb` to use.

    `FLYWHEEL_PG_BIN` if set; otherwise the newest PostgreSQL (15 or later) that has
    plpython3u and pgvector, otherwise the newest one.

    Raises:
        ServerError: there is none, or FLYWHEEL_PG_BIN names a directory without one.
    """
    return _installations()[0].bin_dir


def binaries_for(data_dir: Path) -> Path:
    """The directory with the programs that fit an existing cluster.

    Raises:
        ServerError: no installed PostgreSQL has the cluster's major version.
    """
    major = int((data_dir / "PG_VERSION").read_text())
    installed = _installations()
    for one in installed:
        if one.major == major:
            return one.bin_dir
    there = ", ".join(str(one.major) for one in installed)
    raise ServerError(
        f"{data_dir} was made by PostgreSQL {major}, but what is installed here is {there}.",
        hint=f"install PostgreSQL {major} again (PG_MAJOR={major} docker/install-postgres.sh), "
        "or use pg_upgrade, or move the directory away and let `flywheel-db up` make a new one",
    )


def _installations() -> list[_Installation]:
    """What is installed, best first; never empty."""
    if named := os.environ.get("FLYWHEEL_PG_BIN"):
        installation = _installation(Path(named).absolute())
        if installation is None:
            raise ServerError(
                f"FLYWHEEL_PG_BIN is {named}, which holds no PostgreSQL server "
                f"{MINIMUM_MAJOR} or later (initdb, postgres, pg_ctl).",
                hint=INSTALL_HINT,
            )
        return [installation]
    found = [one for place in _places() if (one := _installation(place))]
    if not found:
        raise ServerError(
            f"There is no PostgreSQL server {MINIMUM_MAJOR} or later on this machine.",
            hint=INSTALL_HINT,
        )
    return sorted(found, key=lambda one: (one.complete, one.major), reverse=True)


def _places() -> list[Path]:
    places = []
    if initdb := shutil.which("initdb"):
        places.append(Path(initdb).resolve().parent)
    if pg_config := shutil.which("pg_config"):
        places.append(Path(output([pg_config, "--bindir"])))
    for root, pattern in (
        ("/usr/lib/postgresql", "*/bin"),  # Debian, Ubuntu
        ("/usr", "pgsql-*/bin"),  # Red Hat
        ("/opt/homebrew/opt", "postgresql@*/bin"),
        ("/usr/local/opt", "postgresql@*/bin"),
    ):
        places.extend(Path(root).glob(pattern))
    return list(dict.fromkeys(places))


def _installation(bin_dir: Path) -> _Installation | None:
    if not all(os.access(bin_dir / name, os.X_OK) for name in ("initdb", "postgres", "pg_ctl")):
        return None
    version = re.search(r"\d+", output([bin_dir / "postgres", "--version"]))
    if version is None or int(version[0]) < MINIMUM_MAJOR:
        return None
    complete = False
    if os.access(bin_dir / "pg_config", os.X_OK):
        extensions = Path(output([bin_dir / "pg_config", "--sharedir"])) / "extension"
        complete = all((extensions / f"{e}.control").exists() for e in ("plpython3u", "vector"))
    return _Installation(bin_dir, int(version[0]), complete)
