"""import and export: JSON lines in and out."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flywheel_db.cli.options import dsn_option, json_option, resolve_dsn
from flywheel_db.cli.output import Output, warn

if TYPE_CHECKING:
    from flywheel_db.transfer import ImportSummary

_IMPORT_EPILOG = """\
\b
Examples:
  flywheel-db import log.jsonl.gz --map input=prompt --map output=response
  flywheel-db import log.jsonl --map input=messages.0.content --map user_id=meta.user \\
      --set pipeline=support
  flywheel-db import huge.jsonl.gz --batch-size 50000 --resume
"""


@click.command("import", epilog=_IMPORT_EPILOG)
@click.argument("file")
@click.option(
    "--table", "table_name", type=click.Choice(["traces", "spans"]), default="traces",
    show_default=True, help="Where the rows go.",
)  # fmt: skip
@click.option(
    "--map", "maps", multiple=True, metavar="COLUMN=FIELD",
    help="Fill a column from a field: a key, or a dotted path of keys and list indexes."
    " Without any --map, each field goes to the column of its name.",
)  # fmt: skip
@click.option(
    "--set", "sets", multiple=True, metavar="COLUMN=VALUE",
    help="Give a column the same value in every row.",
)  # fmt: skip
@click.option(
    "--id", "id_field", metavar="FIELD",
    help="Field with the row's id: a uuid, or an OpenTelemetry id of 32 or 16 hex digits.",
)  # fmt: skip
@click.option(
    "--keep-rest/--drop-rest", default=True, show_default=True,
    help="Keep fields that fill no column in attributes, or drop them.",
)  # fmt: skip
@click.option(
    "--batch-size", type=click.IntRange(1), metavar="N",
    help="Commit every N rows, so that --resume can go on.  [default: all or nothing]",
)  # fmt: skip
@click.option(
    "--resume", is_flag=True, help="Go on where an import in batches stopped. No row comes twice."
)
@click.option("--name", help="Name under which progress is kept.  [default: the file's path]")
@click.option(
    "--replace-nul",
    is_flag=True,
    help="Store U+FFFD for the NUL character, which cannot be stored.",
)
@click.option(
    "--skip-bad", type=click.Path(dir_okay=False, path_type=Path), metavar="PATH",
    help="Write lines that cannot be read to PATH, with the reason, and go on.",
)  # fmt: skip
@dsn_option
@json_option
def import_command(
    file: str,
    table_name: str,
    maps: tuple[str, ...],
    sets: tuple[str, ...],
    id_field: str | None,
    keep_rest: bool,
    batch_size: int | None,
    resume: bool,
    name: str | None,
    replace_nul: bool,
    skip_bad: Path | None,
    dsn: str | None,
    output: Output,
) -> None:
    """Import JSON lines, gzip or not, from FILE or from standard input (-).

    Every validator that is enabled runs. One bad line, or one row that a validator rejects, and
    nothing is stored. Times are ISO 8601 or seconds, milliseconds, microseconds or nanoseconds
    since 1970; a time without a zone is UTC.
    """
    from flywheel_db.cli.progress import import_bar
    from flywheel_db.connection import connect
    from flywheel_db.transfer import TABLES, ImportOptions, import_lines, parse_mapping

    if (resume or name) and batch_size is None:
        raise click.UsageError("--resume and --name need --batch-size")
    if batch_size is not None and file == "-":
        raise click.UsageError("--batch-size needs a file: standard input cannot be resumed")
    mapping = parse_mapping(TABLES[table_name], maps, sets, id_field=id_field, keep_rest=keep_rest)
    options = ImportOptions(mapping, batch_size, resume, name, replace_nul, skip_bad)
    with connect(resolve_dsn(dsn)) as connection, import_bar() as bar:
        summary = import_lines(connection, file, options, report=bar, stdin=sys.stdin.buffer)
    for text in summary.warnings:
        warn(text)
    output.done(_sentence(summary), asdict(summary))


def _sentence(summary: ImportSummary) -> str:
    rate = summary.rows / max(summary.seconds, 0.001)
    text = f"{summary.rows:,} rows into {summary.table} in {summary.seconds:.1f} s"
    text += f" ({rate:,.0f} a second)"
    if summary.resumed_after:
        text += f", after {summary.resumed_after:,} lines imported before"
    if summary.skipped:
        text += f", {summary.skipped:,} lines skipped"
    if summary.failed is None:
        return text
    failed = sum(summary.failed.values())
    text += f"\n{failed:,} verdicts failed"
    for validator, count in summary.failed.items():
        text += f"\n  {validator}: {count:,}"
    if failed:
        text += "\nsee them in the view flywheel.failures"
    return text


@click.command("export")
@click.option(
    "--table", "table_name", type=click.Choice(["traces", "spans", "verdicts"]), default="traces",
    show_default=True, help="What to export.",
)  # fmt: skip
@click.option("--pipeline", help="Only this pipeline.")
@click.option("--since", metavar="TIME", help="Only what started (verdicts: was made) since then.")
@click.option("--until", metavar="TIME", help="Only what started (verdicts: was made) before then.")
@click.option(
    "--output", "path", type=click.Path(dir_okay=False, path_type=Path),
    help="A file, compressed if its name ends in .gz.  [default: standard output]",
)  # fmt: skip
@dsn_option
def export_command(
    table_name: str,
    pipeline: str | None,
    since: str | None,
    until: str | None,
    path: Path | None,
    dsn: str | None,
) -> None:
    """Export traces, spans or verdicts as JSON lines.

    `flywheel-db import` gives the same traces and spans back. TIME is anything PostgreSQL reads as
    a timestamp, for example 2026-01-31 or yesterday.
    """
    from flywheel_db.cli.progress import export_bar
    from flywheel_db.connection import connect
    from flywheel_db.transfer import ExportOptions, export_lines, open_output

    options = ExportOptions(table_name, pipeline, since, until)
    stdout = sys.stdout.buffer
    quiet = path is None and sys.stdout.isatty()
    with (
        connect(resolve_dsn(dsn)) as connection,
        open_output(path, stdout) as out,
        export_bar(quiet=quiet) as bar,
    ):
        summary = export_lines(connection, out, options, report=bar)
    if path is not None:
        click.echo(f"{summary.rows:,} rows of {table_name} in {summary.seconds:.1f} s", err=True)
