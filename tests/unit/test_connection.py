"""Which database, and what a failure may tell."""

from pathlib import Path

import pytest

from flywheel_db.cli.options import resolve_dsn
from flywheel_db.connection import configured_dsn, connect, without_secrets
from flywheel_db.errors import ConnectionFailed


@pytest.mark.parametrize(
    ("dsn", "environ", "found"),
    [
        ("given", {"FLYWHEEL_DSN": "variable", "PGHOST": "h"}, "given"),
        (None, {"FLYWHEEL_DSN": "variable", "PGHOST": "h"}, "variable"),
        (None, {"PGHOST": "h"}, ""),
        (None, {"PGSERVICE": "s"}, ""),
        (None, {"PGDATABASE": "d"}, ""),
        (None, {"PGPASSWORD": "p"}, None),
        (None, {"FLYWHEEL_DSN": "", "PGHOST": ""}, None),
        (None, {}, None),
    ],
)
def test_the_first_that_is_given_wins(
    dsn: str | None, environ: dict[str, str], found: str | None
) -> None:
    assert configured_dsn(dsn, environ) == found


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user:s3cret@host/db failed",
        "host=h password=s3cret user=u",
        "password = 's3cret'",
        "because of s3cret",
    ],
)
def test_no_password_is_told(text: str) -> None:
    assert "s3cret" not in without_secrets(text, ("s3cret",))


@pytest.mark.parametrize(
    "dsn", ["postgresql://u:s3cret@h:port/db", "password=s3cret nonsense", "host='s3cret"]
)
def test_a_dsn_that_cannot_be_read_is_not_repeated(dsn: str) -> None:
    with pytest.raises(ConnectionFailed) as caught:
        connect(dsn)
    assert "s3cret" not in f"{caught.value}{caught.value.hint}{caught.value.__cause__}"


def test_a_server_that_is_not_there_is_a_connection_failed(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFailed, match="No such file") as caught:
        connect(f"host={tmp_path} port=1 dbname=x password=s3cret")
    assert caught.value.hint is not None
    assert "flywheel-db up" in caught.value.hint
    assert caught.value.exit_code == 4


def test_without_a_database_the_private_server_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FLYWHEEL_DSN", "PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PGUSER", raising=False)
    monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path / "home"))
    with pytest.raises(ConnectionFailed, match="not running") as caught:
        resolve_dsn(None)
    assert "flywheel-db up" in str(caught.value.hint)
