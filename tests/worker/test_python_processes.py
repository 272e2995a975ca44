"""Validators that end, stop or abuse their process: only their own row loses its verdict."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from flywheel_db.worker import python_child, python_verdicts
from flywheel_db.worker.python_jobs import Limits, PythonPool
from flywheel_db.worker.python_process import ProcessFailed

Result = dict[str, Any]
ROOT = Path(__file__).parents[2]


def version(body: str, number: int = 1, **options: Any) -> dict[str, Any]:
    validator = {
        "version": number, "name": "v", "code": 1, "function": None, "builtin": None,
        "reads": ["output"], "params": {}, "time_ms": 500, "memory_mb": 256, "max_chars": 1000,
        **options,
    }  # fmt: skip
    spec = json.dumps({"columns": [["output", "text"]], "validators": [validator]})
    return {"version_id": number, "spec": spec, "body": body, "code": 1}


def with_pool(work: Callable[[PythonPool], Awaitable[Any]], **limits: Any) -> Any:
    async def course() -> Any:
        pool = PythonPool(Limits(**limits))
        try:
            return await work(pool)
        finally:
            await pool.close()

    return asyncio.run(course())


def decide(body: str, *outputs: str, **limits: Any) -> list[Result]:
    rows = [[output] for output in outputs]
    return list(with_pool(lambda pool: pool.run(version(body), rows), **limits))


def is_running(pid: int) -> bool:
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(done.stdout.strip()) and "Z" not in done.stdout


def ends(*pids: int) -> bool:
    """Whether these processes end within a moment."""
    for _ in range(250):
        if not any(is_running(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


ENDINGS = {
    "exit": ("import os\nos._exit(0)", "ended with status 0"),
    "kill": ("import os\nos.kill(os.getpid(), 9)", "ended by signal 9 (SIGKILL)"),
    "crash": ("import ctypes\nctypes.string_at(0)", "ended by signal 11 (SIGSEGV)"),
    "abort": ("import os\nos.abort()", "ended by signal 6 (SIGABRT)"),
    "kills its group": ("import os\nos.killpg(0, 15)", "ended by signal 15 (SIGTERM)"),
    "closes all files": ("import os\nos.closerange(0, 1000)", "ended with status 1"),
    "closes all files and stays": (
        "import os, time, signal\nos.closerange(0, 1000)\nsignal.signal(signal.SIGPROF, signal.SIG_IGN)\ntime.sleep(60)",
        "closed its pipe to the worker",
    ),
    "writes to all files": (
        "import os\nfor fd in range(100):\n  try: os.write(fd, b'\\0' * 100)\n  except OSError: pass",
        "gave an answer that cannot be read",
    ),
    "writes an answer of its own": (
        'import os\nanswer = b\'{"verdicts": [[1, null, null, null, null, null, null, null, 0.1]], "worn": false}\'\n'
        "for fd in range(100):\n  try: os.write(fd, len(answer).to_bytes(4) + b'n' * 16 + answer)\n  except OSError: pass",
        "gave an answer that cannot be read",
    ),
    "writes half a header": (
        "import os\nfor fd in range(100):\n  try: os.write(fd, b'\\0')\n  except OSError: pass\nos._exit(0)",
        "ended with status 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDINGS)
def test_the_row_to_blame_loses_its_verdict_and_the_others_have_theirs(name: str) -> None:
    ending, how = ENDINGS[name]
    body = "if output == 'bad':\n" + "\n".join("  " + line for line in ending.splitlines())
    results = decide(body + "\nreturn output == 'good', output", "good", "bad", "x", "good")
    assert [result["status"] for result in results] == ["passed", "error", "failed", "passed"]
    memory = "; it may have 1024 MB of memory" if "signal" in how else ""
    assert results[1]["error"] == f'validator "v": its process {how}{memory}'
    assert [result["reason"] for result in results] == ["good", None, "x", "good"]


STUBBORN = {
    "stopped": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    "deaf": "import signal\nsignal.signal(signal.SIGPROF, signal.SIG_IGN)\nwhile True: pass",
    "asleep with all signals blocked": (
        "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\ntime.sleep(60)"
    ),
    "holding the interpreter": (
        "import ctypes, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\nctypes.PyDLL(None).sleep(60)"
    ),
}


@pytest.mark.parametrize("name", STUBBORN)
def test_what_cannot_be_ended_from_inside_is_killed(name: str) -> None:
    body = "if output == 'bad':\n" + "\n".join("  " + line for line in STUBBORN[name].splitlines())
    results = decide(body + "\nreturn True", "good", "bad", "good", batch_seconds=0.5)
    assert [result["status"] for result in results] == ["passed", "error", "passed"]
    assert results[1]["error"] == 'validator "v": its process was killed after 0.5 s'
    assert results[1]["duration_ms"] >= 400


@pytest.mark.parametrize(
    "body",
    [
        "while True:\n  try:\n    while True: pass\n  except:\n    pass",
        # From Python 3.12 on nothing inside ends this one.
        "while True:\n  try:\n    try:\n      while True: pass\n    except BaseException:\n      pass\n  except BaseException:\n    pass",
        "kept = []\nwhile True: kept.append(bytearray(10 ** 7))",
        "import mmap\nkept = []\nwhile True: kept.append(mmap.mmap(-1, 10 ** 8))",
        "return len(bytearray(10 ** 12)) > 0",
        "import sys\nsys.exit(3)",
        "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(n): return f(n + 1)\nreturn f(0)",
        "raise KeyboardInterrupt",
        "import no_such_library",
    ],
)
def test_what_runs_away_costs_its_own_verdict(body: str) -> None:
    body = "if output == 'bad':\n" + "\n".join("  " + line for line in body.splitlines())
    results = decide(body + "\nreturn True", "bad", "good", batch_seconds=3, memory_mb=400)
    assert [result["status"] for result in results] == ["error", "passed"]
    assert results[0]["error"].startswith('validator "v"')


def test_a_validator_that_ends_again_and_again_is_given_up(tmp_path: Path) -> None:
    note = f"import os\nwith open({str(tmp_path / 'tries')!r}, 'a') as file: file.write('x')\n"
    results = decide(note + "os._exit(7)\noutput", *(str(n) for n in range(50)))
    assert {result["status"] for result in results} == {"error"}
    assert [result["error"] for result in results] == (
        ['validator "v": its process ended with status 7'] * 3
        + ['validator "v": not tried: 3 rows ended its process, which ended with status 7'] * 47
    )
    assert (tmp_path / "tries").read_text() == "xxxx"  # the batch, and three rows


def test_a_row_is_not_blamed_for_what_rows_before_it_did() -> None:
    """A process that ends with every third row it decides."""
    body = "import json, os\njson.n = getattr(json, 'n', 0) + 1\nif json.n == 3: os._exit(1)\nreturn True, output"
    outputs = [str(n) for n in range(12)]
    assert [result["reason"] for result in decide(body, *outputs)] == outputs


QUIET = {
    "prints": "print('x' * 100_000)\nimport sys\nsys.stderr.write('y' * 100_000)\nreturn True",
    "writes to the standard files": "import os\nfor fd in (1, 2): os.write(fd, b'x' * 100_000)\nreturn True",
    "its program writes": "import subprocess\nsubprocess.run(['echo', 'hello'], check=True)\nreturn True",
    "reads its input": "import os, sys\nreturn sys.stdin.read() == '' and os.read(0, 10) == b''",
    "closes the standard files": "import os, sys\nsys.stdout.close()\nos.closerange(0, 3)\nreturn True",
    "leaves a copy of itself": "import os\nos.fork()\nreturn True",
    "asks to be told of its end": "import atexit, time\natexit.register(time.sleep, 60)\nreturn True",
    "leaves a thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\nreturn True",
}


@pytest.mark.parametrize("name", QUIET)
def test_what_is_no_answer_is_not_heard(name: str) -> None:
    body = QUIET[name] + "\noutput"
    assert [r["status"] for r in decide(body, "a", "b", "c", batch_seconds=5)] == ["passed"] * 3


def test_what_a_thread_says_between_two_batches_ends_the_process() -> None:
    body = (
        "import os, threading, time\ndef shout():\n  time.sleep(0.02)\n  for fd in range(3, 100):\n    try: os.write(fd, b'x')\n    except OSError: pass\n"
        "if output == 'bad': threading.Thread(target=shout).start()\nreturn True, str(os.getpid())"
    )

    async def work(pool: PythonPool) -> None:
        (bad,) = await pool.run(version(body), [["bad"]])
        while is_running(int(bad["reason"])):
            await asyncio.sleep(0.02)
        (good,) = await pool.run(version(body), [["good"]])
        assert good["status"] == "passed"
        assert good["reason"] != bad["reason"]

    with_pool(work)


def test_it_sees_nothing_of_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "FLYWHEEL_KEY_X", "FLYWHEEL_DSN", "PGPASSWORD", "OPENAI_API_KEY", "HTTPS_PROXY", "http_proxy",
        "PYTHONPATH", "PYTHONSTARTUP", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK",
    ):  # fmt: skip
        monkeypatch.setenv(name, "secret")
    body = (
        "import os, sys, resource as r\n"
        "return {'passed': len(output) > 0, 'details': {'environment': dict(os.environ), 'files': os.listdir('.'),"
        " 'directory': os.getcwd(), 'path': sys.path, 'isolated': sys.flags.isolated, 'alone': os.getsid(0) == os.getpid(),"
        " 'modules': [m for m in sys.modules if m.split('.')[0] in ('flywheel_db', 'psycopg', 'openai', 'asyncio')],"
        " 'open': sorted(os.listdir('/proc/self/fd'), key=int)[:-1] if sys.platform == 'linux' else [],"
        " 'limits': [r.getrlimit(k)[1] for k in (r.RLIMIT_CORE, r.RLIMIT_FSIZE, r.RLIMIT_NOFILE)]}}"
    )
    (result,) = decide(body, "x")
    found = result["details"]
    assert found["environment"].keys() <= {"PATH", "TZ", "LANG", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LC_CTYPE"}  # fmt: skip
    assert "secret" not in found["environment"].values()
    assert found["files"] == []
    assert found["isolated"] == 1
    assert found["alone"]
    assert found["modules"] == []
    assert "" not in found["path"]
    assert str(ROOT / "flywheel_db" / "worker") not in found["path"]
    assert len(found["open"]) <= 7  # the three standard ones, the pipe, nothing, the directory
    core, file, files = found["limits"]
    assert (core, files) == (0, 128)
    assert 0 < file <= 16 * 1024 * 1024
    assert found["directory"] == found["environment"]["HOME"]
    assert not Path(found["directory"]).exists()


def test_what_it_started_ends_with_it() -> None:
    start = "import os, subprocess\np = subprocess.Popen(['sleep', '1000'])\n"

    async def work(pool: PythonPool) -> int:
        (kept,) = await pool.run(version(start + "return True, str(p.pid)\noutput"), [["x"]])
        assert is_running(int(kept["reason"]))
        left = start + "with open(output, 'w') as file: file.write(str(p.pid))\nos._exit(0)"
        note = Path(os.path.realpath(f"/tmp/flywheel-test-{os.getpid()}"))
        try:
            (result,) = await pool.run(version(left, 2), [[str(note)]])
            assert result["error"].endswith("ended with status 0")
            assert ends(int(note.read_text()))
        finally:
            note.unlink(missing_ok=True)
        return int(kept["reason"])

    assert ends(with_pool(work))


def test_a_cancelled_run_ends_its_process_and_the_next_one_is_well(tmp_path: Path) -> None:
    body = (
        f"import os, time\nif output == 'slow':\n  with open({str(tmp_path / 'pid')!r}, 'w') as file: file.write(str(os.getpid()))\n"
        "  time.sleep(60)\nreturn True, output"
    )

    async def work(pool: PythonPool) -> None:
        for number in (1, 2):
            run = asyncio.create_task(pool.run(version(body, time_ms=10**6), [["slow"]]))
            while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
                await asyncio.sleep(0.01)
            waits = asyncio.create_task(pool.run(version(body, time_ms=10**6), [["well"]]))
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            pid = int((tmp_path / "pid").read_text())
            assert await asyncio.to_thread(ends, pid)
            assert not Path(f"/proc/{pid}").exists()  # not even to be reaped
            (tmp_path / "pid").unlink()
            assert (await waits)[0]["reason"] == "well", number

    with_pool(work)


def test_a_run_can_be_cancelled_at_any_moment() -> None:
    """While it waits for its turn, starts a process, waits for it to be ready, or for the answer."""

    async def work(pool: PythonPool) -> None:
        for moment in range(60):
            info = version("return True, output", moment % 3)
            runs = [asyncio.create_task(pool.run(info, [["x"]])) for _ in range(2)]
            for _ in range(moment):
                await asyncio.sleep(0.001 if moment > 20 else 0)
            for run in runs:
                run.cancel()
            for found in await asyncio.gather(*runs, return_exceptions=True):
                assert isinstance(found, asyncio.CancelledError | list)
        (result,) = await pool.run(version("return True, output", 1), [["well"]])
        assert result["reason"] == "well"

    with_pool(work, processes=1)


def test_a_pool_that_closes_makes_no_verdicts() -> None:
    async def work(pool: PythonPool) -> None:
        body = "import time\ntime.sleep(60)\noutput"
        infos = [version(body, n // 2, time_ms=10**6) for n in range(6)]
        runs = [asyncio.create_task(pool.run(info, [["x"]])) for info in infos]
        await asyncio.sleep(0.2)
        await pool.close()
        for found in await asyncio.gather(*runs, return_exceptions=True):
            assert isinstance(found, ProcessFailed)

    with_pool(work, processes=2)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of Python."""
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))
    return path


