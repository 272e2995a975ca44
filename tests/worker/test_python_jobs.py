"""Queued Python validators in processes of the worker: the same verdicts as inline, and kept apart."""

import asyncio
import gzip
import json
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from psycopg import Connection
from psycopg.types.json import Jsonb

from flywheel_db.errors import BadInput
from flywheel_db.worker.python_jobs import Limits, PythonPool
from flywheel_db.worker.python_process import ProcessFailed

Result = dict[str, Any]
KEYS = {
    "status", "score", "reason", "confidence", "error", "skipped_reason", "predicted_label",
    "details", "duration_ms",
}  # fmt: skip


def version(body: str | None, number: int = 1, **options: Any) -> dict[str, Any]:
    """What flywheel.python_validator() returns."""
    validator = {
        "version": number, "name": "v", "code": None if body is None else number, "function": None,
        "builtin": None, "reads": ["output"], "params": {}, "time_ms": 500, "memory_mb": 256,
        "max_chars": 1_000_000, **options,
    }  # fmt: skip
    columns = [[name, "text"] for name in validator["reads"]]
    spec = json.dumps({"columns": columns, "validators": [validator]})
    return {"version_id": number, "spec": spec, "body": body, "code": validator["code"]}


def with_pool(work: Callable[[PythonPool], Awaitable[Any]], **limits: Any) -> Any:
    async def course() -> Any:
        pool = PythonPool(Limits(**limits))
        try:
            return await work(pool)
        finally:
            await pool.close()

    return asyncio.run(course())


def decide(
    body: str | None, *outputs: str | None, limits: dict[str, Any] | None = None, **options: Any
) -> list[Result]:
    rows = [[output] for output in outputs]
    return list(with_pool(lambda pool: pool.run(version(body, **options), rows), **(limits or {})))


def reasons(results: Sequence[Result]) -> list[str]:
    assert all(result["status"] == "passed" for result in results), results
    return [result["reason"] for result in results]


def is_running(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(done.stdout.strip()) and "Z" not in done.stdout


SAME: dict[str, dict[str, Any]] = {
    "length": {"body": "return len(output) < 900, f'{len(output)} characters'"},
    "score": {"body": "return {'passed': True, 'score': len(output) / 7, 'label': output[:3], 'confidence': 0.25}"},
    "no number": {"body": "return {'passed': True, 'score': float('inf' if len(output) % 2 else 'nan')}"},
    "details": {"body": "return {'passed': None, 'details': {'words': output.split()[:5], 'nul': '\\0 \\ud800'}}"},
    "too much": {"body": "return {'passed': True, 'details': output * 10_000_000}"},
    "raises": {"body": "return output.index('sorry') > 0"},
    "exits": {"body": "import sys\nif 'cannot' in output: sys.exit(3)\nreturn True"},
    "no such library": {"body": "import no_such_library\nreturn output"},
    "no verdict": {"body": "return output"},
    "other columns": {"body": "return attributes['n'] > 3, f'{started_at:%Y-%m-%d} {params[\"x\"]} {pipeline}'", "params": {"x": [1]}},
    "both": {"body": "return input in output, None"},
    "few characters": {"body": "return True, output", "budget": {"max_chars": 300}},
    "endless": {"body": "while 'sorry' in output: pass\nreturn True", "budget": {"time_ms": 50}},
    "deep": {"body": "def f(n): return f(n + 1)\nreturn f(len(output))"},
}  # fmt: skip
BUILTINS = ("no_sensitive_information", "readability", "no_repetition", "language")


def test_verdicts_are_those_of_the_database(dsn: str, connect: Callable[..., Connection], shared_data: Path) -> None:  # fmt: skip
    """Each validator twice, inline and queued; the queued ones by way of the pool."""
    session = connect()
    for name, options in SAME.items():
        for mode in ("inline", "queued"):
            session.execute(
                "select flywheel.create_validator(%s, 'python', %s, mode => %s, params => %s, budget => %s)",
                (
                    f"{mode} {name}",
                    options["body"],
                    mode,
                    Jsonb(options.get("params", {})),
                    Jsonb(options.get("budget", {})),
                ),
            )
    for name in BUILTINS:
        for mode in ("inline", "queued"):
            session.execute(
                "select flywheel.enable_builtin(%s, %s, mode => %s)",
                (name, f"{mode} {name}", mode),
            )
    file = min((shared_data / "xstest").glob("*.jsonl.gz"))
    found = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()[:20]]
    rows = [(row["input"], row["response"]) for row in found]
    rows += [(None, "half \ufffd \U0001f600"), ("x", None), ("", ""), (None, None)]
    for n, (text, output) in enumerate(rows):
        # One by one, or the budget of the statement would come into it.
        session.execute(
            "insert into flywheel.traces (pipeline, input, output, started_at, attributes) values ('p', %s, %s, '2026-01-02', %s)",
            (text, output, Jsonb({"n": n})),
        )
    session.execute("delete from flywheel._breaches")

    async def drain(pool: PythonPool) -> None:
        claim = "select * from flywheel.claim_jobs('w', '{python}', 1000)"
        while jobs := session.execute(claim).fetchall():
            by_version: dict[int, list[Any]] = {}
            for job in jobs:
                by_version.setdefault(job[2], []).append(job)
            for number, mine in by_version.items():
                row = session.execute("select flywheel.python_validator(%s)", (number,)).fetchone()
                assert row is not None
                results = await pool.run(row[0], [job[9]["texts"] for job in mine])
                assert all(result.keys() == KEYS for result in results)
                done = [
                    {"trace_id": str(job[0]), "span_id": None, "version_id": number, "token": job[3], **result}
                    for job, result in zip(mine, results, strict=True)
                ]  # fmt: skip
                recorded = session.execute(
                    "select recorded, dropped from flywheel.complete_jobs('w', %s)",
                    (Jsonb(done, dumps=lambda value: json.dumps(value, allow_nan=False)),),
                ).fetchone()
                assert recorded == (len(mine), 0)

    with_pool(drain)
    different = session.execute(
        """
        with found as (
          select trace_id, split_part(validator, ' ', 1) as mode, substr(validator, 8) as name,
            row (status, score, reason, skipped_reason, predicted_label, confidence, details,
              -- How far a check that ends at its budget has come is the machine's affair.
              case when error ~ 'OutOfTime|MemoryError|not tried' then 'budget' else replace(error, 'queued ', 'inline ') end
            )::text as verdict
          from flywheel.verdicts
        )
        select i.name, i.verdict, q.verdict
        from (select * from found where mode = 'inline') as i
        full join (select * from found where mode = 'queued') as q using (trace_id, name)
        where i.verdict is distinct from q.verdict
        """
    ).fetchall()
    assert different == []
    (count,) = session.execute("select count(*) from flywheel.verdicts").fetchone() or (0,)
    assert count == 2 * (len(SAME) + len(BUILTINS)) * len(rows)


