"""The home of a private server: its files, its lock, and who runs in it."""

import contextlib
import fcntl
import itertools
import json
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from flywheel_db.errors import ServerError
from flywheel_db.server.os_user import Owner, output

SUPERUSER = "postgres"
DATABASE = "flywheel"

# sun_path in bytes, less the final NUL.
_SOCKET_PATH_LIMIT = 103 if sys.platform == "darwin" else 107

# For a laptop: a quarter of a gigabyte of cache, few checkpoints during a bulk load,
# and memory for building an HNSW index. Durability stays at PostgreSQL's defaults.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "cluster_name": "flywheel-db",
    "shared_buffers": "256MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "2GB",
    "random_page_cost": "1.1",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}

# These go on the server's command line, where they win over every file: the functions
# of this package have to find the server again.
_FIXED_SETTINGS = {"port", "unix_socket_directories", "data_directory", "hba_file", "ident_file"}

# With a map, PostgreSQL asks which OS user is at the other end of the socket.
HBA = """\
# Written once by flywheel-db; yours to change.
# type  database     user      address       method
local   all          postgres                peer map=flywheel
local   replication  postgres                peer map=flywheel
local   all          all                     scram-sha-256
host    all          all       127.0.0.1/32  scram-sha-256
host    all          all       ::1/128       scram-sha-256
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A running private server and how to reach it."""

    data_dir: Path
    socket_dir: Path
    port: int
    superuser: str
    database: str
    log_file: Path

    @property
    def dsn(self) -> str:
        """A libpq connection string: the superuser over the socket, to the flywheel database."""
        return self.dsn_of(self.database)

    def dsn_of(self, database: str) -> str:
        """The same for another database of the server."""
        values = {
            "host": str(self.socket_dir),
            "port": str(self.port),
            "dbname": database,
            "user": self.superuser,
        }
        return " ".join(f"{key}={_quote_conninfo(value)}" for key, value in values.items())


def _quote_conninfo(value: str) -> str:
    if re.fullmatch(r"[\w./-]+", value, re.ASCII):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def default_home() -> Path:
    """The directory of the private server when none is named.

    `FLYWHEEL_HOME` if set. Otherwise /var/lib/flywheel-db for root, whose own home
    directory the server's OS user cannot enter, and `$XDG_DATA_HOME/flywheel-db` or
    ~/.local/share/flywheel-db for everybody else.
    """
    if named := os.environ.get("FLYWHEEL_HOME"):
        return Path(named).expanduser()
    if os.geteuid() == 0:
        return Path("/var/lib/flywheel-db")
    # The XDG specification asks to ignore a relative path.
    data_home = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not data_home.is_absolute():
        data_home = Path.home() / ".local" / "share"
    return data_home / "flywheel-db"


def resolve(home: Path | None) -> Path:
    """One spelling for one home: the path is compared with a running server's.

    Raises:
        ServerError: the path has a character that pg_ctl cannot pass on.
    """
    found = (home or default_home()).resolve()
    # pg_ctl puts the path between double quotes and hands it to a shell.
    if re.search(r'["$`\\\n]', str(found)):
        raise ServerError(f'The path {str(found)!r} has one of the characters " $ ` \\.')
    return found


