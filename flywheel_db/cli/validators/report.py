"""validators report: how well a validator agrees with labels."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from flywheel_db.cli.options import connected, dsn_option, output_option
from flywheel_db.cli.output import Output
from flywheel_db.cli.validators.common import params_option

if TYPE_CHECKING:
    from flywheel_db.report import Interval, Report

_EPILOG = """\
\b
Examples:
  flywheel-db validators report 'no GPT words' labelled.jsonl
  flywheel-db validators report 'no GPT words' rated.jsonl.gz --label stars --bad 1 --bad 2
  flywheel-db validators report --builtin max_length --params '{"max": 500}' labelled.jsonl \\
      --input messages.0.content --output response.text --json
"""
_MISTAKES = ("kind", "line", "reason", "score", "confidence", "input", "output")


@click.command("report", epilog=_EPILOG)
@click.argument("name_and_file", nargs=-1, metavar="[NAME] FILE")
@click.option(
    "--label", default="passed", show_default=True, metavar="FIELD",
    help="Field with the label: true for a good row and false for a bad one, unless --bad or"
    " --good says otherwise.",
)  # fmt: skip
@click.option(
    "--bad", multiple=True, metavar="VALUE",
    help="A value of the label that means a bad row. Without --good, every other means a good one.",
)  # fmt: skip
@click.option(
    "--good", multiple=True, metavar="VALUE",
    help="A value of the label that means a good row. Without --bad, every other means a bad one.",
)  # fmt: skip
@click.option(
    "--input", "input_field", default="input", show_default=True, metavar="FIELD",
    help="Field with the input.",
)  # fmt: skip
@click.option(
    "--output", "output_field", default="output", show_default=True, metavar="FIELD",
    help="Field with the output.",
)  # fmt: skip
@click.option("--attributes", metavar="FIELD", help="Field with the attributes, a JSON object.")
@click.option(
    "--builtin", metavar="NAME", help="Try a built-in check without making a validator of it."
)
@params_option
@click.option(
    "--mistakes", type=click.IntRange(0), default=5, show_default=True, metavar="N",
    help="How many false alarms, and how many misses, to show.",
)  # fmt: skip
@dsn_option
@output_option
def report_command(
    name_and_file: tuple[str, ...],
    label: str,
    bad: tuple[str, ...],
    good: tuple[str, ...],
    input_field: str,
    output_field: str,
    attributes: str | None,
    builtin: str | None,
    params: dict[str, Any] | None,
    mistakes: int,
    dsn: str | None,
    output: Output,
) -> None:
    """Compare a validator with labels. Nothing is stored.

    NAME is a validator, enabled or not; its newest version runs. FILE holds JSON lines, gzip or
    not; - is standard input. A field is a key, or a dotted path of keys and list indexes. A row
    whose label is missing or null is counted and left out.

    What the validator is to find is the bad row. Precision is the share of rows it fails that are
    labelled bad, recall the share of rows labelled bad that it fails; both come with a 95 % Wilson
    interval. Rows on which it errs or has nothing to decide count as neither passed nor failed. Of
    the mistakes, those with the highest confidence, or the score farthest to the wrong side, come
    first.
    """
    from flywheel_db.report import Fields, Labels, Subject, report

    wanted = 1 if builtin is not None else 2
    if len(name_and_file) != wanted:
        raise click.UsageError("give NAME and FILE, or --builtin NAME and FILE")
    if params is not None and builtin is None:
        raise click.UsageError("--params are for --builtin; a validator has its own")
    if both := set(bad) & set(good):
        raise click.UsageError(f"--bad and --good both name {', '.join(sorted(both))}")
    subject = Subject(builtin or name_and_file[0], builtin is not None, params)
    fields = Fields(Labels(label, bad, good), input_field, output_field, attributes)
    with connected(dsn) as connection:
        found = report(
            connection, subject, name_and_file[-1], fields,
            mistakes=mistakes, stdin=sys.stdin.buffer,
        )  # fmt: skip
    if output.as_json:
        output.record(_object(found))
    else:
        _print(found, output)


def _object(found: Report) -> dict[str, Any]:
    values = asdict(found)
    agreement = found.agreement
    at = list(values).index("agreement")
    figures = {
        "decided": agreement.decided,
        "confusion": values.pop("agreement"),
        "accuracy": agreement.accuracy,
        "precision": agreement.precision and asdict(agreement.precision),
        "recall": agreement.recall and asdict(agreement.recall),
        "f1": agreement.f1,
        "kappa": agreement.kappa,
    }
    items = list(values.items())
    return dict(items[:at]) | figures | dict(items[at:])


def _print(found: Report, output: Output) -> None:
    agreement = found.agreement
    output.record(
        {
            "validator": found.validator,
            "n": found.n,
            "decided": agreement.decided,
            "skipped": found.skipped,
            "errors": found.errors,
            "without a label": found.unlabelled,
        }
        | ({"first error": found.first_error} if found.first_error else {})
    )
    output.rows(
        [
            {"label": "bad", "fails": agreement.bad_failed, "passes": agreement.bad_passed},
            {"label": "good", "fails": agreement.good_failed, "passes": agreement.good_passed},
        ]
    )
    figures = [
        _figure("accuracy", agreement.accuracy, "rows on which verdict and label agree"),
        _figure("precision", agreement.precision, "of the rows it fails, those labelled bad"),
        _figure("recall", agreement.recall, "of the rows labelled bad, those it fails"),
        _figure("F1", agreement.f1, "harmonic mean of precision and recall"),
        _figure("kappa", agreement.kappa, "agreement beyond chance (Cohen)"),
    ]
    has_blank = any(not figure["value"] for figure in figures)
    caption = "a blank figure has nothing to be measured on" if has_blank else None
    output.rows(figures, caption=caption)
    mistakes = found.false_alarms + found.misses
    if mistakes:
        shown = [asdict(mistake) for mistake in mistakes]
        columns = [name for name in _MISTAKES if any(row[name] is not None for row in shown)]
        output.rows(
            shown,
            columns=columns,
            caption=f"in all: false alarms {agreement.good_failed}, misses {agreement.bad_passed}",
        )


def _figure(name: str, value: Interval | float | None, meaning: str) -> dict[str, Any]:
    interval = ""
    if value is not None and not isinstance(value, float):
        interval = f"{value.low:.3f} to {value.high:.3f}"
        value = value.value
    shown = "" if value is None else f"{value:.3f}"
    return {"figure": name, "value": shown, "95 % interval": interval, "meaning": meaning}