@pytest.mark.parametrize(
    ("lines", "how", "said"),
    [
        ("echo no memory >&2; exit 3", "it ended with status 3", "no memory"),
        ("kill -11 $$", "it ended by signal 11 (SIGSEGV)", None),
        ("exec sleep 60", "it was killed after 0.3 s", None),
        ("echo 'Python 2.7: hello hello hello'; exec sleep 60", "cannot be started: it ", None),
    ],
)  # fmt: skip
def test_a_process_that_does_not_start_is_the_machine_s_fault(
    program: Path, lines: str, how: str, said: str | None
) -> None:
    program.write_text(f"#!/bin/sh\n{lines}\n")
    with pytest.raises(ProcessFailed) as caught:
        decide("return True", "a", start_seconds=0.3 if "after" in how else 30)
    assert how in caught.value.message
    assert caught.value.detail == said
    assert caught.value.hint


def test_a_program_that_is_missing_is_named(program: Path) -> None:
    program.unlink()
    with pytest.raises(ProcessFailed, match=r"No such file.*python"):
        decide("return True", "a")


PARENT = """
import asyncio, json, sys
from flywheel_db.worker.python_jobs import Limits, PythonPool
async def main():
    pool = PythonPool(Limits())
    infos = json.loads(sys.argv[1])
    (idle,) = await pool.run(infos[0], [["x"]])
    print(idle["reason"], flush=True)
    await pool.run(infos[1], [["x"]])
asyncio.run(main())
"""