def test_no_rows_need_no_process() -> None:
    assert decide("return True", limits={"start_seconds": 0}) == []


def test_a_syntax_error_is_an_error_of_each_row() -> None:
    results = decide("return (", "a", None)
    assert [result["status"] for result in results] == ["error", "error"]
    assert "line 1: '(' was never closed" in results[0]["error"]


def test_a_built_in_check_has_no_body() -> None:
    (result,) = decide(None, "mail to a.smith@example.com", builtin="sensitive_information")
    assert (result["status"], result["reason"][:6]) == ("failed", "e-mail")
    assert result["duration_ms"] > 0
    (result,) = decide(None, "x", builtin="no_such_check")
    assert result["status"] == "error"
    (result,) = decide(None, "x")
    assert "its code is missing" in result["error"]


@pytest.mark.parametrize(
    "text", ["half \ud800 pair", "nul \0", "\U0001f600 \u2028", "", "x" * 3_000_000]
)
def test_a_text_arrives_as_it_is(text: str) -> None:
    """Whether it could be in a database or not."""
    body = "return output == params['text'] if 'text' in params else len(output) == 3_000_000"
    params = {"text": text} if len(text) < 100 else {}
    options: dict[str, Any] = {"reads": ["output"], "max_chars": 10_000_000, "params": params}
    info = version(body, **options)
    spec = json.loads(info["spec"])
    spec["validators"][0]["reads"] = ["output", "params"]
    (result,) = with_pool(lambda pool: pool.run(info | {"spec": json.dumps(spec)}, [[text]]))
    assert result["status"] == "passed", result["error"]


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ("(False, 'a\\0b\\ud800')", {"reason": "a\ufffdb?"}),
        ("(False, 'x' * 10**7)", {"reason": "x" * 1997 + "..."}),
        ("{'passed': False, 'details': {'k\\0': '\\ud800'}}", {"details": {"k\ufffd": "?"}}),
        ("{'passed': False, 'details': '\\\\u0000'}", {"details": "\\u0000"}),
        ("{'passed': False, 'details': 10**4000}", {"details": 10**4000}),
        ("{'passed': False, 'score': -float('inf')}", {"score": "-Infinity"}),
        ("{'passed': False, 'score': 5e-324, 'confidence': 1e-50}", {"score": 5e-324, "confidence": 0.0}),
    ],
)  # fmt: skip
def test_a_result_is_made_storable(returned: str, expected: Result) -> None:
    (result,) = decide(f"return {returned}\noutput", "x")
    assert result["status"] == "failed", result
    assert {key: result[key] for key in expected} == expected
    json.dumps(result, allow_nan=False).encode("utf-8")


