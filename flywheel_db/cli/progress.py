"""Progress bars on standard error, for people only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flywheel_db.cli.output import console
from flywheel_db.transfer import Progress


def _is_wanted() -> bool:
    return sys.stderr.isatty()


@contextmanager
def import_bar() -> Iterator[Callable[[Progress], None]]:
    """A bar by bytes read, with rows and rows a second; nothing when nobody looks."""
    if not _is_wanted():
        yield lambda _: None
        return
    import time

    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    begun = time.monotonic()
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None, rows=0, rate=0)

        def show(now: Progress) -> None:
            rate = now.rows / max(time.monotonic() - begun, 0.001)
            bar.update(
                task,
                description=now.phase,
                total=now.size,
                completed=now.position,
                rows=now.rows,
                rate=rate,
            )

        yield show


@contextmanager
def export_bar(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Rows and bytes written so far."""
    if quiet or not _is_wanted():
        yield lambda rows, size: None
        return
    from rich.progress import Progress as Bar
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[rows]:,} rows, {task.fields[size]:,.1f} MB"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("exporting", total=None, rows=0, size=0.0)
        yield lambda rows, size: bar.update(task, rows=rows, size=size / 1e6)
