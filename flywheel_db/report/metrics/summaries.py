"""What the rows of a metric come to: one line each for a validator, a pipeline, a cluster."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from flywheel_db.report.agreement import wilson_interval
from flywheel_db.report.metrics.reading import Metric

#: Days that a series shows one by one; of more, neighbours are put together.
MOST_POINTS = 30

Row = dict[str, Any]


@dataclass(frozen=True)
class Series:
    """Numbers over days, from 0 to `high`; None where there was nothing."""

    values: tuple[float | None, ...]
    high: float


@dataclass(frozen=True)
class Histogram:
    """How many values are about how high, rising."""

    counts: tuple[tuple[float, int], ...]

    @property
    def n(self) -> int:
        """How many values there are."""
        return sum(count for _, count in self.counts)

    def quantile(self, share: float) -> float | None:
        """The lowest value that so many do not exceed; None of nothing."""
        so_far = 0
        for value, count in self.counts:
            so_far += count
            if so_far >= share * self.n:
                return value
        return None

    @classmethod
    def total(cls, histograms: Iterable[Sequence[Sequence[float]] | None]) -> Histogram:
        """All of them together."""
        counts: defaultdict[float, int] = defaultdict(int)
        for histogram in histograms:
            for value, count in histogram or ():
                counts[value] += int(count)
        return cls(tuple(sorted(counts.items())))


@dataclass(frozen=True)
class Summary:
    """Rows of which a cell may be a Series or a Histogram; the days that a Series is of."""

    rows: list[Row]
    days: tuple[date, date] | None = None
    note: str | None = field(default=None)


def summarize(metric: Metric) -> Summary:
    """The metric as a table for people."""
    known = _KNOWN.get(metric.name) if metric.entry["is_builtin"] else None
    return known(metric) if known else _of_any(metric)


def _pass_rates(metric: Metric) -> Summary:
    days = _days(metric.rows, "day")
    rows = []
    for (validator, version), group in _groups(metric.rows, ("validator", "version")):
        n, passed = _sum(group, "n"), _sum(group, "passed")
        rate = wilson_interval(int(passed), int(n))
        rows.append(
            {
                "validator": validator,
                "version": version,
                "n": n,
                "failed": _sum(group, "failed"),
                "errored": _sum(group, "errored"),
                "rate": rate and f"{rate.value:.3f}",
                "95 % interval": rate and f"{rate.low:.3f} to {rate.high:.3f}",
                "by day": _series(
                    group, days, lambda some: _share(_sum(some, "passed"), _sum(some, "n")), high=1
                ),
            }
        )
    return Summary(rows, days, "the height of a day is its rate")


def _score_distributions(metric: Metric) -> Summary:
    rows = []
    for (validator, version), group in _groups(metric.rows, ("validator", "version")):
        histogram = Histogram.total(row["histogram"] for row in group)
        n = _sum(group, "n")
        rows.append(
            {
                "validator": validator,
                "version": version,
                "n": n,
                "mean": sum(row["mean"] * row["n"] for row in group) / n,
                "min": min(row["min"] for row in group),
                # The sketch knows them within 1 %.
                "p50": _within(histogram.quantile(0.5), group),
                "p95": _within(histogram.quantile(0.95), group),
                "max": max(row["max"] for row in group),
                "from min to max": histogram,
            }
        )
    return Summary(rows)


def _within(value: float | None, group: Sequence[Row]) -> float | None:
    if value is None:
        return None
    low, high = min(row["min"] for row in group), max(row["max"] for row in group)
    return float(min(max(value, low), high))


def _usage(metric: Metric) -> Summary:
    days = _days(metric.rows, "day")
    rows = []
    for (subject, pipeline, node, model), group in _groups(
        metric.rows, ("subject", "pipeline", "node", "model")
    ):
        latency = Histogram.total(row["latency_histogram"] for row in group)
        counted = "traces" if subject == "trace" else "spans"
        series = [_sum([row], counted) for row in group]
        rows.append(
            {
                "of": counted,
                "pipeline": pipeline,
                "node": node,
                "model": model,
                "n": sum(series),
                "errors": _sum(group, "errors"),
                "blocked": _sum(group, "blocked"),
                "p50 ms": latency.quantile(0.5),
                "p95 ms": latency.quantile(0.95),
                "input tokens": _sum(group, "input_tokens"),
                "cached": _sum(group, "cached_input_tokens"),
                "output tokens": _sum(group, "output_tokens"),
                "cost $": _sum(group, "cost_usd"),
                "by day": _series(group, days, lambda some, of=counted: _sum(some, of)),  # type: ignore[misc]
            }
        )
    rows.sort(key=lambda row: row["of"] != "traces")
    return Summary(rows, days, "the height of a day is its number")


def _correlations(metric: Metric) -> Summary:
    rows = [
        {
            "validator": row["validator"],
            "other": row["other_validator"],
            "n": row["n"],
            "failed": row["failed"],
            "of these, other too": row["both_failed"],
            "redundancy": _decimals(row["redundancy"]),
            "phi": _decimals(row["phi"]),
            "95 % interval": " to ".join(
                filter(None, (_decimals(row["phi_low"]), _decimals(row["phi_high"])))
            ),
        }
        for row in sorted(metric.rows, key=lambda row: -(row["redundancy"] or 0))
    ]
    return Summary(rows)


def _low_performers(metric: Metric) -> Summary:
    rows = [
        {
            "cluster": row["cluster"],
            "failed": row["failed"],
            "failure rate": _decimals(row["failure_rate"]),
            "failed by": _counted(row["validators"]),
            "pipelines": _counted(row["pipelines"]),
            "words": ", ".join(row["words"]),
            "for example": metric.examples.get(row["exemplars"][0]),
        }
        for row in sorted(metric.rows, key=lambda row: row["cluster"])
    ]
    return Summary(rows)


def _of_any(metric: Metric) -> Summary:
    """Rows as they are; if they have a time, a line a group, with its first number over days."""
    day = metric.day_column
    numbers = [name for name, type_ in metric.types.items() if type_ in _NUMBERS]
    keys = tuple(name for name in metric.types if name != day and name not in numbers)
    if day is None or not numbers or not metric.rows:
        return Summary(metric.rows)
    first = numbers[0]
    days = _days(metric.rows, day)
    rows = []
    for values, group in _groups(metric.rows, keys):
        timed = [row for row in group if isinstance(row[day], date)]
        latest = max(timed, key=lambda row: row[day], default=None)
        # A group without a time is shown as it stands.
        shown = latest or group[0]
        rows.append(
            dict(zip(keys, values, strict=True))
            | {"latest": shown[day]}
            | {name: shown[name] for name in numbers}
            | {
                f"{first} by day": _series(
                    group, days, lambda some: _mean([row[first] for row in some]), day=day
                )
            }
        )
    return Summary(rows, days)


_NUMBERS = ("smallint", "integer", "bigint", "real", "double precision", "numeric")

_KNOWN: dict[str, Callable[[Metric], Summary]] = {
    "pass_rates": _pass_rates,
    "score_distributions": _score_distributions,
    "usage": _usage,
    "validator_correlations": _correlations,
    "low_performers": _low_performers,
}


def _groups(rows: Iterable[Row], keys: Sequence[str]) -> list[tuple[tuple[Any, ...], list[Row]]]:
    found: defaultdict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        found[tuple(_hashable(row[key]) for key in keys)].append(row)
    return sorted(found.items(), key=lambda item: [_order(value) for value in item[0]])


def _order(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, all else as text, nothing last."""
    return (
        value is None,
        float(value) if isinstance(value, int | float | Decimal) else 0,
        str(value),
    )


