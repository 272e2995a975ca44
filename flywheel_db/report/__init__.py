"""How well a validator agrees with labels: run it over labelled rows of a file, and count."""

from flywheel_db.report.agreement import Agreement, Interval, wilson_interval
from flywheel_db.report.evaluation import Report, Subject, report
from flywheel_db.report.mistakes import Mistake
from flywheel_db.report.rows import Fields, Labels

__all__ = [
    "Agreement",
    "Fields",
    "Interval",
    "Labels",
    "Mistake",
    "Report",
    "Subject",
    "report",
    "wilson_interval",
]
