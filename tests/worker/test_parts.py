"""Small parts of the worker: its progress line, its log, its options."""

import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from flywheel_db.worker import logs
from flywheel_db.worker.counters import Counters
from flywheel_db.worker.options import hosts_allowed, kinds_of
from flywheel_db.worker.progress import Line


def test_the_progress_line_tells_what_there_is_to_tell() -> None:
    counters = Counters()
    line = Line(counters)
    assert line.text(0) == "0 in flight  0 done  0.0/s"
    counters.in_flight = 3
    counters.jobs["llm", "passed"] = 1500
    counters.jobs["sql", "decided"] = 20
    counters.jobs["llm", "error"] = 2
    counters.jobs["llm", "retry"] = 4
    counters.jobs["llm", "dead"] = 1
    line.take_backlog(12345, 1.5)
    assert line.text(2) == (
        "3 in flight  1,522 done  2 errors  4 retried  1 dead  12,345 waiting  761.0/s  $1.50 today"
    )
    # Only the last ten seconds count.
    assert line.text(100).endswith("0.0/s  $1.50 today")


@pytest.fixture
def lines() -> list[str]:
    return []


def test_a_log_line_for_people_has_its_fields_at_the_end(lines: list[str]) -> None:
    logs.set_up(as_json=False, write=lines.append)
    logs.warning("a model is not served here", model="judge", reason="no key")
    assert lines[0].split(" ", 1)[1] == (
        'warning: a model is not served here model=judge reason="no key"'
    )


def test_a_traceback_is_part_of_one_json_line(lines: list[str]) -> None:
    logs.set_up(as_json=True, write=lines.append)
    try:
        raise ZeroDivisionError("oh")
    except ZeroDivisionError:
        logs.LOGGER.exception("a job crashed", extra={"fields": {"jobs": 1}})
    (line,) = lines
    found: dict[str, Any] = json.loads(line)
    assert found["jobs"] == 1
    assert "ZeroDivisionError: oh" in found["exception"]
    assert found["time"].endswith("Z")


@pytest.mark.parametrize("as_json", [True, False])
def test_neither_keys_nor_passwords_are_logged(
    lines: list[str], as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYWHEEL_KEY_A", "sk-0123456789/+=&<>'")
    monkeypatch.setenv("FLYWHEEL_KEY_LOCAL", "none")
    logs.set_up(as_json=as_json, level=logging.DEBUG, write=lines.append)
    logs.debug("none of sk-0123456789/+=&<>' is told", dsn="postgresql://u:s3cret@h/d")
    logging.getLogger("any.library").error("sent sk-0123456789/+=&<>'")
    text = "\n".join(lines)
    assert "none of *** is told" in text
    assert "sk-0123456789" not in text
    assert "s3cret" not in text


def test_libraries_tell_their_warnings_only(lines: list[str]) -> None:
    logs.set_up(as_json=False, level=logging.DEBUG, write=lines.append)
    logging.getLogger("httpx").info("HTTP Request: POST ...")
    logging.getLogger("httpx").warning("something is wrong")
    assert len(lines) == 1


def test_kinds_are_read_from_a_list() -> None:
    assert kinds_of("sql, llm,sql") == ("sql", "llm")


def test_allow_host_wins_over_the_environment() -> None:
    environ = {"FLYWHEEL_ALLOWED_HOSTS": "a.example.com, b.example.com:8443"}
    allowed = hosts_allowed((), environ)
    assert allowed.why_refused("https://a.example.com/v1") is None
    assert allowed.why_refused("https://b.example.com:8443/v1") is None
    assert allowed.why_refused("https://b.example.com/v1") is not None
    only = hosts_allowed(("c.example.com",), environ)
    assert only.why_refused("https://a.example.com/v1") is not None
    assert hosts_allowed((), {}).entries == ()


@pytest.mark.skipif(sys.platform != "linux", reason="a matter of Linux")
def test_a_worker_hides_its_environment_from_the_code_it_runs() -> None:
    code = (
        "import ctypes; from flywheel_db.worker import program;"
        "before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0); program._hide_memory();"
        "print(before, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "1 0\n"
