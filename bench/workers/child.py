"""A program of this package in a process of its own, which answers with one line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from bench import common

ROOT = Path(__file__).parents[2]


class Child:
    """A running program. Leaving its ``with`` block ends it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._output = ""

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Ask it to end after the batch it is at."""
        if self.is_running:
            self._process.terminate()

    def kill(self) -> None:
        """End it. Safe to repeat."""
        if self.is_running:
            self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def result(self) -> dict[str, Any]:
        """What it says when it ends. Safe to repeat."""
        assert self._process.stdout is not None
        self._output += self._process.stdout.read()
        self._process.wait()
        if self._process.returncode != 0:
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.returncode}")
        found: dict[str, Any] = json.loads(self._output.splitlines()[-1])
        return found


def start(module: str, *arguments: str, dsn: str | None = None) -> Child:
    """Start ``python -m module``. Anybody may see a command line: a dsn goes with the environment."""
    return Child(
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=common.child_environment() | ({"FLYWHEEL_DSN": dsn} if dsn else {}),
            stdout=subprocess.PIPE,
            text=True,
        )
    )
