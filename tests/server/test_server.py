"""The private server: real clusters in short-lived homes, killed and hindered on purpose."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from flywheel_db import server
from flywheel_db.errors import ServerError
from flywheel_db.server import Server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home() -> Iterator[Path]:
    # Not tmp_path: when root runs the tests, the server's OS user cannot enter that.
    folder = Path(tempfile.mkdtemp(prefix="flywheel-test-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder / "home"
    for data in folder.glob("**/data/PG_VERSION"):
        server.down(data.parents[1])
    shutil.rmtree(folder)


def psql(dsn: str, statement: str) -> str:
    return run_psql(dsn, statement, check=True).stdout.strip()


def run_psql(
    dsn: str, statement: str, *, user: str | None = None, check: bool = False
) -> subprocess.CompletedProcess[str]:
    program = server.find_binaries() / "psql"
    return subprocess.run(
        [program, "-X", "-A", "-t", "-w", "-d", dsn, "-c", statement],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        user=user,
        group="nogroup" if user else None,
        extra_groups=[] if user else None,
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        check=check,
    )


def python(code: str, *arguments: str | Path) -> "subprocess.Popen[str]":
    imports = "import sys; from pathlib import Path; from flywheel_db import server; "
    return subprocess.Popen(
        [sys.executable, "-c", imports + code, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def pid_file(running: Server) -> Path:
    return running.data_dir / "postmaster.pid"


def pid_of(running: Server) -> int:
    return int(pid_file(running).read_text().split("\n")[0])


def at_the_same_place(first: Server, again: Server) -> bool:
    """The same but for the port, which another server may have taken while it was down."""
    return dataclasses.replace(again, port=first.port) == first


def remember_port(home: Path, port: int) -> None:
    file = home / "server.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"port": port}))


@pytest.fixture
def unrelated_process(home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A live process of the server's own OS user, which is the hard case."""
    owner = home.stat().st_uid if home.exists() else None
    if owner is None:
        server.up(home)
        server.down(home)
        owner = home.stat().st_uid
    process = subprocess.Popen(
        ["sleep", "1000"], user=owner if os.geteuid() == 0 else None, cwd="/"
    )
    yield process
    process.kill()
    process.wait()


def test_up_twice_is_one_server(home: Path) -> None:
    assert server.status(home) is None
    assert not home.exists()
    first = server.up(home)
    pid = pid_of(first)
    assert server.up(home) == first == server.status(home)
    assert pid_of(first) == pid
    assert psql(first.dsn, "select current_user, current_database()") == "postgres|flywheel"
    assert first.socket_dir == home / "run"
    assert first.log_file.exists()


def test_down_twice(home: Path) -> None:
    assert server.down(home) is False
    assert not home.exists()
    server.up(home)
    assert server.down(home) is True
    assert server.down(home) is False
    assert server.status(home) is None


def test_the_address_stays_over_a_restart(home: Path) -> None:
    first = server.up(home)
    server.down(home)
    with socket.create_server(("127.0.0.1", 0)) as some:
        port = some.getsockname()[1]
    remember_port(home, port)
    again = server.up(home)
    assert again.port == port
    assert at_the_same_place(first, again)


def test_concurrent_up_makes_one_server(home: Path) -> None:
    processes = [python("print(server.up(Path(sys.argv[1])).dsn)", home) for _ in range(4)]
    answers = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    running = server.status(home)
    assert running is not None
    assert answers == {running.dsn + "\n"}
    assert psql(running.dsn, "select count(*) from pg_database where datname = 'flywheel'") == "1"


def test_comes_back_after_being_killed(home: Path) -> None:
    running = server.up(home)
    psql(running.dsn, "create table kept as select 42 as answer")
    os.kill(pid_of(running), signal.SIGKILL)
    again = server.up(home)
    assert psql(again.dsn, "select answer from kept") == "42"


def test_comes_back_though_its_pid_belongs_to_an_unrelated_process(
    home: Path, unrelated_process: "subprocess.Popen[bytes]"
) -> None:
    running = server.up(home)
    lines = pid_file(running).read_text().split("\n")
    server.down(home)
    lines[0] = str(unrelated_process.pid)
    pid_file(running).write_text("\n".join(lines))
    shutil.chown(pid_file(running), home.stat().st_uid)

    assert server.status(home) is None
    assert server.down(home) is False  # and no signal is sent to the other process
    again = server.up(home)
    assert at_the_same_place(running, again)
    assert unrelated_process.poll() is None
    assert pid_of(again) != unrelated_process.pid


def test_finds_its_server_through_another_spelling_of_the_path(home: Path) -> None:
    running = server.up(home)
    link = home.parent / "link"
    link.symlink_to(home)
    assert server.up(link) == running
    assert server.up(home / "data" / "..") == running


