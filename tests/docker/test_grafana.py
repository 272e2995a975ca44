"""The dashboard: every query runs as a reader, and the files are what Grafana and Compose read."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import Connection, sql

from flywheel_db.server import Server

DOCKER = Path(__file__).parents[2] / "docker"
GRAFANA = DOCKER / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "flywheel-db.json").read_text(encoding="utf-8"))
QUERIES = [
    pytest.param(target, id=f"{panel['title']} {target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
]
FROM, TO = "2026-01-01T00:00:00Z", "2099-12-31T23:59:59Z"


def _expand(query: str, values: dict[str, list[str]]) -> str:
    """What Grafana sends: macros written out, variables as quoted lists."""
    query = re.sub(r"\$__timeFilter\(([^)]+)\)", rf"\1 BETWEEN '{FROM}' AND '{TO}'", query)
    for name, chosen in values.items():
        quoted = ",".join("'" + value.replace("'", "''") + "'" for value in chosen)
        query = query.replace(f"${name}", quoted)
    assert "$" not in query, query
    return query


@pytest.fixture(scope="module")
def reader(
    new_database: Callable[..., str], template: str
) -> Iterator[tuple[Connection, dict[str, list[str]]]]:
    """A session as flywheel_reader over sample rows of each kind; all values of the variables."""
    with psycopg.connect(new_database(template), autocommit=True) as db:
        db.execute(
            "select flywheel.create_validator('it''s short', 'sql', 'length(output) < 5', score => 'length(output)');"
            "select flywheel.create_validator('plain', 'sql', 'output <> ''delve''');"
            "select flywheel.create_validator('queued', 'sql', 'true', mode => 'queued');"
            "insert into flywheel.traces (pipeline, input, output, status, started_at, ended_at)"
            " select 'p' || n % 2, 'question ' || n, repeat('x', n), case n % 5 when 0 then 'error' else 'ok' end,"
            " flywheel.now() - n * interval '7 h', flywheel.now() - n * interval '7 h' + n * interval '1 s'"
            " from generate_series(1, 20) as n;"
            "insert into flywheel.spans (trace_id, node, model, input_tokens, output_tokens, cost_usd, attributes, started_at)"
            " select trace_id, 'answer', 'gpt', 100, 10, 0.25,"
            ' \'{"usage": {"prompt_tokens_details": {"cached_tokens": 40}}}\', started_at from flywheel.traces;'
            "select flywheel.embed_texts(30);"
            "select flywheel.refresh_metric('low_performers');"
            "set role flywheel_reader"
        )
        values = {
            variable["name"]: [row[0] for row in db.execute(variable["query"])]
            for variable in DASHBOARD["templating"]["list"]
        }
        yield db, values


def test_variables_list_what_there_is(reader: tuple[Connection, dict[str, list[str]]]) -> None:
    assert reader[1] == {"pipeline": ["p0", "p1"], "validator": ["it's short", "plain", "queued"]}


@pytest.mark.parametrize("target", QUERIES)
def test_each_query_runs_as_a_reader_and_finds_something(
    reader: tuple[Connection, dict[str, list[str]]], target: dict[str, Any]
) -> None:
    db, values = reader
    cursor = db.execute(_expand(target["rawSql"], values))  # type: ignore[arg-type]
    columns = [(column.name, column.type_code) for column in cursor.description or ()]
    rows = cursor.fetchall()
    assert rows
    assert len({name for name, _ in columns}) == len(columns)
    if target["format"] == "time_series":
        # A time first, in order; then a name, if any, and numbers.
        name, type_code = columns[0]
        assert name == "time"
        assert psycopg.adapters.types[type_code].name.startswith("timestamp")
        assert [row[0] for row in rows] == sorted(row[0] for row in rows)
        kinds = {psycopg.adapters.types[code].name for _, code in columns[1:]}
        assert kinds <= {"text", "float8", "numeric", "int8"}
        assert kinds - {"text"}


def test_the_numbers_are_those_of_the_rows(
    reader: tuple[Connection, dict[str, list[str]]],
) -> None:
    db, values = reader

    def numbers(title: str) -> Any:
        (target,) = next(p["targets"] for p in DASHBOARD["panels"] if p["title"] == title)
        return db.execute(_expand(target["rawSql"], values)).fetchall()  # type: ignore[arg-type]

    assert numbers("Traces") == [(20,)]
    assert numbers("Cost") == [(5.0,)]
    assert numbers("Missing verdicts") == [(0,)]
    # Of 1 to 20 characters, 4 are short; all are plain.
    assert numbers("Pass rate") == [(pytest.approx(24 / 40),)]
    assert sum(row[1] for row in numbers("Tokens")) == 20 * 60
    assert sum(row[2] for row in numbers("Tokens")) == 20 * 40
    assert sum(row[1] for row in numbers("Errors and blocked traces")) == 4
    assert len(numbers("Failures")) == 16
    assert sum(row[1] for row in numbers("What fails")) == 16


def test_panels_have_their_place() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        grid = panel["gridPos"]
        assert grid["x"] >= 0
        assert grid["x"] + grid["w"] <= 24
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert cells
        assert not cells & taken, panel["title"]
        taken |= cells
    # No gap that a browser would close.
    assert {y for _, y in taken} == set(range(max(y for _, y in taken) + 1))


def test_the_dashboard_is_what_grafana_provisions() -> None:
    assert DASHBOARD["id"] is None
    assert DASHBOARD["uid"] == "flywheel-db"
    assert DASHBOARD["schemaVersion"] >= 39
    for panel in DASHBOARD["panels"]:
        assert panel["type"] in {"row", "stat", "timeseries", "table"}
        if panel["type"] == "row":
            continue
        assert panel["description"]
        assert {"defaults", "overrides"} <= set(panel["fieldConfig"])
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs) > 0
        for target in panel["targets"]:
            assert target["rawQuery"] is True
            assert target["format"] == ("time_series" if panel["type"] == "timeseries" else "table")
            assert target["datasource"] == panel["datasource"]


def test_the_data_source_is_the_one_the_dashboard_names() -> None:
    text = (GRAFANA / "provisioning/datasources/flywheel-db.yaml").read_text(encoding="utf-8")
    (source,) = yaml.safe_load(text)["datasources"]
    named = {"type": source["type"], "uid": source["uid"]}
    used = [panel["datasource"] for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    used += [variable["datasource"] for variable in DASHBOARD["templating"]["list"]]
    assert all(one == named for one in used)
    # Every credential is a variable that the service has.
    service = _compose()["services"]["grafana"]
    assert set(re.findall(r"\$(\w+)", text)) <= set(service["environment"])
    assert source["secureJsonData"] == {"password": "$FLYWHEEL_DB_PASSWORD"}
    provider = yaml.safe_load(
        (GRAFANA / "provisioning/dashboards/flywheel-db.yaml").read_text(encoding="utf-8")
    )["providers"][0]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in service["volumes"]}
    folder = DOCKER / mounted[provider["options"]["path"]]
    assert (folder / "flywheel-db.json").is_file()
    assert (DOCKER / mounted["/etc/grafana/provisioning"] / "datasources").is_dir()


def test_compose_asks_for_nothing_that_is_not_there() -> None:
    compose = _compose()
    services = compose["services"]
    assert set(services) == {"server", "worker", "grafana"}
    for service in services.values():
        # Nothing listens beyond this machine.
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert set(service.get("depends_on", {})) <= set(services)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DOCKER / source).exists()
    # What a plain `up` needs is asked for; the rest has a default.
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{(\w+):\?", text)) == {"FLYWHEEL_PASSWORD"}
    assert services["grafana"]["profiles"] == ["grafana"]
    assert ":latest" not in services["grafana"]["image"]


def test_grafana_reads_and_does_no_more(dsn: str, server: Server, maintenance: Connection) -> None:
    psql = shutil.which("psql") or str(next(Path("/usr/lib/postgresql").glob("*/bin/psql")))
    try:
        for password in ("first", "it's \\second"):
            subprocess.run(
                [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-f", str(GRAFANA / "role.sql")],
                check=True,
                env={"FLYWHEEL_GRAFANA_PASSWORD": password, "PATH": "/usr/bin:/bin"},
            )  # fmt: skip
        row = maintenance.execute(
            "select rolcanlogin, rolsuper, rolpassword is not null from pg_authid where rolname = 'flywheel_grafana'"
        ).fetchone()
        assert row == (True, False, True)
        with psycopg.connect(dsn, autocommit=True) as session:
            session.execute("set role flywheel_grafana")
            session.execute("select * from flywheel.pass_rates")
            for statement in (
                "insert into flywheel.traces default values",
                "select flywheel.drop_metric('usage')",
                "select * from flywheel._jobs",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.execute(statement)  # type: ignore[arg-type]
    finally:
        maintenance.execute(sql.SQL("drop role if exists flywheel_grafana"))


def _compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    return found
