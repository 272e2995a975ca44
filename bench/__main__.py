"""Run all figures or the named ones: ``python -m bench [--json] [NAME ...]``."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path

from bench.common import Options, note, open_server
from bench.report import Figure, table
from flywheel_db.errors import MissingExtra

# In this order; the slow ones come last.
FIGURES = (
    "migrate_contention", "subtransactions", "verdict_size", "single_row", "bulk_insert",
    "import_speed", "python_cold", "python_bulk",
    "python_runaways", "builtin_quality", "builtin_speed",
    "few_shot", "grown_index", "log_index", "embedding_quality", "embedding_speed",
    "embedding_drain", "judge_replies",
    "queue_peers",
    "judge_throughput", "replayed_judges", "end_to_end", "kill_storm",
    "drain_claims", "drain_latency",
    "metric_cost", "metric_contention", "metric_read", "metric_crossover",
    "many_validators", "retention_latency", "full_table",
)  # fmt: skip
FOR_INFORMATION = ("ablation", "retrieval_policies")


def main() -> int:
    """Measure, print, and fail if a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME",
        help=f"which figures (default: all but {', '.join(FOR_INFORMATION)}):"
        f" {', '.join(FIGURES + FOR_INFORMATION)}",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--dsn", help="measure on this server, as its superuser")
    parser.add_argument(
        "--home", type=Path, help="keep the private server here (default: a temporary directory)"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="multiply the numbers of rows (default: 1)"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="runs the median is taken of (default: 5)"
    )
    parser.add_argument(
        "--seconds", type=float, default=8, help="length of a pgbench run (default: 8)"
    )
    arguments = parser.parse_args()
    names = arguments.names or list(FIGURES)
    for name in names:
        if name not in FIGURES + FOR_INFORMATION:
            parser.error(f"no figure is called {name}")
    # Before an hour of measuring, what any of them lacks.
    modules = {name: importlib.import_module(f"bench.{name}") for name in names}
    try:
        for module in modules.values():
            getattr(module, "require", lambda: None)()
    except MissingExtra as missing:
        parser.error(f"{missing.message}: {missing.hint}")

    options = Options(arguments.scale, arguments.rounds, arguments.seconds)
    figures: list[Figure] = []
    with open_server(arguments.dsn, arguments.home) as server:
        settings = server.settings()
        for name in names:
            note(name)
            start = time.perf_counter()
            figures += modules[name].run(server, options)
            note(f"{name} took {time.perf_counter() - start:.0f} s")

    if arguments.json:
        found = [figure.as_dict() for figure in figures]
        print(json.dumps({"settings": settings, "figures": found}, indent=2))
    else:
        print(", ".join(f"{key} {value}" for key, value in settings.items()))
        print()
        print(table(figures))
    return 1 if any(figure.passed is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
