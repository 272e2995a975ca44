"""worker: decide the jobs that validators have queued."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from flywheel_db.cli.options import dsn_option, resolve_dsn

if TYPE_CHECKING:
    from rich.console import Console

    from flywheel_db.worker import logs

_EPILOG = """\
\b
Examples:
  flywheel-db worker --allow-host api.openai.com
  flywheel-db worker --kinds python,sql --drain
  FLYWHEEL_ALLOWED_HOSTS=api.openai.com,127.0.0.1:8000 flywheel-db worker --concurrency 64

\b
Keys: a model names an environment variable FLYWHEEL_KEY_...; this process reads it and sends it to
the model's own host, if that is allowed. SIGTERM or Ctrl-C: calls in flight are finished and
recorded, the other jobs given back. A second one gives back all of them at once.
"""


@click.command(epilog=_EPILOG)
@dsn_option
@click.option(
    "--concurrency", type=click.IntRange(1, 1000), default=16, show_default=True, metavar="N",
    help="Calls of judges at once.",
)  # fmt: skip
@click.option(
    "--kinds", default="llm,python,sql,embeddings", show_default=True, metavar="KINDS",
    help="Which jobs to take, comma separated. embeddings: texts for embedders that are not in the"
    " database.",
)  # fmt: skip
@click.option("--name", help="Name of this worker in the database.  [default: host:pid]")
@click.option(
    "--allow-host", "allow_hosts", multiple=True, metavar="HOST",
    help="A host, or host:port, that may be called and may get keys; repeatable."
    " http://HOST allows calls without TLS.  [default: FLYWHEEL_ALLOWED_HOSTS, comma separated]",
)  # fmt: skip
@click.option(
    "--lease", type=click.FloatRange(1, 86400), default=120, show_default=True, metavar="SECONDS",
    help="When a worker falls silent, its jobs go to others after so long.",
)  # fmt: skip
@click.option(
    "--poll", type=click.FloatRange(0.01, 3600), default=1, show_default=True, metavar="SECONDS",
    help="How often to look for jobs when idle; a notification comes earlier.",
)  # fmt: skip
@click.option(
    "--grace", type=click.FloatRange(0), default=20, show_default=True, metavar="SECONDS",
    help="How long calls in flight may take to finish when the worker is stopped.",
)  # fmt: skip
@click.option(
    "--drain", "--once", is_flag=True, help="Stop when nothing is left that could be done now."
)
@click.option("--no-schedules", is_flag=True, help="Leave the database's schedules to others.")
@click.option(
    "--max-seconds", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
    help="Stop after so long.",
)  # fmt: skip
@click.option(
    "--metrics-port", type=click.IntRange(1, 65535), metavar="PORT",
    help="Serve metrics for Prometheus on this port.",
)  # fmt: skip
@click.option(
    "--metrics-host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
    help="Address to serve them on.",
)  # fmt: skip
@click.option(
    "--log-format", type=click.Choice(["auto", "text", "json"]), default="auto", show_default=True,
    help="auto: text on a terminal, JSON lines elsewhere. Logs go to standard error.",
)  # fmt: skip
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning"]), default="info",
    show_default=True, help="What to log.",
)  # fmt: skip
def worker(
    dsn: str | None,
    concurrency: int,
    kinds: str,
    name: str | None,
    allow_hosts: tuple[str, ...],
    lease: float,
    poll: float,
    grace: float,
    drain: bool,
    no_schedules: bool,
    max_seconds: float | None,
    metrics_port: int | None,
    metrics_host: str,
    log_format: str,
    log_level: str,
) -> None:
    """Decide queued jobs: call judges, run Python validators, have the database decide SQL.

    It also runs the database's schedules (view flywheel.schedules), on a connection of their own.
    Any number of workers may run, on any hosts. A worker that is killed loses nothing: its jobs go
    to the others when their leases end. It needs the extra: pip install 'flywheel-db[worker]'.
    """
    import logging

    from flywheel_db.worker import logs
    from flywheel_db.worker.options import Options, default_name, hosts_allowed, kinds_of
    from flywheel_db.worker.program import Surroundings, require_extra, run

    require_extra()
    options = Options(
        dsn=resolve_dsn(dsn),
        name=name or default_name(),
        concurrency=concurrency,
        kinds=kinds_of(kinds),
        hosts=hosts_allowed(allow_hosts, os.environ),
        lease=lease,
        poll=poll,
        grace=grace,
        drain=drain,
        schedules=not no_schedules,
        max_seconds=max_seconds,
    )
    _check_connection(options.dsn)
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    console = None if as_json or not sys.stderr.isatty() else _console()
    level = logging.getLevelNamesMapping()[log_level.upper()]
    write = logs.write_to_stderr if console is None else _write_above(console)
    logs.set_up(as_json=as_json, level=level, write=write)
    run(options, Surroundings(console, metrics_host, metrics_port))


def _check_connection(dsn: str) -> None:
    """Tell a wrong password at once and in words; later, a database that is away is waited for."""
    from flywheel_db.connection import connect

    connect(dsn).close()


def _console() -> Console:
    from flywheel_db.cli.output import console

    return console(stderr=True)


def _write_above(console: Console) -> logs.Write:
    """Print log lines so that the progress line stays below them."""
    return lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)
