"""100,000 traces of 1 KB in one statement and 5 Python validators, against rows plus a loop.

Floor: the same traces and verdict rows without triggers, in one transaction, plus the same five
checks in one plain loop of the server's own Python over the same texts, their patterns compiled
before. Beside it, for information: the same checks as one PL/Python call for each row and check.
"""

from __future__ import annotations

import inspect

from bench import common
from bench.common import SLOP, Options, Server, Session, Timing
from bench.report import Figure
from bench.texts import make_texts

BODIES = {
    "short": "return len(output) <= 2000",
    "not_blank": "return bool(output.strip())",
    "no_email": r"import re; return re.search(r'[\w.+-]+@[\w-]+\.[\w.]+', output) is None",
    "no_slop": rf"import re; return re.search(r'\b(?:{'|'.join(SLOP)})\b', output, re.I) is None",
    "no_disclaimer": "return 'As an AI language model' not in output",
}

_LOOP = rf"""
import re, time
email = re.compile(r'[\w.+-]+@[\w-]+\.[\w.]+').search
slop = re.compile(r'\b(?:{"|".join(SLOP)})\b', re.I).search
start, cpu, passed = time.perf_counter(), time.process_time(), 0
for output in outputs:
    passed += len(output) <= 2000
    passed += bool(output.strip())
    passed += email(output) is None
    passed += slop(output) is None
    passed += 'As an AI language model' not in output
return [time.perf_counter() - start, time.process_time() - cpu, passed]
"""


def _make_functions(admin: Session) -> None:
    """The loop, and a function per check, as somebody would write them without flywheel."""
    admin.run(
        f"create function source.loop(outputs text[]) returns float8[] language plpython3u as $b${_LOOP}$b$"
    )
    for name, body in BODIES.items():
        admin.run(
            f"create function source.{name}(output text) returns boolean language plpython3u as $b${body}$b$"
        )


def _loop(admin: Session) -> tuple[Timing, int]:
    wall, cpu, passed = admin.one("select source.loop(array_agg(output)) from source.rows")
    return Timing(wall, cpu), int(passed)


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    rows = options.rows(100_000)
    database = server.database("python_bulk")
    database.create_floor()
    database.create_source(rows, make_texts(2000))
    with database.admin() as admin, database.writer() as writer:
        for name, body in BODIES.items():
            admin.run("select flywheel.create_validator(%s, 'python', %s)", (name, body))
        _make_functions(admin)
        writer.run(common.INSERT_ALL)
        database.keep_verdicts()
        stored = admin.one("select count(*) from flywheel._verdicts where status = 'passed'")
        if stored != _loop(admin)[1]:
            raise AssertionError("the loop and the validators do not agree")

        def ours() -> Timing:
            admin.run(common.EMPTY)
            admin.run("checkpoint")
            return writer.timed(common.INSERT_ALL)

        def bare() -> Timing:
            admin.run(common.EMPTY_FLOOR)
            admin.run("checkpoint")
            return writer.timed(common.FLOOR_INSERT_ALL, common.FLOOR_VERDICTS)

        bares, loops, runs = common.interleave(options.rounds, bare, lambda: _loop(admin)[0], ours)
        calls = ", ".join(f"count(*) filter (where source.{name}(output))" for name in BODIES)
        per_row = admin.timed(inspect.cleandoc(f"select {calls} from source.rows"))
        memory = writer.private_bytes()
    server.drop("python_bulk")

    floors = [
        Timing(a.wall + b.wall, None if a.cpu is None or b.cpu is None else a.cpu + b.cpu)
        for a, b in zip(bares, loops, strict=True)
    ]
    wall, cpu = common.ratio(runs, floors)
    return [
        Figure(
            "python_bulk",
            f"{rows:,} traces of 1 KB in one statement, 5 Python validators, over the bare rows"
            " + the checks in one plain loop",
            wall,
            at_most=1.6,
            parts={
                "ours s": common.medians(runs).wall,
                "bare rows s": common.medians(bares).wall,
                "plain loop s": common.medians(loops).wall,
                "a call for each row and check s": per_row.wall,
                "ratio of processor time": cpu,
                "memory of the session afterwards MB": None if memory is None else memory / 1e6,
            },
        )
    ]
