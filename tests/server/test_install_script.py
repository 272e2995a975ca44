"""docker/install-postgres.sh and its neighbours, on a machine where everything is installed."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docker" / "install-postgres.sh"


def bash(
    *arguments: str | Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    # Settings of whoever runs the tests would change what the script looks for.
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "FLYWHEEL_"))}
    return subprocess.run(
        ["bash", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=kept | dict(environment or {}),
        check=False,
    )


def os_release(folder: Path, text: str) -> dict[str, str]:
    file = folder / "os-release"
    file.write_text(text)
    # A major version that is not installed anywhere, so that there is something to do.
    return {"FLYWHEEL_OS_RELEASE": str(file), "PG_MAJOR": "99"}


@pytest.mark.parametrize(
    "script", sorted([*ROOT.glob("docker/*.sh"), *ROOT.glob("scripts/*.sh")]), ids=lambda p: p.name
)
def test_scripts_parse_and_stop_at_the_first_error(script: Path) -> None:
    assert bash("-n", script).returncode == 0
    assert "\nset -euo pipefail\n" in script.read_text()
    assert os.access(script, os.X_OK)


def test_check_passes_where_everything_is_installed() -> None:
    done = bash(SCRIPT, "--check")
    assert done.returncode == 0, done
    assert "with plpython3u and pgvector is installed" in done.stderr


def test_a_run_with_nothing_to_do_calls_no_package_manager(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    for name in ("apt-get", "apt-cache", "dpkg-query", "sudo", "make"):
        fake = tmp_path / name
        fake.write_text(f'#!/bin/sh\necho "{name} $*" >>{calls}\nexit 1\n')
        fake.chmod(0o755)
    done = bash(SCRIPT, environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert done.returncode == 0, done
    assert not calls.exists(), calls.read_text()


def test_check_names_what_is_missing_and_installs_nothing() -> None:
    done = bash(SCRIPT, "--check", environment={"PG_MAJOR": "99"})
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "missing: PostgreSQL 99",
        "missing: plpython3u for PostgreSQL 99",
        "missing: pgvector for PostgreSQL 99",
    ]


def test_check_names_a_pgvector_that_is_too_old() -> None:
    done = bash(SCRIPT, "--check", environment={"PGVECTOR_MINIMUM": "99.1"})
    assert done.returncode == 1
    assert "missing: pgvector 99.1 or later for PostgreSQL" in done.stdout


@pytest.mark.parametrize(
    "text",
    [
        'ID=fedora\nVERSION_ID=40\nPRETTY_NAME="Fedora Linux 40"\n',
        'ID=debian\nVERSION_ID="11"\nPRETTY_NAME="Debian GNU/Linux 11 (bullseye)"\n',
        'ID=ubuntu\nVERSION_ID="22.04"\nPRETTY_NAME="Ubuntu 22.04.4 LTS"\n',
    ],
    ids=["fedora", "debian-11", "ubuntu-22.04"],
)
def test_an_unsupported_distribution_is_told_what_to_do(tmp_path: Path, text: str) -> None:
    done = bash(SCRIPT, environment=os_release(tmp_path, text))
    assert done.returncode == 1
    name = text.split('"')[-2]
    assert f"{name} is not supported." in done.stderr
    assert "Supported: Debian 12 and later, Ubuntu 24.04 and later." in done.stderr
    assert "Install by hand: PostgreSQL 15 or later, its PL/Python (plpython3u), and pgvector" in (
        done.stderr
    )


@pytest.mark.parametrize("major", ["14", "fifteen", "15; true"])
def test_a_major_version_that_makes_no_sense_is_refused(major: str) -> None:
    done = bash(SCRIPT, environment={"PG_MAJOR": major})
    assert done.returncode == 1
    assert f"PG_MAJOR is '{major}'" in done.stderr


def derive(folder: Path, name: str, text: str, here: str = "bookworm") -> list[str]:
    """The entries for the source packages of unstable, derived from one file of sources."""
    (folder / "out").mkdir()
    (folder / name).write_text(text)
    done = bash(
        "-c",
        'source "$1"; derive_source_entries unstable main "$2" "$3" "$4"',
        "bash",
        SCRIPT,
        here,
        folder / "out",
        folder / name,
    )
    assert done.returncode == 0, done
    files = [Path(line) for line in done.stdout.splitlines()]
    # apt tells the two syntaxes apart by the name.
    assert {file.suffix for file in files} <= {Path(name).suffix}
    return [file.read_text() for file in files]


DEB822 = """\
# The archive, and its security updates.
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm
 bookworm-updates