def test_a_killed_worker_leaves_no_process(tmp_path: Path) -> None:
    idle = version("import os\nreturn True, str(os.getpid())\noutput", 1)
    busy = version(
        f"import os, signal\nsignal.signal(signal.SIGPROF, signal.SIG_IGN)\nwith open({str(tmp_path / 'pid')!r}, 'w') as file: file.write(str(os.getpid()) + '\\n')\n"
        "while True: pass",
        2,
    )
    command = [sys.executable, "-c", PARENT, json.dumps([idle, busy])]
    # Their working directories are left behind, here.
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as parent:
        try:
            assert parent.stdout is not None
            pids = [int(parent.stdout.readline())]
            while not (tmp_path / "pid").exists() or "\n" not in (tmp_path / "pid").read_text():
                time.sleep(0.01)
            pids.append(int((tmp_path / "pid").read_text()))
            assert all(is_running(pid) for pid in pids)
        finally:
            parent.kill()
    assert ends(*pids)


def test_without_the_kernel_s_help_it_looks_after_its_parent_itself() -> None:
    """As on other systems than Linux."""
    child = (
        "import os, sys, time\nfrom flywheel_db.worker import python_child\npython_child._kernel_ends_it = lambda: False\n"
        "python_child._end_with(os.getppid())\nprint(os.getpid(), flush=True)\ntime.sleep(60)"
    )
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}], start_new_session=True)"
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as started:
        assert started.stdout is not None
        pid = int(started.stdout.readline())
        assert is_running(pid)
        os.kill(started.pid, signal.SIGKILL)
    assert ends(pid)


