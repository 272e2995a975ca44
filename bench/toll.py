"""What a storm has left behind: what is lost, what was done twice, what belongs to nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_COVERAGE = ("expected", "decided", "errored", "skipped", "pending", "dead", "missing")
_VERDICT = "outcome in ('passed', 'failed', 'error', 'skipped')"

_ORPHANS = """
    select (
      select count(*) from flywheel._verdicts as v
      where not exists (select from flywheel.traces as t where t.trace_id = v.trace_id)
    ) + (
      select count(*) from flywheel._jobs as j
      where not exists (select from flywheel.traces as t where t.trace_id = j.trace_id)
    )
"""
_OLD = """
    select count(*) from flywheel._verdicts as v join flywheel.traces as t using (trace_id)
    where v.revision <> t.revision
"""
_TWICE_RUN = f"""
    select count(*) from (
      select from flywheel._runs where {_VERDICT}
      group by trace_id, span_id, version_id, revision having count(*) > 1
    ) as d
"""
_TWICE_THERE = """
    select count(*) from (
      select from flywheel._verdicts group by trace_id, span_id, version_id having count(*) > 1
    ) as d
"""


@dataclass
class Outcome:
    """What was there in the end."""

    kills: Counter[str] = field(default_factory=Counter)
    # The last words of workers that ended by themselves.
    ended: list[str] = field(default_factory=list)
    died: int = 0
    edited: int = 0
    deleted: int = 0
    seconds: float = 0
    # Before the sweep, which would repair them.
    orphans: int = 0
    old: int = 0
    missing: int = 0
    swept: int = 0
    coverage: dict[str, int] = field(default_factory=dict)
    verdict_runs: int = 0
    duplicates: int = 0
    runs: dict[str, int] = field(default_factory=dict)

    def count(self, query: Callable[[str], list[Any]]) -> None:
        """Count, first of all what a sweep would repair."""

        def one(text: str) -> int:
            return int(query(text)[0][0])

        self.orphans = one(_ORPHANS)
        self.old = one(_OLD)
        self.missing = one("select coalesce(sum(missing), 0) from flywheel.coverage")
        self.swept = one("select coalesce(sum(filled), 0) from flywheel.sweep()")
        row = query(f"select {', '.join(_COVERAGE)} from flywheel.coverage")[0]
        self.coverage = {name: int(value) for name, value in zip(_COVERAGE, row, strict=True)}
        runs = query(
            "select outcome, count(*) from flywheel._runs group by outcome order by outcome"
        )
        self.runs = {str(outcome): int(n) for outcome, n in runs}
        self.verdict_runs = one(f"select count(*) from flywheel._runs where {_VERDICT}")
        self.duplicates = one(_TWICE_RUN) + one(_TWICE_THERE)
