"""`validators test` of a judge: asked from the command line, nothing stored."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from psycopg import Connection

import replay
from flywheel_db.cli import main


@pytest.fixture
def admin(connect: Callable[..., Connection]) -> Connection:
    return connect()


@pytest.fixture
def endpoint(admin: Connection) -> Iterator[replay.Endpoint]:
    with replay.Endpoint(replay.by_keyword("rude")) as running:
        admin.execute(
            """
            select flywheel.create_model(
              'judge', %s, 'm-1', api_key_env => 'FLYWHEEL_KEY_T', input_price => 1,
              output_price => 2
            )
            """,
            (running.base_url,),
        )
        admin.execute(
            """
            insert into flywheel.traces (input, output)
            values ('hi', 'a kind word'), ('hi', 'a rude word'), ('hi', null)
            """
        )
        admin.execute(
            "select flywheel.create_validator('polite', 'llm', 'Is kind.', model => 'judge')"
        )
        yield running


def run(dsn: str, *arguments: str, **environ: str) -> Result:
    given = {"FLYWHEEL_KEY_T": "sk-0123456789", "FLYWHEEL_ALLOWED_HOSTS": "127.0.0.1"}
    command = ["validators", "test", "polite", "--dsn", dsn, *arguments]
    return CliRunner().invoke(main, command, env=given | environ)


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def stored(admin: Connection) -> Any:
    return admin.execute(
        "select (select count(*) from flywheel.verdicts), (select count(*) from flywheel.runs)"
    ).fetchone()


def test_a_judge_is_asked_and_nothing_is_stored(
    admin: Connection, endpoint: replay.Endpoint, dsn: str
) -> None:
    found = rows(run(dsn))
    assert sorted((row["status"], row["reason"]) for row in found) == [
        ("failed", "has the word rude"),
        ("passed", "lacks the word rude"),
        ("skipped", "nothing to judge: output is null"),
    ]
    judged = next(row for row in found if row["status"] == "failed")
    assert "a rude word" in judged["prompt"]
    assert judged["input_tokens"] > 0
    assert endpoint.requests[0].headers["authorization"] == "Bearer sk-0123456789"
    assert stored(admin) == (0, 0)


def test_the_table_tells_the_counts_and_the_cost(endpoint: replay.Endpoint, dsn: str) -> None:
    result = run(dsn, "--table", "-n", "2")
    assert "1 failed" in result.stdout or "1 passed" in result.stdout
    assert "about $0.00" in result.stdout


def test_the_prompts_are_shown_without_a_call(endpoint: replay.Endpoint, dsn: str) -> None:
    found = rows(run(dsn, "--prompts", FLYWHEEL_ALLOWED_HOSTS=""))
    assert len(found) == 3
    assert sum("a rude word" in (row["prompt"] or "") for row in found) == 1
    assert endpoint.count == 0


def test_a_host_that_is_not_allowed_is_not_called(endpoint: replay.Endpoint, dsn: str) -> None:
    result = run(dsn, FLYWHEEL_ALLOWED_HOSTS="")
    assert result.exit_code == 3
    assert "the model judge may not be called from here" in result.stderr
    assert endpoint.count == 0
    assert len(rows(run(dsn, "--allow-host", "127.0.0.1", FLYWHEEL_ALLOWED_HOSTS=""))) == 3


def test_a_wrong_key_is_told_once(endpoint: replay.Endpoint, dsn: str) -> None:
    endpoint.respond_with(replay.FAULTS["wrong_key"])
    result = run(dsn)
    assert result.exit_code == 3
    assert "the model judge cannot be used: the provider answered 401" in result.stderr
    assert "sk-0123456789" not in result.stderr


def test_a_row_whose_call_fails_is_shown_with_the_others(
    endpoint: replay.Endpoint, dsn: str
) -> None:
    endpoint.respond_with(replay.in_turn([replay.FAULTS["server_error"]], replay.verdict()))
    found = rows(run(dsn))
    assert sorted(row["status"] for row in found) == ["error", "passed", "skipped"]


def test_options_of_judges_are_not_for_others(admin: Connection, dsn: str) -> None:
    admin.execute("select flywheel.create_validator('polite', 'sql', 'true')")
    result = run(dsn, "--prompts")
    assert result.exit_code == 2
    assert "polite is none" in result.stderr
