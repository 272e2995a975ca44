"""The command line of the worker: what is refused before anything starts."""

import importlib.util
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flywheel_db.cli import main
from flywheel_db.worker import program


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main, ["worker", *arguments], env=environ)


def test_without_its_extra_the_worker_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def find_spec(name: str) -> Any:
        return None if name in ("openai", "psycopg_pool") else found(name)

    monkeypatch.setattr(program, "find_spec", find_spec)
    result = run("--dsn", "host=nowhere.invalid")
    assert result.exit_code == 3
    assert result.stderr == (
        "error: the worker needs openai, psycopg_pool, which is not installed\n"
        "hint: pip install 'flywheel-db[worker]'\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--kinds", "llm,magic"], "--kinds llm,magic: there is no kind magic"),
        (["--kinds", ","], "there is no kind"),
        (
            ["--allow-host", "https://api.example.com/v1"],
            "--allow-host: https://api.example.com/v1",
        ),
        (["--allow-host", "*.example.com"], "--allow-host: *.example.com is not a host"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(arguments: list[str], words: str) -> None:
    result = run("--dsn", "host=nowhere.invalid", *arguments)
    assert result.exit_code == 3
    assert words in result.stderr


def test_a_host_in_the_environment_is_checked_too() -> None:
    result = run("--dsn", "host=nowhere.invalid", FLYWHEEL_ALLOWED_HOSTS="ok.example.com,user@host")
    assert result.exit_code == 3
    assert "FLYWHEEL_ALLOWED_HOSTS: user@host is not a host" in result.stderr


def test_a_database_that_is_not_there_is_an_error_at_the_start() -> None:
    result = run("--dsn", "host=127.0.0.1 port=1 user=u password=s3cret dbname=d")
    assert result.exit_code == 4
    assert "s3cret" not in result.stderr