def make_home(home: Path, owner: Owner) -> None:
    """Make the directory for the owner and root only; an existing one keeps its mode.

    Raises:
        ServerError: it belongs to root and is in use for something else.
    """
    if not home.exists():
        home.mkdir(mode=0o700, parents=True)
    if os.geteuid() != 0 or home.stat().st_uid != 0:
        return
    if any(home.iterdir()):
        raise ServerError(
            f"{home} belongs to root and is not empty; the server cannot run as root.",
            hint="set FLYWHEEL_HOME to a new directory",
        )
    os.chown(home, owner.uid, owner.gid)


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """One process at a time; the kernel lets go of the lock when its holder dies."""
    # Python opens it close-on-exec: the server must not inherit, and so keep, the lock.
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def write(path: Path, text: str) -> None:
    """Replace a file in one step, so that a crash leaves the old or the new one."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


# ------------------------------------------------------------ what is remembered


@dataclass(frozen=True, slots=True)
class State:
    """What `up` keeps for the next start."""

    port: int
    socket_dir: str
    settings: dict[str, str]


def read_state(home: Path) -> State:
    """The state in the home; port 0 and no directory where none was kept yet."""
    try:
        return State(**json.loads((home / "server.json").read_text()))
    except FileNotFoundError:
        return State(0, "", {})
    except (ValueError, TypeError) as error:
        raise ServerError(
            f"{home / 'server.json'} is damaged: {error}.",
            hint="delete the file; the next `flywheel-db up` chooses a port again",
        ) from error


def write_state(home: Path, state: State) -> None:
    """Keep the state."""
    fields = {"port": state.port, "socket_dir": state.socket_dir, "settings": state.settings}
    write(home / "server.json", json.dumps(fields, indent=2) + "\n")


def check_settings(settings: Mapping[str, str]) -> None:
    """Refuse what would not be a setting in a configuration file, or is not the caller's.

    Raises:
        ServerError: names the setting.
    """
    for name, value in settings.items():
        if not re.fullmatch(r"[A-Za-z_][\w.]*", name, re.ASCII) or re.search(r"[\n\r\0]", value):
            raise ServerError(f"Not a server setting: {name!r} = {value!r}.")
        if name.lower() in _FIXED_SETTINGS:
            raise ServerError(f"The private server chooses its {name} itself.")


def configuration(settings: Mapping[str, str]) -> str:
    """The text of flywheel.conf."""
    lines = ["# Written by `flywheel-db up`. Your own settings go to the end of postgresql.conf."]
    for name, value in (_SETTINGS | dict(settings)).items():
        quoted = value.replace("\\", "\\\\").replace("'", "''")
        lines.append(f"{name} = '{quoted}'")
    return "\n".join(lines) + "\n"


def socket_dir_for(home: Path, state: State) -> Path:
    """The directory of the socket: in the home, or in /tmp where that path is no good."""
    own = home / "run"
    # libpq takes a comma for the end of one host in a list.
    if len(os.fsencode(own / ".s.PGSQL.65535")) <= _SOCKET_PATH_LIMIT and "," not in str(own):
        own.mkdir(mode=0o700, exist_ok=True)
        own.chmod(0o700)
        return own
    if state.socket_dir and _is_private(Path(state.socket_dir)):
        return Path(state.socket_dir)
    # A name nobody can foresee, mode 0700; remembered in server.json. Not TMPDIR,
    # which may be as long as the home.
    return Path(tempfile.mkdtemp(prefix="flywheel-db-", dir="/tmp"))


def _is_private(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return ours and not found.st_mode & 0o077


# ------------------------------------------------------------------ who is running


def postmaster(data_dir: Path) -> list[str] | None:
    """The lines of postmaster.pid if the process it names is this cluster's server.

    The file outlives a server that was killed, and its number may since belong to a
    program that must not be mistaken for a server, let alone be sent a signal.
    """
    try:
        lines = (data_dir / "postmaster.pid").read_text().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not lines or not lines[0].isdigit() or not _is_postmaster(int(lines[0]), data_dir):
        return None
    return lines


def _is_postmaster(pid: int, data_dir: Path) -> bool:
    # The command line rather than the working directory: in a container even root
    # may not look at the latter. The server's children change their command lines.
    if Path("/proc/self/cmdline").exists():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
        program, *arguments = os.fsdecode(line).split("\0")
        if Path(program).name != "postgres":
            return False
        directories = [value for flag, value in itertools.pairwise(arguments) if flag == "-D"]
        absolute = [Path(one) for one in directories if Path(one).is_absolute()]
        # Started by hand without an absolute path: better to take it for ours.
        return not absolute or any(one.exists() and one.samefile(data_dir) for one in absolute)
    command = output(["ps", "-ww", "-o", "command=", "-p", str(pid)])
    return bool(re.match(r"\S*/postgres\s", command)) and str(data_dir) in command


def running(home: Path) -> Server | None:
    """The server of this home, or None if no such process is there."""
    lines = postmaster(home / "data")
    if lines is None:
        return None
    if len(lines) >= 5 and lines[4]:
        return server_at(home, Path(lines[4]), int(lines[3]))
    state = read_state(home)  # it is just starting
    return server_at(home, Path(state.socket_dir), state.port)


def server_at(home: Path, socket_dir: Path, port: int) -> Server:
    """The server of this home, with the address it was started at."""
    return Server(home / "data", socket_dir, port, SUPERUSER, DATABASE, home / "server.log")


def disown_stale_files(data_dir: Path, socket_dir: Path) -> None:
    """Let the server start although its old lock files name somebody else's live process.

    The server refuses to start if a process with that number runs as its own user, as
    happens after a reboot. Deleting postmaster.pid would work, but it also holds the key
    of the shared memory by which the server notices surviving children of its
    predecessor. So only the number is replaced, by ours: a server takes the process
    that called pg_ctl for no rival. Call it only when `postmaster` found nothing.
    """
    # No other server uses this directory, and the lock beside the socket holds no more.
    for left in socket_dir.glob(".s.PGSQL.*"):
        left.unlink()
    try:
        with (data_dir / "postmaster.pid").open("r+") as file:
            lines = file.read().splitlines(keepends=True)
            file.seek(0)
            file.write("".join([f"{os.getpid()}\n", *lines[1:]]))
            file.truncate()
    except FileNotFoundError:
        return
