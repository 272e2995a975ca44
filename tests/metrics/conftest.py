"""Queries that nobody thought of."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import pytest


@dataclass(frozen=True)
class Fact:
    """What a query may say of a table: expressions by kind."""

    texts: tuple[str, ...]
    numbers: tuple[str, ...]
    times: tuple[str, ...]
    conditions: tuple[str, ...]


FACTS = {
    "traces": Fact(
        ("pipeline", "variant", "user_id", "output", "status", "attributes ->> 'kind'"),
        ("length(output)", "length(input)", "revision", "length(output) - length(input)",
         "(attributes ->> 'cost')::numeric",
         "nullif(attributes ->> 'x', 'oops')::float8", "(attributes ->> 'kind')::smallint"),
        ("started_at", "ended_at"),
        ("status = 'ok'", "output is null", "output like 'x%'", "attributes ? 'cost'"),
    ),
    "spans": Fact(
        ("node", "kind", "status", "output"),
        ("input_tokens", "output_tokens", "cost_usd", "input_tokens + output_tokens", "length(output)"),
        ("started_at",),
        ("kind = 'tool'", "parent_span_id is null", "node = 'x'"),
    ),
    "verdicts": Fact(
        ("validator", "status", "pipeline", "variant", "language", "node"),
        ("score", "version", "score * 2", "revision"),
        ("day",),
        ("passed", "span_id is null", "pipeline = 'a'", "status <> 'error'"),
    ),
    "current_labels": Fact(
        ("validator", "split", "source", "gold_label", "labeler"),
        ("score", "version", "length(input)"),
        ("created_at",),
        ("passed", "span_id is null", "source = 'human'"),
    ),
}  # fmt: skip


def _condition(c: Random, fact: Fact, depth: int = 0) -> str:
    roll = c.random()
    if depth < 2 and roll < 0.3:
        parts = (_condition(c, fact, depth + 1), _condition(c, fact, depth + 1))
        return f"({parts[0]} {c.choice(['and', 'or'])} {parts[1]})"
    if depth < 2 and roll < 0.4:
        return f"not {_condition(c, fact, depth + 1)}"
    return "(" + c.choice(
        [
            c.choice(fact.conditions),
            f"({c.choice(fact.numbers)}) {c.choice(['>', '<=', '<>'])} {c.randint(0, 8)}",
            f"({c.choice(fact.numbers)}) between {c.randint(0, 3)} and {c.randint(3, 9)}",
            f"({c.choice(fact.texts)}) in ('a', 'b', 'ok', 'short', 'x')",
            f"({c.choice(fact.texts)}) is not null",
            f"({c.choice(fact.texts)}) is distinct from ({c.choice(fact.texts)})",
        ]
    ) + ")"  # fmt: skip


def _key(c: Random, fact: Fact) -> str:
    text, number, time = c.choice(fact.texts), c.choice(fact.numbers), c.choice(fact.times)
    zone = c.choice(["UTC", "Europe/Berlin", "America/New_York"])
    return c.choice(
        [
            f"({text})",
            f"({text})",
            f"coalesce({text}, 'none')",
            f"left({text}, 1)",
            f"({text}) || '/' || ({c.choice(fact.texts)})",
            f"date_trunc('{c.choice(['hour', 'day', 'week'])}', {time}, '{zone}')"
            if time != "day"
            else "day",
            # What cannot be NaN, of which there is no bucket.
            f"width_bucket(length({text})::float8, 0, 10, {c.randint(2, 5)})",
            f"case when {_condition(c, fact)} then 'A' when {_condition(c, fact)} then 'B' end",
            _condition(c, fact),
            f"({number})",
        ]
    )


def _aggregate(c: Random, fact: Fact) -> str:
    number = c.choice(fact.numbers)
    of = f" filter (where {_condition(c, fact)})" if c.random() < 0.35 else ""
    return c.choice(
        [
            f"count(*){of}",
            f"count({c.choice(fact.texts)}){of}",
            f"sum({number}){of}",
            f"avg({number}){of}",
            f"{c.choice(['min', 'max'])}({c.choice((number, *fact.texts, *fact.times))}){of}",
            f"{c.choice(['min', 'max'])}({number}){of}",
            f"{c.choice(['stddev', 'variance', 'stddev_pop', 'var_pop'])}({number}){of}",
            f"{c.choice(['bool_and', 'bool_or'])}({c.choice(fact.conditions)}){of}",
            f"(count(*) filter (where {_condition(c, fact)}))::float8 / nullif(count(*), 0)",
            f"flywheel.quantile({c.choice([0, 0.5, 0.9])}) within group (order by ({number})){of}",
            f"flywheel.distinct_count({c.choice((number, *fact.texts))}){of}",
            f"count(*) + coalesce(sum(({number})::numeric), 0) * 2",
        ]
    )


def _query(c: Random) -> str:
    name = c.choice(["traces", "traces", "spans", "verdicts", "current_labels"])
    fact = FACTS[name]
    keys = [_key(c, fact) for _ in range(c.choice([0, 1, 1, 1, 2, 2, 3]))]
    aggregates = [_aggregate(c, fact) for _ in range(c.randint(1, 4))]
    chosen = [f"{key} as k{i}" for i, key in enumerate(keys)]
    chosen += [f"{aggregate} as m{i}" for i, aggregate in enumerate(aggregates)]
    if c.random() < 0.2:
        chosen.append("sum(count(*)) over () as total")
    query = f"select {', '.join(chosen)} from flywheel.{name}{c.choice(['', ' as t', ' as s'])}"
    if c.random() < 0.4:
        query += f" where {_condition(c, fact)}"
    if keys:
        query += f" group by {', '.join(keys)}"
    if keys and c.random() < 0.2:
        query += " having count(*) > 1"
    if c.random() < 0.2:
        query = f"with c as ({query}) select c.*, (select count(*) from c) as lines from c"
    return query


@pytest.fixture
def random_query() -> Callable[[Random], str]:
    """A function that makes a query which can be incremental."""
    return _query