def test_takes_another_port_when_its_own_is_taken(home: Path) -> None:
    server.up(home)
    server.down(home)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        remember_port(home, taken)
        running = server.up(home)
        assert running.port != taken
        assert psql(running.dsn, "show port") == str(running.port)
    assert json.loads((home / "server.json").read_text())["port"] == running.port


def test_continues_after_an_interrupted_initdb(home: Path) -> None:
    server.up(home)
    server.down(home)
    # What a killed `up` leaves: a cluster that is not finished, beside its place.
    (home / "data").rename(home / "data.new")
    (home / "data.new" / "global" / "pg_control").unlink()
    assert psql(server.up(home).dsn, "select 1") == "1"
    assert not (home / "data.new").exists()


def test_restores_a_dropped_database(home: Path) -> None:
    running = server.up(home)
    psql(running.dsn_of("postgres"), "drop database flywheel")
    assert psql(server.up(home).dsn, "select current_database()") == "flywheel"


@pytest.mark.parametrize("name", ["it's a home, truly", "x" * 150, "ホーム"])
def test_unusual_homes(home: Path, name: str) -> None:
    running = server.up(home.parent / name)
    assert server.up(home.parent / name) == running
    assert psql(running.dsn, "select current_database()") == "flywheel"
    folder = running.socket_dir.stat()
    assert folder.st_mode & 0o777 == 0o700
    assert folder.st_uid == running.data_dir.stat().st_uid
    server.down(home.parent / name)
    assert at_the_same_place(running, server.up(home.parent / name))
    if running.socket_dir.parent == Path("/tmp"):
        server.down(home.parent / name)
        shutil.rmtree(running.socket_dir)
        assert psql(server.up(home.parent / name).dsn, "select 1") == "1"
        shutil.rmtree(server.up(home.parent / name).socket_dir)


def test_refuses_a_path_that_a_shell_would_read(home: Path) -> None:
    with pytest.raises(ServerError, match="has one of the characters"):
        server.up(home.parent / "$(touch x)")


def test_no_other_os_user_gets_in(home: Path) -> None:
    running = server.up(home)
    rules = psql(
        running.dsn,
        "select type, user_name, auth_method from pg_hba_file_rules order by line_number",
    ).splitlines()
    assert rules == [
        "local|{postgres}|peer",
        "local|{postgres}|peer",
        "local|{all}|scram-sha-256",
        "host|{all}|scram-sha-256",
        "host|{all}|scram-sha-256",
    ]
    assert psql(running.dsn, "show listen_addresses") == "127.0.0.1"
    socket_file = running.socket_dir / f".s.PGSQL.{running.port}"
    assert running.socket_dir.stat().st_mode & 0o077 == 0
    assert socket_file.stat().st_mode & 0o077 == 0
    assert running.data_dir.stat().st_mode & 0o077 == 0

    tcp = f"host=127.0.0.1 port={running.port} dbname=flywheel user=postgres"
    refused = run_psql(tcp, "select 1")
    assert refused.returncode == 2
    assert "no password supplied" in refused.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another OS user")
def test_another_os_user_is_refused_at_every_layer(home: Path) -> None:
    running = server.up(home)
    refused = run_psql(running.dsn, "select 1", user="nobody")
    assert refused.returncode == 2
    assert "Permission denied" in refused.stderr

    # Even if somebody opens the directory and the socket, the server asks who it is.
    home.chmod(0o755)
    running.socket_dir.chmod(0o755)
    (running.socket_dir / f".s.PGSQL.{running.port}").chmod(0o777)
    refused = run_psql(running.dsn, "select 1", user="nobody")
    assert refused.returncode == 2
    assert 'Peer authentication failed for user "postgres"' in refused.stderr
    psql(running.dsn, "create role nobody login superuser")
    as_self = running.dsn.replace("user=postgres", "user=nobody")
    refused = run_psql(as_self, "select 1", user="nobody")
    assert refused.returncode == 2
    assert "no password supplied" in refused.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has nothing to lose this way")
def test_root_follows_no_link_out_of_the_home(home: Path) -> None:
    running = server.up(home)
    server.down(home)
    precious = home.parent / "precious"
    precious.write_text("1\n2\n")
    pid_file(running).symlink_to(precious)
    with pytest.raises(ServerError, match="Permission denied"):
        server.up(home)
    assert precious.read_text() == "1\n2\n"
    assert os.geteuid() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="about what root is told")
def test_root_is_told_why_a_home_cannot_be_used(home: Path) -> None:
    home.mkdir()
    (home / "something").touch()
    with pytest.raises(ServerError, match="belongs to root and is not empty"):
        server.up(home)
    home.parent.chmod(0o700)
    with pytest.raises(ServerError, match="who runs the server, cannot use"):
        server.up(home.parent / "other")
    assert os.geteuid() == 0