def test_huge_details_are_refused_and_the_next_row_is_well() -> None:
    body = "return {'passed': True, 'details': ['x' * 10**7] if output == 'huge' else output}"
    huge, well = decide(body, "huge", "well")
    assert "more than 65536 characters" in huge["error"]
    assert (well["status"], well["details"]) == ("passed", "well")


def test_a_null_skips_only_what_the_body_names() -> None:
    """A database without Python cannot tell, and says that it reads every column."""
    reads = ["input", "output"]
    info = version("return len(output) == 1", reads=reads)
    results = with_pool(lambda pool: pool.run(info, [[None, "x"], ["x", None]]))
    assert [result["status"] for result in results] == ["passed", "skipped"]
    assert results[1]["skipped_reason"] == "output is null"


def test_no_row_pays_for_the_rows_before_it() -> None:
    """Inline the budget is the statement's; in the queue nobody waits. Long batches come in parts."""
    body = "import time\ntime.sleep(0.03)\nreturn True, output"
    outputs = [str(n) for n in range(20)]
    results = decide(body, *outputs, time_ms=500, limits={"batch_seconds": 1})
    assert reasons(results) == outputs


def test_a_slow_import_is_no_row_s_fault() -> None:
    results = decide("import asyncio, unittest.mock\nreturn output == 'x'", "x", "x", time_ms=50)
    assert [result["status"] for result in results] == ["passed", "passed"]


def test_a_version_keeps_its_process_and_shares_it_with_none() -> None:
    body = "import json, os\nseen = hasattr(json, 'mark')\njson.mark = 1\nreturn not seen or output == '2', str(os.getpid())"

    async def work(pool: PythonPool) -> None:
        first = reasons(await pool.run(version(body, 1), [["1"]]))
        other = reasons(await pool.run(version(body, 2), [["1"]]))
        again = reasons(await pool.run(version(body, 1), [["2"]]))
        # The same numbers, and another body: the schema was made again.
        remade = reasons(await pool.run(version(body + "\n", 1), [["1"]]))
        assert first == again
        assert len({*first, *other, *remade}) == 3

    with_pool(work)


def test_the_process_used_longest_ago_is_ended() -> None:
    body = "import os\nreturn True, str(os.getpid())"

    async def work(pool: PythonPool) -> None:
        async def pid(number: int) -> str:
            return reasons(await pool.run(version(body, number), [["x"]]))[0]

        one, two = await pid(1), await pid(2)
        assert await pid(1) == one
        three = await pid(3)
        assert await pid(1) == one
        assert not is_running(int(two))
        assert is_running(int(three))

    with_pool(work, processes=2)


def test_a_process_that_waits_too_long_is_ended() -> None:
    async def work(pool: PythonPool) -> None:
        (pid,) = reasons(
            await pool.run(version("import os\nreturn True, str(os.getpid())"), [["x"]])
        )
        for _ in range(200):
            if not is_running(int(pid)):
                return
            await asyncio.sleep(0.02)
        raise AssertionError("it still runs")

    with_pool(work, idle_seconds=0.01)


def test_a_leak_ends_with_its_process_and_costs_no_row() -> None:
    body = (
        "import json, os\njson.kept = getattr(json, 'kept', []) + [bytearray(20_000_000)]\n"
        "return True, str(os.getpid())"
    )

    async def work(pool: PythonPool) -> None:
        pids = [reasons(await pool.run(version(body), [["x"]]))[0] for _ in range(20)]
        assert 2 <= len(set(pids)) < 20

    with_pool(work, memory_mb=250)


def test_many_versions_at_once_keep_to_the_number_of_processes() -> None:
    body = "import os, time\ntime.sleep(0.01)\nreturn True, f'{os.getpid()} {output}'"

    async def work(pool: PythonPool) -> None:
        async def one(n: int) -> list[str]:
            rows = [[str(n)], [str(-n)]]
            return reasons(await pool.run(version(body, n % 10), rows))

        found = await asyncio.gather(*(one(n) for n in range(40)))
        assert [[text.split()[1] for text in pair] for pair in found] == [
            [str(n), str(-n)] for n in range(40)
        ]
        pids = {int(text.split()[0]) for pair in found for text in pair}
        assert len(pids) >= 10
        assert 1 <= sum(is_running(pid) for pid in pids) <= 3

    with_pool(work, processes=3)


def test_what_cannot_be_asked_is_refused() -> None:
    async def work(pool: PythonPool) -> None:
        with pytest.raises(BadInput, match='"v" has 2 texts instead of 1'):
            await pool.run(version("return True"), [["a", "b"]])
        with pytest.raises(BadInput, match="specification"):
            await pool.run({"version_id": 1, "spec": "{}", "body": "", "code": 1}, [["a"]])
        await pool.close()
        with pytest.raises(ProcessFailed, match="closed"):
            await pool.run(version("return True"), [["a"]])

    with_pool(work)
    with pytest.raises(BadInput):
        Limits(processes=0)
