"""INSERTs with validators that never end, eat memory or return monsters, against their budget.

The budget of a batch is 500 ms, a fifth of it for one row; each INSERT is timed as a whole.
"""

from __future__ import annotations

import time

from bench import common
from bench.common import Options, Server
from bench.report import Figure

BODIES = {
    "endless loop": "while True: pass\nreturn True",
    "catastrophic pattern": "import re\nreturn re.match(r'(a+)+$', 'a' * 60 + 'b') is None",
    "endless allocation": "kept = []\nwhile True: kept.append('x' * 10 ** 6)\nreturn True",
    "10^7 elements": "return [0] * 10 ** 7",
    "sleep": "import time\ntime.sleep(3600)\nreturn True",
    "swallows everything": "while True:\n  try:\n    while True: pass\n  except:\n    pass\nreturn True",
}
BUDGET = 500.0
ROW = BUDGET / 5


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    database = server.database("python_runaways")
    rows: dict[str, float] = {}
    batches: dict[str, float] = {}
    with database.admin() as admin:
        for name, body in BODIES.items():
            admin.run(
                "select flywheel.create_validator(%s, 'python', %s, enabled => false)", (name, body)
            )
        for name in BODIES:
            admin.run("select flywheel.enable_validator(%s)", (name,))
            with database.writer() as writer:
                writer.run("select 1")
                for found, count in ((rows, 1), (batches, 200)):
                    insert = f"insert into flywheel.traces (output) select 'x' from generate_series(1, {count})"
                    taken = []
                    for _ in range(options.rounds):
                        admin.run("delete from flywheel._breaches")
                        start = time.perf_counter()
                        writer.run(insert)
                        taken.append((time.perf_counter() - start) * 1000)
                    found[name] = common.median(taken)
                writer.run("select 1")
            wrong = admin.one(
                "select count(*) from flywheel.traces as t left join flywheel.verdicts as v"
                " on v.trace_id = t.trace_id where v.status is distinct from 'error'"
            )
            if wrong:
                raise AssertionError(f"{name}: {wrong} rows without an error verdict")
            admin.run("select flywheel.disable_validator(%s)", (name,))
            admin.run("truncate flywheel.traces")
    server.drop("python_runaways")
    return [
        Figure(
            "runaway_row",
            f"an INSERT of one row with a runaway validator, over the {ROW:.0f} ms a row may take; the worst kind",
            max(rows.values()) / ROW,
            at_most=1.2,
            parts={f"{name} ms": value for name, value in rows.items()},
        ),
        Figure(
            "runaway_batch",
            f"an INSERT of 200 such rows, over the budget of {BUDGET:.0f} ms; the worst kind",
            max(batches.values()) / BUDGET,
            at_most=1.2,
            parts={f"{name} ms": value for name, value in batches.items()},
        ),
    ]
