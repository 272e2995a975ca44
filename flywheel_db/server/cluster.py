"""Making, starting and stopping the private server."""

import dataclasses
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from flywheel_db.errors import ServerError
from flywheel_db.server import home as homes
from flywheel_db.server.binaries import INSTALL_HINT, binaries_for, find_binaries
from flywheel_db.server.home import Server, State
from flywheel_db.server.libraries import lend_libraries
from flywheel_db.server.os_user import Owner, acting_as, output, owner_of, run

# Outside the range that Linux and macOS hand out for outgoing connections, so the
# port is seldom taken when the server comes back.
_PORTS = range(15432, 15532)

# Crash recovery after a power cut may replay up to max_wal_size.
_START_SECONDS = 300
_STOP_SECONDS = 120

_LOG_BYTES = 10_000_000

# Reasons for a failed start that pass: somebody took the port since we looked, and
# children of a killed server that have not noticed its death and still hold its memory.
_PASSING = ("could not bind", "pre-existing shared memory block")


def up(home: Path | None = None, *, settings: Mapping[str, str] | None = None) -> Server:
    """Make the private server if there is none, start it if it is down, and return it.

    Safe to call again and from several processes at once. A server that was killed
    comes back, whatever its postmaster.pid says. When root calls, the whole process
    acts as the server's OS user meanwhile.

    Args:
        home: where it lives; `default_home()` if None.
        settings: server settings on top of ours, kept for later starts until another
            mapping replaces them. A running server reloads; settings that need a
            restart wait for the next start.

    Raises:
        ServerError: PostgreSQL is not installed or does not fit the cluster, the home
            cannot be used, or the server does not start (with the end of its log).
    """
    home = homes.resolve(home)
    homes.check_settings(settings or {})
    try:
        owner = owner_of(home)
        homes.make_home(home, owner)
        with acting_as(owner):
            if not os.access(home, os.W_OK | os.X_OK, effective_ids=True):
                raise ServerError(
                    f"The OS user {owner.name}, who runs the server, cannot use {home}.",
                    hint="set FLYWHEEL_HOME to a directory outside private ones such as /root",
                )
            with homes.locked(home):
                return _up(home, owner, settings)
    except OSError as error:
        raise ServerError(
            f"Cannot use {home}: {error}.", hint="set FLYWHEEL_HOME to a directory of your own"
        ) from error


def _up(home: Path, owner: Owner, settings: Mapping[str, str] | None) -> Server:
    data_dir = home / "data"
    if (data_dir / "PG_VERSION").exists():
        bin_dir = binaries_for(data_dir)
    else:
        bin_dir = find_binaries()
        _initdb(bin_dir, home, owner)
    state = homes.read_state(home)
    if settings is not None:
        state = dataclasses.replace(state, settings=dict(settings))
    configuration = homes.configuration(state.settings)
    file = data_dir / "flywheel.conf"
    changed = not file.exists() or file.read_text() != configuration
    if changed:
        homes.write(file, configuration)

    server = homes.running(home)
    if server is None:
        server = _start(bin_dir, home, state)
    else:
        homes.write_state(home, State(server.port, str(server.socket_dir), state.settings))
        if changed:
            _pg_ctl(bin_dir, "reload", "-D", data_dir)
    _wait_until_ready(bin_dir, server)
    _create_database(bin_dir, server)
    return server


def _initdb(bin_dir: Path, home: Path, owner: Owner) -> None:
    """Make the cluster beside its place and move it there, so that no half of one stays."""
    new = home / "data.new"
    if new.exists():
        shutil.rmtree(new)
    done = run(
        [
            bin_dir / "initdb",
            *("-D", new, "-U", homes.SUPERUSER, "--encoding=UTF8", "--data-checksums"),
            *("--auth-local=peer", "--auth-host=scram-sha-256"),
            # Unicode character classes for regular expressions and lower(); texts sort
            # by code point, the same on every machine.
            *(f"--locale={_utf8_locale()}", "--lc-messages=C"),
        ]
    )
    if done.returncode != 0:
        raise ServerError(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")
    homes.write(new / "pg_hba.conf", homes.HBA)
    names = dict.fromkeys(("root", owner.name))
    ident = "".join(f'flywheel "{name}" {homes.SUPERUSER}\n' for name in names)
    homes.write(new / "pg_ident.conf", "# map, OS user, role\n" + ident)
    with (new / "postgresql.conf").open("a") as file:
        file.write("\ninclude_if_exists = 'flywheel.conf'\n")
        file.write("# Your own settings go below; they win over flywheel.conf.\n")
    new.rename(home / "data")


def _utf8_locale() -> str:
    known = {name.lower().replace("-", ""): name for name in output(["locale", "-a"]).split()}
    return next((known[name] for name in ("c.utf8", "en_us.utf8") if name in known), "C")


def _start(bin_dir: Path, home: Path, state: State) -> Server:
    data_dir, log = home / "data", home / "server.log"
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_name("server.log.1"))
    log.touch(mode=0o600)
    socket_dir = homes.socket_dir_for(home, state)
    port = state.port
    give_up = time.monotonic() + 30
    libraries = lend_libraries(home, bin_dir)
    while True:
        if not _port_is_free(port):
            port = _free_port()
        # Before the start: a crash in between must not lose the directory in /tmp.
        homes.write_state(home, State(port, str(socket_dir), state.settings))
        homes.disown_stale_files(data_dir, socket_dir)
        log_end = log.stat().st_size
        # Quoted for the server, which reads a list of directories, and for the shell.
        directories = shlex.quote(f'"{socket_dir}"')
        options = f"-c port={port} -c unix_socket_directories={directories}"
        limit = str(_START_SECONDS)
        arguments = ("start", "-D", data_dir, "-l", log, "-t", limit, "-o", options)
        started = _pg_ctl(bin_dir, *arguments, variables=libraries)
        if started.returncode == 0:
            return homes.server_at(home, socket_dir, port)
        with log.open("rb") as file:
            file.seek(log_end)
            said = file.read().decode(errors="replace").strip() or started.stderr.strip()
        if not any(reason in said for reason in _PASSING) or time.monotonic() > give_up:
            raise ServerError(f"The private server did not start. {log} ends with:\n{said}")
        time.sleep(0.2)


