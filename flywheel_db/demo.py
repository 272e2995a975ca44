"""``flywheel-db demo``: sample traces of a support assistant, and what the validators found.

Two prompts answered the same questions: release prompt-7 (variant A) and prompt-8 (variant B).
The demo owns the pipeline ``demo`` and the validators whose names begin with ``demo:``; run again,
it starts them afresh and leaves everything else alone.
"""

import json
import time
from importlib.resources import files
from typing import Any

from psycopg import Connection
from psycopg.types.json import Jsonb
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from flywheel_db.connection import connect

PIPELINE = "demo"

_GPT_WORDS = "delve|tapestry|crucial|pivotal|landscape|realm|testament|seamless|moreover"

#: Name, body, reason and description: what one would want of any support answer.
VALIDATORS = (
    ("demo: answer", "btrim(output) <> ''", None, "The answer is empty."),
    (
        "demo: length",
        "length(output) <= (params->>'max')::int",
        "length(output) || ' characters'",
        None,
    ),
    (
        "demo: contact data",
        r"output !~ '[\w.+-]+@[\w-]+\.[\w.]+|\+?\d[\d ]{9,}'",
        r"'contains ' || substring(output from '[\w.+-]+@[\w-]+\.\w+|\+?\d[\d ]{9,}')",
        None,
    ),
    (
        "demo: GPT smell",
        rf"output !~* '\m({_GPT_WORDS})\M'",
        rf"'says ' || quote_literal(substring(lower(output) from '\m({_GPT_WORDS})\M'))",
        None,
    ),
    (
        "demo: refusal",
        r"output !~* '(as an AI|I can(''|no)t (help|assist)|I''m sorry, but)'",
        None,
        "The assistant refuses.",
    ),
    (
        "demo: prompt leak",
        r"output !~* '(you are supportbot|never reveal|\{\w+\})'",
        None,
        "The system prompt shows.",
    ),
)


def run(dsn: str, console: Console) -> None:
    """Load the samples into a migrated database and show what came of it."""
    with connect(dsn, autocommit=True) as connection:
        _create_validators(connection)
        seconds, count = _insert_samples(connection)
        console.print(
            f"\nInserted [bold]{count}[/] traces of a support assistant in "
            f"{seconds * 1000:.0f} ms;\n{len(VALIDATORS)} validators ran inside that INSERT.\n"
        )
        console.print(_pass_rates(connection))
        console.print(_failures(connection))
        console.print(_coverage(connection))
    console.print(Panel(_NEXT, title="What to try next", title_align="left"))


def _create_validators(connection: Connection[Any]) -> None:
    with connection.transaction():
        connection.execute("delete from flywheel.traces where pipeline = %s", (PIPELINE,))
        connection.execute(
            "select flywheel.drop_validator(name, delete_verdicts => true)"
            " from flywheel.validators where name like 'demo: %'"
        )
        for name, body, reason, description in VALIDATORS:
            connection.execute(
                "select flywheel.create_validator(%s, 'sql', %s, reason => %s,"
                " description => %s, pipeline => %s, params => %s)",
                (name, body, reason, description, PIPELINE, Jsonb({"max": 400})),
            )


def _insert_samples(connection: Connection[Any]) -> tuple[float, int]:
    text = (files("flywheel_db") / "samples" / "support.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    started = time.perf_counter()
    connection.execute(
        """
        insert into flywheel.traces (
          pipeline, variant, environment, release, session_id, user_id, input, output, attributes
        )
        select r.*
        from jsonb_to_recordset(%s) as r (
          pipeline text, variant text, environment text, release text, session_id text,
          user_id text, input text, output text, attributes jsonb
        )
        """,
        (Jsonb(rows),),
    )
    return time.perf_counter() - started, len(rows)


def _pass_rates(connection: Connection[Any]) -> Table:
    table = Table(title="select * from flywheel.pass_rates", title_justify="left")
    table.add_column("validator")
    for variant in ("A", "B"):
        table.add_column(f"prompt {variant}", justify="right")
        table.add_column("")
    rates: dict[str, dict[str, float]] = {}
    for name, variant, rate in connection.execute(
        "select validator, variant, sum(passed)::float8 / sum(n) from flywheel.pass_rates"
        " where pipeline = %s group by 1, 2 order by 1, 2",
        (PIPELINE,),
    ):
        rates.setdefault(name, {})[variant] = rate
    for name, by_variant in rates.items():
        cells = [escape(name)]
        for variant in ("A", "B"):
            rate = by_variant[variant]
            colour = "green" if rate >= 0.95 else "yellow" if rate >= 0.8 else "red"
            cells += [f"{rate:.0%}", f"[{colour}]{'█' * round(rate * 12)}[/]"]
        table.add_row(*cells)
    return table


def _failures(connection: Connection[Any]) -> Table:
    table = Table(title="select * from flywheel.failures limit 6", title_justify="left")
    for column, width in (("validator", 18), ("reason", 22), ("output", 26)):
        table.add_column(
            column, overflow="ellipsis", no_wrap=True, min_width=width, max_width=width
        )
    for row in connection.execute(
        "select distinct on (validator) validator, reason, output from flywheel.failures"
        " where pipeline = %s order by validator, length(output) limit 6",
        (PIPELINE,),
    ):
        table.add_row(*(escape(str(value)) for value in row))
    return table


def _coverage(connection: Connection[Any]) -> str:
    row = connection.execute(
        "select sum(expected), sum(decided), sum(errored), sum(skipped), sum(missing)"
        " from flywheel.coverage where validator like 'demo: %'"
    ).fetchone()
    assert row is not None  # noqa: S101  an aggregate has a row
    expected, decided, errored, skipped, missing = row
    return (
        f"\nflywheel.coverage: {expected} verdicts expected, {decided} decided,\n"
        f"{errored} errored, {skipped} skipped, [bold]{missing} missing[/].\n"
    )


_NEXT = """\
[bold].venv/bin/flywheel-db psql[/]   and then:

  select flywheel.create_validator('demo: polite', 'sql',
    $$output ~* '(thank|sorry|please)'$$, pipeline => 'demo');
  select output, status
    from flywheel.test_validator('demo: polite', 50);
  insert into flywheel.traces (pipeline, input, output)
    values ('demo', 'Hi', 'Thanks for asking!');
  select validator, passed, reason from flywheel.verdicts
    order by created_at desc limit 5;

[bold].venv/bin/flywheel-db import FILE.jsonl --map input=prompt[/]
[bold].venv/bin/flywheel-db doctor[/]
docs/tutorial.md walks through all of it."""