def test_the_server_sees_none_of_the_callers_secrets(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYWHEEL_KEY_JUDGE", "sk-secret")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nowhere")
    running = server.up(home)
    psql(running.dsn, "create extension plpython3u")
    psql(
        running.dsn,
        "create function names() returns text language plpython3u as "
        "$$ import os; return ' '.join(sorted(os.environ)) $$",
    )
    psql(
        running.dsn,
        "create function value() returns text language plpython3u as "
        "$$ import os; return os.environ.get('PYTHONPATH') $$",
    )
    names = psql(running.dsn, "select names()").split()
    assert not {"FLYWHEEL_KEY_JUDGE", "PGPORT"} & set(names)
    path = psql(running.dsn, "select value()").strip()
    assert path == str(home / "python"), "only what the server is lent"


def test_settings_are_kept_and_applied(home: Path) -> None:
    running = server.up(home, settings={"work_mem": "7MB", "flywheel.note": "it's \\ here"})
    assert psql(running.dsn, "show work_mem") == "7MB"
    assert psql(running.dsn, "show flywheel.note") == "it's \\ here"
    server.down(home)
    assert psql(server.up(home).dsn, "show work_mem") == "7MB"
    server.up(home, settings={"work_mem": "8MB"})
    # A reload is a signal, and every session reads the files anew when it starts.
    assert "work_mem = '8MB'" in (running.data_dir / "flywheel.conf").read_text()
    server.down(home)
    again = server.up(home)
    assert psql(again.dsn, "show work_mem") == "8MB"
    assert psql(again.dsn, "show fsync") == "on"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"port": "1"}, "chooses its port itself"),
        ({"work_mem": "1MB'\nfsync = 'off"}, "Not a server setting"),
        ({"work mem": "1MB"}, "Not a server setting"),
    ],
)
def test_settings_that_are_refused(home: Path, settings: Mapping[str, str], message: str) -> None:
    with pytest.raises(ServerError, match=message):
        server.up(home, settings=settings)
    assert not home.exists()


def test_a_start_that_fails_shows_the_log_and_the_next_one_succeeds(home: Path) -> None:
    with pytest.raises(ServerError, match=r'(?s)did not start.*"shared_buffers": "a lot"'):
        server.up(home, settings={"shared_buffers": "a lot"})
    assert psql(server.up(home, settings={}).dsn, "select 1") == "1"


def test_unicode_texts_are_handled_as_unicode(home: Path) -> None:
    running = server.up(home)
    assert psql(running.dsn, "select lower('ÄÖ'), 'é' ~ '^\\w$', length('日本')") == "äö|t|2"


def test_psql_becomes_psql(home: Path) -> None:
    server.up(home)
    code = "server.psql(Path(sys.argv[1]), sys.argv[2:])"
    process = python(code, home, "-XAtc", "select current_database()")
    assert process.communicate()[0] == "flywheel\n"
    server.down(home)
    with pytest.raises(ServerError, match="not running") as caught:
        server.psql(home, [])
    assert caught.value.hint == "start it: flywheel-db up"


def test_missing_binaries_are_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_PG_BIN", "/nowhere/bin")
    with pytest.raises(ServerError, match="FLYWHEEL_PG_BIN is /nowhere/bin, which holds no") as e:
        server.up(home)
    assert e.value.hint is not None
    assert "docker/install-postgres.sh" in e.value.hint


def test_a_cluster_of_another_major_version_is_named(home: Path) -> None:
    running = server.up(home)
    server.down(home)
    version = running.data_dir / "PG_VERSION"
    own = version.read_text()
    version.write_text("9\n")
    with pytest.raises(ServerError, match=r"was made by PostgreSQL 9, but .* here is \d+") as e:
        server.up(home)
    assert "PG_MAJOR=9 docker/install-postgres.sh" in (e.value.hint or "")
    version.write_text(own)
    assert at_the_same_place(running, server.up(home))


def test_a_damaged_state_file_is_named(home: Path) -> None:
    server.up(home)
    server.down(home)
    (home / "server.json").write_text(json.dumps({"port": 1}))
    with pytest.raises(ServerError, match=r"server\.json is damaged"):
        server.up(home)


def test_where_the_home_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_HOME", "/somewhere")
    assert server.default_home() == Path("/somewhere")
    monkeypatch.delenv("FLYWHEEL_HOME")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert server.default_home() == Path("/var/lib/flywheel-db")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert server.default_home() == Path("/data/flywheel-db")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert server.default_home() == Path.home() / ".local/share/flywheel-db"