def _pg_ctl(
    bin_dir: Path, *arguments: str | Path, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return run([bin_dir / "pg_ctl", "-s", "-w", *arguments], variables)


def _port_is_free(port: int) -> bool:
    if port == 0:
        return False
    with socket.socket() as probe:
        # As the server does it: a connection of its past life does not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    for port in _PORTS:
        if _port_is_free(port):
            return port
    raise ServerError(f"All ports from {_PORTS[0]} to {_PORTS[-1]} are taken.")


def _wait_until_ready(bin_dir: Path, server: Server) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while run([bin_dir / "pg_isready", "-q", "-d", server.dsn_of("postgres")]).returncode != 0:
        if homes.postmaster(server.data_dir) is None or time.monotonic() > deadline:
            raise ServerError(
                "The private server does not answer.", hint=f"its log is {server.log_file}"
            )
        time.sleep(0.1)


def _create_database(bin_dir: Path, server: Server) -> None:
    psql = [str(bin_dir / "psql"), "-X", "-A", "-t", "-w", "-d", server.dsn_of("postgres"), "-c"]
    exists = f"select 1 from pg_database where datname = '{server.database}'"  # noqa: S608
    done = run([*psql, exists])
    if done.returncode == 0 and not done.stdout.strip():
        done = run([*psql, f"create database {server.database}"])
    if done.returncode != 0:
        raise ServerError(f"Cannot create the database {server.database}: {done.stderr.strip()}")


def down(home: Path | None = None) -> bool:
    """Stop the private server; open transactions are rolled back.

    Returns:
        False if it was not running.

    Raises:
        ServerError: it cannot be stopped, or belongs to another OS user.
    """
    home = homes.resolve(home)
    if status(home) is None:
        return False
    data_dir = home / "data"
    try:
        with acting_as(owner_of(home)), homes.locked(home):
            if homes.postmaster(data_dir) is None:  # somebody else has just stopped it
                return False
            bin_dir = binaries_for(data_dir)
            limit = str(_STOP_SECONDS)
            stopped = _pg_ctl(bin_dir, "stop", "-D", data_dir, "-m", "fast", "-t", limit)
    except OSError as error:
        raise ServerError(f"Cannot stop the server in {home}: {error}.") from error
    if stopped.returncode != 0:
        raise ServerError(
            f"The private server did not stop: {stopped.stderr.strip()}",
            hint=f"its log is {home / 'server.log'}",
        )
    return True


def status(home: Path | None = None) -> Server | None:
    """The private server if it is running, otherwise None. Changes nothing.

    Raises:
        ServerError: the home belongs to another OS user.
    """
    home = homes.resolve(home)
    try:
        return homes.running(home)
    except PermissionError as error:
        raise ServerError(
            f"Cannot look into {home}: {error}.", hint="it belongs to another OS user"
        ) from error


def psql(home: Path | None = None, args: Sequence[str] = ()) -> NoReturn:
    """Become psql, connected to the private server.

    Raises:
        ServerError: the server is not running, or there is no psql.
    """
    home = homes.resolve(home)
    server = status(home)
    if server is None:
        raise ServerError("The private server is not running.", hint="start it: flywheel-db up")
    program = binaries_for(server.data_dir) / "psql"
    found = str(program) if os.access(program, os.X_OK) else shutil.which("psql")
    if found is None:
        raise ServerError("There is no psql on this machine.", hint=INSTALL_HINT)
    # In the environment and not as an argument, so that psql's own -d and -U still work.
    elsewhere = ("PGHOSTADDR", "PGSERVICE")
    environment = {key: value for key, value in os.environ.items() if key not in elsewhere}
    environment |= {
        "PGHOST": str(server.socket_dir),
        "PGPORT": str(server.port),
        "PGDATABASE": server.database,
        "PGUSER": server.superuser,
    }
    os.execve(found, ["psql", *args], environment)  # noqa: S606
