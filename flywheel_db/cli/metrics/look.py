"""Commands that read metrics."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from flywheel_db.cli.options import connected, dsn_option, output_option
from flywheel_db.cli.output import Output

if TYPE_CHECKING:
    from flywheel_db.report.metrics import Metric, Summary

_LISTED = ("name", "storage", "state", "staleness", "description")
_ADVISED = ("name", "storage", "recommended", "reads_per_hour", "read_ms", "plain_ms", "why")
_SHOWN = 40

_EPILOG = """\
\b
Examples:
  flywheel-db metrics show pass_rates --since '30 days'
  flywheel-db metrics show usage --pipeline support
  flywheel-db metrics show score_distributions --validator short --json | jq .histogram
"""


@click.command("list")
@dsn_option
@output_option
def list_command(dsn: str | None, output: Output) -> None:
    """List the metrics: what each tells and how it is kept."""
    from flywheel_db.report.metrics import metrics

    with connected(dsn) as connection:
        rows = metrics(connection)
    if not output.as_json:
        rows = [{**row, "staleness": _age(row["staleness"])} for row in rows]
    output.rows(rows, columns=_LISTED, caption="look at one: flywheel-db metrics show NAME")


@click.command(epilog=_EPILOG)
@click.argument("name")
@click.option("--pipeline", metavar="NAME", help="Only this pipeline.")
@click.option("--validator", metavar="NAME", help="Only this validator.")
@click.option(
    "--since", metavar="TIME",
    help="Only what started on that day or later: a time, or how long ago, as '7 days'.",
)  # fmt: skip
@click.option(
    "-n", "--rows", "limit", type=click.IntRange(1), metavar="N",
    help=f"At most so many lines.  [default: {_SHOWN} in a table, all as JSON]",
)  # fmt: skip
@dsn_option
@output_option
def show(
    name: str,
    pipeline: str | None,
    validator: str | None,
    since: str | None,
    limit: int | None,
    dsn: str | None,
    output: Output,
) -> None:
    """Show a metric.

    A table sums up: a line a validator, pipeline or cluster, its course over the days and its
    distribution in block characters. JSON has the rows of the view as they are. TIME is anything
    PostgreSQL reads as a timestamp or an interval.
    """
    from flywheel_db.report.metrics import Narrowing, read, summarize

    narrowing = Narrowing(pipeline, validator, since)
    with connected(dsn) as connection:
        metric = read(connection, name, narrowing, limit if output.as_json else None)
    if output.as_json:
        output.rows(metric.rows)
        return
    _print(metric, summarize(metric), limit or _SHOWN, output, narrowing != Narrowing())


@click.command("refresh")
@click.argument("name")
@dsn_option
@output_option
def refresh_command(name: str, dsn: str | None, output: Output) -> None:
    """Compute a metric that is kept anew, now."""
    from flywheel_db.report.metrics import refresh

    with connected(dsn) as connection:
        done = refresh(connection, name)
    if done["storage"] == "view":
        told = f"{name} is a view: it is computed whenever it is read"
    else:
        told = f"{name}: {done['rows']} rows, in {done['seconds']:.1f} s"
    output.done(told, done)


@click.command("advice")
@dsn_option
@output_option
def advice_command(dsn: str | None, output: Output) -> None:
    """Tell how each metric should be kept, from what reading and writing it was measured to cost.

    Metrics that should be kept otherwise come first. The change is one call:
    select flywheel.alter_metric(NAME, storage => ...).
    """
    from flywheel_db.report.metrics import advice

    with connected(dsn) as connection:
        rows = advice(connection)
    if not output.as_json:
        rows = [{**row, "reads_per_hour": f"{row['reads_per_hour'] or 0:.1f}"} for row in rows]
    output.rows(rows, columns=_ADVISED, empty="no metrics")


def _print(metric: Metric, summary: Summary, limit: int, output: Output, is_narrowed: bool) -> None:
    from flywheel_db.cli.metrics.pictures import has_blocks, legend
    from flywheel_db.report.metrics import Histogram, Series

    plain = not has_blocks(sys.stdout.encoding)
    has_picture = any(
        isinstance(cell, Series | Histogram) for row in summary.rows for cell in row.values()
    )
    notes = []
    if len(summary.rows) > limit:
        notes.append(f"{limit} of {len(summary.rows)} lines; all: -n {len(summary.rows)}")
    if summary.days is not None:
        notes.append(f"{summary.days[0]} to {summary.days[1]}")
    if has_picture:
        notes += [summary.note] if summary.note else []
        notes.append(legend(plain))
    if metric.entry["storage"] == "materialized":
        notes.append(f"as of {_age(metric.entry['staleness']) or '0 s'} ago")
    shown = [
        {name: _cell(name, value, plain) for name, value in row.items()}
        for row in summary.rows[:limit]
    ]
    # A column that says nothing takes room from the others. What a zero says of a metric of the
    # user's own we do not know.
    nothing = (None, "", 0) if metric.entry["is_builtin"] else (None, "")
    names = [
        name
        for name in (shown[0] if shown else ())
        if any(row[name] not in nothing for row in shown)
    ]
    empty = "nothing to show with these options" if is_narrowed else "nothing to show"
    if metric.entry["storage"] == "materialized":
        empty += f"; it was computed {_age(metric.entry['staleness'])} ago:"
        empty += f" flywheel-db metrics refresh {metric.name}"
    output.rows(shown, columns=names, empty=empty)
    if shown and notes:
        output.line("; ".join(notes))


def _cell(name: str, value: Any, plain: bool) -> Any:
    from flywheel_db.cli.metrics.pictures import bars, sparkline
    from flywheel_db.report.metrics import Histogram, Series

    if isinstance(value, Series):
        return sparkline(value, plain=plain)
    if isinstance(value, Histogram):
        return bars(value, plain=plain)
    if name.endswith(" ms") and value is not None:
        return f"{value:,.0f}"
    if name == "cost $":
        return f"{value:.4f}" if value else None
    return value


def _age(value: timedelta | None) -> str:
    """How long that is, in one unit."""
    if not value:
        return ""
    seconds = value.total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
