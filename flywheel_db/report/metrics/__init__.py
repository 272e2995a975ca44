"""Metrics for people: the rows of one, narrowed down, and what they come to."""

from flywheel_db.report.metrics.reading import Metric, Narrowing, advice, metrics, read, refresh
from flywheel_db.report.metrics.summaries import Histogram, Series, Summary, summarize

__all__ = [
    "Histogram",
    "Metric",
    "Narrowing",
    "Series",
    "Summary",
    "advice",
    "metrics",
    "read",
    "refresh",
    "summarize",
]