def _hashable(value: Any) -> Any:
    return str(value) if isinstance(value, dict | list) else value


def _sum(rows: Iterable[Row], column: str) -> Any:
    values = [row[column] for row in rows if row[column] is not None]
    return sum(values) if values else 0


def _decimals(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def _share(part: float, whole: float) -> float | None:
    return float(part) / float(whole) if whole else None


def _mean(values: Iterable[float | Decimal | None]) -> float | None:
    found = [float(value) for value in values if value is not None]
    return sum(found) / len(found) if found else None


def _day(value: date | datetime) -> date:
    return value.date() if isinstance(value, datetime) else value


def _days(rows: Iterable[Row], column: str) -> tuple[date, date] | None:
    found = [_day(row[column]) for row in rows if isinstance(row[column], date)]
    return (min(found), max(found)) if found else None


def _series(
    rows: Sequence[Row],
    days: tuple[date, date] | None,
    value: Callable[[list[Row]], float | None],
    *,
    day: str = "day",
    high: float | None = None,
) -> Series:
    """One value a day, or for as many days together as leave at most MOST_POINTS."""
    if days is None:
        return Series((), 0)
    span = (days[1] - days[0]).days + 1
    width = -(-span // MOST_POINTS)
    bins: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if isinstance(row[day], date):
            bins[(_day(row[day]) - days[0]) // timedelta(days=width)].append(row)
    found = [value(bins[i]) if i in bins else None for i in range(-(-span // width))]
    values = tuple(None if one is None or not math.isfinite(one) else float(one) for one in found)
    top = max((one for one in values if one is not None), default=0)
    return Series(values, top if high is None else high)


def _counted(counts: dict[str, int] | None) -> str:
    ordered = sorted((counts or {}).items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered)
