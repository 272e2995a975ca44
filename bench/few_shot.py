"""few_shot() at 100,000 examples against an exact scan of the whole formula, before and after churn.

Every example is weighed and maximal marginal relevance goes over all of them: that is the exact
answer, computed in the bench by numpy. The time it takes is that of an SQL query that weighs all
examples and hands the same choice its 32 heaviest. Examples are labels of real questions (pairs of
them beyond the first 27,000), a year apart from first to last, a fifth of them against the verdict.
Afterwards half the examples are withdrawn and labelled again, with no VACUUM and nothing rebuilt.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from bench.common import Options, Server, Session, median, note
from bench.queries import questions
from bench.report import Figure

_DAYS = 365
_BATCHES = 100
_QUERIES = 100
_K = 4
_WEIGHT = 0.5
_DIVERSITY = 0.2
_END = datetime(2026, 1, 1, tzinfo=UTC)
_POLICIES = {"twice the age span": _DAYS * 2, "a sixth of the age span": _DAYS / 6}

# As one would write it: all of the formula, no index but that of the primary key.
_EXACT = """
    with q as materialized (select flywheel.embed(%(query)s) as embedding)
    select c.example_id
    from unnest(flywheel._choose_diverse(
      array(
        select row (
          w.example_id, w.similarity, 1, 1, w.weight, w.passed, w.embedding::flywheel.vector, null, null
        )::flywheel._candidate
        from (
          select e.example_id, e.passed, v.embedding, s.similarity,
            greatest(s.similarity, 0)
            * 2 ^ (-extract(epoch from flywheel.now() - e.created_at)::float8 / %(half_life)s)
            * (1 + %(weight)s * coalesce(e.disagreement, 0)) as weight
          from flywheel._vectors_1_examples as v
          join flywheel._examples as e on e.example_id = v.item_id
          cross join q
          cross join lateral (select -(v.embedding operator(flywheel.<#>) q.embedding::flywheel.halfvec) as similarity) as s
          where e.kind = 'verdict'
          order by weight desc
          limit 32
        ) as w
        order by w.weight desc
      ), %(k)s, %(diversity)s, false
    )) as c
"""


def set_clock(admin: Session, moment: datetime) -> None:
    """Have the database think that it is another time."""
    admin.run(
        "create or replace function flywheel.now() returns timestamptz language sql stable parallel safe "
        f"begin atomic select timestamptz '{moment.isoformat()}'; end"
    )


def _fill(admin: Session, texts: list[str]) -> None:
    """Label texts, in batches that are days apart; every fifth label says no to a verdict of yes."""
    admin.run("select flywheel.create_validator('helpful', 'sql', 'length(input) > 0')")
    size = -(-len(texts) // _BATCHES)
    for n in range(0, len(texts), size):
        set_clock(admin, _END - timedelta(days=_DAYS * (1 - n / len(texts))))
        admin.run(
            "insert into flywheel.traces (input, output) select t, 'An answer.' from unnest(%s::text[]) as t",
            (texts[n : n + size],),
        )
        admin.run(
            """
            select count(flywheel.label(t.trace_id, 'helpful', hashtext(t.trace_id::text) % 5 <> 0, split => 'train'))
            from flywheel.traces as t
            where t.received_at = flywheel.now()
            """
        )
        # As the schedule does every other second.
        admin.run("select flywheel.index_vectors(1)")
    set_clock(admin, _END)


def _index(admin: Session) -> None:
    while admin.one("select is_more from flywheel.index_vectors(60)"):
        pass


class _Everything:
    """All examples in memory: the exact answer."""

    def __init__(self, admin: Session) -> None:
        rows = admin.connection.execute(
            b"""
            select e.label_id, extract(epoch from flywheel.now() - e.created_at)::float8, coalesce(e.disagreement, 0)::float8,
              v.embedding::text
            from flywheel._examples as e
            join flywheel._vectors_1_examples as v on v.item_id = e.example_id
            """
        ).fetchall()
        self.labels = np.array([row[0] for row in rows])
        self._ages = np.array([row[1] for row in rows])
        self._disagreement = np.array([row[2] for row in rows])
        self._vectors = np.array(
            [np.fromstring(row[3][1:-1], dtype=np.float32, sep=",") for row in rows]
        )

    def choose(self, query: Any, half_life: float) -> list[int]:
        """The labels that the formula chooses among all examples."""
        similarity = self._vectors @ query
        weight = (
            np.maximum(similarity, 0)
            * 2 ** (-self._ages / half_life)
            * (1 + _WEIGHT * self._disagreement)
        )
        redundancy = np.zeros(len(weight))
        chosen: list[int] = []
        for _ in range(_K):
            score = (1 - _DIVERSITY) * weight - _DIVERSITY * redundancy
            score[chosen] = -np.inf
            best = int(np.argmax(score))
            chosen.append(best)
            redundancy = np.maximum(redundancy, self._vectors @ self._vectors[best])
        return [int(self.labels[n]) for n in chosen]


def _measure(
    admin: Session, asked: list[str], days: float, *, exact_runs: int
) -> tuple[float, float, float]:
    """Overlap with the exact answer, and the median seconds of ours and of the exact scan."""
    everything = _Everything(admin)
    half_life = timedelta(days=days)
    ours = """
        select f.label_id from flywheel.few_shot(
          'helpful', %s, k => %s, half_life => %s, disagreement_weight => %s, diversity => %s
        ) as f
    """
    hits, exact_seconds = 0, []
    seconds: list[float] = []
    for n, question in enumerate(asked):
        start = time.perf_counter()
        rows = admin.connection.execute(
            ours.encode(), (question, _K, half_life, _WEIGHT, _DIVERSITY)
        ).fetchall()
        if n < exact_runs or exact_runs == 0:
            # Beside the exact scan of the same query, so that a slow moment meets both.
            seconds.append(time.perf_counter() - start)
        query = np.fromstring(
            admin.one("select flywheel.embed(%s)::text", (question,))[1:-1], np.float32, sep=","
        )
        best = everything.choose(query, half_life.total_seconds())
        hits += len({label for (label,) in rows} & set(best))
        if n < exact_runs:
            start = time.perf_counter()
            admin.connection.execute(
                _EXACT.encode(),
                {
                    "query": question, "half_life": half_life.total_seconds(), "weight": _WEIGHT,
                    "k": _K, "diversity": _DIVERSITY,
                },
            )  # fmt: skip
            exact_seconds.append(time.perf_counter() - start)
    return hits / (_K * len(asked)), median(seconds), median(exact_seconds) if exact_runs else 0.0


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    count = options.rows(100_000)
    texts, asked = questions(count, _QUERIES)
    random.Random(3).shuffle(texts)
    database = server.database("few_shot")
    figures = []
    with database.admin() as admin:
        start = time.perf_counter()
        _fill(admin, texts)
        note(f"{count:,} labels took {time.perf_counter() - start:.0f} s")
        # What the traces themselves wait for is another figure's (log_index).
        admin.run("truncate flywheel._arrivals")
        start = time.perf_counter()
        _index(admin)
        note(f"indexing the rest took {time.perf_counter() - start:.0f} s")
        admin.run("analyze flywheel._examples; analyze flywheel._vectors_1_examples")
        parts = admin.one(
            "select count(*) from flywheel._vector_segments as s where store = 'examples' and flywheel._is_searched(s)"
        )
        for (what, days), faster in zip(_POLICIES.items(), (20.0, 5.0), strict=True):
            overlap, ours, exact = _measure(admin, asked, days, exact_runs=25)
            detail = {"few_shot ms": ours * 1000, "exact scan ms": exact * 1000, "parts": parts}
            name = f"{count:,} examples, half-life {what}"
            figures += [
                Figure("few_shot", f"{name}: overlap of the top 4 with the exact ones", overlap, at_least=0.98, parts=detail),
                Figure("few_shot", f"{name}: times as fast as the exact scan", exact / ours, at_least=faster, parts=detail),
            ]  # fmt: skip

        admin.run("alter table flywheel._examples set (autovacuum_enabled = off)")
        for (table,) in admin.connection.execute(
            b"select flywheel._part_table(s) from flywheel._vector_segments as s where s.store = 'examples' and flywheel._is_searched(s)"
        ).fetchall():
            admin.run(f"alter table {table} set (autovacuum_enabled = off)")
        start = time.perf_counter()
        admin.run(
            """
            select count(flywheel.withdraw_label(e.label_id))
            from (select label_id from flywheel._examples where hashint8(label_id) % 2 = 0) as e
            """
        )
        admin.run(
            """
            select count(flywheel.label(l.trace_id, 'helpful', l.passed))
            from flywheel._labels as l
            join flywheel._label_withdrawals as w on w.label_id = l.label_id
            """
        )
        note(f"churn took {time.perf_counter() - start:.0f} s")
        overlap, ours, _ = _measure(admin, asked, _DAYS * 2, exact_runs=0)
        before = {"few_shot ms": ours * 1000}
        figures.append(
            Figure("few_shot", "right after half of them were withdrawn and labelled again: overlap", overlap, at_least=0.95, parts=before)
        )  # fmt: skip
        _index(admin)
        overlap, ours, _ = _measure(admin, asked, _DAYS * 2, exact_runs=0)
        figures.append(
            Figure("few_shot", "after index_vectors() has seen to it, no VACUUM: overlap", overlap, at_least=0.95, parts={"few_shot ms": ours * 1000})
        )  # fmt: skip
    server.drop("few_shot")
    return figures
