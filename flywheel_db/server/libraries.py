"""Python libraries that built-in checks can use, lent to the private server's Python."""

import importlib.util
import re
import sys
from pathlib import Path

from flywheel_db.server.os_user import output

#: What the extra ``checks`` installs.
LIBRARIES = ("lingua",)


def lend_libraries(home: Path, bin_dir: Path) -> dict[str, str]:
    """Link the libraries installed beside us into the home; return the environment that shows them.

    Nothing is lent to a server whose Python is of another minor version: compiled modules would
    not load there.
    """
    shelf = home / "python"
    found = {name: origin for name in LIBRARIES if (origin := _origin(name)) is not None}
    if not found or _server_python(bin_dir) != sys.version_info[:2]:
        return {}
    shelf.mkdir(exist_ok=True)
    for name, origin in found.items():
        link = shelf / name
        if not link.is_symlink() or link.readlink() != origin:
            link.unlink(missing_ok=True)
            link.symlink_to(origin, target_is_directory=True)
    return {"PYTHONPATH": str(shelf)}


def _origin(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _server_python(bin_dir: Path) -> tuple[int, int] | None:
    """Minor version of the Python that plpython3u is linked to."""
    folder = output([bin_dir / "pg_config", "--pkglibdir"])
    for suffix in ("so", "dylib"):
        library = Path(folder) / f"plpython3.{suffix}"
        if folder and library.exists():
            version = re.search(rb"libpython3\.(\d+)", library.read_bytes())
            return (3, int(version[1])) if version else None
    return None