GOOD = [1, 0.5, "r", None, None, "l", 0.5, '{"a": 1}', 0.1]


def test_an_answer_is_read() -> None:
    (result,), worn = python_verdicts.read(
        json.dumps({"verdicts": [GOOD], "worn": True}).encode(), 1
    )
    assert worn
    assert result["details"] == {"a": 1}


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"\xff", b"1", b"[]", b"{}", b"[" * 100_000, b'{"verdicts": [], "worn": false}',
        {"verdicts": [GOOD, GOOD], "worn": False}, {"verdicts": [GOOD], "worn": 1}, {"verdicts": 1, "worn": False},
        {"verdicts": [GOOD[:-1]], "worn": False}, {"verdicts": [[*GOOD, 1]], "worn": False},
        {"verdicts": ["123456789"], "worn": False},
        *({"verdicts": [[*GOOD[:n], wrong, *GOOD[n + 1 :]]], "worn": False} for n, wrong in (
            (0, 255), (0, "1"), (0, None), (0, []), (1, "1"), (1, [1]), (2, 1), (2, {}), (4, 1), (5, 1), (6, 2), (6, -1),
            (6, float("nan")), (7, 1), (7, "{"), (7, "NaN"), (7, "[1e999]"), (7, json.dumps("x" * 100_000)),
            (7, "[" * 10_000), (8, None), (8, -0.1), (8, float("inf")), (8, 1),
        )),
        {"verdicts": [[3, None, None, 5, None, None, None, None, 0.1]], "worn": False},
    ],
    ids=lambda answer: str(answer)[:60],
)  # fmt: skip
def test_an_answer_that_is_not_as_agreed_is_refused(answer: Any) -> None:
    written = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    with pytest.raises(ValueError):  # noqa: PT011  whatever it says
        python_verdicts.read(written, 1)


def test_the_program_of_the_process_imports_nothing_of_the_worker() -> None:
    code = f"import runpy, sys\nrunpy.run_path({python_child.__file__!r})\nassert not [m for m in sys.modules if m.startswith('flywheel_db')]"
    subprocess.run([sys.executable, "-I", "-c", code], check=True)
