"""The log of a worker: lines for people, or JSON lines, and never a key."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from flywheel_pl.judges.hosts import secrets

from flywheel_db.connection import without_secrets

LOGGER = logging.getLogger("flywheel_db.worker")

# They tell of every request; what is worth telling, we tell ourselves.
_CHATTY = ("openai", "httpx", "httpcore", "asyncio", "psycopg.pool")

Write = Callable[[str], None]


def log(level: int, message: str, /, **fields: Any) -> None:
    """Log a message with fields, which JSON keeps apart."""
    LOGGER.log(level, message, extra={"fields": fields})


def info(message: str, /, **fields: Any) -> None:
    """Something that happens now and then."""
    log(logging.INFO, message, **fields)


def warning(message: str, /, **fields: Any) -> None:
    """Something that somebody should know."""
    log(logging.WARNING, message, **fields)


def debug(message: str, /, **fields: Any) -> None:
    """Something that happens for every job."""
    log(logging.DEBUG, message, **fields)


class _Formatter(logging.Formatter):
    """Cleans what it formats: no library's message and no traceback shows a key."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        problem = self.formatException(record.exc_info) if record.exc_info else None
        line = self.line(record, fields, problem)
        return without_secrets(line, secrets(os.environ))

    def line(self, record: logging.LogRecord, fields: dict[str, Any], problem: str | None) -> str:
        """One line, or several with a traceback."""
        raise NotImplementedError


class _Text(_Formatter):
    def line(self, record: logging.LogRecord, fields: dict[str, Any], problem: str | None) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        told = "".join(f" {name}={_word(value)}" for name, value in fields.items())
        return f"{clock} {level}{record.getMessage()}{told}" + (f"\n{problem}" if problem else "")


class _Json(_Formatter):
    def line(self, record: logging.LogRecord, fields: dict[str, Any], problem: str | None) -> str:
        written = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        found = {
            "time": f"{written}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields,
        }
        if problem:
            found["exception"] = problem
        return json.dumps(found, ensure_ascii=False, default=str)


def _word(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or " " in text else text


class _Handler(logging.Handler):
    def __init__(self, write: Write) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(self.format(record))
        except Exception:
            self.handleError(record)


def write_to_stderr(line: str) -> None:
    """Where log lines go, unless a progress line is in the way."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def set_up(*, as_json: bool, level: int = logging.INFO, write: Write = write_to_stderr) -> None:
    """Log to `write`, everything of `level` and above; libraries tell their warnings only."""
    handler = _Handler(write)
    handler.setFormatter(_Json() if as_json else _Text())
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old, _Handler):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
