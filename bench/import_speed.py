"""`flywheel-db import` of 100,000 traces, against COPY of the same rows + the same verdict rows.

Ours is the whole command: the interpreter's start, reading JSON, validating, the commit. The floor
reads a file that is ready for COPY and evaluates nothing, so that most of the difference is the
expressions themselves: the second ratio adds one bare SELECT of them to the floor.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path

from bench import common
from bench.bulk_insert import bare_select
from bench.common import Options, Server, Timing
from bench.report import Figure
from bench.texts import make_texts

_CHUNK = 1 << 20


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    rows = options.rows(100_000)
    database = server.database("import_speed")
    database.create_validators()
    database.create_floor()
    texts = make_texts(2000)
    database.create_source(rows, texts)
    with (
        tempfile.TemporaryDirectory() as directory,
        database.admin() as admin,
        database.writer() as writer,
    ):
        lines, ready = Path(directory) / "traces.jsonl", Path(directory) / "traces.copy"
        with lines.open("w") as as_json, ready.open("w") as as_copy:
            for n in range(rows):
                prompt, response = texts[n % len(texts)]
                as_json.write(json.dumps({"prompt": prompt, "response": response}) + "\n")
                as_copy.write(f"support\t{prompt}\t{response}\n")

        def ours() -> Timing:
            admin.run(common.EMPTY)
            admin.run("checkpoint")
            start = time.perf_counter()
            subprocess.run(
                common.command(
                    "import", str(lines), "--dsn", database.writer_dsn, "--set", "pipeline=support",
                    "--map", "input=prompt", "--map", "output=response",
                ),
                env=common.child_environment(), check=True, capture_output=True,
            )  # fmt: skip
            return Timing(time.perf_counter() - start)

        def floor() -> Timing:
            admin.run(common.EMPTY_FLOOR)
            admin.run("checkpoint")
            start = time.perf_counter()
            with writer.connection.transaction():
                statement = b"copy floor.traces (pipeline, input, output) from stdin"
                with ready.open("rb") as file, writer.connection.cursor().copy(statement) as copy:
                    while chunk := file.read(_CHUNK):
                        copy.write(chunk)
                writer.run(common.FLOOR_VERDICTS)
            return Timing(time.perf_counter() - start)

        ours()
        database.keep_verdicts()
        floors, runs, expressions = common.interleave(
            options.rounds, floor, ours, lambda: writer.timed(bare_select()), warm_up=False
        )
        for table in ("traces", "_verdicts"):
            stored = admin.one(f"select count(*) from flywheel.{table}")
            if stored != admin.one(f"select count(*) from floor.{table}"):
                raise AssertionError(f"the two sides did not store the same number of {table}")
    server.drop("import_speed")

    wall, _ = common.ratio(runs, floors)
    seconds, least = common.medians(runs).wall, common.medians(floors).wall
    evaluated = common.medians(expressions).wall
    return [
        Figure(
            "import_speed",
            f"flywheel-db import of {rows:,} traces, 5 validators, over COPY of the same rows + the"
            " same verdict rows",
            wall,
            at_most=2,
            parts={
                "ours s": seconds,
                "floor s": least,
                "ours rows a second": rows / seconds,
                "expressions s": evaluated,
                "ratio with the expressions in the floor": seconds / (least + evaluated),
            },
        )
    ]