Components: main contrib
Architectures: amd64
Signed-By: /usr/share/keyrings/archive.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/archive.gpg
"""


def test_a_deb822_stanza_keeps_its_mirror_and_its_keys(tmp_path: Path) -> None:
    assert derive(tmp_path, "debian.sources", DEB822) == [
        "Types: deb-src\nSuites: unstable\nComponents: main\n"
        "URIs: http://mirror.example/debian\nSigned-By: /usr/share/keyrings/archive.gpg\n"
    ]


def test_a_deb822_stanza_keeps_a_key_written_into_it(tmp_path: Path) -> None:
    text = (
        "Enabled: yes\nTypes: deb deb-src\nuris: mirror+file:/etc/apt/mirrors.list\n"
        "Suites: bookworm\nComponents: main\nTrusted: yes\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n # not a comment\n mDMEYCQj\n"
    )
    (entry,) = derive(tmp_path, "company.sources", text)
    assert "uris: mirror+file:/etc/apt/mirrors.list\n" in entry
    assert "Trusted: yes\n" in entry
    assert entry.endswith(
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n # not a comment\n mDMEYCQj\n"
    )
    assert entry.count("Types:") == 1


@pytest.mark.parametrize(
    "change",
    [
        ("Suites: bookworm\n bookworm-updates", "Suites: bookworm-backports"),
        ("Components: main contrib", "Components: stable"),
        ("Types: deb\nURIs: http://mirror.example/debian\n", "Enabled: no\nTypes: deb\nURIs: u\n"),
    ],
    ids=["other suite", "third party", "turned off"],
)
def test_a_deb822_stanza_of_something_else_is_passed_over(
    tmp_path: Path, change: tuple[str, str]
) -> None:
    assert DEB822.count(change[0]) == 1
    assert derive(tmp_path, "debian.sources", DEB822.replace(*change)) == []


def test_a_one_line_entry_keeps_its_mirror_and_its_keys(tmp_path: Path) -> None:
    text = (
        "# deb http://old.example/debian bookworm main\n"
        "deb [ arch=amd64,arm64 signed-by=/usr/share/keyrings/a.gpg  trusted=yes ] "
        "http://mirror.example/debian  bookworm  main contrib  # the archive\n"
        "deb http://mirror.example/debian bookworm-updates main\n"
        "deb http://third-party.example/apt bookworm stable\n"
    )
    assert derive(tmp_path, "sources.list", text) == [
        "deb-src [ signed-by=/usr/share/keyrings/a.gpg trusted=yes ] "
        "http://mirror.example/debian unstable main\n"
    ]


def test_a_one_line_entry_without_options(tmp_path: Path) -> None:
    text = "\tdeb-src\thttp://mirror.example/debian stable main\n"
    assert derive(tmp_path, "sources.list", text, here="stable") == [
        "deb-src http://mirror.example/debian unstable main\n"
    ]


def test_every_candidate_is_offered_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "deb http://a.example/debian bookworm main\ndeb http://b.example/debian bookworm main\n"
    assert derive(tmp_path, "sources.list", text) == [
        "deb-src http://a.example/debian unstable main\n",
        "deb-src http://b.example/debian unstable main\n",
    ]


def test_versions_compare_as_versions() -> None:
    done = bash(
        "-c",
        'source "$1"; version_at_least 0.8.10 0.8.4 && version_at_least 0.8.4-1 0.8.4 &&'
        " version_at_least 24.04 24.04 && ! version_at_least 0.8.0 0.8.4 &&"
        " ! version_at_least 9 12",
        "bash",
        SCRIPT,
    )
    assert done.returncode == 0, done
